"""What follows when a runtime does not take what it was offered (PMP ``ack`` with ``accepted: false``).

No work has begun, so the attempt keeps its number, no retry is used up, and the clock from schedule to start
goes on. A runtime may mean one of two things:

- rejected: not I. Others are asked at once; this one again after a pause.
- deferred (``queued`` or a time to wait): not now. Nobody is asked before that time is over.

Both pauses double with each no of that runtime to that phase, up to a minute: nobody is asked in a hot loop.
How often it was is not journalled: after a takeover it is counted anew.
"""

from planter.core import events as e
from planter.core import inputs as i
from planter.core.step import Step

FIRST_MS = 1_000
"""The pause after the first no."""
MOST_MS = 60_000
DEFER_MS = 5_000
"""How long a deferred phase waits when its runtime names no time."""
DEFER_MS_MAX = 3_600_000
_DOUBLINGS_MAX = 6


def decline(step: Step, index: int, given: i.Acknowledge) -> None:
    """The runtime that was offered the phase does not take it, or not now."""
    session, phase = step.session, step.session.phases[index]
    runtime_id = str(phase.runtime_id)
    times = session.declined[(index, runtime_id)] = session.declined.get((index, runtime_id), 0) + 1
    pause = min(FIRST_MS * 2 ** min(times - 1, _DOUBLINGS_MAX), MOST_MS)
    why = given.reason or "no reason"
    until = None
    if given.queued or given.retry_after_ms is not None:
        pause = min(max(given.retry_after_ms or DEFER_MS, pause), DEFER_MS_MAX)
        until = step.now + pause
        reason = f"deferred by runtime {runtime_id}: {why}; offered again in {_seconds(pause)}"
    else:
        session.avoid[(index, runtime_id)] = step.now + pause
        reason = f"rejected by runtime {runtime_id}: {why}; not asked again for {_seconds(pause)}"
    step.emit(
        e.PhaseWithdrawn(phase_id=given.phase_id, attempt=phase.attempt, reason=reason, not_before=until)
    )


def taken(step: Step, index: int) -> None:
    """A runtime has taken the phase: earlier refusals are forgotten."""
    session = step.session
    if session.declined:
        for key in [key for key in session.declined if key[0] == index]:
            del session.declined[key]
            session.avoid.pop(key, None)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s"
