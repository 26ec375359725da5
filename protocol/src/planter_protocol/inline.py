"""Subscriptions whose messages are handled where they are read.

nats-py puts the messages of a callback into a queue and wakes a task for them: a turn of the loop between a
message and its handler, in each of the trips that a phase takes. Handlers that only note what came need
neither.
"""

import asyncio
from collections.abc import Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

log = structlog.get_logger(__name__)


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
        nc: a connection.
        subject: may have wildcards.
        handle: called with one message after the other, in the order of the server. Everything that the
            connection receives waits for it: it must be short. What it raises is logged.
    """
    return await nc.subscribe(subject, future=_Inline(subject, handle))
