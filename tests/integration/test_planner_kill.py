"""The planner is killed with kill -9 in the middle of a run; another one takes over."""

import asyncio
from typing import Any

import pytest

from planter_protocol import PlanClient
from planter_testkit.graphs import as_manifest, montage_like
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import answering, judged, judged_through_restarts, planners
from planter_testkit.scripted import scripted_runtime


@pytest.mark.parametrize("kills", [1, 4])
async def test_a_killed_planner_is_replaced_and_no_finished_phase_runs_again(tmp_path, kills: int) -> None:
    tasks = montage_like(100)
    progress = Progress()
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        with planners(server.url, tmp_path) as start:
            async with scripted_runtime(server.url, slots=20, script=progress.count) as runtime:
                planner = start("planner-0")
                await answering(client, planner)
                await client.submit(as_manifest(tasks), session="montage")
                for number in range(1, kills + 1):
                    await progress.reached(len(tasks) * number // (kills + 2))
                    planner.kill()
                    planner = start(f"planner-{number}")
                    await answering(client, planner)
                async with asyncio.timeout(30):
                    verdict = await judged(client, "montage")

    assert (verdict.status, verdict.completed) == ("complete", len(tasks))
    assert verdict.planners == {f"planner-{number}" for number in range(kills + 1)}  # each was killed at work
    assert max(runtime.executed.values()) == 1  # no (phase, fence) was executed twice
    assert sum(runtime.executed.values()) == verdict.attempts == len(tasks)


async def test_two_planners_share_a_session_and_the_journal_stays_true(tmp_path) -> None:
    tasks = montage_like(50)
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        with planners(server.url, tmp_path) as start:
            async with scripted_runtime(server.url, slots=50) as runtime:
                both = [start(f"planner-{n}") for n in range(2)]
                for planner in both:
                    await answering(client, planner)
                await client.submit(as_manifest(tasks), session="shared")
                async with asyncio.timeout(30):
                    verdict = await judged(client, "shared")
            statuses = [planner.stop() for planner in both]

    assert (verdict.status, verdict.completed) == ("complete", len(tasks))
    assert max(runtime.executed.values()) == 1
    assert statuses == [0, 0]


class Progress:
    """Counts executed targets, and wakes who waits for a number of them."""

    def __init__(self) -> None:
        self.done = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    def count(self, _: dict[str, Any]) -> dict[str, Any]:
        """A script: complete, and count."""
        self.done += 1
        for number, event in self._waiting:
            if self.done >= number:
                event.set()
        return {"status": "complete"}

    async def reached(self, number: int) -> None:
        """Wait until that many targets have been executed."""
        event = asyncio.Event()
        if self.done < number:
            self._waiting.append((number, event))
            async with asyncio.timeout(20):
                await event.wait()


async def test_a_killed_server_that_comes_back_costs_time_and_nothing_else(tmp_path) -> None:
    tasks = montage_like(100)
    progress = Progress()
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        with planners(server.url, tmp_path) as start:
            async with scripted_runtime(server.url, slots=20, script=progress.count) as runtime:
                await answering(client, start("planner-0"))
                await client.submit(as_manifest(tasks), session="montage")
                await progress.reached(len(tasks) // 3)
                server.kill()
                await server.start()
                async with asyncio.timeout(60):
                    verdict = await judged_through_restarts(client, "montage")

    assert (verdict.status, verdict.completed) == ("complete", len(tasks))
    assert max(runtime.executed.values()) == 1
