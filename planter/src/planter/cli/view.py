"""A session as a person sees it: events folded into a small model. Pure, no input or output.

The planner's own fold decides; this one only shows. Events of types that it does not know are passed over.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from planter.cli.output import milliseconds, one_line
from planter_protocol import messages
from planter_protocol.names import is_of_phase

PHASE_ENDED = frozenset({"complete", "failed", "skipped", "cancelled"})
SESSION_ENDED = frozenset({"complete", "failed", "cancelled"})
ORDER = (
    "complete",
    "running",
    "targeted",
    "backing_off",
    "ready",
    "pending",
    "failed",
    "skipped",
    "cancelled",
)


class PhaseView(msgspec.Struct, frozen=True):
    """One phase."""

    id: str
    status: str = "pending"
    needs: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    """Those of the needs that no phase of the plan has."""
    max_attempts: int = 1
    tolerated: bool = False
    """What waits for it goes on when it fails."""
    selector: str = ""
    """What a runtime must have, in words."""
    attempt: int = 0
    runtime_id: str | None = None
    since: int = 0
    """When the status began (milliseconds since 1970)."""
    started: int | None = None
    ended: int | None = None
    reason: str | None = None
    satisfies: bool = False
    """What waits for it goes on."""
    is_gate: bool = False
    """The planner decides it itself: nothing runs, and nothing is logged."""

    def seconds(self, now: int) -> float | None:
        """How long the work has taken, or took."""
        if self.started is None:
            return None
        return ((self.ended or now) - self.started) / 1000


def progress_text(progress: messages.Progress) -> str:
    """``42 % (42/100 rows)``."""
    text = progress.message or ""
    if progress.total is None:
        return f"{progress.done:g} {text}".rstrip()
    share = min(100, int(100 * progress.done / progress.total))
    return f"{share} % ({progress.done:g}/{progress.total:g}{f' {text}' if text else ''})"


class Change(NamedTuple):
    """Something a person wants to be told. ``phase`` is None for the session itself."""

    at: int
    phase: str | None
    status: str
    detail: str = ""


class View:
    """A session and its phases, kept up to date by ``apply``."""

    def __init__(self, session: str, phases: Iterable[PhaseView] = ()) -> None:
        self.session = session
        self.phases: dict[str, PhaseView] = {phase.id: phase for phase in phases}
        self.status = "pending"
        self.reason: str | None = None
        self.revision = 0
        self.begun: int | None = None
        """When this line of work began (milliseconds since 1970)."""
        self.ended: int | None = None
        self.known: set[str] = set()
        """External phases that are complete."""
        self.progress: dict[str, messages.Progress] = {}
        """What the newest attempt of a phase has told of how far it is."""
        self.outdated = False
        """Another plan was applied than the one that this view shows: ask the planner for the state."""

    def apply(self, events: Iterable[Mapping[str, Any]], at: int) -> list[Change]:
        """Fold the events of one commit made at ``at``; what is worth telling comes back."""
        changes: list[Change] = []
        for event in events:
            fold = _FOLDS.get(event["type"])
            if fold is not None:
                change = fold(self, event, at)
                if change is not None:
                    changes.append(change)
        return changes

    def name_width(self, most: int) -> int:
        """Room for the names of the phases, at most so much."""
        return min(most, max((len(name) for name in self.phases), default=0))

    def note_progress(self, progress: messages.Progress) -> None:
        """Running work tells how far it is."""
        if progress.phase_id in self.phases:
            self.progress[progress.phase_id] = progress

    def counts(self) -> dict[str, int]:
        """Phases by status, the good news first."""
        found: dict[str, int] = dict.fromkeys(ORDER, 0)
        for phase in self.phases.values():
            status = self.shown_status(phase)
            found[status] = found.get(status, 0) + 1
        return {status: number for status, number in found.items() if number}

    def waits_for(self, phase: PhaseView) -> tuple[str, ...]:
        """The needs that are not satisfied yet."""
        if phase.status != "pending":
            return ()
        return tuple(name for name in phase.needs if not self._satisfied(name))

    def waits_outside(self, phase: PhaseView) -> tuple[str, ...]:
        """The external ones of what the phase waits for."""
        if phase.status != "pending":
            return ()
        return tuple(name for name in phase.external if name not in self.known)

    def shown_status(self, phase: PhaseView) -> str:
        """Its status; a pending phase whose needs are satisfied is ready (the journal does not say it)."""
        if phase.status == "pending" and phase.needs and not self.waits_for(phase):
            return "ready"
        return phase.status

    def unclaimed(self) -> list[PhaseView]:
        """Phases that are offered to whoever takes them, and that nobody has taken."""
        return [p for p in self.phases.values() if p.status == "targeted" and p.runtime_id is None]

    def of(self, status: str) -> list[PhaseView]:
        """The phases of a status."""
        return [phase for phase in self.phases.values() if phase.status == status]

    def _satisfied(self, name: str) -> bool:
        phase = self.phases.get(name)
        if phase is None:
            return name in self.known
        return phase.satisfies or (phase.tolerated and phase.status == "failed")

    def update(self, name: str, **fields: Any) -> PhaseView | None:
        """Replace fields of a phase; None when the plan has no such phase."""
        phase = self.phases.get(name)
        if phase is None:
            return None
        self.phases[name] = msgspec.structs.replace(phase, **fields)
        return self.phases[name]


def attempt_of(attempt: int, allowed: int) -> str:
    """``2/3``; the number alone where a new revision or a retry numbered on beyond what is allowed."""
    return f"{attempt}/{allowed}" if attempt <= allowed else str(attempt)


def view_of_plan(session: str, plan: Any) -> View:
    """The view of a plan (``planter.core.plan.Plan``) before anything happened."""
    return View(
        session,
        (
            PhaseView(
                id=spec.id,
                needs=(*spec.needs, *spec.external),
                external=spec.external,
                max_attempts=spec.max_attempts,
                tolerated=spec.on_failure.value in ("continue", "log"),
                selector=_selector(spec),
            )
            for spec in plan.phases
        ),
    )


def view_of_state(state: Any, plan_view: View | None = None) -> View:
    """The view of a ``get_state`` reply; what only the plan knows is taken from the plan's view."""
    view = View(state.session_id)
    for phase in state.phases:
        planned = plan_view.phases.get(phase.phase_id) if plan_view else None
        unmet = set(phase.waits_for)
        view.known |= {name for name in (planned.external if planned else ()) if name not in unmet}
        status = "pending" if phase.status == "ready" else phase.status
        view.phases[phase.phase_id] = PhaseView(
            id=phase.phase_id,
            status=status,
            needs=phase.needs,
            external=planned.external if planned else phase.external,
            max_attempts=phase.max_attempts,
            tolerated=planned.tolerated if planned else False,
            selector=planned.selector if planned else "",
            attempt=phase.attempt,
            runtime_id=phase.runtime_id,
            is_gate=phase.gate is not None,
            since=_time(phase.updated) or 0,
            started=_time(phase.started),
            ended=_time(phase.finished),
            reason=phase.reason,
            # Whoever skipped it on purpose lets its dependents go on; the reply does not tell these apart.
            satisfies=phase.status == "complete"
            or (phase.status == "skipped" and not _waited_for(state, phase)),
        )
    view.status, view.reason, view.revision = state.status, state.reason, state.revision
    view.begun = _time(state.created)
    view.ended = _time(state.updated) if state.status in SESSION_ENDED else None
    return view


def _waited_for(state: Any, phase: Any) -> bool:
    return any(phase.phase_id in other.waits_for for other in state.phases)


def _time(text: str | None) -> int | None:
    return milliseconds(text) if text else None


def _selector(spec: Any) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in spec.labels.items())
    kind = f"x-run {spec.kind}" if spec.kind else ""
    return "; ".join(part for part in (f"selector {labels}" if labels else "", kind) if part)


# -- folding: one function an event type -------------------------------------------------------

_Fold = Callable[[View, Mapping[str, Any], int], Change | None]
_FOLDS: dict[str, _Fold] = {}


def _folds(name: str) -> Callable[[_Fold], _Fold]:
    def register(fold: _Fold) -> _Fold:
        _FOLDS[name] = fold
        return fold

    return register


@_folds("PlanApplied")
def _plan_applied(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    if view.phases and 0 < view.revision < event["revision"]:
        view.outdated = True
    view.revision = event["revision"]
    if event.get("replan"):
        return Change(at, None, "replanned", f"revision {view.revision}")
    view.status, view.reason, view.begun, view.ended = "running", None, at, None
    return Change(at, None, "applied", f"revision {view.revision}" if view.revision > 1 else "")


@_folds("SessionPaused")
def _session_paused(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.status, view.reason = "paused", event.get("reason")
    return Change(at, None, "paused", view.reason or "")


@_folds("SessionResumed")
def _session_resumed(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.status, view.reason = "running", None
    return Change(at, None, "resumed", event.get("reason") or "")


@_folds("CancelRequested")
def _cancel_requested(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.reason = event.get("reason") or "cancel requested"
    return Change(at, None, "cancelling", event.get("reason") or "")


@_folds("SessionReopened")
def _session_reopened(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.status, view.reason, view.ended = "running", None, None
    return Change(at, None, "reopened", event.get("reason") or "")


@_folds("SessionEnded")
def _session_ended(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.status, view.reason, view.ended = event["status"], event.get("reason"), at
    return Change(at, None, view.status, view.reason or "")


@_folds("SessionPurged")
def _session_purged(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.status, view.reason = "purged", f"{event['status']}, and its retention time is over"
    view.phases.clear()
    return Change(at, None, view.status, view.reason)


@_folds("InputRefused")
def _input_refused(_: View, event: Mapping[str, Any], at: int) -> Change | None:
    return Change(at, None, "refused", f"{event['text']} ({event['code']})")


@_folds("ExternalCompleted")
def _external_completed(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.known.add(event["phaseId"])
    return Change(at, None, "external", f"{event['phaseId']} is complete")


@_folds("PhaseReady")
def _phase_ready(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.update(event["phaseId"], status="ready", since=at, reason=None)
    return None


@_folds("PhaseTargeted")
def _phase_targeted(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.update(
        event["phaseId"],
        status="targeted",
        since=at,
        attempt=event["attempt"],
        runtime_id=event.get("runtimeId"),
        started=None,
        ended=None,
        reason=None,
    )
    return None


@_folds("PhaseWithdrawn")
def _phase_withdrawn(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.update(event["phaseId"], status="ready", since=at, runtime_id=None, reason=event["reason"])
    return Change(at, event["phaseId"], "withdrawn", event["reason"])


@_folds("PhaseAccepted")
def _phase_accepted(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    queued = "queued at its runtime" if event.get("queued") else None
    view.update(event["phaseId"], since=at, runtime_id=event.get("runtimeId") or "(unnamed)", reason=queued)
    return None


@_folds("PhaseStarted")
def _phase_started(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    began = event.get("at") or at
    name = event["phaseId"]
    phase = view.phases.get(name)
    runtime = event.get("runtimeId") or (phase.runtime_id if phase else None)
    phase = view.update(
        name,
        status="running",
        since=began,
        started=began,
        attempt=event["attempt"],
        runtime_id=runtime or "(unnamed)",
        reason=None,
    )
    return Change(at, name, "running", _attempt(phase)) if phase else None


@_folds("WaitStarted")
def _wait_started(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    until = datetime.fromtimestamp(event["due"] / 1000).astimezone().isoformat(" ", "seconds")
    return _stands(view, event, at, f"waits until {until}")


@_folds("ApprovalRequested")
def _approval_requested(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    approvers = f" (asked: {', '.join(event['approvers'])})" if event.get("approvers") else ""
    change = _stands(view, event, at, f"waiting for approval: {event['message']}{approvers}")
    command = f"planter control {view.session} approve {shlex.quote(event['phaseId'])}"
    return change._replace(detail=f"{one_line(change.detail, 150)}; `{command}`")


@_folds("PhaseApproved")
def _phase_approved(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    return _answered(view, event, at, "approved")


@_folds("PhaseRejected")
def _phase_rejected(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    return _answered(view, event, at, "rejected")


@_folds("ApprovalExpired")
def _approval_expired(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    del view
    return Change(at, event["phaseId"], "expired", "nobody answered in time")


@_folds("PhaseCompleted")
def _phase_completed(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    name = event["phaseId"]
    before = view.phases.get(name)
    started = event.get("started") or (before.started if before else None)
    ended = event.get("finished") or at
    phase = view.update(
        name, status="complete", since=at, started=started, ended=ended, reason=None, satisfies=True
    )
    return Change(at, name, "complete", _attempt(phase)) if phase else None


@_folds("PhaseReused")
def _phase_reused(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    name = event["phaseId"]
    view.update(name, status="complete", since=at, started=at, ended=at, satisfies=True, runtime_id=None)
    return Change(at, name, "complete", f"the result of {event['source']} was taken")


@_folds("AttemptFailed")
def _attempt_failed(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    name, message = event["phaseId"], event["message"]
    phase = view.update(name, status="backing_off", since=at, ended=at, reason=message)
    pause = f"again in {max(0, event['retryAt'] - at) / 1000:.1f}s" if event.get("retryAt") else "again"
    return Change(at, name, "backing_off", f"{message}; {pause} {_attempt(phase)}".rstrip())


@_folds("AttemptLost")
def _attempt_lost(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.update(event["phaseId"], status="ready", since=at, runtime_id=None, reason=event["reason"])
    return Change(at, event["phaseId"], "lost", event["reason"])


@_folds("PhaseFailed")
def _phase_failed(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    return _ended(view, event, at, "failed", event["message"])


@_folds("PhaseSkipped")
def _phase_skipped(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    view.update(event["phaseId"], satisfies=bool(event.get("satisfies")))
    return _ended(view, event, at, "skipped", event["reason"])


@_folds("PhaseCancelled")
def _phase_cancelled(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    return _ended(view, event, at, "cancelled", event["reason"])


@_folds("PhasesReset")
def _phases_reset(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    for name in event["phaseIds"]:
        view.update(
            name,
            status="pending",
            since=at,
            started=None,
            ended=None,
            reason=None,
            runtime_id=None,
            satisfies=False,
        )
    return Change(at, None, "reset", f"{', '.join(event['phaseIds'])}: {event['reason']}")


@_folds("PhaseExpanded")
def _phase_expanded(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    name, count = event["phaseId"], len(event.get("items", ()))
    whole = view.update(name, since=at, started=at, attempt=event["attempt"])
    if whole is None:
        return None
    items = tuple(f"{name}[{number}]" for number in range(count))
    for item in items:
        view.phases.setdefault(
            item, PhaseView(id=item, max_attempts=whole.max_attempts, since=at, tolerated=True)
        )
    view.update(name, needs=(*(need for need in whole.needs if not is_of_phase(need, name)), *items))
    return Change(at, name, "expanded", f"{count} item{'' if count == 1 else 's'}")


@_folds("AttemptStopped")
def _attempt_stopped(view: View, event: Mapping[str, Any], at: int) -> Change | None:
    del view
    return Change(at, event["phaseId"], "stopped", f"attempt {event['attempt']}: {event['reason']}")


def _stands(view: View, event: Mapping[str, Any], at: int, reason: str) -> Change:
    """The planner decides about the phase itself: it waits for time or for people."""
    view.update(
        event["phaseId"],
        status="running",
        since=at,
        started=at,
        ended=None,
        attempt=event["attempt"],
        runtime_id=None,
        reason=reason,
        is_gate=True,
    )
    return Change(at, event["phaseId"], "waiting", reason)


def _answered(view: View, event: Mapping[str, Any], at: int, status: str) -> Change | None:
    del view
    comment = f": {event['comment']}" if event.get("comment") else ""
    return Change(at, event["phaseId"], status, f"by {event['by']}{comment}")


def _ended(view: View, event: Mapping[str, Any], at: int, status: str, reason: str) -> Change | None:
    phase = view.update(event["phaseId"], status=status, since=at, ended=at, reason=reason)
    return Change(at, event["phaseId"], status, reason) if phase else None


def _attempt(phase: PhaseView | None) -> str:
    return f"attempt {attempt_of(phase.attempt, phase.max_attempts)}" if phase and phase.attempt > 1 else ""
