"""Facts about a session, in the past tense. The journal is a sequence of them; folding it is the state.

Their JSON (the field ``type`` names the class, fields in camelCase) is the journal's format, so a change
here is a change of stored data: fields may be added with a default, nothing may change its meaning.
Times are milliseconds since 1970; the time of the event itself is the commit's.
"""

from typing import Any

import msgspec

from planter.core.plan import Plan
from planter.core.status import SessionStatus


class Event(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", omit_defaults=True, gc=False
):
    """Base of all events."""


# -- the session -------------------------------------------------------------------------------


class PlanApplied(Event, frozen=True, kw_only=True):
    """A plan became the session's newest revision; unchanged complete phases keep their result."""

    revision: int
    digest: str
    plan: Plan | None = None
    plan_ref: str | None = None
    """In the journal, a large plan is an object of this digest; the core always sees ``plan``."""
    replan: bool = False
    """The session was running or paused, and goes on: see ``core.replan`` for what stays as it was."""


class InputRepeated(Event, frozen=True, kw_only=True):
    """A start or command asked for what is so already: nothing changes."""

    input: int


class SessionPaused(Event, frozen=True, kw_only=True):
    """Nothing new is targeted from here on."""

    reason: str | None = None


class SessionResumed(Event, frozen=True, kw_only=True):
    """Targeting goes on; waits are longer by the length of the pause."""

    reason: str | None = None


class CancelRequested(Event, frozen=True, kw_only=True):
    """The session ends as soon as its running work has stopped."""

    reason: str | None = None


class SessionReopened(Event, frozen=True, kw_only=True):
    """An ended session goes on (retry, skip or rerun)."""

    reason: str


class SessionEnded(Event, frozen=True, kw_only=True):
    """Every phase is terminal."""

    status: SessionStatus
    reason: str | None = None


class SessionPurged(Event, frozen=True, kw_only=True):
    """Retention: all records before this one may be removed, and the id is not used again."""

    status: SessionStatus
    """How the session had ended."""
    revision: int
    created: int


class ClockSetBack(Event, frozen=True, kw_only=True):
    """The journal is ahead of the clock: another planner's was fast, or ours was set. Waits move with it."""

    by: int
    """Milliseconds."""


class InputRefused(Event, frozen=True, kw_only=True):
    """An input was read and the answer is no."""

    input: int
    """Its sequence in PLANTER_IN."""
    code: str
    text: str
    problems: tuple[dict[str, Any], ...] = ()


# -- one phase ---------------------------------------------------------------------------------


class PhaseEvent(Event, frozen=True, kw_only=True):
    """Base of the events of one phase."""

    phase_id: str


class PhaseReady(PhaseEvent, frozen=True, kw_only=True):
    """The pause before the next attempt, or before a deferred one is offered again, is over."""


class PhaseTargeted(PhaseEvent, frozen=True, kw_only=True):
    """An attempt is offered. Its fence is the journal sequence of this event's commit."""

    attempt: int
    runtime_id: str | None = None
    """None: offered openly on the session's subject."""
    instance: str | None = None
    """Which life of that runtime."""


class PhaseWithdrawn(PhaseEvent, frozen=True, kw_only=True):
    """The offer is void before any work was known to have begun; the same attempt is offered anew."""

    attempt: int
    reason: str
    not_before: int | None = None
    """When it is offered again at the earliest: its runtime has deferred it."""


class PhaseAccepted(PhaseEvent, frozen=True, kw_only=True):
    """A runtime took the offer."""

    attempt: int
    runtime_id: str | None = None
    queued: bool = False


class PhaseStarted(PhaseEvent, frozen=True, kw_only=True):
    """The work runs. Left out when the attempt ended before it was reported."""

    attempt: int
    runtime_id: str | None = None
    at: int | None = None
    """When the runtime says that it began."""


class PhaseProgressed(PhaseEvent, frozen=True, kw_only=True):
    """The work said how far it is. A heartbeat without news is no event: it only keeps the attempt alive."""

    attempt: int
    details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON that the next attempt gets, should there be one."""


class PhaseCompleted(PhaseEvent, frozen=True, kw_only=True):
    """The work is done."""

    attempt: int
    runtime_id: str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    started: int | None = None
    finished: int | None = None


class PhaseReused(PhaseEvent, frozen=True, kw_only=True):
    """The phase was not run: an earlier result of the same content was taken (``x-cache``)."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    source: str
    """Session and phase that made it."""
    made: int
    """When."""


class WaitStarted(PhaseEvent, frozen=True, kw_only=True):
    """A phase that waits for time begins to (``x-run.wait``): no runtime is offered it."""

    attempt: int
    due: int
    """When it is complete."""
    fixed: bool = False
    """It waits until a point in time, not for a while: no ``ClockSetBack`` moves that."""


class ApprovalRequested(PhaseEvent, frozen=True, kw_only=True):
    """A phase that needs an approval is up to people (``x-run.approval``): no runtime is offered it."""

    attempt: int
    message: str
    approvers: tuple[str, ...] = ()
    """Who may answer; empty: anybody."""
    needed: int = 1
    """So many different people have to approve."""
    expires: int | None = None
    on_expiry: str = "fail"


class PhaseApproved(PhaseEvent, frozen=True, kw_only=True):
    """Somebody approves. ``PhaseCompleted`` follows when enough have."""

    attempt: int
    by: str
    comment: str | None = None
    plan_digest: str | None = None
    """The answer was bound to this plan."""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """A JSON object: outputs of the phase."""


class PhaseRejected(PhaseEvent, frozen=True, kw_only=True):
    """Somebody rejects; ``PhaseFailed`` follows."""

    attempt: int
    by: str
    comment: str | None = None
    plan_digest: str | None = None


class ApprovalExpired(PhaseEvent, frozen=True, kw_only=True):
    """Not enough people have answered in time; the phase fails, or is approved, as its manifest says."""

    attempt: int
    outcome: str
    """``fail`` or ``approve``."""


class AttemptFailed(PhaseEvent, frozen=True, kw_only=True):
    """One attempt failed and there will be another."""

    attempt: int
    message: str
    kind: str | None = None
    retry_at: int


class AttemptLost(PhaseEvent, frozen=True, kw_only=True):
    """The platform lost the attempt (its runtime went away); the work itself did not fail."""

    attempt: int
    reason: str


class PhaseFailed(PhaseEvent, frozen=True, kw_only=True):
    """The phase failed for good."""

    attempt: int
    message: str
    kind: str | None = None


class PhaseSkipped(PhaseEvent, frozen=True, kw_only=True):
    """The phase will not run."""

    reason: str
    satisfies: bool = False
    """Whether what waits for it goes on (somebody skipped it on purpose)."""
    left_out: bool = False
    """Only because the session failed before it could run."""


class PhaseCancelled(PhaseEvent, frozen=True, kw_only=True):
    """The phase was stopped, or kept from running, by a cancel."""

    reason: str


class PhasesReset(Event, frozen=True, kw_only=True):
    """Phases start over: as if they had never run, but attempts are numbered on."""

    phase_ids: tuple[str, ...]
    reason: str


class PhaseDemanded(PhaseEvent, frozen=True, kw_only=True):
    """An ``onUse`` phase is instantiated, because something that needs it is otherwise ready."""

    by: str


class PhaseCleared(PhaseEvent, frozen=True, kw_only=True):
    """The trigger rule and the condition of a phase hold: nothing is missing but a runtime."""

    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """``x-run`` with its expressions filled in, if it has any."""
    cache: str = ""
    """Under which the result is kept and looked for."""


class PhaseExpanded(PhaseEvent, frozen=True, kw_only=True):
    """The list of an ``x-foreach`` is known: the phase becomes one phase an item, and waits for these."""

    attempt: int
    items: tuple[msgspec.Raw, ...] = ()


class HandlerCalled(PhaseEvent, frozen=True, kw_only=True):
    """The phase ended, or asks for approval, and its manifest wants that said (``onSuccess``, ...)."""

    number: int = 0
    """Counts the session's calls, from 1: a phase may fail twice without another attempt in between."""
    revision: int
    attempt: int
    outcome: str
    """``complete``, ``failed`` or ``asked``."""
    reason: str | None = None
    """Why it failed."""
    message: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    notify: dict[str, str] = {}
    """Addressee by channel, as the manifest has it."""


class HandlerPassedOn(PhaseEvent, frozen=True, kw_only=True):
    """What the handler wants said and sent is stored (or could not be for a minute, and the log says so)."""

    number: int = 0


class ExternalCompleted(PhaseEvent, frozen=True, kw_only=True):
    """A phase that is not in the plan is known as complete."""


class AttemptStopped(PhaseEvent, frozen=True, kw_only=True):
    """An attempt that a replan took out of the session is out no more; its phase may be targeted again."""

    attempt: int
    reason: str


class PhaseUnmatched(PhaseEvent, frozen=True, kw_only=True):
    """The phase is ready and no registered runtime matches it. Once, until one does."""

    reason: str
    """How many runtimes there are, and what each constraint leaves of them."""


AnyEvent = (
    PlanApplied
    | InputRepeated
    | SessionPaused
    | SessionResumed
    | CancelRequested
    | SessionReopened
    | SessionEnded
    | SessionPurged
    | ClockSetBack
    | InputRefused
    | PhaseReady
    | PhaseTargeted
    | PhaseWithdrawn
    | PhaseAccepted
    | PhaseStarted
    | PhaseProgressed
    | PhaseCompleted
    | AttemptFailed
    | AttemptLost
    | PhaseFailed
    | PhaseSkipped
    | PhaseCancelled
    | PhasesReset
    | PhaseDemanded
    | PhaseCleared
    | PhaseExpanded
    | PhaseReused
    | HandlerCalled
    | HandlerPassedOn
    | ExternalCompleted
    | AttemptStopped
    | WaitStarted
    | ApprovalRequested
    | PhaseApproved
    | PhaseRejected
    | ApprovalExpired
    | PhaseUnmatched
)
