"""The output of one attempt on its way to ``plan.session.<id>.log``: in order, confirmed, bounded.

A log that cannot be sent never fails the phase: a batch is given up after ``GIVE_UP_SECONDS``, with a
warning.
"""

import time
from collections import deque
from typing import Literal, NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup

from planter_protocol import subjects
from planter_protocol.codec import encode, timestamp
from planter_protocol.messages import Log, Target
from planter_runtime.lines import LineSplitter
from planter_runtime.publishing import Publisher
from planter_runtime.secrets import Mask

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 0.05
BATCH_BYTES_MAX = 32 * 1024
UNSENT_BYTES_MAX = 1024 * 1024
GIVE_UP_SECONDS = 5.0
_LINE_OVERHEAD = 64

Stream = Literal["stdout", "stderr", "log"]


class _Line(NamedTuple):
    stream: Stream
    level: str
    text: str
    at: int
    size: int


class PhaseLog:
    """Lines of one attempt; everything is called in the event loop."""

    def __init__(self, publisher: Publisher, target: Target, runtime_id: str, tasks: TaskGroup) -> None:
        self._publisher = publisher
        self._target = target
        self._runtime_id = runtime_id
        self._tasks = tasks
        self._splitters: dict[Stream, LineSplitter] = {}
        self._lines: deque[_Line] = deque()
        self._unsent = 0
        self._dropped = 0
        self._confirmed = 0
        self._sending: anyio.CancelScope | None = None
        self._closing = False
        self._failing = False
        self._hurry = anyio.Event()
        self._moved = anyio.Event()
        self.last_error_line: str | None = None
        """The newest line of stderr that is not empty."""
        self.mask = Mask()
        """Hides the secrets of the attempt in every line."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Output of a process, as it was read; the caller awaits ``room`` before it reads on."""
        splitter = self._splitters.setdefault(stream, LineSplitter())
        for text in splitter.feed(data):
            self._add(stream, "info", text)

    async def room(self) -> None:
        """Wait while more than ``UNSENT_BYTES_MAX`` are unsent, unless sending fails: the phase goes on."""
        while self._unsent > UNSENT_BYTES_MAX and not self._failing:
            await self._moved.wait()

    def say(self, text: str, level: str = "info") -> None:
        """Lines of a handler; dropped and counted when too much is unsent, for nobody can be made to wait."""
        if self._unsent > UNSENT_BYTES_MAX:
            self._dropped += 1
            return
        splitter = LineSplitter()
        for line in splitter.feed(text.encode("utf-8", "replace")) + splitter.end():
            self._add("log", level, line)

    async def close(self) -> None:
        """Return when all is confirmed, or nothing was for ``GIVE_UP_SECONDS``."""
        for stream, splitter in self._splitters.items():
            for text in splitter.end():
                self._add(stream, "info", text)
        self._closing = True
        self._tell_dropped()
        self._hurry.set()
        while self._is_sending():
            before = self._confirmed
            with anyio.move_on_after(GIVE_UP_SECONDS):
                while self._is_sending() and self._confirmed == before:
                    await self._moved.wait()
                continue
            self._abandon()

    def _is_sending(self) -> bool:
        return self._sending is not None

    def _abandon(self) -> None:
        session, phase = self._target.session_id, self._target.phase_id
        log.warning("log.given_up", session=session, phase=phase, lines=len(self._lines), bytes=self._unsent)
        self._lines.clear()
        self._unsent = 0
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._wake()

    def _add(self, stream: Stream, level: str, text: str) -> None:
        text = self.mask.text(text)
        if stream == "stderr" and text.strip():
            self.last_error_line = text
        if self._failing and self._unsent > UNSENT_BYTES_MAX:
            self._dropped += 1
            return
        size = len(text) + _LINE_OVERHEAD
        self._lines.append(_Line(stream, level, text, time.time_ns() // 1_000_000, size))
        self._unsent += size
        if self._unsent > BATCH_BYTES_MAX:
            self._hurry.set()
        if self._sending is None:
            self._sending = anyio.CancelScope()
            self._tasks.start_soon(self._send, self._sending)

    async def _send(self, scope: anyio.CancelScope) -> None:
        with scope:
            while self._lines:
                if not self._closing and self._unsent <= BATCH_BYTES_MAX:
                    with anyio.move_on_after(FLUSH_SECONDS):
                        await self._hurry.wait()
                    self._hurry = anyio.Event()
                batch, size = self._take()
                # After a failure one try a batch is enough: waiting would only hold up the phase.
                seconds = 0.0 if self._failing else GIVE_UP_SECONDS
                subject = subjects.log(self._target.session_id)
                self._failing = not await self._publisher.confirmed_within(subject, encode(batch), seconds)
                self._unsent -= size
                if not self._failing:
                    self._confirmed += 1
                    self._tell_dropped()
                self._wake()
            self._sending = None
            self._wake()

    def _tell_dropped(self) -> None:
        if self._dropped and self._unsent <= UNSENT_BYTES_MAX:
            text = f"[{self._dropped:,} lines are missing here: they could not be sent]"
            self._dropped = 0
            self._add("log", "warning", text)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def _take(self) -> tuple[Log, int]:
        """The next lines of one stream and level, as one message."""
        first = self._lines.popleft()
        texts, size = [first.text], first.size
        while self._lines and size < BATCH_BYTES_MAX:
            following = self._lines[0]
            if (following.stream, following.level) != (first.stream, first.level):
                break
            self._lines.popleft()
            texts.append(following.text)
            size += following.size
        message = Log(
            level=first.level,
            message="\n".join(texts),
            timestamp=timestamp(first.at),
            phase_id=self._target.phase_id,
            attempt=self._target.attempt,
            stream=first.stream,
            runtime_id=self._runtime_id,
        )
        return message, size
