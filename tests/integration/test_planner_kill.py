"""The planner is killed with kill -9 in the middle of a run; another one takes over."""

import asyncio
from typing import Any

import pytest

from planter_protocol import PlanClient
from planter_testkit.graphs import as_manifest, montage_like
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import Planner, answering, judged
from planter_testkit.scripted import scripted_runtime


@pytest.mark.parametrize("kills", [1, 4])
async def test_a_killed_planner_is_replaced_and_no_finished_phase_runs_again(tmp_path, kills: int) -> None:
    tasks = montage_like(100)
    done = 0
    turn = asyncio.Condition()

    def count(_: dict[str, Any]) -> dict[str, Any]:
        nonlocal done
        done += 1
        return {"status": "complete"}

    async with running_nats_server(tmp_path) as server:
        planner = Planner(server.url, tmp_path, "planner-0")
        async with (
            PlanClient.connected(server.url) as client,
            scripted_runtime(server.url, slots=20, script=count) as runtime,
        ):
            await answering(client, planner)
            await client.submit(as_manifest(tasks), session="montage")
            for number in range(1, kills + 1):
                async with asyncio.timeout(20), turn:
                    while done < len(tasks) * number // (kills + 2):
                        await asyncio.sleep(0.001)
                planner.kill()
                planner = Planner(server.url, tmp_path, f"planner-{number}")
                await answering(client, planner)
            async with asyncio.timeout(30):
                verdict = await judged(client, "montage")
            planner.stop()

    assert (verdict.status, verdict.completed) == ("complete", len(tasks))
    assert max(runtime.executed.values()) == 1  # no (phase, fence) was executed twice
    assert sum(runtime.executed.values()) == verdict.attempts == len(tasks)


async def test_two_planners_share_a_session_and_the_journal_stays_true(tmp_path) -> None:
    tasks = montage_like(50)
    async with running_nats_server(tmp_path) as server:
        planners = [Planner(server.url, tmp_path, f"planner-{n}") for n in range(2)]
        async with (
            PlanClient.connected(server.url) as client,
            scripted_runtime(server.url, slots=50) as runtime,
        ):
            for planner in planners:
                await answering(client, planner)
            await client.submit(as_manifest(tasks), session="shared")
            async with asyncio.timeout(30):
                verdict = await judged(client, "shared")
            statuses = [planner.stop() for planner in planners]

    assert (verdict.status, verdict.completed) == ("complete", len(tasks))
    assert max(runtime.executed.values()) == 1
    assert statuses == [0, 0]
