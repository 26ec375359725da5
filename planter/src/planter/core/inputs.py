"""What the core is told. The shell has read, checked and numbered it; ``sequence`` is that of PLANTER_IN."""

from typing import Any, Literal

import msgspec

from planter.core.graph import Graph
from planter.core.plan import Plan


class Input(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all inputs."""

    sequence: int = 0
    """0: not from the input stream (a timer, a change of the fleet)."""


class StartPlan(Input, frozen=True, kw_only=True):
    """Apply a plan."""

    plan: Plan
    graph: Graph | None = None
    """Made beforehand, when that takes long; ``graph_of`` finds it as long as this input exists."""
    replan: bool = False
    """Apply it to the session even while that runs."""
    dry_run: bool = False
    """Only say what would happen."""
    expect_digest: str | None = None
    """Refuse unless this is the digest of the plan."""
    expect_revision: int | None = None
    """Refuse unless this is the session's revision."""


class Refuse(Input, frozen=True, kw_only=True):
    """An input whose content the shell could read but not accept, such as an invalid manifest."""

    code: str
    text: str
    problems: tuple[dict[str, Any], ...] = ()


class Command(Input, frozen=True, kw_only=True):
    """A control command."""

    verb: Literal["pause", "resume", "cancel", "retry", "skip", "rerun", "approve", "reject"]
    phase_id: str | None = None
    reason: str | None = None
    by: str | None = None
    """Who approves or rejects."""
    comment: str | None = None
    plan_digest: str | None = None
    """The answer is about this plan, and no other."""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """With an approval: outputs of the phase, as JSON."""


class Echo(Input, frozen=True):
    """What a runtime says about an attempt, and how it identified it.

    ``fenced`` with matching attempt and fence: the dispatch id was checked, the runtime is the addressee.
    Not fenced: a runtime that knows only the Phase Manifest Protocol; it counts only for open offers.
    """

    phase_id: str
    fenced: bool = False
    attempt: int = 0
    fence: int = 0
    runtime_id: str | None = None


class Acknowledge(Echo, frozen=True, kw_only=True):
    """A runtime accepts or declines an offer; ``declining`` says what follows."""

    accepted: bool
    queued: bool = False
    """Accepted: it waits for a slot of the runtime. Not accepted: it should be offered again later."""
    retry_after_ms: int | None = None
    """With a no: not before this long."""
    reason: str | None = None


class ReportRunning(Echo, frozen=True, kw_only=True):
    """The work has begun."""

    started: int | None = None


class ReportHeartbeat(Echo, frozen=True, kw_only=True):
    """The work says that it goes on."""

    started: int | None = None
    details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """How far it is, as JSON; the next attempt gets the newest."""


class ReportComplete(Echo, frozen=True, kw_only=True):
    """The work is done."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    started: int | None = None
    finished: int | None = None


class ReportFailed(Echo, frozen=True, kw_only=True):
    """The work failed."""

    message: str
    kind: str | None = None
    retryable: bool = True


class ReportCancelled(Echo, frozen=True, kw_only=True):
    """The work was stopped."""

    message: str | None = None


class RuntimeLost(Input, frozen=True, kw_only=True):
    """A runtime's lease ended, it left, or it came back as another instance."""

    runtime_id: str
    instance: str
    reason: str


class Unheard(Input, frozen=True, kw_only=True):
    """A runtime took an attempt and does not name it any more: what it said of it has not arrived."""

    phase_id: str
    fence: int


class PassedOn(Input, frozen=True, kw_only=True):
    """What a handler wants said and sent is stored."""

    phase_id: str
    number: int


class LookedUp(Input, frozen=True, kw_only=True):
    """Whether there is an earlier result of a phase's content; ``made`` 0: there is none."""

    phase_id: str
    key: str
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    source: str = ""
    made: int = 0


class Forget(Input, frozen=True, kw_only=True):
    """The retention time of an ended session is over."""

    known: int
    """Journal sequence up to which the session was seen to have ended; whatever came later keeps it."""


AnyInput = (
    StartPlan
    | Refuse
    | Command
    | Acknowledge
    | ReportRunning
    | ReportHeartbeat
    | ReportComplete
    | ReportFailed
    | ReportCancelled
    | RuntimeLost
    | Unheard
    | PassedOn
    | LookedUp
    | Forget
)
