"""Messages that are handled where they are read, by way of what nats-py does with the future of a request."""

import asyncio

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
