"""Where phases and sessions stand. A status is set in ``evolve.py`` and nowhere else."""

from enum import StrEnum


class PhaseStatus(StrEnum):
    """Status of one phase, spelled as on the wire (PMP's words where it has them)."""

    __hash__ = str.__hash__  # that of Enum is a function in Python, and these are keys everywhere

    PENDING = "pending"
    """Waits for other phases."""
    READY = "ready"
    """Nothing is missing but a runtime with a free slot (or the session is paused)."""
    TARGETED = "targeted"
    """Offered: to one runtime, or openly to whoever takes it."""
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    """An attempt failed; the next one waits for its time."""
    COMPLETE = "complete"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Never ran: a need failed, nothing used it, or somebody skipped it."""
    CANCELLED = "cancelled"


class SessionStatus(StrEnum):
    """Status of a session."""

    __hash__ = str.__hash__

    PENDING = "pending"
    """Known, but no plan has been applied yet."""
    RUNNING = "running"
    PAUSED = "paused"
    """Nothing new is targeted; what runs, ends."""
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PURGED = "purged"
    """Over for so long that only its id is kept, lest it is used again unnoticed."""


PHASE_TERMINAL = frozenset(
    {PhaseStatus.COMPLETE, PhaseStatus.FAILED, PhaseStatus.SKIPPED, PhaseStatus.CANCELLED}
)
PHASE_OPEN = frozenset({PhaseStatus.TARGETED, PhaseStatus.RUNNING})
"""An attempt is out: somebody may be working on it."""
SESSION_TERMINAL = frozenset(
    {SessionStatus.COMPLETE, SessionStatus.FAILED, SessionStatus.CANCELLED, SessionStatus.PURGED}
)
SESSION_ACTIVE = frozenset({SessionStatus.RUNNING, SessionStatus.PAUSED})
