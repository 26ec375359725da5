"""The clocks of a phase: which of them run now, and when each runs out.

Temporal's four timeouts of an activity and PMP's ``wait_for.timeout``. A phase has one timer (``due``): it is
set to the first of these times and, when it fires, asks here what has run out. So a heartbeat sets no timer,
and a phase without timeouts needs none.

=================  ==============================  =====================================  ===================
clock              starts when                     stops when                             while paused
=================  ==============================  =====================================  ===================
wait               the phase begins to wait        all that it needs is complete          stands still
schedule to start  the attempt is ready            work on it begins                      stands still
start to close     work on the attempt begins      the attempt ends                       goes on
heartbeat          work begins, each heartbeat     the attempt ends                       goes on
schedule to close  the phase is ready at last      the phase ends, after all attempts     goes on
=================  ==============================  =====================================  ===================

Start to close and heartbeat are the runtime's clocks in the first place: it sees them without a network.
Here they run out ``OVERDUE_MS`` later, for runtimes that did not notice.

Nothing runs out while nobody could hear what stops it. A planner that has read a session from its journal, or
whose timer fires late because it stood still, finds reports in the input stream that it has not seen.
``Session.listening_since`` says since when it hears everything; see docs/adr/0009.
"""

from collections.abc import Iterator
from enum import StrEnum
from heapq import heappush

import msgspec

from planter.core.gate import moved_back
from planter.core.session import STOPS, PhaseState, Session
from planter.core.status import PHASE_OPEN, PHASE_TERMINAL, PhaseStatus, SessionStatus

OVERDUE_MS = 15_000
"""How much later than its runtime the planner ends an attempt that ran too long or fell silent."""
HEAR_MS = 5_000
"""What was said while nobody listened has arrived this long after somebody does: the input stream delivers
again after two seconds, to a planner that takes over within two."""
LATE_MS = 2_000
"""A timer that fires this late means that this planner stood still."""


class Clock(StrEnum):
    """What can run out; the value is the kind of the failure that this is."""

    WAIT = "wait_timeout"
    SCHEDULE_TO_CLOSE = "schedule_to_close_timeout"
    SCHEDULE_TO_START = "schedule_to_start_timeout"
    START_TO_CLOSE = "timeout"
    HEARTBEAT = "heartbeat_timeout"


RETRIED = frozenset({Clock.START_TO_CLOSE, Clock.HEARTBEAT})
"""These fail an attempt; all others fail the phase."""


def has_begun(phase: PhaseState) -> bool:
    """Whether work on the open attempt is known to have begun; not while its runtime has it queued."""
    return phase.status is PhaseStatus.RUNNING or (
        phase.status is PhaseStatus.TARGETED and phase.accepted and not phase.queued
    )


def clocks(session: Session, index: int) -> Iterator[tuple[Clock, int]]:
    """Each clock that runs for the phase now and when it runs out, the most final one first."""
    phase = session.phases[index]
    if phase.status in PHASE_TERMINAL:
        return
    spec, is_paused = session.spec(index), session.status is SessionStatus.PAUSED
    if phase.status is PhaseStatus.PENDING:
        if spec.wait_timeout_ms is not None and not is_paused and not phase.cleared:
            yield Clock.WAIT, _heard(session, phase.since + spec.wait_timeout_ms)
        return
    is_open = phase.status in PHASE_OPEN
    if not is_open and not session.may_start(index):
        return  # it is not started any more: it will be closed with the session
    if (close_at := closes_at(session, index)) is not None:
        yield Clock.SCHEDULE_TO_CLOSE, _heard(session, close_at) if is_open else close_at
    if phase.status is PhaseStatus.BACKING_OFF:
        return
    if not has_begun(phase):
        if spec.schedule_to_start_ms is not None and not is_paused:
            yield Clock.SCHEDULE_TO_START, _heard(session, phase.since + spec.schedule_to_start_ms)
        return
    if spec.timeout_ms is not None:
        grace = 0 if phase.stands else OVERDUE_MS
        yield Clock.START_TO_CLOSE, _heard(session, phase.updated + spec.timeout_ms + grace)
    if spec.heartbeat_ms is not None and not phase.stands:
        yield Clock.HEARTBEAT, last_beat(session, index) + spec.heartbeat_ms + OVERDUE_MS


def closes_at(session: Session, index: int) -> int | None:
    """When the phase has to have ended, over all its attempts; None without a limit."""
    limit = session.spec(index).schedule_to_close_ms
    return None if limit is None else session.phases[index].scheduled + limit


def last_beat(session: Session, index: int) -> int:
    """Since when the work of a begun attempt is silent, as far as this planner could hear."""
    return max(session.phases[index].updated, session.heard.get(index, 0), session.listening_since or 0)


def run_out(session: Session, index: int, now: int) -> Clock | None:
    """The clock that has run out; of several, the most final one."""
    return next((clock for clock, at in clocks(session, index) if at <= now), None)


def gate_ends_at(session: Session, index: int) -> int:
    """When a phase that stands is over by itself; 0 if never. An answer may still be on its way."""
    phase = session.phases[index]
    if phase.gate is None or not phase.stands or not phase.gate.due:
        return 0
    return phase.gate.due if phase.gate.kind == "wait" else _heard(session, phase.gate.due)


def gate_is_over(session: Session, index: int, now: int) -> bool:
    """Whether a phase that stands is over by itself, before any of its clocks has run out."""
    at = gate_ends_at(session, index)
    return 0 < at <= now and all(other >= at for _, other in clocks(session, index))


def arm(session: Session, index: int, soon: int = 0) -> None:
    """Wake up when the phase's first clock runs out, or at ``soon`` when that is earlier (0: only then).

    Not journalled: a timer is only ever early or late, never wrong.
    """
    due = soon
    if session.graph.has_limit[index]:
        for _, at in clocks(session, index):
            if not due or at < due:
                due = at
    phase = session.phases[index]
    if phase.gate is not None and (at := gate_ends_at(session, index)) and (not due or at < due):
        due = at
    if phase.not_before and phase.status is PhaseStatus.READY and (not due or phase.not_before < due):
        due = phase.not_before
    phase.due = due
    if due:
        heappush(session.timers, (due, index))


def _heard(session: Session, at: int) -> int:
    """When a clock counts as run out that something could have stopped which we have not heard yet."""
    return max(at, session.listening_since + HEAR_MS) if session.listening_since else at


def arm_stops(session: Session) -> None:
    """Wake up when the first of the attempts that are to stop is overdue."""
    session.stop_due = min((one.due for one in session.stopping.values()), default=0)
    if session.stop_due:
        heappush(session.timers, (session.stop_due, STOPS))


def set_back(session: Session, by: int) -> None:
    """The clock was set back by so many milliseconds: what has waited for so long has waited for so long."""
    session.timers.clear()
    session.paused_at = _earlier(session.paused_at, by)
    session.heard = {index: _earlier(time, by) for index, time in session.heard.items()}
    if session.listening_since:
        session.listening_since -= by
    if session.cancel_due:
        session.cancel_due -= by
        heappush(session.timers, (session.cancel_due, -1))
    session.stopping = {
        name: msgspec.structs.replace(one, due=one.due - by) for name, one in session.stopping.items()
    }
    arm_stops(session)
    for index, phase in enumerate(session.phases):
        phase.updated = _earlier(phase.updated, by)
        phase.since = _earlier(phase.since, by)
        phase.scheduled = _earlier(phase.scheduled, by)
        phase.not_before = _earlier(phase.not_before, by)
        if phase.gate is not None:
            phase.gate = moved_back(phase.gate, by)
        if phase.due:
            arm(session, index, phase.due - by)


def _earlier(time: int, by: int) -> int:
    return time - by if time else 0
