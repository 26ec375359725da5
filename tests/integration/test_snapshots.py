"""A long journal is read from its snapshot on; a snapshot that is wrong in any way is as good as none."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from planter.core import Session
from planter.core.effects import RemoveHistory
from planter.core.snapshot import Snapshot, encode
from planter.shell.journal import Journal
from planter.shell.keys import DispatchKey
from planter.shell.outbox import Outbox
from planter.shell.perform import Performer
from planter.shell.snapshots import RECORDS, Envelope, Snapshots, pack, unpack
from planter_protocol import PlanClient, assets, subjects
from planter_protocol.reading import last_message, read_subject
from planter_testkit.builders import picture
from planter_testkit.graphs import as_manifest
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import answering, judged, planners
from planter_testkit.scripted import scripted_runtime

STREAM = f"KV_{assets.SNAPSHOTS_BUCKET}"
LENGTH = 3 * RECORDS


class CountingClient:
    """Counts the batches that are read from the journal."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self.starts: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._nc, name)

    async def publish(self, subject: str, payload: bytes = b"", **more: Any) -> None:
        """Note where a read of the journal begins."""
        if subject == f"$JS.API.DIRECT.GET.{assets.JOURNAL}":
            self.starts.append(msgspec.json.decode(payload)["seq"])
        await self._nc.publish(subject, payload, **more)


async def loaded(client: PlanClient, session_id: str, *, snapshots: bool = True) -> tuple[Session, list[int]]:
    """The session as a planner loads it, and where its reads of the journal began."""
    nc: Any = CountingClient(client.nc)
    session = Session(session_id)
    await Journal(nc, client.js, "test", Snapshots(nc, client.js) if snapshots else None).load(session)
    return session, nc.starts


async def stored_snapshot(client: PlanClient, session_id: str) -> bytes:
    """The session's snapshot, once there is one."""
    async with asyncio.timeout(10):
        while True:
            found = await last_message(client.nc, STREAM, assets.snapshot_subject(session_id, 0))
            if found is not None:
                return found.data
            await asyncio.sleep(0.01)


@asynccontextmanager
async def after_a_long_chain(folder: Path) -> AsyncGenerator[PlanClient]:
    """A server with the session ``long``, which has run one phase after the other; its planner has gone."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(folder))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, folder))
        await stack.enter_async_context(scripted_runtime(server.url, slots=2))
        planner = start("planner-0")
        await answering(client, planner)
        tasks = [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(LENGTH)]
        await client.submit(as_manifest(tasks), session="long")
        async with asyncio.timeout(30):
            assert (await judged(client, "long")).status == "complete"
        await stored_snapshot(client, "long")
        planner.stop()
        yield client


async def replace(client: PlanClient, data: bytes, mark: str = "test 1") -> None:
    """Put other bytes in the snapshot's place."""
    subject = assets.snapshot_subject("long", 0)
    await client.js.publish(subject, data, headers={"Planter-Snapshot": mark})


def altered(data: bytes, **fields: Any) -> bytes:
    """The snapshot with other fields, its checksum right."""
    import hashlib
    import zlib

    state = zlib.compress(encode(msgspec.structs.replace(unpack(data), **fields)))
    return msgspec.msgpack.encode(Envelope(1, hashlib.sha256(state).digest(), state))


async def test_a_long_journal_is_read_from_its_snapshot_on_and_nothing_differs(tmp_path) -> None:
    async with after_a_long_chain(tmp_path) as client:
        snapshot = unpack(await stored_snapshot(client, "long"))
        restored, starts = await loaded(client, "long")
        folded, all_starts = await loaded(client, "long", snapshots=False)

    assert picture(restored) == picture(folded)
    assert restored.record == folded.record
    assert snapshot.commits >= RECORDS
    assert min(starts) == snapshot.sequence + 1
    assert min(all_starts) == 1


async def test_a_snapshot_that_is_wrong_in_any_way_is_ignored(tmp_path) -> None:
    async with after_a_long_chain(tmp_path) as client:
        data = await stored_snapshot(client, "long")
        true = unpack(data)
        wrong: dict[str, tuple[bytes, str]] = {
            "another format": (msgspec.msgpack.encode(Envelope(2, b"", b"")), "test 1"),
            "no snapshot": (b"garbage", "test 1"),
            "a wrong checksum": (data[:-1] + bytes([data[-1] ^ 1]), "test 1"),
            "a part is missing": (data, "test 2"),
            "a strange mark": (data, "many"),
            "another version": (altered(data, version=99), "test 1"),
            "another session": (altered(data, id="other"), "test 1"),
            "another record": (altered(data, record="long/1/somebody/else"), "test 1"),
            "another number": (altered(data, commits=true.commits - 1), "test 1"),
            "a record of later": (altered(data, sequence=true.sequence + 100_000), "test 1"),
            "another plan": (altered(data, plan_digest="sha256:other"), "test 1"),
            "no plan there": (altered(data, plan_at=true.sequence), "test 1"),
        }
        folded, _ = await loaded(client, "long", snapshots=False)
        found: dict[str, tuple[int, bool]] = {}
        for name, (bytes_, mark) in wrong.items():
            await replace(client, bytes_, mark)
            session, starts = await loaded(client, "long")
            found[name] = min(starts), picture(session) == picture(folded)

    assert found == dict.fromkeys(wrong, (1, True))


async def test_a_planner_that_takes_over_goes_on_from_the_snapshot(tmp_path) -> None:
    seen = 0
    reached = asyncio.Event()

    def script(_: dict[str, Any]) -> dict[str, Any]:
        nonlocal seen
        seen += 1
        if seen >= 2 * RECORDS:
            reached.set()
        return {"status": "complete"}

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        runtime = await stack.enter_async_context(scripted_runtime(server.url, slots=2, script=script))
        planner = start("planner-0")
        await answering(client, planner)
        tasks = [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(LENGTH)]
        await client.submit(as_manifest(tasks), session="long")
        async with asyncio.timeout(30):
            await reached.wait()
        planner.kill()
        await stored_snapshot(client, "long")
        await answering(client, start("planner-1"))
        async with asyncio.timeout(30):
            verdict = await judged(client, "long")

    assert (verdict.status, verdict.completed) == ("complete", LENGTH)
    assert verdict.planners == {"planner-0", "planner-1"}
    assert max(runtime.executed.values()) == 1


async def test_a_snapshot_above_the_message_limit_is_stored_in_parts(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("planter.shell.snapshots._CHUNK_BYTES", 100)
    async with after_a_long_chain(tmp_path) as client:
        folded, _ = await loaded(client, "long", snapshots=False)
        data = pack(folded)
        assert data is not None
        snapshots = Snapshots(client.nc, client.js)
        await snapshots._store("long", data)
        restored, starts = await loaded(client, "long")
        found: Snapshot | None = await snapshots.read("long")

    assert len(data) > 300
    assert found is not None
    assert found.sequence == folded.sequence
    assert picture(restored) == picture(folded)
    assert min(starts) == folded.sequence + 1


async def test_without_the_bucket_everything_goes_on(tmp_path) -> None:
    async with after_a_long_chain(tmp_path) as client:
        await client.js.delete_stream(STREAM)
        session, starts = await loaded(client, "long")

    assert session.status == "complete"
    assert min(starts) == 1


async def test_what_is_purged_has_no_snapshot_any_more(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        await assets.ensure(client.js)
        for session_id in ("s", "other"):
            for number in range(2):
                await client.js.publish(assets.snapshot_subject(session_id, number), b"part")
        session = Session("s")
        session.tombstone = 1
        outbox = Outbox(client.nc, lambda *_: None)
        performer = Performer(client.nc, client.js, DispatchKey(b"key"), "p", outbox)
        await performer.perform(session, [RemoveHistory()], 0)
        left = [stored.subject async for stored in read_subject(client.nc, STREAM, "$KV.>")]

    assert left == [assets.snapshot_subject("other", number) for number in range(2)]


@pytest.mark.parametrize("count", [1, RECORDS // 2])
async def test_a_short_journal_has_no_snapshot_and_none_is_asked_for(tmp_path, count) -> None:
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        await assets.ensure(client.js)
        for n in range(1, count + 1):
            record = {"v": 1, "n": n, "at": "", "atMs": n, "by": "t", "inputs": [n], "events": []}
            await client.js.publish(subjects.journal("short"), msgspec.json.encode(record))
        await client.js.delete_stream(STREAM)
        session, _ = await loaded(client, "short")

    assert session.commits == count
