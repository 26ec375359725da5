"""Subscriptions whose messages are handled where they are read.

nats-py reads the socket into a stream, wakes a task that takes the stream apart, puts the messages of a
callback into a queue and wakes a task for them: turns of the loop between a message and its handler, in each
of the trips that a phase takes. Handlers that only note what came need none of them.
"""

# ruff: noqa: SLF001  (nats-py's reader and subscriptions; tests/integration/test_inline.py holds it to them)

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from planter_protocol.sifting import Sieve, read_headers

log = structlog.get_logger(__name__)

_BLANKS = frozenset(b"\v\f")
"""The server takes them in a subject, nats-py for the end of it."""


class _Inline(asyncio.Future[Msg]):
    """What nats-py takes for the future of one answer: it is given each message at once, and never done."""

    def __init__(self, subject: str, handle: Callable[[Msg], None]) -> None:
        super().__init__()
        self._subject = subject
        self._handle = handle

    def set_result(self, result: Msg) -> None:
        """Handle a message; nothing that goes wrong with it may end the reading of all others."""
        try:
            self._handle(result)
        except Exception:
            log.exception("message.broken", subject=self._subject)


async def subscribe_inline(nc: Client, subject: str, handle: Callable[[Msg], None]) -> Subscription:
    """Listen to a subject until the subscription is unsubscribed, over reconnects as well.

    Args:
        nc: a connection; any, but an ``InlineClient`` is faster by a turn of the loop.
        subject: may have wildcards.
        handle: called with one message after the other, in the order of the server. Everything that the
            connection receives waits for it: it must be short. What it raises is logged.
    """
    return await nc.subscribe(subject, future=_Inline(subject, handle))


class InlineClient(Client):
    """nats-py's client, but that messages of inline subscriptions are handled as the socket gives them.

    Should nats-py keep its reader or its subscriptions elsewhere one day, it handles everything as ever.
    """

    async def _read_loop(self) -> None:
        with suppress(AttributeError):
            self._sift()
        await super()._read_loop()

    def _sift(self) -> None:
        """From now on what the connection's stream is to be given comes here first."""
        reader: Any = self._transport._io_reader  # pyright: ignore  (a WebSocket has none)
        waiting, pass_on = bytes(reader._buffer), reader.feed_data
        if self._ps.buf:
            return  # nats-py is in the middle of something
        reader._buffer.clear()
        sieve = Sieve(self._take, pass_on)
        reader.feed_data = sieve.feed
        sieve.feed(waiting)

    def _take(self, sid: bytes, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> bool:
        """What nats-py's ``_process_msg`` does for an inline subscription; False for any other."""
        try:
            subscription: Any = self._subs[int(sid)]
            future = subscription._future
            if type(future) is not _Inline or subscription._max_msgs or self.is_reconnecting:
                return _is_dropped(subject, reply, headers)
            subscription._received += 1
        except (KeyError, AttributeError):
            return _is_dropped(subject, reply, headers)
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        found = read_headers(headers) if headers else None
        future.set_result(Msg(self, _text(subject), _text(reply), data, found))
        return True


def _is_dropped(subject: bytes, reply: bytes, headers: bytes) -> bool:
    """Whether nats-py would stop reading at such a message, and hear nothing more: anybody may send one."""
    names = subject + b" " + reply
    is_text = (names.isascii() or "\ufffd" not in _text(names)) and _BLANKS.isdisjoint(names)
    is_block = headers.startswith(b"NATS/1.0\r\n") or (headers.startswith(b"NATS/1.0 ") and headers.isascii())
    if is_text and (is_block or not headers):
        return False
    reason = "its headers are none" if is_text else "its subject is no text"
    log.warning("message.dropped", subject=_text(subject), reply=_text(reply), reason=reason)
    return True


def _text(subject: bytes) -> str:
    """The server takes any bytes for a subject; what is no UTF-8 becomes U+FFFD, which no id may have."""
    return subject.decode("utf-8", "replace")
