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

Script = Callable[[dict[str, Any]], dict[str, Any] | None]


def complete(target: dict[str, Any]) -> dict[str, Any]:
    """Every phase completes at once."""
    return {"status": "complete"}


class ScriptedRuntime:
    """Registers, renews its lease and answers targets; speaks JSON that is written here by hand."""

    def __init__(self, nc: Client, name: str, slots: int, script: Script) -> None:
        self.nc = nc
        self.name = name
        self.slots = slots
        self.script = script
        #: How often each (session, phase, attempt, fence) was executed.
        self.executed: Counter[tuple[str, str, int, int]] = Counter()
        #: What its heartbeats say that it holds.
        self.held: list[dict[str, Any]] = []
        self._answers: dict[tuple[str, str, int], dict[str, Any]] = {}

    async def heartbeat(self, state: str = "ready") -> None:
        """Say who we are."""
        beat = {
            "runtimeId": self.name,
            "instance": "one",
            "slots": self.slots,
            "labels": {"*": "*"},
            "executors": ["noop"],
            "state": state,
            "held": self.held,
        }
        await self.nc.publish(f"plan.runtime.{self.name}.heartbeat", json.dumps(beat).encode())

    async def on_target(self, message: Msg) -> None:
        """Execute each target once and report; a repeated target gets the same answer again."""
        by_session: dict[str, list[dict[str, Any]]] = {}
        for target in json.loads(message.data)["targets"]:
            key = (target["sessionId"], target["phaseId"], target["fence"])
            if key not in self._answers:
                self.executed[
                    (target["sessionId"], target["phaseId"], target["attempt"], target["fence"])
                ] += 1
                answer = self.script(target)
                if answer is None:
                    continue
                echo = {
                    name: target[name] for name in ("phaseId", "attempt", "fence", "dispatchId", "runtimeId")
                }
                self._answers[key] = {**echo, **answer}
            by_session.setdefault(target["sessionId"], []).append(self._answers[key])
        for session, reports in by_session.items():
            await self.report(session, reports)

    async def report(self, session: str, reports: list[dict[str, Any]]) -> None:
        """Publish until the stream confirms."""
        data = json.dumps({"reports": reports}).encode()
        while True:
            try:
                await self.nc.jetstream().publish(f"plan.session.{session}.report", data, timeout=1)
            except (TimeoutError, nats.errors.Error):
                await asyncio.sleep(0.05)
            else:
                return


@asynccontextmanager
async def scripted_runtime(
    url: str, name: str = "scripted", slots: int = 500, script: Script = complete
) -> AsyncGenerator[ScriptedRuntime]:
    """A runtime that is registered and answers until the end of the block."""
    nc = await nats.connect(url, error_cb=_quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    runtime = ScriptedRuntime(nc, name, slots, script)

    async def on_discover(_: Msg) -> None:
        await runtime.heartbeat()

    async def renew() -> None:
        while True:
            await runtime.heartbeat()
            await asyncio.sleep(2)

    await nc.subscribe(f"plan.runtime.{name}.target", cb=runtime.on_target)
    await nc.subscribe("plan.runtime.discover", cb=on_discover)
    renewing = asyncio.create_task(renew())
    try:
        yield runtime
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await nc.close()


async def _quiet(_: Exception) -> None:
    """Reconnections are part of the tests."""
