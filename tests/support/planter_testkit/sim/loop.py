"""An event loop with a virtual clock: nothing waits, time jumps to the next timer.

Every callback knows its process by a context variable, which tasks inherit, so that a process can be stopped
(its callbacks are set aside) and go on later, as SIGSTOP and SIGCONT do.
"""

import asyncio
import contextvars
import heapq
from collections.abc import Callable
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


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class _Handle(asyncio.Handle):
    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.stopped:
            process.parked.append(self)
        else:
            super()._run()  # type: ignore[misc]


class _TimerHandle(asyncio.TimerHandle):
    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.stopped:
            process.parked.append(self)
        else:
            super()._run()  # type: ignore[misc]


class _Selector:
    """Selects nothing; waiting is a jump of the clock."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stalled("no callback and no timer is left")
        if timeout > 0:
            self._loop.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds start at 1,000 and pass only when nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self._selector = _Selector(self)
        self._clock_resolution = 1e-9
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
    ) -> asyncio.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _process_events(self, event_list: list[Any]) -> None:
        del event_list

    def _write_to_self(self) -> None:
        pass

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {type(error).__name__}: {error}")
