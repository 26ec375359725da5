"""Publishing to a stream with its confirmation, for those who do it thousands of times a second.

What ``JetStreamContext.publish`` does, over one inbox and without a timer for each message: half of its cost.
"""

import asyncio
from collections.abc import Mapping
from itertools import count

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, NoStreamResponseError

from planter_protocol.inline import subscribe_inline
from planter_protocol.sending import publish

_LOOK_SECONDS = 0.25
"""How late a time-out may be."""


class _Answer(msgspec.Struct):
    """NATS ADR-1: a publish acknowledgement, or an error of the JetStream API."""

    stream: str = ""
    seq: int = 0
    error: dict[str, object] | None = None


_answers = msgspec.json.Decoder(_Answer)


class Confirmed:
    """Confirmed publishes over one connection; any number at the same time."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._inbox = ""
        self._listening = asyncio.Lock()
        self._numbers = count(1)
        #: By token: who waits, and until when.
        self._waiting: dict[str, tuple[asyncio.Future[int], float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def publish(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> int:
        """The sequence under which the stream has stored the message.

        Args:
            subject: of a stream.
            data: the payload.
            timeout: seconds to wait; it may become a quarter of a second more.
            headers: copied.

        Raises:
            nats.errors.TimeoutError: no confirmation; the message may be stored or not.
            NoStreamResponseError: no stream listens to the subject, or JetStream is away.
            APIError: the stream refuses it.
        """
        if not self._inbox:
            await self._listen()
        loop = asyncio.get_running_loop()
        token = str(next(self._numbers))
        future: asyncio.Future[int] = loop.create_future()
        self._waiting[token] = future, loop.time() + timeout
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_SECONDS, self._look)
        try:
            is_alone = len(self._waiting) == 1
            await publish(self._nc, subject, data, reply=self._inbox + token, headers=headers, now=is_alone)
            return await future
        finally:
            self._waiting.pop(token, None)

    async def _listen(self) -> None:
        async with self._listening:
            if not self._inbox:
                inbox = self._nc.new_inbox()
                await subscribe_inline(self._nc, f"{inbox}.*", self._on_answer)
                self._inbox = inbox + "."

    def _on_answer(self, message: Msg) -> None:
        future, _ = self._waiting.get(message.subject.rpartition(".")[2], (None, 0.0))
        if future is None or future.done():
            return
        if message.headers and "Status" in message.headers:
            future.set_exception(NoStreamResponseError())
            return
        try:
            answer = _answers.decode(message.data)
        except msgspec.DecodeError:
            return  # whatever this is, it confirms nothing
        if answer.error is None:
            future.set_result(answer.seq)
            return
        try:
            APIError.from_error(answer.error)  # it raises
        except APIError as error:
            future.set_exception(error)

    def _look(self) -> None:
        """Give up those whose time is over."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for future, until in list(self._waiting.values()):
            if until <= now and not future.done():
                future.set_exception(NatsTimeoutError())
        self._timer = loop.call_later(_LOOK_SECONDS, self._look) if self._waiting else None
