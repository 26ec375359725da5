"""The simulation's server is held to the real one: the same conversation with both, the same answers."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError

from planter_protocol import assets
from planter_testkit.nats import running_nats_server
from planter_testkit.sim.client import SimClient
from planter_testkit.sim.loop import VirtualLoop
from planter_testkit.sim.server import SimServer
from planter_testkit.sim.storage import Consumer, bucket_stream, streams_of
from planter_testkit.sim.weather import Weather

Conversation = Callable[[Any, JetStreamContext], Awaitable[list[Any]]]
SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
COMPARED = (
    "Status",
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Last-Sequence",
    "Nats-Num-Pending",
    "Nats-Pending-Messages",
    "Nats-Msg-Id",
    SEQUENCE,
)


def seen(message: Any) -> Any:
    """What of a message has to be the same."""
    headers = message.headers or {}
    return message.subject, bytes(message.data or b""), {key: headers.get(key) for key in COMPARED}


async def answer(call: Awaitable[Any]) -> Any:
    """The result, or what kind of no it was."""
    try:
        found = await call
    except APIError as error:
        return error.code, error.err_code, error.description
    except NoRespondersError:
        return "no responders"
    if hasattr(found, "stream") and hasattr(found, "duplicate"):
        return found.stream, found.seq, bool(found.duplicate)
    return found


async def inputs_are_filed_by_partition(_: Any, js: JetStreamContext) -> list[Any]:
    sessions = ["a", "b", "nightly-7", "Z_9", "x" * 64]
    said = [await answer(js.publish(f"plan.session.{name}.start", b"{}")) for name in sessions]
    filed = [(await js.get_msg(assets.IN, seq=n + 1)).subject for n in range(len(sessions))]
    return [said, filed]


async def the_same_message_id_is_stored_once(_: Any, js: JetStreamContext) -> list[Any]:
    return [
        await answer(js.publish(f"plan.session.{name}.report", b"1", headers={"Nats-Msg-Id": message_id}))
        for name, message_id in (("a", "one"), ("a", "one"), ("b", "one"), ("a", "two"))
    ]


async def the_journal_compares_and_sets(_: Any, js: JetStreamContext) -> list[Any]:
    tries = [
        ("s", "0", "r1"),
        ("s", "0", "r2"),
        ("s", "0", "r1"),  # the same record again, after it was stored
        ("s", "1", "r3"),
        ("other", "0", "r4"),
        ("s", "2", "r5"),
        ("s", "3", "r6"),
        ("s", "9", "r7"),
    ]
    said = [
        await answer(
            js.publish(f"plan.journal.{name}", b"{}", headers={SEQUENCE: expected, "Nats-Msg-Id": record})
        )
        for name, expected, record in tries
    ]
    wrong = {"Nats-Expected-Stream": "PLANTER_IN"}
    said.append(await answer(js.publish("plan.journal.s", b"{}", headers=wrong)))
    last = await js.get_last_msg(assets.JOURNAL, "plan.journal.s")
    return [said, (last.seq, last.data, (last.headers or {}).get("Nats-Msg-Id"))]


async def the_journal_is_republished(nc: Any, js: JetStreamContext) -> list[Any]:
    heard = await nc.subscribe("plan.session.*.events")
    await nc.flush()
    for expected, name in (("0", "s"), ("1", "s"), ("0", "t"), ("2", "s")):
        headers = {SEQUENCE: expected, "Nats-Msg-Id": f"{name}{expected}"}
        await js.publish(f"plan.journal.{name}", b"{}", headers=headers)
    return [seen(await heard.next_msg(5)) for _ in range(4)]


async def reads_by_subject(nc: Any, js: JetStreamContext) -> list[Any]:
    for n in range(7):
        await js.publish(f"plan.journal.s{n % 2}", b"%d" % n)
    found: list[Any] = []
    for query in (
        {"last_by_subj": "plan.journal.s0"},
        {"last_by_subj": "plan.journal.nobody"},
        {"seq": 3},
        {"seq": 99},
    ):
        reply = await nc.request(
            f"$JS.API.DIRECT.GET.{assets.JOURNAL}", json.dumps(query).encode(), timeout=5
        )
        found.append(seen(reply)[1:])
    for query in (
        {"seq": 1, "next_by_subj": "plan.journal.s0", "batch": 2},
        {"seq": 2, "next_by_subj": "plan.journal.s0", "batch": 9},
        {"seq": 1, "next_by_subj": "plan.journal.*", "batch": 9},
        {"seq": 8, "next_by_subj": "plan.journal.s0", "batch": 9},
    ):
        inbox = nc.new_inbox()
        replies = await nc.subscribe(inbox)
        await nc.publish(f"$JS.API.DIRECT.GET.{assets.JOURNAL}", json.dumps(query).encode(), reply=inbox)
        while True:
            found.append(seen(await replies.next_msg(5))[1:])
            if found[-1][1]["Status"]:
                break
    found.append(await answer(js.get_last_msg(assets.JOURNAL, "plan.journal.nobody")))
    return found


async def buckets_keep_the_newest_and_compare(_: Any, js: JetStreamContext) -> list[Any]:
    bucket = await js.key_value(assets.SESSIONS_BUCKET)
    found: list[Any] = [await bucket.create("a", b"1"), await bucket.update("a", b"2", last=1)]
    for wrong in (bucket.create("a", b"3"), bucket.update("a", b"3", last=1), bucket.get("b")):
        try:
            found.append(await wrong)
        except (KeyWrongLastSequenceError, KeyNotFoundError) as error:
            found.append(type(error).__name__)
    entry = await bucket.get("a")
    found.append((entry.value, entry.revision))
    reply = await js.get_last_msg(f"KV_{assets.SESSIONS_BUCKET}", "$KV.PLANTER_SESSIONS.a")
    found.append((reply.seq, reply.data))
    return found


async def pulled_inputs_come_back_until_they_are_acknowledged(nc: Any, js: JetStreamContext) -> list[Any]:
    for n in range(2):
        await js.publish("plan.session.a.control", b"%d" % n)
    filed = (await js.get_msg(assets.IN, seq=1)).subject
    consumer = assets.consumer_name(int(filed.split(".")[1]))
    inbox = nc.new_inbox()
    inputs = await nc.subscribe(inbox)

    def pull(batch: int, seconds: float) -> Awaitable[None]:
        request = json.dumps({"batch": batch, "expires": int(seconds * 1e9)}).encode()
        return nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{assets.IN}.{consumer}", request, reply=inbox)

    async def next_input() -> tuple[Any, Any]:
        message = await inputs.next_msg(10)
        reply = message.reply.split(".")[2:6] if message.reply else None
        return message, (seen(message)[1:] if reply is None else (message.data, reply))

    found: list[Any] = []
    await pull(2, 5)
    first, shown = await next_input()
    found.append(shown)
    second, shown = await next_input()
    found.append(shown)
    await nc.publish(first.reply, b"+ACK")
    await nc.publish(second.reply, b"-NAK")
    await pull(10, 0.5)
    for _ in range(2):  # the refused one again, and the end of the pull
        _, shown = await next_input()
        found.append(shown)
    await pull(10, 8)
    last, shown = await next_input()  # it was not acknowledged
    found.append(shown)
    await js.publish("plan.session.a.control", b"2")
    last, shown = await next_input()
    found.append(shown)
    await nc.publish(second.reply, b"+ACK")  # of a delivery that is long over
    await nc.publish(last.reply, b"+ACK")
    await pull(1, 3)
    try:
        found.append((await next_input())[1])
    except NatsTimeoutError:
        found.append("nothing")
    return found


async def a_purge_leaves_what_it_is_told_to(nc: Any, js: JetStreamContext) -> list[Any]:
    for n in range(5):
        await js.publish("plan.journal.s", b"%d" % n)
    await js.publish("plan.journal.t", b"t")
    found: list[Any] = []
    for request in ({"filter": "plan.journal.s", "keep": 2}, {"filter": "plan.journal.t"}):
        reply = await nc.request(
            f"$JS.API.STREAM.PURGE.{assets.JOURNAL}", json.dumps(request).encode(), timeout=5
        )
        found.append({key: json.loads(reply.data).get(key) for key in ("success", "purged")})
    for name, expected in (("s", "0"), ("s", "5"), ("t", "0")):
        found.append(await answer(js.publish(f"plan.journal.{name}", b"x", headers={SEQUENCE: expected})))
    return found


async def nobody_answers_for_what_is_not_there(nc: Any, js: JetStreamContext) -> list[Any]:
    return [
        await answer(nc.request("nobody.listens", b"", timeout=2)),
        await answer(js.stream_info("NOT_THERE")),
        await answer(js.get_last_msg(assets.IN, "in.0.a.start")),
    ]


CONVERSATIONS = (
    inputs_are_filed_by_partition,
    the_same_message_id_is_stored_once,
    the_journal_compares_and_sets,
    the_journal_is_republished,
    reads_by_subject,
    buckets_keep_the_newest_and_compare,
    pulled_inputs_come_back_until_they_are_acknowledged,
    a_purge_leaves_what_it_is_told_to,
    nobody_answers_for_what_is_not_there,
)


def with_the_simulation(conversation: Conversation) -> list[Any]:
    """The conversation in the virtual world, with fair weather."""
    loop = VirtualLoop()
    weather = Weather(random.Random(1))
    server = SimServer(loop, weather, replicated=False)
    streams = streams_of(list(assets.STREAMS), partitions=assets.PARTITIONS, replicated=False)
    streams += [bucket_stream(str(config.bucket), replicated=False) for config in assets.BUCKETS]
    server.streams = {stream.name: stream for stream in streams}
    for number in range(assets.PARTITIONS):
        config = assets.partition_consumer(number)
        name, pattern = str(config.durable_name), str(config.filter_subject)
        server.consumers[assets.IN, name] = Consumer(name, pattern, assets.ACK_WAIT_SECONDS)

    async def talk() -> list[Any]:
        nc = SimClient(loop, server, weather, "client", 1)
        return await conversation(nc, nc.jetstream(timeout=5))

    try:
        return loop.run_until_complete(talk())
    finally:
        loop.close()


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation.__name__)
async def test_both_answer_alike(conversation: Conversation, tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc = await nats.connect(server.url)
        js = nc.jetstream(timeout=5)
        await assets.ensure(js)
        real = await conversation(nc, js)
        await nc.close()

    simulated = await asyncio.to_thread(with_the_simulation, conversation)

    assert simulated == real
    assert real
