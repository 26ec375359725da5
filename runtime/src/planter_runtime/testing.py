"""Running handlers without NATS: what they return, log and say about how far they are.

```python
from planter_runtime.testing import run_handler

def test_that_it_counts():
    done = run_handler(count, {"path": "a.txt"})
    assert done.result == {"lines": 3}
    assert done.log == ["reading a.txt"]
```

It is the runtime's own code that calls them: arguments are read, results checked and failures told as they
will be in production.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import anyio
import msgspec

from planter_protocol.messages import Target
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.handlers import HandlerExecutor
from planter_runtime.outcomes import Cancelled, Completed, Failed, Outcome
from planter_runtime.phase_log import PhaseLog
from planter_runtime.progress import Told
from planter_runtime.sdk import Runtime
from planter_runtime.work import Run, Work


class HandlerRun(NamedTuple):
    """What became of one call."""

    status: Literal["complete", "failed"]
    result: Any
    """What it returned, as it comes out of JSON; None when it failed."""
    error: str | None
    """The message of the failure."""
    retryable: bool
    """Whether another attempt would be made, if the manifest has ``retry``."""
    log: list[str]
    """Lines, in order."""
    heartbeats: list[Any]
    """What it said with ``heartbeat``; None where it said only that it goes on."""
    progress: list[Told]
    """What it said with ``progress``: how much is done, of how much, and the message."""
    artifacts: dict[str, bytes]
    """What it kept with ``artifact``, by name."""


def run_handler(
    function: Callable[..., Any], arguments: Mapping[str, Any] | None = None, **about: Any
) -> HandlerRun:
    """Call a handler, and wait for it; for tests that are not async. See ``call_handler``."""

    async def run() -> HandlerRun:
        return await call_handler(function, arguments, **about)

    return anyio.run(run)


async def call_handler(  # noqa: PLR0913  (each is a fact of the attempt, with a default)
    function: Callable[..., Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    session: str = "test",
    phase: str = "phase",
    attempt: int = 1,
    fence: int = 1,
    labels: Mapping[str, str] | None = None,
    details: Any = None,
    item: Any = None,
    index: int | None = None,
) -> HandlerRun:
    """Call a handler as a runtime does.

    Args:
        function: with or without ``@runtime.handler``.
        arguments: ``x-run.with`` of the phase: anything that becomes JSON.
        timeout: seconds that the attempt may take; then it is cancelled, and failed.
        session: id of the session, for the context.
        phase: id of the phase, likewise, as is everything below.
        attempt: its number, from 1.
        fence: grows with every attempt.
        labels: of the phase's selector.
        details: what an earlier attempt said last with ``heartbeat``.
        item: of a phase with ``x-foreach``.
        index: its place in the list.

    Raises:
        HandlerUnusable: the function cannot be a handler.
    """
    runtime = Runtime()
    runtime.handler()(function)
    target = Target(
        phase_id=phase,
        reason="test",
        session_id=session,
        attempt=attempt,
        fence=fence,
        labels=dict(labels or {}),
        timeout_ms=None if timeout is None else round(timeout * 1000),
        details=_raw(details),
        item=_raw(item),
        index=index,
    )
    run = Run(arguments=msgspec.Raw(msgspec.json.encode(arguments or {})))
    log, beats = _Log(), list[Any]()

    def beat(given: bytes | None) -> None:
        beats.append(None if given is None else msgspec.json.decode(given))

    told: list[Told] = []
    execution = Execution(Work(target, run, Path.cwd()), cast("PhaseLog", log), beat, told.append)
    outcome: Outcome = Cancelled("timed out")
    with anyio.move_on_after(timeout):
        outcome = await HandlerExecutor(runtime.handlers).execute(execution)
    sources = execution.artifacts.sources
    artifacts = {name: source.read(0, source.size) for name, source in sources.items()}
    execution.artifacts.close()
    return _run_of(outcome, log.lines, beats, told)._replace(artifacts=artifacts)


class _Log:
    """As much of a phase's log as handlers use."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str, level: str = "info") -> None:
        del level
        self.lines += text.splitlines()

    async def room(self) -> None:
        """There is always some."""


def _raw(value: Any) -> msgspec.Raw | msgspec.UnsetType:
    return msgspec.UNSET if value is None else msgspec.Raw(msgspec.json.encode(value))


def _run_of(outcome: Outcome, lines: list[str], beats: list[Any], told: list[Told]) -> HandlerRun:
    status: Literal["complete", "failed"] = "failed"
    result, error, retryable = None, None, False
    match outcome:
        case Completed(data):
            status = "complete"
            result = None if data is msgspec.UNSET else msgspec.json.decode(data)
        case Failed(failure):
            error, retryable = failure.message, failure.retryable
        case Cancelled(message):
            error, retryable = message, True
    return HandlerRun(status, result, error, retryable, lines, beats, told, {})
