"""Publishing in one go: the same messages as nats-py's, and nats-py's own way for whatever is not plain."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import BadSubjectError, ConnectionClosedError, MaxPayloadError

from planter_protocol.connection import connect
from planter_protocol.inline import subscribe_inline
from planter_protocol.sending import publish
from planter_testkit.nats import running_nats_server


class Heard:
    """What was received, in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, bytes, dict[str, str] | None]] = []
        self._more = asyncio.Event()

    def take(self, message: Msg) -> None:
        self.messages.append((message.subject, message.reply, message.data, message.headers))
        self._more.set()

    async def until(self, count: int) -> list[tuple[str, str, bytes, dict[str, str] | None]]:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._more.clear()
                await self._more.wait()
        return self.messages


PLAIN: list[dict[str, Any]] = [
    {"subject": "some.thing", "data": b""},
    {"subject": "some.thing", "data": b"text", "reply": "_INBOX.a.1"},
    {"subject": "some.größe", "data": "ünï\r\ncode".encode()},
    {"subject": "some.thing", "data": b"x" * 100_000, "headers": {"Nats-Msg-Id": "a/1/b", "Other": "ä"}},
    {"subject": "some.thing", "data": b"", "reply": "_INBOX.a.2", "headers": {"Nats-Expected-Stream": "S"}},
]


async def test_a_plain_message_is_the_one_that_nats_py_would_send(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc, heard = await connect(server.url), Heard()
        await subscribe_inline(nc, "some.>", heard.take)
        usual = nc.publish
        for message in PLAIN:
            await usual(message["subject"], message["data"], message.get("reply", ""), message.get("headers"))
        vars(nc)["publish"] = (
            None  # a nats-py that keeps its buffer elsewhere would be asked for each message
        )
        for message in PLAIN:
            await publish(nc, **message)
        messages = await heard.until(2 * len(PLAIN))
        assert messages[len(PLAIN) :] == messages[: len(PLAIN)]
        assert nc.stats["out_msgs"] == 2 * len(PLAIN)
        assert nc.stats["out_bytes"] == 2 * sum(len(message["data"]) for message in PLAIN)
        await nc.close()


async def test_both_ways_keep_one_order_also_when_more_is_sent_than_the_buffer_holds(tmp_path) -> None:
    count, large = 400, b"x" * 20_000  # four times the buffer, without a turn of the loop for the flusher
    async with running_nats_server(tmp_path) as server:
        nc, other, heard = await connect(server.url), await connect(server.url), Heard()
        await subscribe_inline(other, "some", heard.take)
        await other.flush()
        for number in range(count):
            data = b"%d:" % number + large
            await (nc.publish("some", data) if number % 3 == 0 else publish(nc, "some", data))
        messages = await heard.until(count)
        assert [int(message[2].partition(b":")[0]) for message in messages] == list(range(count))
        await nc.close()
        await other.close()


async def test_what_is_sent_while_the_connection_is_made_anew_arrives(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        back, heard = asyncio.Event(), Heard()
        nc, other = await connect(server.url, on_reconnected=back.set), await connect(server.url)
        await subscribe_inline(other, "some", heard.take)
        await other.flush()
        reconnecting = asyncio.create_task(nc.force_reconnect())
        async with asyncio.timeout(10):
            while nc.is_connected:
                await asyncio.sleep(0)
        await publish(nc, "some", b"meanwhile")
        async with asyncio.timeout(10):
            await back.wait()
        await reconnecting
        await publish(nc, "some", b"after")
        assert [message[2] for message in await heard.until(2)] == [b"meanwhile", b"after"]
        await nc.close()
        await other.close()


@pytest.mark.parametrize("subject", ["", "two words", "line\r\nPUB other 0\r\n", "tab\there", "some.*\n"])
async def test_text_that_is_no_subject_sends_nothing(tmp_path, subject: str) -> None:
    async with running_nats_server(tmp_path) as server:
        nc: Client = await connect(server.url)
        for names in ({"subject": subject}, {"subject": "some", "reply": subject or " "}):
            with pytest.raises(BadSubjectError):
                await publish(nc, data=b"", **names)
        assert nc.stats["out_msgs"] == 0
        await nc.close()


async def test_a_header_of_several_lines_stays_one_header(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc, heard = await connect(server.url), Heard()
        await subscribe_inline(nc, "some", heard.take)
        await publish(nc, "some", b"", headers={"One": "a\r\nTwo: b"})
        [(_, _, _, headers)] = await heard.until(1)
        assert list(headers or {}) == ["One"]
        await nc.close()


async def test_what_is_written_now_waits_for_no_flusher_and_keeps_the_order(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc, heard = await connect(server.url), Heard()
        await subscribe_inline(nc, "some", heard.take)
        await nc.flush()
        await publish(nc, "some", b"0")
        assert nc.pending_data_size > 0
        await publish(nc, "some", b"1", now=True)
        assert nc.pending_data_size == 0
        for number in range(2, 30):
            data = b"%d" % number
            await (
                nc.publish("some", data)
                if number % 3 == 0
                else publish(nc, "some", data, now=number % 2 == 0)
            )
        messages = await heard.until(30)
        assert [int(message[2]) for message in messages] == list(range(30))
        await nc.close()


async def test_too_large_and_closed_are_said_as_nats_py_says_them(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc = await connect(server.url)
        with pytest.raises(MaxPayloadError):
            await publish(nc, "some", b"x" * (nc.max_payload + 1))
        await nc.close()
        with pytest.raises(ConnectionClosedError):
            await publish(nc, "some", b"")
