"""Following a session: commits, log lines, hints and signals, one after the other to one renderer."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple, Protocol, Self

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from planter.cli.output import milliseconds
from planter.cli.signals import Signals
from planter.cli.view import Change, View, view_of_state
from planter_protocol import PlanClient, ProtocolError, SessionNotFound, messages, subjects
from planter_protocol.codec import decode
from planter_protocol.errors import InvalidMessage

TICK_SECONDS = 0.1
HINT_MS = 2_000
"""A phase may be offered, or wait for something outside, this long before a person is told."""
_GIVE_UP_SECONDS = 60.0
_RETRY_SECONDS = 0.3
_LAST_LOGS_SECONDS = 3.0
_CANCEL_SECONDS = 0.2


class Outcome(Enum):
    """Why following has stopped."""

    ENDED = "ended"
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"


class Renderer(Protocol):
    """Shows a session while it goes on."""

    def commit(self, view: View, commit: messages.Commit, changes: list[Change]) -> None:
        """A commit was made; the view includes it."""
        ...

    def log(self, line: messages.Log) -> None:
        """A phase has said something."""
        ...

    def progress(self, view: View, progress: messages.Progress) -> None:
        """Running work tells how far it is; the view includes it."""
        ...

    def hint(self, text: str) -> None:
        """Something a person should know."""
        ...

    def tick(self, view: View, now: int) -> None:
        """Time has passed."""
        ...

    def close(self, view: View, now: int) -> None:
        """Nothing more comes."""
        ...


class Starting(NamedTuple):
    """Where following begins."""

    view: View
    after: int
    """Journal sequence that the view includes."""
    logs_after: int
    """Sequence of the last log message that is not shown."""


class _Committed(NamedTuple):
    sequence: int
    commit: messages.Commit


class _Logged(NamedTuple):
    sequence: int
    line: messages.Log


class _Progressed(NamedTuple):
    progress: messages.Progress


class _Ended(NamedTuple):
    pass


class _Lost(NamedTuple):
    reason: str


class _Broken(NamedTuple):
    error: Exception


class _Signalled(NamedTuple):
    number: int


_Item = _Committed | _Logged | _Progressed | _Ended | _Lost | _Broken | _Signalled


class Follower:
    """Reads a session's journal and log, and shows them. ``run`` may be called again to go on."""

    def __init__(self, client: PlanClient, start: Starting, renderer: Renderer, signals: Signals) -> None:
        self.view = start.view
        self._client = client
        self._renderer = renderer
        self._signals = signals
        self._after = start.after
        self._logs_after = start.logs_after
        self._items: asyncio.Queue[_Item] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._hinted: set[tuple[str, int]] = set()

    async def __aenter__(self) -> Self:
        """Begin to read."""
        works = (self._read_journal(), self._read_logs(), self._hear_progress())
        self._tasks = [asyncio.create_task(work) for work in works]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop reading."""
        self._signals.taker = None
        for task in self._tasks:
            await end_task(task)
        self._renderer.close(self.view, _now())

    def also_watch(self, work: Awaitable[None]) -> None:
        """End following with the exception of ``work``, should it raise one."""

        async def watch() -> None:
            try:
                await work
            except Exception as error:
                self._items.put_nowait(_Broken(error))

        self._tasks.append(asyncio.create_task(watch()))

    async def run(self, seconds: float | None = None) -> Outcome:
        """Follow until the session has ended, the time is over or a signal comes."""
        self._signals.taker = lambda number: self._items.put_nowait(_Signalled(number))
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            item = await self._next(deadline)
            match item:
                case None if deadline is not None and time.monotonic() >= deadline:
                    return Outcome.TIMED_OUT
                case None:
                    pass
                case _Committed():
                    await self._commit(item)
                case _Logged():
                    self._log(item)
                case _Progressed():
                    self.view.note_progress(item.progress)
                    self._renderer.progress(self.view, item.progress)
                case _Ended():
                    await self._last_logs()
                    return Outcome.ENDED
                case _Lost():
                    self._renderer.hint(f"{item.reason}; trying again")
                case _Broken():
                    raise item.error
                case _Signalled():
                    return Outcome.INTERRUPTED
            if self._items.empty():
                self._tick()

    async def _next(self, deadline: float | None) -> _Item | None:
        if not self._items.empty():
            return self._items.get_nowait()
        left = TICK_SECONDS if deadline is None else min(TICK_SECONDS, deadline - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left)):
                return await self._items.get()
        return None

    async def _commit(self, item: _Committed) -> None:
        if item.sequence <= self._after:
            return
        self._after = item.sequence
        changes = self.view.apply(item.commit.events, milliseconds(item.commit.at))
        if self.view.outdated:
            # Somebody applied another plan to this session: what the phases are now, only a planner knows.
            state = await self._client.get_state(self.view.session)
            self.view, self._after = view_of_state(state), state.sequence
        self._renderer.commit(self.view, item.commit, changes)

    def _log(self, item: _Logged) -> None:
        if item.sequence > self._logs_after:
            self._logs_after = item.sequence
            self._renderer.log(item.line)

    def _tick(self) -> None:
        now = _now()
        for text in self._hints(now):
            self._renderer.hint(text)
        self._renderer.tick(self.view, now)

    def _hints(self, now: int) -> list[str]:
        found: list[str] = []
        for phase in self.view.unclaimed():
            if now - phase.since >= HINT_MS and self._first_time(phase.id, phase.attempt):
                needs = f" ({phase.selector})" if phase.selector else ""
                subject = subjects.target(self.view.session)
                found.append(
                    f"phase `{phase.id}` is offered on {subject}: no registered runtime matches it{needs}"
                )
        if self.view.begun is None or now - self.view.begun < HINT_MS:
            return found
        subject = subjects.state(self.view.session)
        for phase in self.view.phases.values():
            outside = self.view.waits_outside(phase) if phase.external else ()
            if outside and len(outside) == len(self.view.waits_for(phase)) and self._first_time(phase.id, 0):
                names = ", ".join(f"`{name}`" for name in outside)
                found.append(
                    f"phase `{phase.id}` waits for {names}, outside this manifest: "
                    f"it goes on once {subject} says complete"
                )
        return found

    def _first_time(self, phase: str, attempt: int) -> bool:
        known = (phase, attempt) in self._hinted
        self._hinted.add((phase, attempt))
        return not known

    async def _last_logs(self) -> None:
        """What the phases said last may still be on its way through the queue, or only in the stream."""
        while not self._items.empty():
            item = self._items.get_nowait()
            if isinstance(item, _Logged):
                self._log(item)
        with suppress(ProtocolError, NatsError, TimeoutError):
            async with asyncio.timeout(_LAST_LOGS_SECONDS):
                async for sequence, line in self._client.logs(self.view.session, after=self._logs_after):
                    self._log(_Logged(sequence, line))

    async def _read_journal(self) -> None:
        after = self._after
        failing_since: float | None = None
        while True:
            try:
                async for sequence, commit in self._client.watch_numbered(self.view.session, after=after):
                    self._items.put_nowait(_Committed(sequence, commit))
                    after, failing_since = sequence, None
            except SessionNotFound as error:
                self._items.put_nowait(_Broken(error))
                return
            except (ProtocolError, NatsError, TimeoutError, OSError) as error:
                now = time.monotonic()
                if failing_since is None:
                    failing_since = now
                    self._items.put_nowait(_Lost(str(error) or type(error).__name__))
                elif now - failing_since > _GIVE_UP_SECONDS:
                    self._items.put_nowait(_Broken(error))
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._items.put_nowait(_Ended())
                return

    async def _read_logs(self) -> None:
        after = self._logs_after
        while True:
            # A trouble of the server is told by the reader of the journal; here it only means to wait.
            with suppress(ProtocolError, NatsError, TimeoutError, OSError):
                async for sequence, line in self._client.logs(self.view.session, after=after, follow=True):
                    self._items.put_nowait(_Logged(sequence, line))
                    after = sequence
            await asyncio.sleep(_RETRY_SECONDS)

    async def _hear_progress(self) -> None:
        """What is kept nowhere: as long as the connection is there."""

        async def hear(message: Msg) -> None:
            with suppress(InvalidMessage):
                self._items.put_nowait(_Progressed(decode(message.data, messages.Progress)))

        with suppress(NatsError):
            await self._client.nc.subscribe(subjects.progress(self.view.session), cb=hear)


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once is not enough on Python 3.11: a cancellation that meets the answer of a NATS request is swallowed.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_SECONDS)


def _now() -> int:
    return int(time.time() * 1000)
