"""What is decided when the timer of a phase fires: mostly that a clock has run out (``deadlines``)."""

from typing import assert_never

from planter.core import effects as f
from planter.core import events as e
from planter.core.attempts import fail_attempt, fail_phase
from planter.core.deadlines import RETRIED, Clock, arm, gate_is_over, has_begun, last_beat, run_out
from planter.core.evolve import ACK_MS
from planter.core.gates import end_gate
from planter.core.status import PhaseStatus
from planter.core.step import Step, full_limit

OFFER_PAUSE_MS_MAX = 60_000


def timer_fired(step: Step, index: int) -> None:
    """The phase's timer is due; afterwards it is set for later, or for never."""
    session, phase = step.session, step.session.phases[index]
    phase.due = 0
    if gate_is_over(session, index, step.now):
        end_gate(step, index)
        return
    clock = run_out(session, index, step.now)
    if clock is not None:
        _time_out(step, index, clock)
    elif phase.status is PhaseStatus.BACKING_OFF or 0 < phase.not_before <= step.now:
        step.emit(e.PhaseReady(phase_id=session.spec(index).id))
    elif phase.status is PhaseStatus.TARGETED and not phase.accepted:
        # Nobody took the offer: say it again, each time after a longer pause.
        step.effects.append(f.PublishTarget(index, "offered again"))
        pause = min(max(step.now - phase.updated, ACK_MS), OFFER_PAUSE_MS_MAX)
        arm(session, index, step.now + pause)
    else:
        arm(session, index)


def _time_out(step: Step, index: int, clock: Clock) -> None:
    message = _message(step, index, clock)
    step.cancel_attempt(index, clock.value)
    if step.session.cancelling:
        step.emit(e.PhaseCancelled(phase_id=step.session.spec(index).id, reason=message))
    elif clock in RETRIED:
        fail_attempt(step, index, message, clock.value, retryable=True)
    else:
        fail_phase(step, index, message, clock.value)


def _message(step: Step, index: int, clock: Clock) -> str:
    spec, phase = step.session.spec(index), step.session.phases[index]
    match clock:
        case Clock.WAIT:
            return f"waited longer than {spec.wait_timeout_ms} ms for {', '.join(step.waits_for(index))}"
        case Clock.SCHEDULE_TO_CLOSE:
            where = f"attempt {phase.attempt} {_progress(step, index)}" if phase.attempt else "never started"
            return f"not done {step.now - phase.scheduled:,} ms after it was ready at first: {where}"
        case Clock.SCHEDULE_TO_START:
            return f"not started {step.now - phase.since:,} ms after it was ready: {_why(step, index)}"
        case Clock.START_TO_CLOSE:
            if phase.stands:
                return f"stood longer than {spec.timeout_ms:,} ms: {phase.reason}"
            return f"ran longer than {spec.timeout_ms:,} ms, and its runtime did not end it"
        case Clock.HEARTBEAT:
            silence = step.now - last_beat(step.session, index)
            return f"no heartbeat for {silence:,} ms; one is due every {spec.heartbeat_ms:,} ms"
        case _:
            assert_never(clock)


def _progress(step: Step, index: int) -> str:
    if has_begun(step.session.phases[index]):
        return "was running"
    if step.session.phases[index].status is PhaseStatus.TARGETED:
        return "was not started"
    return "was the last"


def _why(step: Step, index: int) -> str:
    """Why nobody has begun to work on a phase that is ready."""
    spec, phase = step.session.spec(index), step.session.phases[index]
    if phase.status is PhaseStatus.READY:
        if limited := full_limit(step.session, index):
            return limited
        return "every matching runtime was busy" + (f" (last: {phase.reason})" if phase.reason else "")
    if phase.queued:
        return f"runtime {phase.runtime_id} had it queued behind other work"
    if phase.instance is not None:
        return f"it was offered to runtime {phase.runtime_id}, which did not answer"
    kind = f"kind {spec.kind}" if spec.kind else "a handler"
    labels = ", ".join(f"{key}={value}" for key, value in spec.labels.items()) or "(none)"
    return f"no registered runtime matches ({kind}, labels {labels}), and nobody took the open offer"
