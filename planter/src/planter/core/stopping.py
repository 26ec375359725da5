"""Attempts that a replan has taken out of the session, until they have stopped.

Their phase, if the new plan has it, waits for that: no two attempts of a phase are out at a time. The wait is
bounded: a runtime that does not confirm in time is not waited for, and its report is stale anyway.
"""

from planter.core import events as e
from planter.core import inputs as i
from planter.core.step import Step


def is_meant(step: Step, echo: i.Echo) -> bool:
    """Whether a runtime speaks of such an attempt."""
    one = step.session.stopping.get(echo.phase_id)
    if one is None:
        return False
    if echo.fenced:
        return (echo.attempt, echo.fence) == (one.attempt, one.fence)
    return one.instance is None


def reported(step: Step, given: i.Echo) -> None:
    """The attempt goes on, or has ended, one way or another; its result counts no more."""
    match given:
        case i.ReportComplete():
            how = "it completed, by the plan of before"
        case i.ReportFailed():
            how = f"it failed: {given.message}"
        case i.ReportCancelled():
            how = given.message or "its runtime has stopped it"
        case i.Acknowledge(accepted=False):
            how = f"its runtime did not take it: {given.reason or 'no reason'}"
        case _:
            step.ignore(given.phase_id, "the attempt is being stopped: another plan was applied")
            return
    _stopped(step, given.phase_id, how)


def lost(step: Step, given: i.RuntimeLost) -> None:
    """A life of a runtime is over, and with it what it had."""
    for phase_id, one in list(step.session.stopping.items()):
        if (one.runtime_id, one.instance) == (given.runtime_id, given.instance):
            _stopped(step, phase_id, f"runtime {given.runtime_id} is lost: {given.reason}")


def overdue(step: Step) -> None:
    """The time for stopping is over."""
    for phase_id, one in list(step.session.stopping.items()):
        if one.due <= step.now:
            _stopped(step, phase_id, "its runtime did not confirm the stop in time")


def _stopped(step: Step, phase_id: str, reason: str) -> None:
    attempt = step.session.stopping[phase_id].attempt
    step.emit(e.AttemptStopped(phase_id=phase_id, attempt=attempt, reason=reason))
