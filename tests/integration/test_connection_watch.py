"""A connection that is silently dead is replaced; a server that comes back with less is believed."""

import asyncio
import shutil
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from planter.core import Session
from planter.core.events import InputRepeated
from planter.shell.connection_watch import ConnectionWatch
from planter.shell.journal import Journal, JournalBroken, Record
from planter_protocol import PlanClient, RequestRefused, assets, subjects
from planter_protocol.connection import connect
from planter_protocol.reading import last_message
from planter_testkit.graphs import as_manifest
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import answering, judged, judged_through_restarts, planners
from planter_testkit.proxy import running_proxy
from planter_testkit.scripted import scripted_runtime

ACTS_WITHIN_SECONDS = 10.0


class Progress:
    """Counts executed targets."""

    def __init__(self) -> None:
        self.done = 0

    def count(self, _: dict[str, Any]) -> dict[str, Any]:
        """A script: complete, and count."""
        self.done += 1
        return {"status": "complete"}

    async def reached(self, number: int) -> None:
        """Wait until that many targets have been executed."""
        async with asyncio.timeout(30):
            while self.done < number:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("megabytes", [0, 40], ids=["idle", "full-write-buffer"])
async def test_a_connection_into_a_black_hole_is_replaced_within_ten_seconds(tmp_path, megabytes) -> None:
    async with running_nats_server(tmp_path) as server, running_proxy(server.port) as proxy:
        reconnected = asyncio.Event()
        nc = await connect(proxy.url, on_reconnected=reconnected.set)
        watching = asyncio.create_task(ConnectionWatch(nc, "watched").run())
        try:
            await nc.flush()
            proxy.swallow()
            begun = time.monotonic()
            for _ in range(megabytes):
                await nc.publish("somewhere", bytes(1_000_000 - 1_000))
            async with asyncio.timeout(ACTS_WITHIN_SECONDS + 5):
                await reconnected.wait()
                await nc.flush()
            took = time.monotonic() - begun
        finally:
            watching.cancel()
            await nc.close()

    print(f"reconnected after {took:.1f} s")
    assert took < ACTS_WITHIN_SECONDS
    assert proxy.accepted >= 2


async def test_a_connection_whose_reader_has_died_is_replaced(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        reconnected = asyncio.Event()
        nc = await connect(server.url, on_reconnected=reconnected.set)
        watching = asyncio.create_task(ConnectionWatch(nc, "watched").run())
        try:
            nc._reading_task.cancel()  # what any exception in nats-py's read loop comes to
            async with asyncio.timeout(ACTS_WITHIN_SECONDS):
                await reconnected.wait()
                await nc.flush()
        finally:
            watching.cancel()
            await nc.close()


async def test_a_healthy_connection_is_left_alone(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_proxy(server.port) as proxy:
        asked: list[str] = []
        nc = await connect(proxy.url)
        other = await connect(server.url)
        watching = asyncio.create_task(ConnectionWatch(nc, "watched").run())
        try:

            async def note(message: Any) -> None:
                asked.append(message.subject)
                await message.respond(b"")

            await other.subscribe(subjects.planner_echo("watched"), cb=note)
            async with asyncio.timeout(10):
                while len(asked) < 2:
                    await asyncio.sleep(0.01)
            accepted = proxy.accepted
        finally:
            watching.cancel()
            await nc.close()
            await other.close()

    assert accepted == 2  # connect() tries the port first


async def test_a_planner_in_a_black_hole_finishes_its_sessions(tmp_path) -> None:
    tasks = [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(300)]
    seen = Progress()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        proxy = await stack.enter_async_context(running_proxy(server.port))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(proxy.url, tmp_path))
        runtime = await stack.enter_async_context(scripted_runtime(server.url, slots=2, script=seen.count))
        await answering(client, start("planner-0"))
        await client.submit(as_manifest(tasks), session="s")
        await seen.reached(50)
        proxy.swallow()
        async with asyncio.timeout(30):
            verdict = await judged(client, "s")

    assert (verdict.status, verdict.completed) == ("complete", 300)
    assert max(runtime.executed.values()) == 1


# -- what a journal has to be ------------------------------------------------------------------


def record(n: int, **fields: Any) -> bytes:
    """A record that changes nothing."""
    given = {"n": n, "at": "2026-01-01T00:00:00Z", "at_ms": n, "by": "test", "inputs": (n,), **fields}
    return msgspec.json.encode(Record(**given))


async def test_a_journal_with_a_missing_record_is_not_folded(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc = await connect(server.url)
        js = nc.jetstream()
        await assets.ensure(js)
        for session, data in (("gap", record(3)), ("newer", record(2, v=99)), ("torn", b"{}")):
            await js.publish(subjects.journal(session), record(1))
            await js.publish(subjects.journal(session), data)
        journal = Journal(nc, js, "p")
        found = {}
        for session in ("gap", "newer", "torn"):
            with pytest.raises(JournalBroken) as raised:
                await journal.load(Session(session))
            found[session] = str(raised.value)
        await nc.close()

    assert "record 3 follows record 1" in found["gap"]
    assert "newer planner" in found["newer"]


async def test_a_session_whose_journal_is_broken_is_refused_and_others_go_on(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        with planners(server.url, tmp_path) as start:
            async with scripted_runtime(server.url):
                await answering(client, start("planner-0"))
                await client.js.publish(subjects.journal("broken"), record(7))
                with pytest.raises(RequestRefused) as refused:
                    await client.get_state("broken")
                await client.control("broken", "cancel")
                await client.submit(as_manifest([{"id": "a", "deps": []}]), session="whole")
                async with asyncio.timeout(20):
                    verdict = await judged(client, "whole")
                    dead = None
                    while dead is None:  # after five deliveries
                        dead = await _dead_letter(client, "broken")

    assert refused.value.code == "journal.broken"
    assert verdict.status == "complete"
    assert "record 7 follows record 0" in dead


async def _dead_letter(client: PlanClient, session: str) -> str | None:
    """The reason on a session's dead letter."""
    await asyncio.sleep(0.05)
    found = await last_message(client.nc, assets.DEAD_LETTERS, subjects.dead_letter(session))
    return found.headers["Planter-Reason"] if found else None


async def test_a_record_that_took_the_sequence_of_a_lost_one_is_noticed(tmp_path) -> None:
    """The server loses its newest record and another one gets its sequence: only the ids differ."""
    async with running_nats_server(tmp_path) as server:
        nc = await connect(server.url)
        js = nc.jetstream()
        await assets.ensure(js)
        ours, theirs = Journal(nc, js, "ours"), Journal(nc, js, "theirs")
        mine, other = Session("s"), Session("s")
        mine.seal(*await ours.append(mine, [InputRepeated(input=1)], 1, [1]))
        before = await ours.is_current(mine)
        await js.delete_stream(assets.JOURNAL)
        await assets.ensure(js)
        other.seal(*await theirs.append(other, [InputRepeated(input=2)], 1, [2]))
        after = await ours.is_current(mine)
        await nc.close()

    assert mine.sequence == other.sequence
    assert (before, after) == (True, False)


async def test_a_server_that_comes_back_with_less_is_believed(tmp_path) -> None:
    """Its store is put back to an earlier moment, as after a power failure; the planner goes on there."""
    tasks = [{"id": f"t{n}", "deps": [f"t{n - 1}"] if n else []} for n in range(200)]
    seen = Progress()
    async with running_nats_server(tmp_path / "nats") as server:
        client = PlanClient(await connect(server.url))
        with planners(server.url, tmp_path) as start:
            async with scripted_runtime(server.url, slots=2, script=seen.count):
                planner = start("planner-0")
                await answering(client, planner)
                await client.submit(as_manifest(tasks), session="s")
                await seen.reached(50)
                server.stop()
                shutil.copytree(server.folder / "jetstream", tmp_path / "earlier")
                await server.start()
                await seen.reached(100)
                server.kill()
                shutil.rmtree(server.folder / "jetstream")
                shutil.copytree(tmp_path / "earlier", server.folder / "jetstream")
                await server.start()
                async with asyncio.timeout(30):
                    verdict = await judged_through_restarts(client, "s")
                (record,) = await client.sessions()
        await client.nc.close()

    assert (verdict.status, verdict.completed) == ("complete", 200)
    assert record.status == "complete"
