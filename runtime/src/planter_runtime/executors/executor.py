"""What every executor is: a way to do the work of an attempt."""

from collections.abc import Callable
from typing import Protocol

import anyio

from planter_runtime.artifacts import Artifacts
from planter_runtime.outcomes import Outcome
from planter_runtime.phase_log import PhaseLog
from planter_runtime.progress import Told
from planter_runtime.pulse import Details
from planter_runtime.work import Work

Beat = Callable[[Details], None]
"""The work gives a heartbeat, perhaps with details; called in the event loop, as often as the work likes."""
Tell = Callable[[Told], None]
"""The work tells how far it is; called in the event loop, as often as the work likes."""


class Execution:
    """One execution of an attempt; ``beat`` does nothing when its phase has no heartbeat timeout."""

    def __init__(
        self, work: Work, log: PhaseLog, beat: Beat, tell: Tell, artifacts: Artifacts | None = None
    ) -> None:
        self.work = work
        self.artifacts = artifacts or Artifacts()
        self.log = log
        self.beat = beat
        self.tell = tell
        self.leftover: anyio.Event | None = None
        """Set by an executor that cannot be ended: the slot stays taken until the event is set."""


class Executor(Protocol):
    """A way to run phases; one object serves all attempts of its kind at the same time."""

    def unfit(self, work: Work) -> str | None:
        """Why this work cannot be executed here; None when it can. Quick, and without effects."""
        ...

    async def execute(self, execution: Execution) -> Outcome:
        """Do the work.

        Cancelled through an anyio scope at timeout, cancellation and shutdown: it then ends what it started,
        within a few seconds, before it lets the cancellation pass. Any exception becomes a failure.
        """
        ...
