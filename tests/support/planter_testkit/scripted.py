"""A runtime for tests, over plain NATS messages: it does what the script says with every target."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

Script = Callable[[dict[str, Any]], dict[str, Any] | None]
Duration = Callable[[dict[str, Any]], float]


def complete(target: dict[str, Any]) -> dict[str, Any]:
    """Every phase completes at once."""
    return {"status": "complete"}


class ScriptedRuntime:
    """Registers, renews its lease and answers targets; speaks JSON that is written here by hand."""

    def __init__(
        self, nc: Client, name: str, slots: int, script: Script, duration: Duration | None = None
    ) -> None:
        self.nc = nc
        self.name = name
        self.slots = slots
        self.script = script
        #: Seconds that the work of a target takes; None: no time at all.
        self.duration = duration
        #: How often each (session, phase, attempt, fence) was executed.
        self.executed: Counter[tuple[str, str, int, int]] = Counter()
        #: What its heartbeats say that it holds.
        self.held: list[dict[str, Any]] = []
        #: What its heartbeats say that it is; once "gone", it says no more until it is told another.
        self.state = "ready"
        #: Targets that came after a newer one of the same phase, and were not executed.
        self.stale = 0
        self._newest: dict[tuple[str, str], int] = {}
        self._answers: dict[tuple[str, str, int], dict[str, Any]] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def become(self, state: str) -> None:
        """Be "ready", "draining" or "gone" from now on, and say so."""
        self.state = state
        await self.heartbeat()

    async def heartbeat(self) -> None:
        """Say who we are."""
        beat = {
            "runtimeId": self.name,
            "instance": "one",
            "slots": self.slots,
            "labels": {"*": "*"},
            "executors": ["noop"],
            "state": self.state,
            "held": self.held,
        }
        await self.nc.publish(f"plan.runtime.{self.name}.heartbeat", json.dumps(beat).encode())

    async def on_target(self, message: Msg) -> None:
        """Execute each target once and report; a repeated target gets the same answer again."""
        by_session: dict[str, list[dict[str, Any]]] = {}
        for given in json.loads(message.data)["targets"]:
            target: dict[str, Any] = {"fence": 0, **given}  # without one: executed, so that it is noticed
            answer = self._answer(target)
            if answer is None:
                continue
            if self.duration is None:
                by_session.setdefault(target["sessionId"], []).append(answer)
            else:
                self._later(self.duration(target), target["sessionId"], answer)
        for session, reports in by_session.items():
            await self.report(session, reports)

    def _answer(self, target: dict[str, Any]) -> dict[str, Any] | None:
        """Execute it unless that has been done, or a newer attempt is known, as a runtime has to."""
        key = (target["sessionId"], target["phaseId"], target["fence"])
        if key not in self._answers:
            if target["fence"] < self._newest.get(key[:2], target["fence"]):
                self.stale += 1
                return None
            self._newest[key[:2]] = target["fence"]
            self.executed[(target["sessionId"], target["phaseId"], target["attempt"], target["fence"])] += 1
            answer = self.script(target)
            if answer is None:
                return None
            echo = {name: target[name] for name in ("phaseId", "attempt", "fence", "dispatchId", "runtimeId")}
            self._answers[key] = {**echo, **answer}
        return self._answers[key]

    def _later(self, seconds: float, session: str, answer: dict[str, Any]) -> None:
        async def work() -> None:
            await asyncio.sleep(seconds)
            await self.report(session, [answer])

        task = asyncio.create_task(work())
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def stop(self) -> None:
        """Leave the work under way undone."""
        for task in self._working:
            task.cancel()

    async def report(self, session: str, reports: list[dict[str, Any]]) -> None:
        """Publish until the stream confirms."""
        data = json.dumps({"reports": reports}).encode()
        while True:
            try:
                await self.nc.jetstream().publish(f"plan.session.{session}.report", data, timeout=1)
            except (TimeoutError, NatsError):
                await asyncio.sleep(0.05)
            else:
                return


@asynccontextmanager
async def scripted_runtime(
    url: str,
    name: str = "scripted",
    slots: int = 500,
    script: Script = complete,
    duration: Duration | None = None,
) -> AsyncGenerator[ScriptedRuntime]:
    """A runtime that is registered and answers until the end of the block."""
    nc = await nats.connect(
        url.split(","),
        error_cb=_quiet,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        ping_interval=2,
        max_outstanding_pings=2,
    )
    runtime = ScriptedRuntime(nc, name, slots, script, duration)

    async def still_here(_: Msg | None = None) -> None:
        if runtime.state != "gone":
            await runtime.heartbeat()

    async def renew() -> None:
        while True:
            await still_here()
            await asyncio.sleep(2)

    await nc.subscribe(f"plan.runtime.{name}.target", cb=runtime.on_target)
    await nc.subscribe("plan.runtime.discover", cb=still_here)
    renewing = asyncio.create_task(renew())
    try:
        yield runtime
    finally:
        runtime.stop()
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await nc.close()


async def _quiet(_: Exception) -> None:
    """Reconnections are part of the tests."""
