"""Folding events into a session. Rule: a phase's status is set in ``_move`` of this module and nowhere else.

The same function runs when a decision is made and when the journal is read again, so that deciding and
replaying cannot differ.
"""

from collections import Counter
from collections.abc import Callable
from heapq import heappush
from typing import Any

import msgspec

from planter.core import events as e
from planter.core.aside import left_aside
from planter.core.counting import count_in, count_out, occupy, release, unload
from planter.core.deadlines import arm, arm_stops, has_begun, set_back
from planter.core.gate import asks, gate_of, outcome, told
from planter.core.graph import graph_of
from planter.core.items import add_items, carried, stays_expanded, unmet_items, with_slots
from planter.core.plan import FailureAction
from planter.core.replan import carry_over, fates, is_done
from planter.core.session import PROVISIONAL, PhaseState, Session
from planter.core.status import (
    PHASE_OPEN,
    PHASE_TERMINAL,
    SESSION_TERMINAL,
    PhaseStatus,
    SessionStatus,
)

ACK_MS = 5_000
"""An offer that nobody took is published again after this long; later each time."""
CANCEL_MS = 30_000
"""A cancelled attempt that nobody confirms is given up after this long."""


def apply(session: Session, event: e.AnyEvent, at: int) -> None:
    """Fold one event of a commit made at the time ``at`` (milliseconds since 1970)."""
    _APPLY[type(event)](session, event, at)
    session.updated = at


# -- the one place where a status changes ------------------------------------------------------


def _move(session: Session, index: int, status: PhaseStatus, at: int) -> PhaseState:
    """Set the status. Who sets one that is not terminal arms the timer, once all else is set."""
    phase = session.phases[index]
    if phase.status is not status:
        session.counts[phase.status] -= 1
        session.counts[status] += 1
        was_open, is_open = phase.status in PHASE_OPEN, status in PHASE_OPEN
        if was_open and not is_open:
            release(session, index, phase)
        elif is_open and not was_open:
            occupy(session, index)
        phase.status = status
        session.touched[index] = None
        session.looking.pop(index, None)
    phase.updated = at
    phase.due = 0
    return phase


def _end(session: Session, index: int, status: PhaseStatus, at: int, reason: str | None) -> None:
    """The end; who knows that what waits for it goes on says so afterwards (``_satisfy``)."""
    _move(session, index, status, at).reason = reason
    conditional = session.graph.conditional
    if conditional or status is PhaseStatus.SKIPPED:
        for dependent in session.graph.dependents[index]:
            skips = status is PhaseStatus.SKIPPED and session.failing is None
            if (skips or dependent in conditional) and (
                session.phases[dependent].status is PhaseStatus.PENDING
            ):
                session.to_settle[dependent] = None
    if items := session.graph.items.get(index):
        session.to_settle.update(dict.fromkeys(items))  # those that have not run


def _satisfy(session: Session, index: int, at: int) -> None:
    """What waits for the phase goes on."""
    if not session.phases[index].satisfies:
        session.phases[index].satisfies = True
        for dependent in session.graph.dependents[index]:
            session.unmet[dependent] -= 1
            _consider(session, dependent, at)


def _make_ready(session: Session, index: int, at: int, *, anew: bool = True) -> None:
    """The phase can be started; ``anew`` False: its attempt waits for that already."""
    if session.unmet[index] and not session.phases[index].cleared:
        # A need was reset while this phase was on its way: it waits again.
        phase = _move(session, index, PhaseStatus.PENDING, at)
        phase.reason = None
        phase.since, phase.scheduled, phase.not_before = at, 0, 0
        arm(session, index)
        _consider(session, index, at)  # the need may be one that nobody demands any more
        return
    phase = _move(session, index, PhaseStatus.READY, at)
    phase.reason = None
    phase.scheduled = phase.scheduled or at
    if anew:
        phase.since = at
    arm(session, index)
    if phase.not_before:
        return  # deferred: ready, but nobody is asked before its timer says so (``PhaseReady``)
    if phase.wants_earlier:
        session.looking[index] = False
    session.arrivals += 1
    entry = (-session.spec(index).priority, session.arrivals, index)
    heappush(session.ready[session.graph.group_of[index]], entry)


def _consider(session: Session, index: int, at: int) -> None:
    """A need of the phase may just have been satisfied, or the phase itself demanded."""
    phase = session.phases[index]
    if phase.status is not PhaseStatus.PENDING:
        return
    if session.spec(index).on_use and not phase.demanded:
        return
    if index in session.graph.conditional:
        session.to_settle[index] = None
        return
    if session.unmet[index] == 0:
        _make_ready(session, index, at)
        return
    if not session.graph.lazy_needs[index]:
        return
    lazy = [
        need
        for need in session.graph.lazy_needs[index]
        if not session.phases[need].demanded and not session.phases[need].satisfies
    ]
    asleep = sum(1 for need in session.graph.lazy_needs[index] if not session.phases[need].satisfies)
    if lazy and session.unmet[index] == asleep:
        session.to_demand.extend((need, index) for need in lazy)


# -- a plan ------------------------------------------------------------------------------------


def _plan_applied(session: Session, event: e.PlanApplied, at: int) -> None:
    assert event.plan is not None, "the shell resolves plan_ref before it folds"
    graph, old_graph, old = graph_of(event.plan), session.graph, session.phases
    changes = fates(session, graph, live=event.replan) if old or session.aside else ()
    former = {spec.id: phase for spec, phase in zip(old_graph.plan.phases, old, strict=True)}
    before = {**{name: phase for name, (_, phase) in session.aside.items()}, **former}
    manifest = {**session.aside, **dict.fromkeys(spec.id for spec in old_graph.manifest)}
    session.known |= {name for name in manifest if is_done(before[name]) and name not in graph.index}
    if old_graph.whole_of and (items := carried(old_graph, graph, changes)):
        graph = with_slots(event.plan, items)
    session.graph = graph
    session.provisional = [
        graph.index[spec.id]
        for spec in (old_graph.plan.phases[index] for index in session.provisional)
        if spec.id in graph.index
    ]
    session.revision = event.revision
    session.plan_at = PROVISIONAL
    session.phases = [_fresh(before.get(spec.id)) for spec in event.plan.phases]
    for index, fate in enumerate(changes):
        if fate.keeps:
            session.phases[index] = before[event.plan.phases[index].id]
    session.phases += [before[graph.plan.phases[index].id] for index in graph.whole_of]
    if event.plan.target is not None or session.aside:
        specs = old_graph.plan.phases
        ordered = {specs[n].id: (specs[n], old[n]) for n in old_graph.order if n not in old_graph.whole_of}
        session.aside = left_aside(graph, session.phases, ordered, session.aside)
    if event.replan:
        carry_over(session, old_graph, old, at + CANCEL_MS)
    else:
        session.avoid.clear()
        session.declined.clear()
        session.status = SessionStatus.RUNNING
        session.reason = None
        session.failing = None
        session.cancelling = False
    session.created = session.created or at
    _reindex(session, at)


def _fresh(old: PhaseState | None) -> PhaseState:
    """Not run in this revision; attempts are numbered on, so that none is ever dispatched twice."""
    if old is None:
        return PhaseState()
    return PhaseState(attempt=old.attempt, budget_from=old.attempt)


def _reindex(session: Session, at: int) -> None:
    """Compute everything that follows from the statuses anew (a plan was applied or phases were reset)."""
    graph = session.graph
    session.counts = dict.fromkeys(PhaseStatus, 0)
    session.counts.update(Counter([phase.status for phase in session.phases]))
    session.ready = [[] for _ in graph.groups]
    session.to_demand.clear()
    session.to_settle.clear()
    session.looking.clear()
    session.at_work.clear()
    any_skipped = session.counts[PhaseStatus.SKIPPED] > 0
    satisfied = {index for index, phase in enumerate(session.phases) if phase.satisfies}
    session.unmet = [
        (len(needs) if not satisfied else sum(1 for need in needs if need not in satisfied))
        + (sum(1 for name in spec.external if name not in session.known) if spec.external else 0)
        for needs, spec in zip(graph.needs, graph.plan.phases, strict=True)
    ]
    for whole, count in unmet_items(session):
        session.unmet[whole] += count
    for name in session.stopping:
        if name in graph.index:
            session.unmet[graph.index[name]] += 1
    for index in graph.order:
        phase = session.phases[index]
        if phase.status is PhaseStatus.READY:
            _make_ready(session, index, at, anew=False)
        elif phase.status is PhaseStatus.PENDING:
            phase.updated = at
            phase.since = phase.since or at
            if graph.has_limit[index]:
                arm(session, index)
            if phase.attempt:
                session.touched[index] = None
            if not session.unmet[index] or graph.lazy_needs[index] or index in graph.conditional:
                _consider(session, index, at)
            elif any_skipped:
                session.to_settle[index] = None  # it may need one of those
        elif phase.status in PHASE_OPEN:
            occupy(session, index)
    for one in session.stopping.values():
        count_in(session, one.key)
    _settle_failing(session, at)


def _settle_failing(session: Session, at: int) -> None:
    """A failed phase was reset or skipped: what could not be started because of it begins to wait now."""
    was_failing = session.failing is not None
    session.failing = _failure(session)
    if was_failing and session.failing is None:
        for index, phase in enumerate(session.phases):
            if phase.status is PhaseStatus.READY:
                phase.since = at
                arm(session, index)
            elif phase.status is PhaseStatus.PENDING:
                session.to_settle[index] = None  # what was put off then


def _failure(session: Session) -> str | None:
    if not session.counts[PhaseStatus.FAILED]:
        return None
    for spec, phase in zip(session.graph.plan.phases, session.phases, strict=True):
        if phase.status is PhaseStatus.FAILED and _stops(spec.on_failure):
            return f"phase {spec.id} failed"
    return None


def _stops(action: FailureAction) -> bool:
    return action in (FailureAction.RAISE, FailureAction.ABORT)


def _phases_reset(session: Session, event: e.PhasesReset, at: int) -> None:
    reset = {session.graph.index[name] for name in event.phase_ids}
    for index in sorted(reset):
        phase = session.phases[index]
        fresh = PhaseState(attempt=phase.attempt, budget_from=phase.attempt, anew=True)
        if session.graph.items and stays_expanded(session, index, reset):
            fresh.cleared, fresh.items, fresh.started = True, phase.items, phase.started
        session.phases[index] = fresh
        session.touched[index] = None
    if session.aside:
        session.aside = left_aside(session.graph, session.phases, {}, session.aside)
    _reindex(session, at)


# -- the session -------------------------------------------------------------------------------


def _nothing(session: Session, event: e.AnyEvent, at: int) -> None:
    """A refusal or a repetition is history, not state."""
    del event
    session.created = session.created or at


def _session_paused(session: Session, event: e.SessionPaused, at: int) -> None:
    session.status = SessionStatus.PAUSED
    session.reason = event.reason
    session.paused_at = at


def _session_resumed(session: Session, event: e.SessionResumed, at: int) -> None:
    session.status = SessionStatus.RUNNING
    session.reason = event.reason
    for index, phase in enumerate(session.phases):
        if phase.status not in PHASE_TERMINAL and not has_begun(phase):
            phase.since += at - max(session.paused_at, phase.since)
            arm(session, index, phase.due)


def _cancel_requested(session: Session, event: e.CancelRequested, at: int) -> None:
    session.cancelling = True
    session.reason = event.reason
    session.cancel_due = at + CANCEL_MS
    heappush(session.timers, (session.cancel_due, -1))


def _session_reopened(session: Session, event: e.SessionReopened, at: int) -> None:
    del at
    session.status = SessionStatus.RUNNING
    session.reason = event.reason
    session.cancelling = False
    session.cancel_due = 0


def _session_ended(session: Session, event: e.SessionEnded, at: int) -> None:
    del at
    session.status = event.status
    session.reason = event.reason
    session.cancelling = False
    session.cancel_due = 0
    session.timers.clear()


def _session_purged(session: Session, event: e.SessionPurged, at: int) -> None:
    """Leave what a fold of this record alone would give."""
    del at
    fresh = Session(session.id)
    for name, value in vars(fresh).items():
        if name not in ("listening_since", "commits", "sequence", "record", "taken"):
            setattr(session, name, value)
    session.status = SessionStatus.PURGED
    session.reason = f"{event.status}, and its retention time is over"
    session.revision = event.revision
    session.created = event.created
    session.tombstone = PROVISIONAL


def _clock_set_back(session: Session, event: e.ClockSetBack, at: int) -> None:
    del at
    set_back(session, event.by)


def _external_completed(session: Session, event: e.ExternalCompleted, at: int) -> None:
    if event.phase_id in session.known:
        return
    session.known.add(event.phase_id)
    for index in session.graph.waiters.get(event.phase_id, ()):
        session.unmet[index] -= 1
        _consider(session, index, at)


# -- one phase ---------------------------------------------------------------------------------


def _phase_ready(session: Session, event: e.PhaseReady, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = session.phases[index]
    was_deferred, reason = phase.status is PhaseStatus.READY, phase.reason
    phase.not_before = 0
    _make_ready(session, index, at, anew=not was_deferred)
    if was_deferred:
        phase.reason = reason


def _phase_targeted(session: Session, event: e.PhaseTargeted, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = _move(session, index, PhaseStatus.TARGETED, at)
    phase.attempt = event.attempt
    phase.fence = PROVISIONAL
    phase.accepted = phase.queued = False
    phase.runtime_id = event.runtime_id
    phase.instance = event.instance
    phase.started = phase.finished = phase.not_before = 0
    phase.reason = None
    session.provisional.append(index)
    if event.runtime_id is None:
        session.offered.add(index)
    else:
        phase.unmatched = False
        session.load[event.runtime_id] = session.load.get(event.runtime_id, 0) + session.spec(index).slots
    arm(session, index, at + ACK_MS)


def _phase_withdrawn(session: Session, event: e.PhaseWithdrawn, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = session.phases[index]
    phase.not_before = event.not_before or 0
    _make_ready(session, index, at, anew=has_begun(phase))
    phase.attempt -= 1  # the attempt never began: its number is offered again, under a higher fence
    phase.reason = event.reason


def _phase_accepted(session: Session, event: e.PhaseAccepted, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = _move(session, index, PhaseStatus.TARGETED, at)
    phase.accepted = True
    phase.queued = event.queued
    phase.reason = "queued by the runtime" if event.queued else None
    if event.runtime_id and phase.runtime_id is None:
        phase.runtime_id = event.runtime_id  # a bare runtime has named itself; it has no lease to lose
    arm(session, index)


def _phase_started(session: Session, event: e.PhaseStarted, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = _move(session, index, PhaseStatus.RUNNING, at)
    phase.accepted = True
    phase.queued = False
    phase.started = event.at or at
    phase.reason = None
    arm(session, index)


def _phase_progressed(session: Session, event: e.PhaseProgressed, at: int) -> None:
    del at
    session.phases[session.graph.index[event.phase_id]].details = event.details


def _phase_completed(session: Session, event: e.PhaseCompleted, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = session.phases[index]
    phase.result = event.result
    phase.details = msgspec.UNSET
    phase.started = event.started or phase.started or at
    phase.finished = event.finished or at
    _end(session, index, PhaseStatus.COMPLETE, at, outcome(phase.gate) if phase.gate is not None else None)
    _satisfy(session, index, at)


def _phase_reused(session: Session, event: e.PhaseReused, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = session.phases[index]
    phase.result = event.result
    phase.started = phase.finished = at
    phase.runtime_id = phase.instance = None
    _end(session, index, PhaseStatus.COMPLETE, at, f"the result of {event.source} was taken (x-cache)")
    _satisfy(session, index, at)


def _gate_opened(session: Session, event: e.WaitStarted | e.ApprovalRequested, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = _move(session, index, PhaseStatus.RUNNING, at)
    phase.attempt, phase.started, phase.finished = event.attempt, at, 0
    phase.runtime_id = phase.instance = None
    phase.gate = gate_of(event, at)
    phase.reason = asks(phase.gate)
    arm(session, index)


def _gate_told(
    session: Session, event: e.PhaseApproved | e.PhaseRejected | e.ApprovalExpired, at: int
) -> None:
    index = session.graph.index[event.phase_id]
    phase = session.phases[index]
    assert phase.gate is not None
    phase.gate = told(phase.gate, event, at)
    phase.reason = asks(phase.gate)
    session.touched[index] = None


def _attempt_failed(session: Session, event: e.AttemptFailed, at: int) -> None:
    index = session.graph.index[event.phase_id]
    _move(session, index, PhaseStatus.BACKING_OFF, at).reason = event.message
    arm(session, index, event.retry_at)


def _attempt_lost(session: Session, event: e.AttemptLost, at: int) -> None:
    index = session.graph.index[event.phase_id]
    _make_ready(session, index, at, anew=has_begun(session.phases[index]))
    phase = session.phases[index]
    phase.losses += 1
    phase.budget_from += 1  # what the platform lost does not count against the work's retries
    phase.reason = event.reason


def _phase_failed(session: Session, event: e.PhaseFailed, at: int) -> None:
    index = session.graph.index[event.phase_id]
    stops = _stops(session.spec(index).on_failure)
    session.phases[index].finished = at
    if stops and session.failing is None:
        session.failing = f"phase {event.phase_id} failed"
    _end(session, index, PhaseStatus.FAILED, at, event.message)
    if not stops:
        _satisfy(session, index, at)


def _phase_skipped(session: Session, event: e.PhaseSkipped, at: int) -> None:
    index = session.graph.index[event.phase_id]
    was_failed = session.phases[index].status is PhaseStatus.FAILED
    session.phases[index].left_out = event.left_out
    _end(session, index, PhaseStatus.SKIPPED, at, event.reason)
    if event.satisfies:
        _satisfy(session, index, at)
    if was_failed:
        _settle_failing(session, at)


def _phase_cancelled(session: Session, event: e.PhaseCancelled, at: int) -> None:
    index = session.graph.index[event.phase_id]
    session.phases[index].finished = at
    _end(session, index, PhaseStatus.CANCELLED, at, event.reason)


def _phase_demanded(session: Session, event: e.PhaseDemanded, at: int) -> None:
    index = session.graph.index[event.phase_id]
    session.phases[index].demanded = True
    session.to_settle[index] = None  # its needs may have ended while it slept
    _consider(session, index, at)


def _phase_cleared(session: Session, event: e.PhaseCleared, at: int) -> None:
    index = session.graph.index[event.phase_id]
    session.phases[index].cleared = True
    session.phases[index].run = event.run
    session.phases[index].cache = event.cache
    _make_ready(session, index, at)


def _phase_expanded(session: Session, event: e.PhaseExpanded, at: int) -> None:
    index = session.graph.index[event.phase_id]
    phase = session.phases[index]
    phase.cleared, phase.attempt, phase.started = True, event.attempt, at
    session.touched[index] = None
    add_items(session, index, event.items, at)
    arm(session, index)


def _attempt_stopped(session: Session, event: e.AttemptStopped, at: int) -> None:
    stopped = session.stopping.pop(event.phase_id)
    unload(session, stopped.runtime_id, stopped.instance, stopped.slots)
    count_out(session, stopped.key)
    arm_stops(session)
    index = session.graph.index.get(event.phase_id)
    if index is not None:
        session.unmet[index] -= 1
        session.to_settle[index] = None  # its needs may have ended meanwhile
        _consider(session, index, at)


def _phase_unmatched(session: Session, event: e.PhaseUnmatched, at: int) -> None:
    del at
    session.phases[session.graph.index[event.phase_id]].unmatched = True


def _handler_called(session: Session, event: e.HandlerCalled, at: int) -> None:
    del at
    session.calls = max(session.calls, event.number)
    session.untold[event.number] = event


def _handler_passed_on(session: Session, event: e.HandlerPassedOn, at: int) -> None:
    del at
    session.untold.pop(event.number, None)
    session.telling.discard(event.number)


_APPLY: dict[type, Callable[[Session, Any, int], None]] = {
    e.PlanApplied: _plan_applied,
    e.InputRepeated: _nothing,
    e.SessionPaused: _session_paused,
    e.SessionResumed: _session_resumed,
    e.CancelRequested: _cancel_requested,
    e.SessionReopened: _session_reopened,
    e.SessionEnded: _session_ended,
    e.SessionPurged: _session_purged,
    e.ClockSetBack: _clock_set_back,
    e.InputRefused: _nothing,
    e.PhaseReady: _phase_ready,
    e.PhaseTargeted: _phase_targeted,
    e.PhaseWithdrawn: _phase_withdrawn,
    e.PhaseAccepted: _phase_accepted,
    e.PhaseStarted: _phase_started,
    e.PhaseProgressed: _phase_progressed,
    e.PhaseCompleted: _phase_completed,
    e.AttemptFailed: _attempt_failed,
    e.AttemptLost: _attempt_lost,
    e.PhaseFailed: _phase_failed,
    e.PhaseSkipped: _phase_skipped,
    e.PhaseCancelled: _phase_cancelled,
    e.PhasesReset: _phases_reset,
    e.PhaseDemanded: _phase_demanded,
    e.PhaseCleared: _phase_cleared,
    e.PhaseExpanded: _phase_expanded,
    e.PhaseReused: _phase_reused,
    e.HandlerCalled: _handler_called,
    e.HandlerPassedOn: _handler_passed_on,
    e.ExternalCompleted: _external_completed,
    e.AttemptStopped: _attempt_stopped,
    e.PhaseUnmatched: _phase_unmatched,
    **dict.fromkeys((e.WaitStarted, e.ApprovalRequested), _gate_opened),
    **dict.fromkeys((e.PhaseApproved, e.PhaseRejected, e.ApprovalExpired), _gate_told),
}


def is_over(session: Session) -> bool:
    """Whether every phase is terminal."""
    return sum(session.counts[status] for status in PHASE_TERMINAL) == len(session.phases)


def has_ended(session: Session) -> bool:
    """Whether the session itself is terminal."""
    return session.status in SESSION_TERMINAL
