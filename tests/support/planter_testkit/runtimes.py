"""Runtimes as processes or in this loop, and a test that plays their planner over plain nats-py."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter_testkit.nats import READY_SECONDS, end, running_nats_server

STREAMS = {
    "PLANTER_IN": [f"plan.session.*.{verb}" for verb in ("start", "control", "ack", "report")],
    "PLANTER_LOGS": ["plan.session.*.log"],
}


class PlainPlanner:
    """What a planner sees of runtimes: heartbeats, acks, reports and logs, as plain JSON."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.beats: list[dict[str, Any]] = []
        self.acks: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        #: Messages by the last token of their subject.
        self.messages: dict[str, int] = {"ack": 0, "report": 0, "log": 0}
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Make the streams and listen."""
        js = self.nc.jetstream()
        for name, subjects in STREAMS.items():
            await js.add_stream(name=name, subjects=subjects)
        await self.nc.subscribe("plan.runtime.*.heartbeat", cb=self._on_heartbeat)
        for verb in ("ack", "report", "log"):
            await self.nc.subscribe(f"plan.session.*.{verb}", cb=self._on_message)
        await self.nc.flush()

    async def registered(self, name: str) -> dict[str, Any]:
        """The first heartbeat of the runtime, asked for."""
        await self.nc.publish("plan.runtime.discover", b"")
        return await self.until(
            lambda: next((beat for beat in self.beats if beat["runtimeId"] == name), None), READY_SECONDS
        )

    async def offer(self, runtime: str, *targets: dict[str, Any]) -> None:
        """Address targets to the runtime, as many in a message as fit."""
        for at in range(0, len(targets), 500):
            data = json.dumps({"targets": targets[at : at + 500]}).encode()
            await self.nc.publish(f"plan.runtime.{runtime}.target", data)
        await self.nc.flush()

    async def control(self, runtime: str, **fields: Any) -> None:
        """Send a control message to the runtime."""
        await self.nc.publish(f"plan.runtime.{runtime}.control", json.dumps(fields).encode())

    async def until(self, found: Callable[[], Any], seconds: float = READY_SECONDS) -> Any:
        """Wait until the function finds something; returns it."""
        async with asyncio.timeout(seconds):
            while not (result := found()):
                self._news.clear()
                await self._news.wait()
        return result

    async def report(
        self, phase: str, status: str | None = None, seconds: float = READY_SECONDS
    ) -> dict[str, Any]:
        """The report of a phase: the final one, or the one with the status."""

        def wanted(report: dict[str, Any]) -> bool:
            given = report.get("status", "running")
            return report["phaseId"] == phase and (
                given == status if status else given not in ("running", "heartbeat")
            )

        return await self.until(lambda: next(filter(wanted, self.reports), None), seconds)

    async def ack(self, phase: str, *, accepted: bool = True) -> dict[str, Any]:
        """The first such ack of a phase."""
        return await self.until(
            lambda: next(
                (a for a in self.acks if a["phaseId"] == phase and a.get("accepted", True) is accepted), None
            )
        )

    def output(self, phase: str, stream: str | None = None) -> list[str]:
        """The lines of a phase that have been seen so far."""
        return [
            line
            for entry in self.logs
            if entry["phaseId"] == phase and stream in (None, entry.get("stream", "log"))
            for line in entry["message"].split("\n")
        ]

    async def _on_heartbeat(self, message: Msg) -> None:
        self.beats.append(json.loads(message.data))
        self._news.set()

    async def _on_message(self, message: Msg) -> None:
        verb = message.subject.rpartition(".")[2]
        self.messages[verb] += 1
        body = json.loads(message.data)
        match verb:
            case "ack":
                self.acks += body.get("acks") or [body]
            case "report":
                self.reports += body.get("reports") or [body]
            case _:
                self.logs.append(body)
        self._news.set()


def target(phase: str, run: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A target as a planner sends it."""
    given: dict[str, Any] = {
        "sessionId": "s1",
        "attempt": 1,
        "fence": 1,
        "dispatchId": "proof",
        "runtimeId": "r1",
    }
    if run is not None:
        given["run"] = run
    return {"phaseId": phase, "reason": "ready", **given, **more}


class RuntimeProcess:
    """One ``planter-runtime``."""

    def __init__(
        self,
        url: str,
        folder: Path,
        name: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "planter_runtime", "--nats", url, "--id", name]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **(environment or {})},
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = 15.0) -> int:
        """Its exit status, once it has ended."""
        return await asyncio.to_thread(self.process.wait, seconds)


@asynccontextmanager
async def runtime_process(
    planner: PlainPlanner, url: str, folder: Path, name: str = "r1", arguments: Sequence[str] = ()
) -> AsyncGenerator[RuntimeProcess]:
    """A runtime that is registered."""
    runtime = RuntimeProcess(url, folder, name, arguments)
    try:
        await planner.registered(name)
        yield runtime
    finally:
        end(runtime.process, signal.SIGTERM)


@asynccontextmanager
async def plain_planner(url: str) -> AsyncGenerator[PlainPlanner]:
    """A planner that listens."""
    nc = await nats.connect(url, error_cb=_quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    planner = PlainPlanner(nc)
    await planner.start()
    try:
        yield planner
    finally:
        await nc.close()


@asynccontextmanager
async def planner_and_runtime(
    folder: Path, *arguments: str
) -> AsyncGenerator[tuple[PlainPlanner, RuntimeProcess]]:
    """A server, the planner of the test, and one runtime ``r1`` whose work folder is ``folder``."""
    async with (
        running_nats_server(folder / "nats") as server,
        plain_planner(server.url) as planner,
        runtime_process(planner, server.url, folder, "r1", arguments) as runtime,
    ):
        yield planner, runtime


async def _quiet(_: Exception) -> None:
    """Reconnections are part of the tests."""
