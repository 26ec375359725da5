"""Messages that are handled where they are read, by way of what nats-py does with the future of a request."""

import asyncio

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter_protocol.connection import connect
from planter_protocol.inline import subscribe_inline
from planter_testkit.nats import running_nats_server


class Taken:
    """Payloads in the order in which they were handled."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def take(self, message: Msg) -> None:
        self.payloads.append(message.data)
        if message.data == b"bad":
            raise ValueError("a message that cannot be handled")


async def round_trip(nc: Client) -> None:
    """Everything that was published before has been delivered and, as it is inline, handled."""
    await nc.flush()  # its ping overtakes what was not written yet
    await nc.flush()


async def test_messages_are_handled_in_order_before_anything_that_comes_later(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc, taken = await connect(server.url), Taken()
        await subscribe_inline(nc, "some.*", taken.take)
        for number in range(1_000):
            await nc.publish(f"some.{number % 7}", b"%d" % number)
        await round_trip(nc)
        assert taken.payloads == [b"%d" % number for number in range(1_000)]
        await nc.close()


async def test_a_message_that_cannot_be_handled_does_not_end_the_reading(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc, taken = await connect(server.url), Taken()
        await subscribe_inline(nc, "some", taken.take)
        for payload in (b"bad", b"good"):
            await nc.publish("some", payload)
        await round_trip(nc)
        assert taken.payloads == [b"bad", b"good"]
        assert not nc.is_closed
        await nc.close()


async def test_it_lasts_over_a_reconnect_and_ends_with_unsubscribe(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        back = asyncio.Event()
        nc, taken = await connect(server.url, on_reconnected=back.set), Taken()
        subscription = await subscribe_inline(nc, "some", taken.take)
        await nc.force_reconnect()
        async with asyncio.timeout(10):
            await back.wait()
        await nc.publish("some", b"after")
        await round_trip(nc)
        await subscription.unsubscribe()
        await nc.publish("some", b"too late")
        await round_trip(nc)
        assert taken.payloads == [b"after"]
        await nc.close()


class Everything:
    """All that a subscription was given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, bytes, dict[str, str] | None]] = []

    def take(self, message: Msg) -> None:
        self.messages.append((message.subject, message.reply, message.data, message.headers))


async def test_it_hears_what_nats_py_hears(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        ours, plain = await connect(server.url), await nats.connect(server.url)
        heard = {nc: Everything() for nc in (ours, plain)}
        for nc, everything in heard.items():
            await subscribe_inline(nc, "some.>", everything.take)
            await nc.flush()
        for size in (0, 1, 5_000, 900_000):  # of several chunks of the socket
            await plain.publish("some.thing", b"x" * size)
            await plain.publish("some.größe", b"y" * size, reply="_INBOX.a.1")
            await plain.publish(
                "some.thing", (b"\r\nz" * size)[:size], headers={"Nats-Msg-Id": "a/1", "Other": "ä"}
            )
        await plain.flush()
        await round_trip(plain)
        await round_trip(ours)
        assert len(heard[ours].messages) == 12
        assert heard[ours].messages == heard[plain].messages
        assert [ours.stats[key] for key in ("in_msgs", "in_bytes")] == [
            plain.stats[key] for key in ("in_msgs", "in_bytes")
        ]
        await ours.close()
        await plain.close()


async def test_its_messages_do_not_pass_through_nats_py_also_after_a_reconnect(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_nats_server(tmp_path) as server:
        back = asyncio.Event()
        nc, taken = await connect(server.url, on_reconnected=back.set), Taken()
        await subscribe_inline(nc, "some", taken.take)
        monkeypatch.setattr(nc, "_process_msg", None)  # called, it would end the reading
        for payload in (b"first", b"second"):
            await nc.publish("some", payload)
            await round_trip(nc)
            back.clear()
            await nc.force_reconnect()
            async with asyncio.timeout(10):
                await back.wait()
        assert taken.payloads == [b"first", b"second"]
        await nc.close()


async def test_other_subscriptions_of_the_connection_work_as_ever(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server:
        nc, taken = await connect(server.url), Taken()
        await subscribe_inline(nc, "inline", taken.take)
        usual = await nc.subscribe("usual")
        for number in range(200):
            await nc.publish("inline", b"%d" % number)
            await nc.publish("usual", b"%d" % number * 1_000)
        for number in range(200):
            assert (await usual.next_msg(5)).data == b"%d" % number * 1_000
        assert taken.payloads == [b"%d" % number for number in range(200)]
        await nc.close()
