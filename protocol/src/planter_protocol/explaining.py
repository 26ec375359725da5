"""Messages of ``plan.session.<id>.explain``: why phases do not run."""

from planter_protocol.matching import PreferredRuntime
from planter_protocol.messages import Message


class Explain(Message, frozen=True):
    """Request on ``plan.session.<id>.explain``; an empty payload asks for all phases."""

    phase_id: str | None = None


class Condition(Message, frozen=True):
    """One thing that keeps a phase from running."""

    code: str
    """``need.unmet``, ``external.unmet``, ``session.paused``, ``placement.no_slot``, ..."""
    text: str
    since: str | None = None
    until: str | None = None
    """When it ends by itself, if that is known."""
    unblock: str | None = None
    """What would end it."""
    phase_id: str | None = None
    """The phase that is waited for."""


class RemovedRuntimes(Message, frozen=True):
    """How many of the runtimes that were left a constraint removes."""

    constraint: str
    """``draining``, ``capabilities``, ``executor``, ``handler``, ``labels``, ``constraint`` (once for each),
    ``size``, ``slots``, ``rejected``."""
    count: int
    text: str


class Placement(Message, frozen=True):
    """The way of the registered runtimes through the constraints of a phase."""

    considered: int
    free: int
    """Those that are left: they could take the phase now."""
    removed: tuple[RemovedRuntimes, ...] = ()
    preferred: tuple[PreferredRuntime, ...] = ()
    """Of the runtimes that match, full or not, the first in the order of preference."""


class PhaseExplanation(Message, frozen=True):
    """Why one phase is not running."""

    phase_id: str
    status: str
    text: str
    since: str | None = None
    attempt: int = 0
    runtime_id: str | None = None
    conditions: tuple[Condition, ...] = ()
    more: int = 0
    """Conditions that are not listed."""
    placement: Placement | None = None


class WaitingGroup(Message, frozen=True):
    """Phases that do not run for the same reason."""

    code: str
    text: str
    count: int
    phases: tuple[str, ...] = ()
    """The first of them."""
    since: str | None = None
    unblock: str | None = None
    placement: Placement | None = None


class Explanation(Message, frozen=True):
    """Reply to ``plan.session.<id>.explain``: of one phase, or of all that neither run nor are done."""

    session_id: str
    status: str
    text: str
    sequence: int = 0
    """Journal sequence that this includes."""
    phase: PhaseExplanation | None = None
    groups: tuple[WaitingGroup, ...] = ()
    waiting: int = 0
    """Phases in all groups."""
    more: int = 0
    """Groups that are not listed."""
