"""What the planner decides itself, without a runtime: ``x-run: {wait: ...}`` and ``{approval: ...}``.

A gate is such a phase while it stands, and what became of it afterwards. What is decided about gates is in
``core.gates``; here is what they are, how they are read, and how the journal's events make them.
"""

import re
from datetime import UTC, datetime, timedelta  # noqa: TID251  (reads texts, and no clock)
from typing import Literal

import msgspec

from planter.core.events import ApprovalExpired, ApprovalRequested, PhaseApproved, PhaseRejected, WaitStarted
from planter.core.plan import PhaseSpec

GATES = frozenset({"wait", "approval"})
"""Kinds of ``x-run`` that no runtime is offered."""

SHOWN_MAX = 300
"""Characters of a question that stand in the reason of its phase."""
BY_MAX = 200
"""Characters of the name of somebody who answers."""
APPROVERS_MAX = 100
_NAMES_SHOWN = 5
DURATION_MS_MAX = 10 * 365 * 86_400_000
"""As for every duration of a manifest."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1970, 9_999)
_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h)?", re.ASCII)
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


class GateUnreadable(ValueError):
    """With its expressions filled in, ``x-run`` says nothing that can be used."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What somebody has answered."""

    by: str
    at: int
    approves: bool
    comment: str | None = None
    data: bytes = b""
    """A JSON object; empty for none."""


class Gate(msgspec.Struct, frozen=True, gc=False):
    """A phase that is up to time or to people, since it began to stand."""

    kind: str
    """``wait`` or ``approval``."""
    since: int
    due: int = 0
    """When it ends by itself, in milliseconds since 1970; 0: it does not."""
    fixed: bool = False
    """``due`` is a point in time: it stays where it is when the clock is set back."""
    message: str = ""
    approvers: tuple[str, ...] = ()
    """Who may answer; empty: anybody."""
    needed: int = 1
    """So many different people have to approve."""
    on_expiry: str = "fail"
    answers: tuple[Answer, ...] = ()
    expired: bool = False

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Who has approved, in order."""
        return tuple(one.by for one in self.answers if one.approves)


class Wait(msgspec.Struct, frozen=True, gc=False):
    """``x-run.wait``: exactly one of the two."""

    span: str | None = msgspec.field(default=None, name="for")
    until: str | None = None

    def due(self, now: int) -> int:
        """When a wait that begins now is over."""
        if self.until is not None:
            return _checked(moment_ms(self.until), "wait.until", self.until, "a time with its zone")
        return now + _checked(duration_ms(self.span or ""), "wait.for", self.span or "", "a duration")


class Approval(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``x-run.approval``."""

    message: str
    approvers: tuple[str, ...] = ()
    needed: int = 1
    expires: str | None = None
    on_expiry: Literal["fail", "approve"] = "fail"
    notify: dict[str, str] = {}
    """Whom to tell that it is asked: addressee by channel."""

    def due(self, now: int) -> int:
        """When a question that is asked now expires; 0 for never."""
        if self.expires is None:
            return 0
        return now + _checked(duration_ms(self.expires), "approval.expires", self.expires, "a duration")


class _Run(msgspec.Struct, frozen=True):
    wait: Wait | None = None
    approval: Approval | None = None


class _Notify(msgspec.Struct, frozen=True):
    notify: dict[str, str] = {}


class _Asked(msgspec.Struct, frozen=True):
    approval: _Notify = _Notify()


_runs = msgspec.json.Decoder(_Run)
_asked = msgspec.json.Decoder(_Asked)


def is_gate(spec: PhaseSpec) -> bool:
    """Whether the planner decides the phase itself. The whole of an ``x-foreach`` is none: its items are."""
    return spec.kind in GATES and spec.foreach is None


def read_gate(run: msgspec.Raw | msgspec.UnsetType) -> Wait | Approval:
    """What a gate's ``x-run`` says, its expressions filled in.

    Raises:
        GateUnreadable: it says nothing that can be used.
    """
    try:
        found = _runs.decode(b"{}" if run is msgspec.UNSET else run)
    except msgspec.DecodeError as error:
        raise GateUnreadable(f"x-run cannot be read: {error}") from None
    gate = found.wait or found.approval
    if gate is None:
        raise GateUnreadable("x-run has neither `wait` nor `approval`")
    if isinstance(gate, Approval) and (fault := _fault(gate)) is not None:
        raise GateUnreadable(fault)
    return gate


def notify_of(run: msgspec.Raw | msgspec.UnsetType) -> dict[str, str]:
    """Whom a question is told to, by channel; its other values may still be expressions."""
    return {} if run is msgspec.UNSET else _asked.decode(run).approval.notify


def _fault(asked: Approval) -> str | None:
    """Why a question could never be answered, or not be kept."""
    if not 1 <= asked.needed <= (len(asked.approvers) or APPROVERS_MAX):
        return f"`approval.needed` is {asked.needed}, and so many can never approve"
    is_usable = all(0 < len(name) <= BY_MAX and name.isprintable() for name in asked.approvers)
    if len(asked.approvers) > APPROVERS_MAX or not is_usable:
        return f"`approval.approvers` must be at most {APPROVERS_MAX} printable names of {BY_MAX} characters"
    return None


def duration_ms(text: str) -> int | None:
    """Milliseconds of ``300ms``, ``5s``, ``2m``, ``1h``, ``5`` (seconds); None: it is none, or too long."""
    found = _DURATION.fullmatch(text)
    milliseconds = int(found[1]) * _UNITS_MS[found[2] or "s"] if found is not None else DURATION_MS_MAX + 1
    return milliseconds if milliseconds <= DURATION_MS_MAX else None


def moment_ms(text: str) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time with its zone; None: it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or moment.year not in _YEARS:
        return None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _checked(found: int | None, name: str, text: str, wanted: str) -> int:
    if found is None:
        raise GateUnreadable(f"`{name}` must be {wanted}, found {text[:100]!r}")
    return found


# -- folding -----------------------------------------------------------------------------------


def moved_back(gate: Gate, by: int) -> Gate:
    """The clock was set back by so many milliseconds: what has stood for so long has stood for so long."""
    due = gate.due - by if gate.due and not gate.fixed else gate.due
    return msgspec.structs.replace(gate, since=gate.since - by, due=due)


def gate_of(event: WaitStarted | ApprovalRequested, at: int) -> Gate:
    """The gate that begins to stand with the event."""
    if isinstance(event, WaitStarted):
        return Gate("wait", since=at, due=event.due, fixed=event.fixed)
    return Gate(
        "approval",
        since=at,
        due=event.expires or 0,
        message=event.message,
        approvers=event.approvers,
        needed=event.needed,
        on_expiry=event.on_expiry,
    )


def told(gate: Gate, event: PhaseApproved | PhaseRejected | ApprovalExpired, at: int) -> Gate:
    """The gate with one more answer, or with the news that its time is over."""
    if isinstance(event, ApprovalExpired):
        return msgspec.structs.replace(gate, expired=True)
    approves, data = isinstance(event, PhaseApproved), b""
    if isinstance(event, PhaseApproved) and event.data is not msgspec.UNSET:
        data = bytes(event.data)
    return with_answer(gate, Answer(event.by, at, approves, event.comment, data))


def with_answer(gate: Gate, answer: Answer) -> Gate:
    """With one more answer."""
    return msgspec.structs.replace(gate, answers=(*gate.answers, answer))


def asks(gate: Gate) -> str:
    """What stands for the reason of a phase while it is a gate."""
    if gate.kind == "wait":
        return "waits for its time"
    progress = ""
    if gate.needed > 1 or gate.answers:
        progress = f" ({len(gate.approved_by)} of {gate.needed} approved{_names(gate.approved_by)})"
    message = gate.message if len(gate.message) <= SHOWN_MAX else f"{gate.message[:SHOWN_MAX]}..."
    return f"waiting for approval: {message}{progress}"


def outcome(gate: Gate) -> str | None:
    """What stands for the reason of a gate that is complete."""
    if gate.kind == "wait":
        return None
    if gate.expired:
        return f"nobody rejected it until it expired: approved{_names(gate.approved_by)}"
    return f"approved by {listed(gate.approved_by)}"


def _names(names: tuple[str, ...]) -> str:
    return f": {listed(names)}" if names else ""


def listed(names: tuple[str, ...]) -> str:
    """The first of them, and how many there are more."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
