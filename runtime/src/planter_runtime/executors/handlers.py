"""Targets without ``x-run``: a registered function, chosen by the selector's labels."""

import asyncio
import contextlib
import contextvars
import threading
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio
import msgspec

from planter_runtime.calling import bound, result_json
from planter_runtime.context import PhaseContext
from planter_runtime.errors import PermanentFailure, TemporaryFailure
from planter_runtime.executors.executor import Beat, Execution, Tell
from planter_runtime.outcomes import Completed, Outcome, completed, failed
from planter_runtime.phase_log import PhaseLog
from planter_runtime.sdk import Handler
from planter_runtime.work import Work, best_handler

T = TypeVar("T")
_LINES_WITHOUT_WAITING = 100


class HandlerExecutor:
    """Runs async handlers in the event loop and the others in threads."""

    def __init__(self, handlers: Sequence[Handler]) -> None:
        self._handlers = tuple(handlers)
        self._labels = {index: handler.labels for index, handler in enumerate(handlers)}

    def unfit(self, work: Work) -> str | None:
        """A handler whose labels are all in the selector is needed."""
        labels = work.target.labels
        if best_handler(self._labels, labels) is not None:
            return None
        return f"no handler here for the labels {shown_labels(labels)}, and the phase has no x-run"

    async def execute(self, execution: Execution) -> Outcome:
        """Call the handler; complete with what it returns."""
        index = best_handler(self._labels, execution.work.target.labels)
        assert index is not None
        handler = self._handlers[index]
        cancelled = anyio.Event()
        log = execution.log
        loop = asyncio.get_running_loop()
        write = log.say if handler.is_async else _from_thread(log, loop)
        beat = execution.beat if handler.is_async else _beat_from_thread(execution.beat, loop)
        tell = execution.tell if handler.is_async else _tell_from_thread(execution.tell, loop)
        context = _context(execution, cancelled, write, beat, tell)
        run = execution.work.run
        try:
            by_place, by_name = bound(handler.signature, bytes(run.arguments) if run else b"{}", context)
            if handler.is_async:
                return _outcome(await handler.function(*by_place, **by_name))
            return _outcome(await _in_thread(execution, lambda: handler.function(*by_place, **by_name)))
        except Exception as error:
            return _failure(error, log)
        except (SystemExit, KeyboardInterrupt) as error:
            return failed(f"the handler raised {type(error).__name__}", "exception")
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # Nobody has cancelled us: what the handler waited for was cancelled, and that is its failure.
            return failed("the handler raised CancelledError", "exception")
        finally:
            cancelled.set()


def shown_labels(labels: dict[str, str]) -> str:
    """Labels for people."""
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "(none)"


async def _in_thread(execution: Execution, call: Callable[[], Any]) -> Any:
    """What the call returns or raises. Cancelled, it leaves the thread behind as ``execution.leftover``.

    The thread is a daemon of its own: one that never returns must not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    ended = anyio.Event()
    result: list[Any] = []
    errors: list[Exception] = []
    variables = contextvars.copy_context()

    def work() -> None:
        try:
            result.append(variables.run(call))
        except Exception as error:
            errors.append(error)
        except BaseException as error:  # SystemExit in a thread ends the thread, nothing else
            errors.append(RuntimeError(f"the handler raised {type(error).__name__}"))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=work, name=f"phase {execution.work.target.phase_id}", daemon=True).start()
    try:
        await ended.wait()
    except anyio.get_cancelled_exc_class():
        if not ended.is_set():
            execution.leftover = ended
        raise
    if errors:
        raise errors[0]
    return result[0]


def _from_thread(log: PhaseLog, loop: asyncio.AbstractEventLoop) -> Callable[[str, str], None]:
    """``say`` for a thread: the lines that come before the loop has its turn are taken over together.

    Every so many lines the thread waits for room, so that memory stays bounded.
    """
    count = 0
    loop_thread = threading.get_ident()
    lock = threading.Lock()
    said: list[tuple[str, str]] = []

    def pass_on() -> None:
        with lock:
            lines = said.copy()
            said.clear()
        for text, level in lines:
            log.say(text, level)

    async def pass_on_and_wait() -> None:
        pass_on()
        await log.room()

    def write(text: str, level: str) -> None:
        nonlocal count
        with lock:
            count += 1
            must_wait = count % _LINES_WITHOUT_WAITING == 0
            is_first = not said
            said.append((text, level))
        try:
            if must_wait and threading.get_ident() != loop_thread:
                asyncio.run_coroutine_threadsafe(pass_on_and_wait(), loop).result(10)
            elif is_first:
                loop.call_soon_threadsafe(pass_on)
        except (RuntimeError, TimeoutError):
            pass  # the runtime is ending

    return write


def _newest_from_thread(
    call: Callable[[T], None], loop: asyncio.AbstractEventLoop, merged: Callable[[T, T], T]
) -> Callable[[T], None]:
    """``call`` for a thread: however often it is called, one call at a time waits in the event loop."""
    lock = threading.Lock()
    newest: list[T] = []

    def pass_on() -> None:
        with lock:
            told = newest.pop()
        call(told)

    def from_thread(told: T) -> None:
        with lock:
            is_first = not newest
            newest[:] = [told if is_first else merged(newest[0], told)]
        if is_first:
            with contextlib.suppress(RuntimeError):  # the runtime is ending
                loop.call_soon_threadsafe(pass_on)

    return from_thread


def _beat_from_thread(beat: Beat, loop: asyncio.AbstractEventLoop) -> Beat:
    """``beat`` for a thread; one without details does not take back those of another."""
    return _newest_from_thread(beat, loop, lambda old, new: old if new is None else new)


def _tell_from_thread(tell: Tell, loop: asyncio.AbstractEventLoop) -> Tell:
    """``tell`` for a thread."""
    return _newest_from_thread(tell, loop, lambda _, new: new)


def _context(
    execution: Execution, cancelled: anyio.Event, write: Callable[[str, str], None], beat: Beat, tell: Tell
) -> PhaseContext:
    target = execution.work.target
    timeout = execution.work.timeout_seconds
    return PhaseContext(
        session=target.session_id,
        phase=target.phase_id,
        attempt=target.attempt,
        fence=target.fence,
        labels=target.labels,
        deadline=None if timeout is None else datetime.now(UTC) + timedelta(seconds=timeout),
        cancelled=cancelled,
        write=write,
        beat=beat,
        tell=tell,
        keep=execution.artifacts.add,
        details=_value(target.details),
        item=_value(target.item),
        index=target.index,
    )


def _value(given: msgspec.Raw | msgspec.UnsetType) -> Any:
    return None if given is msgspec.UNSET else msgspec.json.decode(given)


def _outcome(result: Any) -> Outcome:
    if result is None:
        return Completed()
    try:
        return completed(result_json(result))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the handler returned something that is not JSON: {error}"
        return failed(message, "exception", retryable=False)


def _failure(error: Exception, log: PhaseLog) -> Outcome:
    if isinstance(error, PermanentFailure | TemporaryFailure):
        text = str(error) or type(error).__name__
        return failed(text, "exception", retryable=isinstance(error, TemporaryFailure))
    log.say("".join(traceback.format_exception(error)).rstrip("\n"), "error")
    return failed(f"{type(error).__name__}: {error}".removesuffix(": "), "exception")
