"""The end of an attempt that did not complete: another one, or the end of its phase.

Two budgets. What the work did wrong (it failed, took too long, fell silent) counts against the manifest's
``retry``; what the platform did wrong (a runtime died) counts against ``LOSSES_MAX`` and costs no retry.
"""

from planter.core import events as e
from planter.core.deadlines import closes_at
from planter.core.handlers import call_handler
from planter.core.plan import FailureAction
from planter.core.step import Step

LOSSES_MAX = 5
"""A phase whose attempts the platform lost this often fails: something about it kills runtimes."""


def fail_attempt(step: Step, index: int, message: str, kind: str | None, *, retryable: bool) -> None:
    """An attempt failed: another one after a pause, or the end of the phase."""
    session, spec, phase = step.session, step.session.spec(index), step.session.phases[index]
    tried = phase.attempt - phase.budget_from
    if retryable and tried < spec.max_attempts and session.may_start(index) and not session.cancelling:
        retry_at = step.now + step.pause_before_retry(index, tried)
        close_at = closes_at(session, index)
        if close_at is None or retry_at < close_at:
            step.emit(
                e.AttemptFailed(
                    phase_id=spec.id, attempt=phase.attempt, message=message, kind=kind, retry_at=retry_at
                )
            )
            return
        limit = f"{spec.schedule_to_close_ms:,} ms that the phase has in all"
        message = f"{message} (no further attempt: it would begin after the {limit})"
    fail_phase(step, index, message, kind)


def fail_phase(step: Step, index: int, message: str, kind: str | None) -> None:
    """The phase failed for good; says so, and stops the rest when its manifest wants that."""
    session, spec, phase = step.session, step.session.spec(index), step.session.phases[index]
    step.emit(e.PhaseFailed(phase_id=spec.id, attempt=phase.attempt, message=message, kind=kind))
    call_handler(step, index, reason=message)
    if spec.on_failure is FailureAction.ABORT:
        for other in range(len(session.phases)):
            step.cancel_attempt(other, f"phase {spec.id} failed (abort)")


def lose_attempt(step: Step, index: int, reason: str) -> None:
    """The platform lost an attempt: the same budget, another number, a higher fence."""
    spec, phase = step.session.spec(index), step.session.phases[index]
    if step.session.cancelling:
        step.emit(e.PhaseCancelled(phase_id=spec.id, reason=reason))
    elif phase.losses + 1 >= LOSSES_MAX:
        fail_phase(step, index, reason, "lost")
    else:
        step.emit(e.AttemptLost(phase_id=spec.id, attempt=phase.attempt, reason=reason))
