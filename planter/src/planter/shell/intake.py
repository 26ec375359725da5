"""A pull consumer kept open: messages come as soon as they are stored, and no fetch has to be awaited.

nats-py's ``fetch`` leaves orphan pulls behind when it is cancelled and waits its full time after a restart of
the server. Here one inbox stays subscribed; pulls are only credit for it.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter_protocol.inline import subscribe_inline

log = structlog.get_logger(__name__)

STRANGER_DELIVERIES = 2
"""An input for a session without a journal may be in a race with its start for as many deliveries."""
POISON_DELIVERIES = 5
"""An input that breaks a step this often goes to the dead letters; the session goes on."""
_CREDIT = 128
_PULL_BYTES_MAX = 8 * 1024 * 1024
_FULL_SECONDS = 0.01
"""Pause before it is looked again whether there is room for more."""
_EXPIRES_SECONDS = 2.0
"""A planner that stands still keeps its pulls: until they expire, the server sends inputs to it."""
_SILENT_SECONDS = 1.0
"""A pull that is not answered so long after it should have expired was lost."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message of a stream, to be acknowledged when it is dealt with."""

    subject: str
    data: bytes
    sequence: int
    delivered: int
    """How often the server has delivered it, from 1."""
    reply: str


class Puller:
    """Keeps up to ``credit`` messages on request and hands each one to ``on_delivery``."""

    def __init__(  # noqa: PLR0913  (what it pulls from, whom it tells, and how much)
        self,
        nc: Client,
        stream: str,
        consumer: str,
        on_delivery: Callable[[Delivery], None],
        has_room: Callable[[], bool],
        *,
        credit: int = _CREDIT,
        expires: float = _EXPIRES_SECONDS,
    ) -> None:
        self._nc = nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_delivery = on_delivery
        self._has_room = has_room
        self._credit_max = credit
        self._expires = expires
        self._inbox = nc.new_inbox()
        self._credit = 0
        self._heard = 0.0
        self._renew = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Pull until stopped."""
        subscription = await subscribe_inline(self._nc, self._inbox, self._on_message)
        loop = asyncio.get_running_loop()
        patience = self._expires + _SILENT_SECONDS
        self._renew.set()
        while not self._stopping:
            silent = loop.time() - self._heard > patience
            if silent:
                self._credit = 0
            if self._renew.is_set() or silent:
                if not self._has_room():
                    await asyncio.sleep(_FULL_SECONDS)
                    continue
                self._renew.clear()
                self._heard = loop.time()
                await self._pull()
            try:
                async with asyncio.timeout(patience):
                    await self._renew.wait()
            except TimeoutError:
                continue
        await subscription.unsubscribe()

    def stop(self) -> None:
        """Take no more; what has been handed over stays with its taker."""
        self._stopping = True
        self._renew.set()

    def reconnected(self) -> None:
        """The server has forgotten our pulls."""
        self._credit = 0
        self._renew.set()

    async def _pull(self) -> None:
        batch = self._credit_max - self._credit
        self._credit = self._credit_max
        request = {"batch": batch, "expires": int(self._expires * 1e9), "max_bytes": _PULL_BYTES_MAX}
        if batch > 0:
            await self._nc.publish(self._subject, msgspec.json.encode(request), reply=self._inbox)

    def _on_message(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if message.reply == "" or (message.headers and "Status" in message.headers):
            self._on_status(message.headers or {})
            return
        self._credit -= 1
        if self._credit < self._credit_max // 2:
            self._renew.set()
        tokens = message.reply.split(".")
        at = 5 if len(tokens) == 9 else 7  # $JS.ACK, with or without domain and account (ADR-15)
        try:
            sequence, delivered = int(tokens[at]), int(tokens[at - 1])
        except (IndexError, ValueError):
            log.warning("intake.odd_reply", reply=message.reply)
            return
        self._on_delivery(Delivery(message.subject, message.data, sequence, delivered, message.reply))

    def _on_status(self, headers: dict[str, str]) -> None:
        """A pull is over: expired with some of its credit left, or gone with its consumer or leader."""
        expired = headers.get("Status") == "408"
        left = int(headers.get("Nats-Pending-Messages", "0")) if expired else self._credit
        self._credit = max(0, self._credit - left)
        self._renew.set()
