"""The listing: whoever takes a session over finds it there, whatever planners wrote before."""

from pathlib import Path

import nats

from planter.core.session import Session
from planter.shell.records import RecordWriter, read_record
from planter_protocol import assets
from planter_protocol.reading import last_message
from planter_testkit.builders import World, phase, plan, runtime
from planter_testkit.nats import running_nats_server


async def stored_status(nc: nats.NATS) -> str:
    bucket = assets.SESSIONS_BUCKET
    found = await last_message(nc, f"KV_{bucket}", f"$KV.{bucket}.test")
    assert found is not None
    _, record = read_record(found) or ("", None)
    assert record is not None
    return record.status


async def test_a_session_that_is_taken_back_and_reopened_is_listed_as_running_at_once(tmp_path: Path) -> None:
    world = World(runtime())
    async with running_nats_server(tmp_path) as server:
        nc = await nats.connect(server.url)
        await assets.ensure(nc.jetstream(), url=server.url)
        mine, theirs = (RecordWriter(nc, nc.jetstream()) for _ in range(2))
        world.start(plan(phase("a")))
        await mine.update(world.session)
        world.fail("a", retryable=False)
        await theirs.update(world.session, anew=True)
        failed = await stored_status(nc)
        world.command("retry")
        before = mine.has(world.session)
        await mine.update(world.session, anew=True)
        running = await stored_status(nc)
        after = mine.has(world.session)
        await nc.close()

    assert (failed, running) == ("failed", "running")
    assert after
    assert before, "what was written last, as far as it knew"


async def test_a_session_under_way_is_not_found_by_a_record_that_could_not_be_replaced(
    tmp_path: Path,
) -> None:
    world = World(runtime())
    async with running_nats_server(tmp_path) as server:
        nc = await nats.connect(server.url)
        js = nc.jetstream()
        await assets.ensure(js, url=server.url)
        writer = RecordWriter(nc, js)
        world.start(plan(phase("a")))
        world.fail("a", retryable=False)
        await writer.update(world.session)
        ended = writer.has(world.session)
        world.command("retry")
        await js.delete_stream(f"KV_{assets.SESSIONS_BUCKET}")
        await writer.update(world.session)
        reopened = writer.has(world.session)
        await nc.close()

    assert (ended, reopened) == (True, False)
    assert not RecordWriter(nc, js).has(Session("other"))
