"""Ended sessions are purged by age and by number; their ids are not used again unnoticed."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from planter.shell import artifacts as sweeping
from planter.shell import retention
from planter.shell.daemon import Planner, PlannerOptions
from planter_protocol import PlanClient, RequestRefused, artifacts, assets, subjects
from planter_protocol.reading import last_sequence, read_subject
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
    async for _ in client.watch(session, after=submitted.after):
        pass


async def kept(client: PlanClient, session: str, data: bytes) -> artifacts.Artifact:
    """Store an artifact as a runtime does."""
    digest = artifacts.digest_of(data)
    writer = artifacts.ObjectWriter(client.nc)
    await writer.store(session, digest, artifacts.chunks_of(data))
    found = artifacts.Artifact(
        session_id=session,
        phase_id="a",
        attempt=1,
        name=digest[-8:],
        digest=digest,
        bytes=len(data),
        stored="2026-01-01T00:00:00.000Z",
    )
    await writer.list(found)
    return found


async def stored(client: PlanClient, stream: str) -> list[str]:
    """What is left in a stream, as subjects."""
    return [message.subject async for message in read_subject(client.nc, stream, ">")]


async def test_artifacts_go_with_their_session_and_those_of_others_stay(tmp_path) -> None:
    async with world(tmp_path, retain_sessions=1) as client:
        await run(client, "one")
        for data in (b"x" * 300_000, b"", b"y"):
            await kept(client, "one", data)
            await kept(client, "one-2", data)
        await run(client, "two")
        await purged(client, "one")
        objects, index = await stored(client, artifacts.STREAM), await stored(client, artifacts.INDEX)
        other = await client.artifacts("one-2")
        content = [part async for part in client.object_bytes("one-2", artifacts.digest_of(b"x" * 300_000))]
        gone = await client.artifacts("one")

    assert len(objects) == 3 + 1 + 3  # chunks, and what the three objects are
    assert {subject.split(".")[3] for subject in objects if ".C." in subject} == {"one-2"}
    assert {subject.split(".")[2] for subject in index} == {"one-2"}
    assert (len(other), gone) == (3, [])
    assert b"".join(content) == b"x" * 300_000


async def test_what_an_upload_left_is_swept_after_a_while_and_what_is_whole_stays(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(sweeping, "ABANDONED_MS", 3_600_000)
    old, young = "1000000000000-aaaa", f"{time.time_ns() // 1_000_000}-aaaa"
    async with world(tmp_path, retain_sessions=1) as client:
        await run(client, "one")
        await run(client, "two")
        await purged(client, "one")
        monkeypatch.setattr(artifacts, "random_token", lambda _: "whole")
        with monkeypatch.context() as past:
            past.setattr(artifacts.time, "time_ns", lambda: 1_000_000_000_000 * 1_000_000)
            whole = await kept(client, "two", b"whole")
        left = "b" * 64
        for session, token in (("one", old), ("two", old), ("two", young), ("never", old)):
            await client.js.publish(artifacts.chunk_subject(session, left, token), b"part")
        async with asyncio.timeout(20):
            while len(found := await stored(client, artifacts.STREAM)) > 3:
                await asyncio.sleep(0.02)
        content = b"".join([part async for part in client.object_bytes("two", whole.digest)])

    chunks = {subject.split(".C.")[1] for subject in found if ".C." in subject}
    assert chunks == {f"two.{left}.{young}", f"two.{whole.digest[7:]}.1000000000000-whole"}
    assert content == b"whole"


async def test_what_is_described_and_not_there_is_swept_and_can_be_stored_again(
    tmp_path, monkeypatch
) -> None:
    """An upload may write its last words while, or after, its session is removed."""
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.05)
    async with world(tmp_path, retain_sessions=1) as client:
        await run(client, "one")
        await run(client, "two")
        await purged(client, "one")
        for data in (b"late", b""):
            await kept(client, "one", data)
        await client.js.purge_stream(artifacts.STREAM, subject=artifacts.chunk_subject("one"))
        await kept(client, "two", b"torn")
        await client.js.purge_stream(artifacts.STREAM, subject=artifacts.chunk_subject("two"))
        empty = await kept(client, "two", b"")
        await client.js.publish(artifacts.index_subject("two", "p", 1, "n"), b"nobody can read this")
        await client.js.publish(artifacts.META_SUBJECTS.replace("*", "bm90IG91cnM="), b"somebody else's")
        async with asyncio.timeout(20):
            while (
                len(await stored(client, artifacts.STREAM)) > 2
                or len(await stored(client, artifacts.INDEX)) > 3
            ):
                await asyncio.sleep(0.02)
        again = await kept(client, "two", b"torn")
        content = b"".join([part async for part in client.object_bytes("two", again.digest)])
        listed = await client.artifacts("two")

    assert content == b"torn"
    assert {one.digest for one in listed} == {again.digest, empty.digest}


async def test_garbage_in_the_buckets_ends_no_planner_and_stops_no_sweep(tmp_path, monkeypatch) -> None:
    """Runtimes may write to the artifacts of any session."""
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.05)
    hex_digest, upload = "c" * 64, "1000000000000-aaaa"
    garbage = {
        "$KV.PLANTER_ARTIFACTS.a=b.x.1.y": b"nothing",
        f"$KV.PLANTER_ARTIFACTS.{'x' * 65}.x.1.y": b"nothing",
        f"$O.PLANTER_ARTIFACTS.C.a=b.{hex_digest}.{upload}": b"part",
        f"$O.PLANTER_ARTIFACTS.C.two.{'d' * 64}.{'9' * 400}-a": b"part",
        artifacts.chunk_subject("two", hex_digest, upload): b"part",
        artifacts.meta_subject(f"two/{hex_digest}"): b"nobody can read this",
        artifacts.meta_subject("reports/2026.pdf"): b"somebody else's",
        "$KV.PLANTER_SESSIONS.two": b"nobody can read this",
        "$KV.PLANTER_SESSIONS.three": b'{"sessionId": "four", "status": "complete", "sequence": 1}',
        "$KV.PLANTER_SESSIONS.five": b'{"sessionId": "five", "status": "failed", "updated": "when?"}',
    }
    async with world(tmp_path, retain_sessions=2, retain_seconds=3_600) as client:
        await run(client, "one")
        await run(client, "two")
        for subject, data in garbage.items():
            await client.js.publish(subject, data)
        swept = {
            artifacts.chunk_subject("two", hex_digest, upload),
            artifacts.meta_subject(f"two/{hex_digest}"),
        }
        async with asyncio.timeout(20):
            while swept & set(await stored(client, artifacts.STREAM)):
                await asyncio.sleep(0.02)
        for name in ("six", "seven"):
            await run(client, name)
        await purged(client, "one")
        left = await stored(client, artifacts.STREAM)
        async with planner(client):  # one that begins with all of this
            await run(client, "eight")

    assert artifacts.meta_subject("reports/2026.pdf") in left


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
