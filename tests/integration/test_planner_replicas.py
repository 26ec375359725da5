"""Several planners share all sessions: by partition for speed, by compare-and-set for truth."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest

from planter.shell.partitions import owned_by, partition_of
from planter_protocol import PlanClient
from planter_testkit.graphs import as_manifest, montage_like
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import answering, judged, planners
from planter_testkit.scripted import scripted_runtime

NAMES = [f"planner-{n}" for n in range(3)]


async def ready(client: PlanClient, started: list[Any]) -> None:
    """Every planner has answered."""
    for planner in started:
        await answering(client, planner)


async def test_three_planners_share_forty_sessions_and_rarely_meet(tmp_path) -> None:
    manifest = as_manifest(montage_like(10))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        runtime = await stack.enter_async_context(scripted_runtime(server.url))
        await ready(client, [start(name) for name in NAMES])
        ids = [f"s{n}" for n in range(40)]
        await asyncio.gather(*(client.submit(manifest, session=name) for name in ids))
        async with asyncio.timeout(60):
            verdicts = [await judged(client, name) for name in ids]

    assert {verdict.status for verdict in verdicts} == {"complete"}
    assert max(runtime.executed.values()) == 1
    busy = {name for verdict in verdicts for name in verdict.planners}
    assert busy == set(NAMES)
    assert (
        sum(len(verdict.planners) for verdict in verdicts) <= 44
    )  # one planner a session, but for the start


async def test_when_its_planner_is_killed_a_session_goes_on_with_another_at_once(tmp_path) -> None:
    session = "long"
    owner = next(name for name in NAMES if partition_of(session) in owned_by(name, NAMES))
    halves: list[float] = []

    def script(target: dict[str, Any]) -> dict[str, Any]:
        halves.append(time.monotonic())
        return {"status": "complete"}

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        runtime = await stack.enter_async_context(scripted_runtime(server.url, slots=2, script=script))
        started = {name: start(name) for name in NAMES}
        await ready(client, list(started.values()))
        tasks = [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(400)]
        await client.submit(as_manifest(tasks), session=session)
        async with asyncio.timeout(20):
            while len(halves) < 100:
                await asyncio.sleep(0.001)
        started[owner].kill()
        killed = time.monotonic()
        async with asyncio.timeout(60):
            verdict = await judged(client, session)

    longest_gap = max(b - a for a, b in pairwise(halves))
    print(f"take-over: {longest_gap:.2f} s, session ended {time.monotonic() - killed:.2f} s after the kill")
    assert (verdict.status, verdict.completed) == ("complete", 400)
    assert max(runtime.executed.values()) == 1
    assert owner in verdict.planners
    assert len(verdict.planners) == 2
    assert longest_gap < 12


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 20])
def test_partitions_are_shared_evenly(count: int) -> None:
    names = [f"planner-{n}" for n in range(count)]
    shares = {name: owned_by(name, names) for name in names}

    assert sorted(number for share in shares.values() for number in share) == list(range(16))
    assert max(len(share) for share in shares.values()) == -(-16 // count)


def test_few_partitions_move_when_a_planner_leaves() -> None:
    moved = {1: 0, 2: 0, 3: 0, 5: 0}
    for trial in range(100):
        for count in moved:
            names = [f"{trial}-{n}" for n in range(count + 1)]
            stays = names[:count]
            for name in stays:
                moved[count] += len(owned_by(name, names) - owned_by(name, stays))

    assert moved[1] == 0
    assert max(moved.values()) / 100 < 1.5  # beside those that the leaving one had


async def test_a_runtime_that_comes_back_is_told_what_it_no_longer_owns(tmp_path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        await ready(client, [start("planner-0")])
        away = await stack.enter_async_context(
            scripted_runtime(server.url, name="away", script=lambda _: None)
        )
        await client.submit(as_manifest([{"id": "a", "deps": []}]), session="s")
        async with asyncio.timeout(10):
            while not away.executed:
                await asyncio.sleep(0.01)
        (key,) = away.executed
        told = await away.nc.subscribe("plan.runtime.away.control")
        await stack.enter_async_context(scripted_runtime(server.url, name="other"))
        async with asyncio.timeout(10):
            while len((await client.planner_info()).runtimes) < 2:
                await asyncio.sleep(0.01)
            await away.become("gone")
            verdict = await judged(client, "s")
        away.held = [{"sessionId": "s", "phaseId": "a", "attempt": key[2], "fence": key[3]}]
        await away.become("ready")
        message = await told.next_msg(10)

    assert (verdict.status, verdict.attempts) == ("complete", 2)
    assert b'"command":"cancel"' in message.data


async def test_what_a_runtime_reported_counts_though_it_is_heard_of_after_the_runtime_has_left(
    tmp_path,
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        await ready(client, [start("planner-0")])
        targets: list[dict[str, Any]] = []
        leaving = await stack.enter_async_context(
            scripted_runtime(server.url, name="leaving", script=targets.append)
        )
        other = await stack.enter_async_context(scripted_runtime(server.url, name="other", slots=0))
        async with asyncio.timeout(10):
            while len((await client.planner_info()).runtimes) < 2:
                await asyncio.sleep(0.01)
            await client.submit(as_manifest([{"id": "a", "deps": []}]), session="s")
            while not targets:
                await asyncio.sleep(0.01)
            other.slots = 500
            await other.heartbeat()
            await leaving.become("gone")
            while len((await client.planner_info()).runtimes) > 1:
                await asyncio.sleep(0.01)
            echo = {
                name: targets[0][name] for name in ("phaseId", "attempt", "fence", "dispatchId", "runtimeId")
            }
            await leaving.report("s", [{**echo, "status": "complete"}])
            verdict = await judged(client, "s")

    assert (verdict.status, verdict.attempts) == ("complete", 1)
    assert not other.executed


async def test_a_planner_that_stood_still_wakes_up_to_the_truth(tmp_path) -> None:
    session = "zombie"
    owner = next(name for name in NAMES if partition_of(session) in owned_by(name, NAMES))
    seen: list[str] = []

    def script(target: dict[str, Any]) -> dict[str, Any]:
        seen.append(target["phaseId"])
        return {"status": "complete"}

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        runtime = await stack.enter_async_context(scripted_runtime(server.url, slots=2, script=script))
        started = {name: start(name) for name in NAMES}
        await ready(client, list(started.values()))
        tasks = [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(600)]
        await client.submit(as_manifest(tasks), session=session)
        async with asyncio.timeout(60):
            for stop_at in (100, 300):
                while len(seen) < stop_at:
                    await asyncio.sleep(0.001)
                started[owner].process.send_signal(signal.SIGSTOP)
                while len(seen) < stop_at + 50:  # another planner has taken over
                    await asyncio.sleep(0.001)
                started[owner].process.send_signal(signal.SIGCONT)
            verdict = await judged(client, session)

    assert (verdict.status, verdict.completed) == ("complete", 600)
    assert max(runtime.executed.values()) == 1
    assert len(verdict.planners) > 1
