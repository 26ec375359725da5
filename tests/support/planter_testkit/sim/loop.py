"""An event loop with a virtual clock: nothing waits, time jumps to the next timer.

Every callback knows its process by a context variable, which tasks inherit, so that a process can be stopped
(its callbacks are set aside) and go on later, as SIGSTOP and SIGCONT do.
"""

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any


class Stalled(AssertionError):
    """Nothing is left that could ever happen, but the history has not ended."""


class Process:
    """What the loop has to know of a simulated process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        #: Callbacks that came while it was stopped.
        self.parked: list[asyncio.Handle] = []
        #: Added to the wall clock, in milliseconds.
        self.skew_ms = 0
        #: The least that it has been. A planner takes the time of day when it has connected, and counts from
        #: there: which of its clocks that was, nobody knows who was not there.
        self.skew_least_ms = 0

    def set_clock(self, skew_ms: int) -> None:
        """Its wall clock is set."""
        self.skew_ms, self.skew_least_ms = skew_ms, min(self.skew_least_ms, skew_ms)


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class _Handle(asyncio.Handle):
    """Made a thousand times a history: without what asyncio's has for debugging."""

    def __init__(  # pyright: ignore[reportMissingSuperCall]
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds start at 1,000 and pass only when nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        #: The number says who was first among timers of one moment.
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._numbers = itertools.count()
        self.errors: list[str] = []
        self.set_exception_handler(self._on_error)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def resume(self, process: Process) -> None:
        """The process goes on: everything that came meanwhile happens now, in order."""
        process.stopped = False
        parked, process.parked = process.parked, []
        self._ready.extend(parked)  # type: ignore[attr-defined]

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:  # pyright: ignore[reportIncompatibleMethodOverride]
        timer = _Handle(callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        """One round. asyncio's own compares timers in Python and asks a selector, in each of 1,600 rounds."""
        ready = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._advance()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and process.stopped:
                process.parked.append(handle)
            else:
                handle._run()

    def _advance(self) -> None:
        """The clock jumps to the next timer; everything that is due then is ready."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:  # type: ignore[attr-defined]  (skipped when its time has come)
            heapq.heappop(timers)
        if not timers:
            raise Stalled("no callback and no timer is left")
        self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(timers)[2])  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        pass

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {type(error).__name__}: {error}")
