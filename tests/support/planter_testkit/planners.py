"""Planner processes, and the judge's way to their journal."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
from nats.errors import Error as NatsError

from planter_protocol import PlanClient, PlannerUnavailable, ProtocolError
from planter_protocol.client import load_object
from planter_testkit.checker import Verdict, judge
from planter_testkit.nats import READY_SECONDS, end


class Planner:
    """One planner process."""

    def __init__(
        self,
        url: str,
        folder: Path,
        name: str,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        http = () if "--http" in arguments else ("--http", "off")
        command = [sys.executable, "-m", "planter", "serve", "--nats", url, "--id", name, *http, *arguments]
        variables = {**os.environ, **(environment or {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)

    def kill(self) -> None:
        """kill -9."""
        end(self.process, signal.SIGKILL)

    def stop(self) -> int | None:
        """SIGTERM; returns the exit status."""
        return end(self.process)


@contextmanager
def planners(url: str, folder: Path) -> Generator[Callable[[str], Planner]]:
    """Starts planners by name; whatever runs at the end of the block is ended."""
    started: list[Planner] = []

    def start(name: str) -> Planner:
        started.append(Planner(url, folder, name))
        return started[-1]

    try:
        yield start
    finally:
        for planner in started:
            planner.stop()


@asynccontextmanager
async def running_planner(
    url: str, folder: Path, name: str = "planner-1", arguments: Sequence[str] = ()
) -> AsyncGenerator[Planner]:
    """A planner that answers requests."""
    planner = Planner(url, folder, name, arguments=arguments)
    try:
        async with PlanClient.connected(url) as client:
            await answering(client, planner)
        yield planner
    finally:
        planner.stop()


async def answering(client: PlanClient, planner: Planner) -> None:
    """Wait until this planner answers."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert planner.process.poll() is None, planner.log.read_text()
        try:
            if (await client.planner_info(timeout=0.2)).planner_id == planner.name:
                return
        except PlannerUnavailable:
            await asyncio.sleep(0.01)
    raise AssertionError(f"{planner.name} does not answer; its log: {planner.log.read_text() or 'empty'}")


async def judged(client: PlanClient, session: str) -> Verdict:
    """The judge's verdict on a session, from its journal alone."""
    commits = [pair async for pair in client.watch_numbered(session)]
    references = {
        event["planRef"] for _, commit in commits for event in commit.events if event.get("planRef")
    }
    plans = {name: msgspec.json.decode(await load_object(client.js, name)) for name in references}
    return judge(session, commits, plans)


async def judged_through_restarts(client: PlanClient, session: str) -> Verdict:
    """As ``judged``, for a time in which the server is away now and then."""
    while True:
        try:
            return await judged(client, session)
        except (ProtocolError, NatsError, TimeoutError):
            await asyncio.sleep(0.1)
