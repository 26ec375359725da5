"""Ended sessions are purged by age and by number; their ids are not used again unnoticed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from planter.shell import retention
from planter.shell.daemon import Planner, PlannerOptions
from planter_protocol import PlanClient, RequestRefused, assets, subjects
from planter_protocol.client import ends_session
from planter_protocol.reading import last_sequence
from planter_testkit.graphs import as_manifest
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import judged
from planter_testkit.scripted import scripted_runtime

ONE = as_manifest([{"id": "a", "deps": []}])


@pytest.fixture(autouse=True)
def _sweep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.05)


@asynccontextmanager
async def planner(client: PlanClient, **options: float | None) -> AsyncGenerator[Planner]:
    """A planner inside this process, so that it sweeps as often as the test says."""
    import anyio

    limits = {"retain_seconds": None, "retain_sessions": None, **options}
    await assets.ensure(client.js)
    made = await Planner.create(
        client.nc,
        client.js,
        "p",
        PlannerOptions(nats_url="", planner_id="p", **limits),  # type: ignore[arg-type]
    )
    async with anyio.create_task_group() as tasks:
        async with made.running(tasks):
            yield made
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def world(folder: Path, **options: float | None) -> AsyncGenerator[PlanClient]:
    """Server, planner, runtime and a client."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(folder))
        own = await stack.enter_async_context(PlanClient.connected(server.url))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        await stack.enter_async_context(planner(own, **options))
        await stack.enter_async_context(scripted_runtime(server.url))
        yield client


async def run(client: PlanClient, session: str) -> None:
    """Submit a session and see it end."""
    submitted = await client.submit(ONE, session=session)
    async for commit in client.watch(session, after=submitted.after):
        if ends_session(commit):
            return


async def purged(client: PlanClient, session: str) -> None:
    """Wait until nothing but the tombstone is left, in the journal and in the listing."""
    async with asyncio.timeout(20):
        while session in {record.session_id for record in await client.sessions()}:
            await asyncio.sleep(0.01)
    assert [event["type"] for commit in await client.history(session) for event in commit.events] == [
        "SessionPurged"
    ]


async def test_a_session_is_purged_when_its_time_is_over_and_its_id_stays_taken(tmp_path) -> None:
    async with world(tmp_path, retain_seconds=0.2) as client:
        await run(client, "old")
        await purged(client, "old")
        state = await client.get_state("old")
        with pytest.raises(RequestRefused) as again:
            await client.submit(ONE, session="old")
        with pytest.raises(RequestRefused) as command:
            await client.control_confirmed("old", "retry")
        await run(client, "new")
        log = await last_sequence(client.nc, assets.LOGS, subjects.log("old"))

    assert (state.status, state.revision, state.phases) == ("purged", 1, ())
    assert state.reason == "complete, and its retention time is over"
    assert again.value.code == command.value.code == "session.purged"
    assert "another session id" in str(again.value)
    assert log == 0


async def test_the_newest_sessions_are_kept(tmp_path) -> None:
    async with world(tmp_path, retain_sessions=2) as client:
        for n in range(5):
            await run(client, f"s{n}")
        for n in range(3):
            await purged(client, f"s{n}")
        kept = {record.session_id for record in await client.sessions()}
        verdict = await judged(client, "s4")

    assert kept == {"s3", "s4"}
    assert verdict.status == "complete"


async def test_a_session_that_is_not_over_is_never_purged(tmp_path) -> None:
    async with world(tmp_path, retain_seconds=0.01) as client:
        await client.submit(as_manifest([{"id": "a", "deps": []}]), session="ended")
        waiting = [{"id": "w", "spec": {"waitFor": {"phases": ["outside"]}, "x-run": {"noop": {}}}}]
        await client.submit(waiting, session="waits")
        await purged(client, "ended")
        state = await client.get_state("waits")

    assert state.status == "running"
