"""A continuous load: sessions of many shapes, submitted and controlled while faults are injected.

The driver remembers every input that the server has confirmed. None of them may be lost.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.errors import Error as NatsError

from planter_protocol import PlanClient, ProtocolError
from planter_protocol.messages import ControlCommand
from planter_testkit.faults.following import Follower
from planter_testkit.graphs import Tasks, as_manifest, montage_like

END_SECONDS = 60.0
"""After the last fault, every session has ended within this."""
_PAUSED, _CANCELLED, _REVISED = 0.2, 0.05, 0.1
_FLAKY = 0.3
"""So many sessions have a phase that fails on its first attempt."""
_LONG = 0.1
"""So many sessions have enough commits for snapshots."""


def chain(length: int) -> Tasks:
    """One phase after the other: no step may be lost, or nothing goes on."""
    return [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(length)]


def fails_at_first(phase: str) -> bool:
    """Whether the phase is one that fails on its first attempt."""
    return phase.endswith("flaky")


class Load:
    """Sessions in flight, a fixed number at a time, until told to stop."""

    def __init__(
        self,
        client: PlanClient,
        draw: random.Random,
        *,
        at_once: int = 8,
        labels: dict[str, str] | None = None,
        length: int = 25,
    ) -> None:
        self.followers: dict[str, Follower] = {}
        #: Input sequence to session, of everything that the stream has confirmed.
        self.confirmed: dict[int, str] = {}
        self._client = client
        self._draw = draw
        self._at_once = at_once
        self._labels = labels
        self._length = length
        self._stopping = False
        self._workers: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Submit from now on."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._at_once)]

    async def finish(self, seconds: float = END_SECONDS) -> list[str]:
        """Submit nothing more and wait until every session has ended; those that have not are violations."""
        self._stopping = True
        done, late = await asyncio.wait(self._workers, timeout=seconds)
        found = [
            f"within {seconds:.0f} s did not end {one}" for one in self.followers.values() if not one.ended
        ]
        for follower in self.followers.values():
            follower.give_up()
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=10)
        broken = [task.exception() for task in done if not task.cancelled()]
        return found + [f"the driver broke: {error!r}" for error in broken if error is not None]

    async def until_sessions(self, number: int) -> None:
        """Wait until that many sessions have had a commit."""
        while sum(1 for one in self.followers.values() if one.commits) < number:
            await asyncio.sleep(0.01)

    @property
    def commits(self) -> int:
        """How many the followers have seen."""
        return sum(len(one.commits) for one in self.followers.values())

    async def until_commits(self, number: int) -> None:
        """Wait until the followers have seen that many."""
        while self.commits < number:
            await asyncio.sleep(0.01)

    # -- inside ------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._stopping:
            name = f"s{len(self.followers)}"
            follower = self.followers[name] = Follower(self._client, name)
            tasks = self._tasks()
            following = asyncio.create_task(follower.run())
            await self._submit(follower, tasks)
            await self._control(follower)
            await following
            if follower.status == "complete" and self._draw.random() < _REVISED:
                following = asyncio.create_task(follower.run())
                await self._submit(follower, [*tasks, {"id": "revised", "deps": [tasks[-1]["id"]]}])
                await following

    def _tasks(self) -> Tasks:
        draw = self._draw
        chance = draw.random()
        if chance < _LONG:
            tasks = chain(4 * self._length)
        elif chance < 0.5:
            tasks = chain(self._length)
        else:
            tasks = montage_like(draw.randint(2, 5), draw.randrange(99))
        if draw.random() < _FLAKY:
            tasks.append({"id": "flaky", "deps": [tasks[draw.randrange(len(tasks))]["id"]]})
        return tasks

    def _manifest(self, tasks: Tasks) -> list[dict[str, Any]]:
        phases = as_manifest(tasks)
        for phase in phases:
            if self._labels:
                phase["spec"]["selector"] = {"matchLabels": self._labels}
                del phase["spec"]["x-run"]
            if fails_at_first(phase["id"]):
                phase["spec"] |= {"retry": {"maxAttempts": 3}, "x-retry": {"initial": "200ms"}}
        phases[-1]["spec"]["onSuccess"] = {"spec": {"message": ["that was the last one"]}}
        return phases

    async def _submit(self, follower: Follower, tasks: Tasks) -> None:
        manifest = self._manifest(tasks)

        async def submit() -> int:
            submitted = await self._client.submit(manifest, session=follower.session, confirm=None)
            return submitted.sequence

        sequence = await self._insist(follower, submit)
        if sequence:
            await follower.until(lambda: follower.has_taken(sequence))

    async def _control(self, follower: Follower) -> None:
        """Pause and resume some sessions, cancel a few."""
        chance = self._draw.random()
        if chance > _PAUSED + _CANCELLED:
            return
        wanted = self._draw.randint(2, 10)
        await follower.until(lambda: len(follower.commits) > wanted)
        if chance < _CANCELLED:
            await self._command(follower, "cancel")
        else:
            await self._command(follower, "pause")
            await self._command(follower, "resume")

    async def _command(self, follower: Follower, command: ControlCommand) -> None:
        async def send() -> int:
            return await self._client.control(follower.session, command)

        sequence = await self._insist(follower, send)
        if sequence:
            await follower.until(lambda: follower.has_taken(sequence))

    async def _insist(self, follower: Follower, send: Callable[[], Awaitable[int]]) -> int:
        """Send until the stream confirms; remember that it did. 0: the driver has given up."""
        while not follower.given_up:
            try:
                sequence = await send()
            except (ProtocolError, NatsError, TimeoutError):
                await asyncio.sleep(0.1)
            else:
                self.confirmed[sequence] = follower.session
                return sequence
        return 0


@asynccontextmanager
async def running_load(load: Load) -> AsyncGenerator[Load]:
    """Submits during the block; given up at its end, should it end early."""
    load.begin()
    try:
        yield load
    finally:
        await load.finish(0)
