"""Every message, as the bytes on the wire are shaped.

Fields that the Phase Manifest Protocol defines keep its names and meaning; all others are Planter's, and
optional. Unknown fields are ignored on reading. Times are RFC 3339 strings in UTC; durations milliseconds.
"""

from typing import Any, Literal

import msgspec

from planter_protocol.gate import Gate
from planter_protocol.matching import LabelConstraint

PhaseStatusName = Literal[
    "pending", "ready", "targeted", "running", "backing_off", "complete", "failed", "skipped", "cancelled"
]
SessionStatusName = Literal["pending", "running", "paused", "complete", "failed", "cancelled", "purged"]
ControlCommand = Literal["pause", "resume", "cancel", "retry", "skip", "rerun", "approve", "reject"]
ReportStatus = Literal["running", "complete", "failed", "cancelled", "heartbeat"]

DETAILS_BYTES_MAX = 4_000
"""Details of a heartbeat, as JSON: a place to go on from, not a result."""


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all messages: frozen, camelCase on the wire, defaults left out."""


# -- inputs ----------------------------------------------------------------------------------


class ManifestRef(Message, frozen=True):
    """A manifest that is too large for a message: an object in the bucket PLANTER_MANIFESTS."""

    digest: str
    """``sha256:`` and the hex digest of the bytes; also the object's name."""
    size: int
    """Bytes."""


class Start(Message, frozen=True):
    """``plan.session.<id>.start`` (PMP, "Message Schema"): exactly one of the two manifests."""

    manifest: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Phases as JSON in any spelling that PMP uses, or a JSON string that holds YAML text."""
    manifest_ref: ManifestRef | None = None
    dry_run: bool = False
    """Check and say what would happen; start nothing. Whoever wants no trace of it asks ``.diff`` instead."""
    replan: bool = False
    """Apply it to the session even while that is running or paused."""
    expect_digest: str | None = None
    """Digest of the plan that was reviewed; another one is refused as ``plan.stale``."""
    expect_revision: int | None = None
    """Revision that it was reviewed against, 0 for none; another one is refused as ``plan.stale``."""
    target_phase: str | None = None
    """Run this phase and what it needs, and stop; instead of the manifest's own ``targetPhase``."""


class Control(Message, frozen=True):
    """``plan.session.<id>.control`` (PMP: pause, resume, cancel; ours: the rest)."""

    command: ControlCommand
    phase_id: str | None = None
    """For all but pause, resume and cancel; retry without it means every failed phase."""
    reason: str | None = None
    by: str | None = None
    """For approve and reject: who answers. A name, no proof of it."""
    comment: str | None = None
    plan_digest: str | None = None
    """The answer is about this plan; refused when the session has another."""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """With approve: a JSON object of at most 16 KiB, outputs of the phase."""


class Ack(Message, frozen=True):
    """``plan.session.<id>.ack``: one runtime's answer to one target (PMP: the first three fields)."""

    phase_id: str
    accepted: bool
    queued: bool = False
    """Accepted, but it waits for a slot of the runtime. Not accepted: not now, offer it again later."""
    retry_after_ms: int | None = None
    """With a no: not now, offer it again after this many milliseconds, at most an hour."""
    reason: str | None = None
    runtime_id: str | None = None
    attempt: int | None = None
    fence: int | None = None
    dispatch_id: str | None = None


class Acks(Ack, frozen=True):
    """What may stand in an ack message: one ack, or many under ``acks``."""

    phase_id: str = ""
    accepted: bool = True
    acks: tuple[Ack, ...] = ()

    def each(self) -> tuple[Ack, ...]:
        """The acks, however they were sent."""
        return self.acks or (self,)


class Failure(Message, frozen=True):
    """Why an attempt failed."""

    message: str
    kind: str | None = None
    """``exit``, ``signal``, ``timeout``, ``heartbeat_timeout``, ``exception``, ``refused``, ``lost``, ..."""
    retryable: bool = True
    """False: another attempt cannot help, whatever the retry policy says."""
    exit_code: int | None = None
    signal: str | None = None


class Report(Message, frozen=True):
    """``plan.session.<id>.report``: how one attempt goes. Echoes what its target carried."""

    phase_id: str
    status: ReportStatus
    attempt: int | None = None
    fence: int | None = None
    dispatch_id: str | None = None
    runtime_id: str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What the work returned, as JSON, at most 64 KiB; of more than that a reference: see ``artifacts``."""
    details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """With ``heartbeat``: how far the work is, as JSON, at most ``DETAILS_BYTES_MAX``."""
    error: Failure | None = None
    started: str | None = None
    finished: str | None = None


class Reports(Report, frozen=True):
    """What may stand in a report message: one report, or many under ``reports``."""

    phase_id: str = ""
    status: ReportStatus = "running"
    reports: tuple[Report, ...] = ()

    def each(self) -> tuple[Report, ...]:
        """The reports, however they were sent."""
        return self.reports or (self,)


# -- targets ---------------------------------------------------------------------------------


class Target(Message, frozen=True):
    """A phase proposed for execution (PMP: the first two fields)."""

    phase_id: str
    reason: str
    session_id: str = ""
    attempt: int = 0
    """From 1."""
    fence: int = 0
    """Journal sequence of the commit that made this target; grows strictly within a session."""
    dispatch_id: str | None = None
    """Proof that a planner addressed this attempt to this runtime; echoed in acks and reports."""
    runtime_id: str | None = None
    instance: str | None = None
    """The life of that runtime that is meant; a later life of the same name must not execute it."""
    description: str | None = None
    labels: dict[str, str] = {}
    """The selector's labels: which handler is meant."""
    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """``x-run`` of the phase, as compiled; absent, or only ``with``, when the runtime chooses by labels."""
    timeout_ms: int | None = None
    """Start-to-close: the attempt is stopped after this long."""
    heartbeat_ms: int | None = None
    """The attempt is stopped when its work is silent for this long: ``heartbeat`` reports are due."""
    details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """How far an earlier attempt said that it was, as JSON."""
    item: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The item of the list that the phase stands for (``x-foreach``), as JSON."""
    index: int | None = None
    """Its place in the list, from 0."""
    slots: int = 1
    """How many slots of the runtime the attempt takes (``x-slots``)."""
    constraints: tuple[LabelConstraint, ...] = ()
    """Of an open offer: what the labels of whoever takes it must fulfil. Of an addressed one they do."""


class Targets(Message, frozen=True):
    """``plan.runtime.<id>.target``: one or many targets addressed to one runtime."""

    targets: tuple[Target, ...]


class RuntimeControl(Message, frozen=True):
    """``plan.runtime.<id>.control``."""

    command: Literal["cancel", "drain"]
    session_id: str | None = None
    phase_id: str | None = None
    attempt: int | None = None
    fence: int | None = None
    reason: str | None = None


# -- runtimes --------------------------------------------------------------------------------


class Held(Message, frozen=True):
    """One attempt that a runtime holds."""

    session_id: str
    phase_id: str
    attempt: int
    fence: int


class Heartbeat(Message, frozen=True):
    """``plan.runtime.<id>.heartbeat``: who the runtime is, what it can do and what it holds.

    The first one registers the runtime, each one renews its lease; ``state: gone`` ends it at once.
    """

    runtime_id: str
    instance: str
    """Random per process start: a restarted runtime does not inherit what its predecessor held."""
    slots: int
    """How many phases run at the same time, if each takes one slot."""
    labels: dict[str, str] = {}
    """Matched by selectors; the label ``*`` matches every selector."""
    handlers: tuple[dict[str, str], ...] = ()
    """Labels of each registered handler."""
    executors: tuple[str, ...] = ()
    """Kinds of ``x-run`` it can execute: noop, python, exec, shell, ..."""
    capabilities: tuple[str, ...] = ()
    state: Literal["ready", "draining", "gone"] = "ready"
    held: tuple[Held, ...] = ()
    """Every attempt that it has taken and not reported on; what is missing here is asked for again."""
    held_all: bool = True
    """False: there are more than fit."""
    lease_ms: int = 15_000
    """Silence for this long means lost."""
    version: str = ""
    host: str = ""
    pid: int = 0


# -- notices ---------------------------------------------------------------------------------


class State(Message, frozen=True):
    """``plan.session.<id>.state``: a phase changed its status (PMP: the first three fields)."""

    phase_id: str
    status: str
    updated: str
    attempt: int | None = None
    runtime_id: str | None = None
    reason: str | None = None
    by: str | None = None
    """Id of the planner that says so; a bare runtime's own message lacks it."""
    gate: Gate | None = None


class Log(Message, frozen=True):
    """``plan.session.<id>.log``: one or more lines of output, or a remark of the planner."""

    level: str
    message: str
    """One or more lines, without the last line end."""
    timestamp: str
    phase_id: str | None = None
    attempt: int | None = None
    stream: Literal["stdout", "stderr", "log", "planner"] = "log"
    runtime_id: str | None = None
    labels: dict[str, str] = {}
    """With what a handler says: the labels that its manifest gave it."""


class Progress(Message, frozen=True):
    """``plan.session.<id>.progress``: how far running work is. For who watches now: it is kept nowhere."""

    phase_id: str
    attempt: int
    done: float
    """Of whatever the work counts."""
    total: float | None = None
    """All of it; None: nobody knows."""
    message: str | None = None
    """What is counted, or what is going on, for people."""
    runtime_id: str | None = None


class Notification(Message, frozen=True):
    """``plan.notify.<id>.<channel>.<token>``: what the handler of a phase wants sent to one addressee."""

    id: str
    """The same for the same handler of the same attempt, however often it is stored or sent."""
    channel: str
    """``email``, ``slack``, ``webhook``, or one that starts with ``x-``."""
    address: str
    """As the manifest has it."""
    session_id: str
    revision: int
    phase_id: str
    attempt: int
    outcome: Literal["complete", "failed", "asked"]
    """``asked``: the phase waits for approval."""
    at: str
    reason: str | None = None
    """Why the phase failed."""
    message: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Commit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A record of ``plan.journal.<id>`` and the message on ``plan.session.<id>.events``, for monitors.

    ``events`` stay plain objects here: each has ``type`` (``PhaseTargeted``, ``PhaseCompleted``, ...),
    most have ``phaseId`` and ``attempt``; a monitor ignores the types that it does not know.
    """

    v: int
    """Version of the record's format: 1."""
    n: int
    """Commit number within the session, from 1, without gaps."""
    at: str
    by: str
    """Id of the planner that decided."""
    inputs: tuple[int, ...] = ()
    """Sequences of the messages in PLANTER_IN that this commit has taken in."""
    events: tuple[dict[str, Any], ...] = ()


# -- queries ---------------------------------------------------------------------------------


class GetState(Message, frozen=True):
    """Request on ``plan.session.<id>.get_state``; an empty payload means the same as no offset."""

    offset: int = 0
    """Index of the first phase of the reply."""


class PhaseState(Message, frozen=True):
    """One phase in a ``get_state`` reply."""

    phase_id: str
    status: str
    attempt: int = 0
    max_attempts: int = 1
    runtime_id: str | None = None
    updated: str | None = None
    started: str | None = None
    finished: str | None = None
    reason: str | None = None
    needs: tuple[str, ...] = ()
    """Everything that the phase waits for in its life, done or not, external names last."""
    waits_for: tuple[str, ...] = ()
    """Those of them that have not been satisfied yet."""
    external: tuple[str, ...] = ()
    """Those of these that no phase of the plan has."""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    gate: Gate | None = None


class SessionState(Message, frozen=True):
    """Reply to ``plan.session.<id>.get_state``."""

    session_id: str
    status: str
    revision: int = 0
    plan_digest: str | None = None
    target_phase: str | None = None
    """The plan goes up to this phase; what it does not need of the manifest is left out."""
    reason: str | None = None
    created: str | None = None
    updated: str | None = None
    sequence: int = 0
    """Journal sequence that this state includes."""
    phases: tuple[PhaseState, ...] = ()
    total: int = 0
    """Number of phases of the session."""
    next: int | None = None
    """Offset of the next page, when the phases do not fit one message; ask again with it."""
    stopping: tuple[str, ...] = ()
    """Phases that still have an attempt out which a replan wants stopped; at most 1,000 are named."""


class SessionRecord(Message, frozen=True):
    """Value in the bucket PLANTER_SESSIONS; derived from the journal, for listings."""

    session_id: str
    status: str
    sequence: int = 0
    """Journal sequence that this record includes."""
    revision: int = 0
    plan_digest: str | None = None
    counts: dict[str, int] = {}
    """Phases by status."""
    created: str | None = None
    updated: str | None = None
    reason: str | None = None


class FieldChange(Message, frozen=True):
    """One field of a phase that a manifest would change."""

    path: str
    """As in a manifest: ``retry.maxAttempts``; durations are strings such as ``500ms``."""
    before: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """As JSON; absent: the field is not there. A long value is cut, and is a string then."""
    after: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class PhaseChange(Message, frozen=True):
    """One phase, and what a manifest would do to it."""

    phase_id: str
    fields: tuple[str, ...] = ()
    """Paths of the fields that differ."""
    actions: tuple[str, ...] = ()
    """What happens, in this order: ``keep``, ``cancel``, ``drop``, ``add``, ``update``, ``rerun``."""
    reason: str | None = None
    """Why: ``added``, ``changed``, ``depends``, ``failed``, ``unfinished``; absent for drop and keep."""
    because: str | None = None
    """For ``depends``: the phase with which it begins,"""
    because_reason: str | None = None
    """and why that one does not stay."""
    changes: tuple[FieldChange, ...] = ()
    renamed: str | None = None
    """A hint: the phase of the same content that goes (for add) or comes (for drop)."""
    status: str | None = None
    """Where the phase stands now."""
    attempt: int = 0
    runtime_id: str | None = None


class Gap(Message, frozen=True):
    """Phases that no registered runtime takes as things are."""

    reason: str
    phases: tuple[str, ...] = ()
    """The first of them."""
    count: int = 0
    """All of them."""


class Diff(Message, frozen=True):
    """Reply to ``plan.session.<id>.diff``: the manifest of the request against the applied plan."""

    session_id: str
    base_revision: int = 0
    base_digest: str | None = None
    plan_digest: str | None = None
    add: tuple[str, ...] = ()
    update: tuple[PhaseChange, ...] = ()
    delete: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()
    """Unchanged phases that run again because they depend on a change, or have not completed."""
    unchanged: tuple[str, ...] = ()
    status: str | None = None
    """Of the session; absent when there is none."""
    live: bool = False
    """The session is running or paused: the manifest can only be applied with ``replan``."""
    would_change: bool = False
    """Whether applying the manifest would do anything."""
    counts: dict[str, int] = {}
    """Phases by action, all of them; one that is both changed and run again counts twice."""
    changes: tuple[PhaseChange, ...] = ()
    """Every phase that does not stay, in the manifest's order, then those that go, then what runs on."""
    cut: bool = False
    """A list holds less than there is, for the reply has to fit a message; ``counts`` are whole."""
    gaps: tuple[Gap, ...] = ()
    """What of this would run and is taken by no runtime now: it would wait for one."""


class RuntimeInfo(Message, frozen=True):
    """One runtime, as a planner sees it."""

    runtime_id: str
    state: str
    slots: int
    in_use: int
    labels: dict[str, str] = {}
    executors: tuple[str, ...] = ()
    handlers: tuple[dict[str, str], ...] = ()
    capabilities: tuple[str, ...] = ()
    host: str = ""
    version: str = ""


class Presence(Message, frozen=True):
    """``plan.planner.<id>.presence``: repeated while the planner lives."""

    planner_id: str
    leaving: bool = False


class Handover(Message, frozen=True):
    """``plan.planner.handover``: sessions that have become somebody else's to watch over."""

    sessions: dict[str, int]
    """Session id to journal sequence: whoever takes it over has to have read that far."""


class PlannerInfo(Message, frozen=True):
    """Reply to ``plan.planner.info``."""

    planner_id: str
    version: str
    sessions: int = 0
    """Sessions that this planner holds in memory."""
    runtimes: tuple[RuntimeInfo, ...] = ()


class ErrorReply(Message, frozen=True):
    """What a query answers when the answer is no."""

    code: str
    text: str
    problems: tuple[dict[str, Any], ...] = ()


class Refusal(Message, frozen=True):
    """Envelope of an error reply: ``{"error": {...}}``."""

    error: ErrorReply
