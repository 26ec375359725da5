"""Deciding: inputs in, events and effects out.

``decide`` is a function of the session, the inputs, the time and the fleet; it reads no clock and does no
I/O. It advances the session through ``evolve.apply``, event by event, so that each input sees what the one
before it did. If the events cannot be appended to the journal, the caller throws the session away and folds
it again.
"""

from collections.abc import Sequence
from heapq import heappop
from typing import assert_never

import msgspec

from planter.core import effects as f
from planter.core import events as e
from planter.core import inputs as i
from planter.core import stopping
from planter.core.attempts import fail_attempt, lose_attempt
from planter.core.caching import look_up, looked_up, remember
from planter.core.commands import obey
from planter.core.conditions import NoReckoner, Reckoner, is_unsettled, missing_outputs, settle
from planter.core.deadlines import LATE_MS
from planter.core.declining import decline, taken
from planter.core.evolve import has_ended, is_over
from planter.core.fleet import Fleet
from planter.core.gates import open_gates
from planter.core.handlers import call_handler, pass_on, passed_on
from planter.core.session import STOPS, UNNAMED, Session
from planter.core.starts import start
from planter.core.status import PHASE_OPEN, PHASE_TERMINAL, PhaseStatus, SessionStatus
from planter.core.step import Step
from planter.core.targeting import is_offered_openly, re_place, target_ready
from planter.core.texts import SHORT_MAX, cut
from planter.core.timeouts import timer_fired

TARGETS_MAX = 1_000
"""Targets in one commit, so that a commit stays far below the message limit."""
NO_RECKONER = NoReckoner()
CLOCK_TOLERANCE_MS = 2_000
"""The clocks of planners may differ by as much without any notice."""


class Decision(msgspec.Struct, frozen=True):
    """What was decided: append the events, then carry out the effects."""

    events: tuple[e.AnyEvent, ...]
    effects: tuple[f.AnyEffect, ...]
    more: bool = False
    """There is more to do than one commit holds: decide again, without inputs, once this is appended."""


def decide(  # noqa: PLR0913  (all that a decision depends on)
    session: Session,
    inputs: Sequence[i.AnyInput],
    now: int,
    fleet: Fleet,
    *,
    targets_max: int = TARGETS_MAX,
    reckoner: Reckoner = NO_RECKONER,
) -> Decision:
    """Take in the inputs, in order, then do what is due and possible.

    Args:
        session: the state; advanced in place.
        inputs: what came in since the last decision; may be empty.
        now: milliseconds since 1970.
        fleet: the runtimes to choose from.
        targets_max: most targets in this decision.
        reckoner: evaluates the expressions of the plan.
    """
    step = Step(session, now, fleet, reckoner)
    if session.updated - now > CLOCK_TOLERANCE_MS and not has_ended(session):
        step.emit(e.ClockSetBack(by=session.updated - now))
    if session.listening_since is None:
        session.listening_since = now if session.commits else 0
    for given in inputs:
        if given.sequence not in session.taken:  # a redelivered input must not act twice
            _take(step, given)
    if has_ended(session) and not step.events:
        return Decision((), tuple(step.effects))
    _timers(step)
    _prepare(step)
    more = False
    if session.status is SessionStatus.RUNNING and not session.cancelling:
        if session.looking:
            look_up(step)
        if session.failing is not None:
            _withdraw_open_offers(step)
        re_place(step)
        if session.failing is None or session.graph.has_after_failure:
            more = bool(session.graph.gates) and open_gates(step, targets_max)
            more = target_ready(step, targets_max) or more
    more = _finish(step) or more or is_unsettled(step)
    pass_on(step)
    step.effects.extend(f.PublishState(index) for index in session.touched if _has_moved(session, index))
    return Decision(tuple(step.events), tuple(step.effects), more)


def _has_moved(session: Session, index: int) -> bool:
    """A phase that waits as it did from the beginning has no news."""
    phase = session.phases[index]
    return phase.status is not PhaseStatus.PENDING or phase.attempt > 0


def _take(step: Step, given: i.AnyInput) -> None:
    match given:
        case i.StartPlan():
            _end_what_is_over(step)
            start(step, given)
        case i.Refuse():
            step.refuse(given.sequence, given.code, given.text, given.problems)
        case i.Command():
            obey(step, given)
        case i.Acknowledge():
            _acknowledge(step, given)
        case (
            i.ReportRunning()
            | i.ReportHeartbeat()
            | i.ReportComplete()
            | i.ReportFailed()
            | i.ReportCancelled()
        ):
            _report(step, given)
        case i.RuntimeLost():
            _runtime_lost(step, given)
        case i.Unheard():
            _unheard(step, given)
        case i.PassedOn():
            passed_on(step, given)
        case i.LookedUp():
            looked_up(step, given)
        case i.Forget():
            _forget(step, given)
        case _:
            assert_never(given)


def _end_what_is_over(step: Step) -> None:
    """A plan that has nothing to do is no conflict for a start that comes in the same step.

    One that ends in this step is: its phases still have news to tell, by their places in it.
    """
    session = step.session
    has_news = bool(session.touched or step.effects or session.stopping or session.untold)
    if session.status is SessionStatus.RUNNING and is_over(session) and not has_news:
        _end_session(step)


def _unheard(step: Step, given: i.Unheard) -> None:
    """Offer the attempt again: a runtime that has ended it says once more how."""
    session = step.session
    index = session.graph.index.get(given.phase_id)
    phase = session.phases[index] if index is not None else None
    if index is None or phase is None or phase.status not in PHASE_OPEN:
        return
    if phase.accepted and phase.fence == given.fence:
        session.heard[index] = UNNAMED
        step.effects.append(f.PublishTarget(index, "its runtime does not name it any more"))


def _forget(step: Step, given: i.Forget) -> None:
    session = step.session
    if has_ended(session) and session.status is not SessionStatus.PURGED and session.sequence == given.known:
        purged = e.SessionPurged(status=session.status, revision=session.revision, created=session.created)
        step.emit(purged)
    if session.status is SessionStatus.PURGED:  # again, should it not have been done the first time
        step.effects.append(f.RemoveHistory())


# -- what runtimes say -------------------------------------------------------------------------


def _current(step: Step, echo: i.Echo) -> int | None:
    """Index of the phase whose open attempt is meant, or None (and why, for the operator's log)."""
    session = step.session
    index = session.graph.index.get(echo.phase_id)
    if index is None:
        return step.ignore(echo.phase_id, "the plan has no such phase")
    phase = session.phases[index]
    if phase.status not in PHASE_OPEN:
        return step.ignore(echo.phase_id, f"no attempt is out: the phase is {phase.status}")
    if phase.stands:
        return step.ignore(echo.phase_id, "no runtime has it: the planner decides this phase itself")
    if echo.fenced:
        if (echo.attempt, echo.fence) != (phase.attempt, phase.fence):
            return step.ignore(echo.phase_id, f"attempt {echo.attempt} fence {echo.fence} is stale")
        return index
    if phase.instance is not None:
        return step.ignore(
            echo.phase_id, "the attempt is addressed to a runtime, and this came without its fence"
        )
    return index


def _acknowledge(step: Step, given: i.Acknowledge) -> None:
    if step.session.stopping and stopping.is_meant(step, given):
        stopping.reported(step, given)
        return
    index = _current(step, given)
    if index is None:
        return
    phase = step.session.phases[index]
    if given.accepted:
        taken(step, index)
        news = not phase.accepted or (phase.queued and not given.queued)
        if phase.status is PhaseStatus.TARGETED and news:
            step.emit(
                e.PhaseAccepted(
                    phase_id=given.phase_id,
                    attempt=phase.attempt,
                    runtime_id=given.runtime_id,
                    queued=given.queued,
                )
            )
        return
    if phase.instance is None:
        # An open offer stays open for the others; whoever declines it is free to do so.
        step.ignore(given.phase_id, f"an open offer was declined: {given.reason or 'no reason'}")
    elif phase.status is PhaseStatus.RUNNING and step.session.heard.get(index, 0) < 0:
        # We asked for it again. Its end was said to a journal that lost it with the power, or to nobody.
        lose_attempt(step, index, f"runtime {phase.runtime_id} has it no more: {given.reason or 'no reason'}")
    elif phase.status is PhaseStatus.RUNNING:
        step.ignore(given.phase_id, "it was declined after its work had begun: its report counts")
    else:
        decline(step, index, given)


_Report = i.ReportRunning | i.ReportHeartbeat | i.ReportComplete | i.ReportFailed | i.ReportCancelled


def _report(step: Step, given: _Report) -> None:
    is_stopping = bool(step.session.stopping) and stopping.is_meant(step, given)
    if is_stopping:
        stopping.reported(step, given)
    if (
        not given.fenced
        and isinstance(given, i.ReportComplete)
        and given.phase_id in step.session.graph.waiters
    ):
        step.emit(e.ExternalCompleted(phase_id=given.phase_id))
        return
    if not is_stopping:
        _offer_what_is_reported(step, given)
    index = None if is_stopping else _current(step, given)
    if index is None:
        return
    phase = step.session.phases[index]
    match given:
        case i.ReportRunning():
            _started(step, index, given)
        case i.ReportHeartbeat():
            _started(step, index, given)
            step.session.heard[index] = step.now
            if given.details is not msgspec.UNSET and given.details != phase.details:
                step.emit(
                    e.PhaseProgressed(phase_id=given.phase_id, attempt=phase.attempt, details=given.details)
                )
        case i.ReportComplete():
            if missing := missing_outputs(step.session.spec(index), given.result):
                text = f"its result lacks {', '.join(missing)} (x-outputs)"
                fail_attempt(step, index, text, "outputs", retryable=True)
                return
            step.emit(
                e.PhaseCompleted(
                    phase_id=given.phase_id,
                    attempt=phase.attempt,
                    runtime_id=given.runtime_id,
                    result=given.result,
                    started=given.started,
                    finished=given.finished,
                )
            )
            remember(step, index)
            call_handler(step, index)
        case i.ReportFailed():
            fail_attempt(step, index, given.message, given.kind, retryable=given.retryable)
        case i.ReportCancelled():
            if step.session.cancelling:
                step.emit(e.PhaseCancelled(phase_id=given.phase_id, reason=given.message or "cancelled"))
            else:
                fail_attempt(
                    step, index, given.message or "stopped by its runtime", "cancelled", retryable=True
                )
        case _:
            assert_never(given)


def _offer_what_is_reported(step: Step, given: _Report) -> None:
    """A runtime that decides about progress itself waits for no target: its report may be the quicker one."""
    session = step.session
    index = session.graph.index.get(given.phase_id)
    if given.fenced or index is None or session.phases[index].status is not PhaseStatus.READY:
        return
    if given.phase_id in step.unasked:
        return
    is_going_on = session.status is SessionStatus.RUNNING and not session.cancelling
    if is_going_on and session.failing is None and is_offered_openly(step, index):
        attempt = session.phases[index].attempt + 1
        step.emit(e.PhaseTargeted(phase_id=given.phase_id, attempt=attempt))
        step.unasked.add(given.phase_id)


def _started(step: Step, index: int, given: i.ReportRunning | i.ReportHeartbeat) -> None:
    """Work on the attempt is under way; told more than once, it counts once."""
    phase = step.session.phases[index]
    if phase.status is PhaseStatus.TARGETED:
        step.emit(
            e.PhaseStarted(
                phase_id=given.phase_id,
                attempt=phase.attempt,
                runtime_id=given.runtime_id,
                at=given.started,
            )
        )


def _runtime_lost(step: Step, given: i.RuntimeLost) -> None:
    for index, phase in enumerate(step.session.phases):
        if phase.status in PHASE_OPEN and (phase.runtime_id, phase.instance) == (
            given.runtime_id,
            given.instance,
        ):
            lose_attempt(step, index, f"runtime {given.runtime_id} is lost: {given.reason}")
    stopping.lost(step, given)


# -- time --------------------------------------------------------------------------------------


def _timers(step: Step) -> None:
    session = step.session
    while (due := session.next_due()) is not None and due <= step.now:
        _, index = heappop(session.timers)
        if step.now - due > LATE_MS:
            session.listening_since = step.now  # we stood still: what was said meanwhile is yet to be read
        if index == STOPS:
            stopping.overdue(step)
            continue
        if index < 0:
            session.cancel_due = 0
            for number, phase in enumerate(session.phases):
                if phase.status in PHASE_OPEN:
                    step.emit(
                        e.PhaseCancelled(
                            phase_id=session.spec(number).id, reason="its runtime did not confirm the cancel"
                        )
                    )
            continue
        timer_fired(step, index)


def _prepare(step: Step) -> None:
    """What has to be known before anything is targeted: which phases are asked for, and which may run."""
    session = step.session
    while session.to_demand or (session.to_settle and not is_unsettled(step)):
        _wake_lazy(step)
        settle(step)


def _wake_lazy(step: Step) -> None:
    """Instantiate the ``onUse`` phases that something now needs; that may wake others."""
    session = step.session
    while session.to_demand:
        index, by = session.to_demand.pop()
        phase = session.phases[index]
        if not phase.demanded and phase.status is PhaseStatus.PENDING:
            step.emit(e.PhaseDemanded(phase_id=session.spec(index).id, by=session.spec(by).id))


# -- the end -----------------------------------------------------------------------------------


def _withdraw_open_offers(step: Step) -> None:
    """A failing session offers nothing any more."""
    session = step.session
    for index in sorted(session.offered):
        phase = session.phases[index]
        if not phase.accepted and not session.may_start(index):
            spec = session.spec(index)
            step.emit(e.PhaseWithdrawn(phase_id=spec.id, attempt=phase.attempt, reason=str(session.failing)))


def _finish(step: Step) -> bool:
    """Close what can no longer run, and the session with it once all that handlers want said is stored.

    Who watches a session stops reading at its end, and nobody looks for what an ended session has to send.
    True when a phase has become ready by that: the next step targets it.
    """
    session = step.session
    if session.status not in (SessionStatus.RUNNING, SessionStatus.PAUSED):
        return False
    if session.cancelling:
        _close_idle(step, cancel=True)
    elif session.failing is not None:
        standing = sum(phase.stands for phase in session.phases) if session.graph.gates else 0
        if session.counts[PhaseStatus.TARGETED] + session.counts[PhaseStatus.RUNNING] == standing:
            _close_idle(step, cancel=False)
            if settle(step) or is_unsettled(step):
                return True  # what cleans up after a failure may run now
            _close_unsettled(step)
    elif session.counts[PhaseStatus.PENDING] and not is_unsettled(step) and _only_unused_left(session):
        for index, phase in enumerate(session.phases):
            if phase.status is PhaseStatus.PENDING:
                step.emit(e.PhaseSkipped(phase_id=session.spec(index).id, reason="onUse: nothing used it"))
    if is_over(session) and not session.stopping and not session.untold:
        _end_session(step)
    return False


def _only_unused_left(session: Session) -> bool:
    """Whether nothing but ``onUse`` phases that nobody asked for is left."""
    terminal = sum(session.counts[status] for status in PHASE_TERMINAL)
    if terminal + session.counts[PhaseStatus.PENDING] < len(session.phases):
        return False
    whole_of = session.graph.whole_of
    wholes = {whole_of.get(n, n) for n, one in enumerate(session.phases) if one.status is PhaseStatus.PENDING}
    return all(session.spec(index).on_use and not session.phases[index].demanded for index in wholes)


def _close_idle(step: Step, *, cancel: bool) -> None:
    session = step.session
    reason = cut((session.reason if cancel else session.failing) or "session cancelled", SHORT_MAX)
    for index, phase in enumerate(session.phases):
        if phase.status in PHASE_TERMINAL or (phase.status in PHASE_OPEN and not phase.stands):
            continue
        phase_id = session.spec(index).id
        if cancel:
            step.emit(e.PhaseCancelled(phase_id=phase_id, reason=reason))
        elif session.may_start(index):
            continue
        elif phase.status is PhaseStatus.BACKING_OFF:
            message = f"{phase.reason} (no further attempt: {reason})"
            step.emit(e.PhaseFailed(phase_id=phase_id, attempt=phase.attempt, message=message))
            call_handler(step, index, reason=message)
        else:
            step.emit(e.PhaseSkipped(phase_id=phase_id, reason=reason, left_out=True))


def _close_unsettled(step: Step) -> None:
    """In a failing session, once all else is over: nothing will bring news to those that still wait."""
    session = step.session
    if any(session.counts[s] for s in (PhaseStatus.READY, PhaseStatus.BACKING_OFF, PhaseStatus.RUNNING)):
        return
    reason = cut(str(session.failing), SHORT_MAX)
    for index, phase in enumerate(session.phases):
        if phase.status is PhaseStatus.PENDING:
            step.emit(e.PhaseSkipped(phase_id=session.spec(index).id, reason=reason, left_out=True))


def _end_session(step: Step) -> None:
    session = step.session
    if session.cancelling:
        step.emit(e.SessionEnded(status=SessionStatus.CANCELLED, reason=session.reason))
    elif session.failing is not None:
        step.emit(e.SessionEnded(status=SessionStatus.FAILED, reason=session.failing))
    else:
        step.emit(e.SessionEnded(status=SessionStatus.COMPLETE))
