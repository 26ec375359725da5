"""Control commands: what each does, and when the answer is no. Every one may be repeated without harm."""

from collections.abc import Collection
from typing import assert_never

from planter.core import events as e
from planter.core import inputs as i
from planter.core.foreach import close_items, never_run, with_items
from planter.core.gates import answer
from planter.core.items import is_busy
from planter.core.plan import FailureAction
from planter.core.session import Session
from planter.core.starts import purged_text
from planter.core.status import PHASE_OPEN, SESSION_ACTIVE, PhaseStatus, SessionStatus
from planter.core.step import Step
from planter.core.texts import SHORT_MAX, cut

_PAUSE = "while the session is paused no other attempt begins"


def obey(step: Step, command: i.Command) -> None:
    """Carry out a command, or refuse it with the reason."""
    if step.session.status is SessionStatus.PURGED:
        _refuse(step, command, "session.purged", purged_text(step.session))
        return
    if step.session.revision == 0:
        _refuse(step, command, "session.unknown", f"session '{step.session.id}' has no plan yet")
        return
    if step.session.cancelling and command.verb in ("retry", "skip", "rerun"):
        text = f"session {step.session.id} is being cancelled: wait for its end before you {command.verb}"
        _refuse(step, command, "session.cancelling", text)
        return
    emitted = len(step.events)
    match command.verb:
        case "pause":
            _pause(step, command)
        case "resume":
            _resume(step, command)
        case "cancel":
            _cancel(step, command)
        case "retry":
            _retry(step, command)
        case "skip":
            _skip(step, command)
        case "rerun":
            _rerun(step, command)
        case "approve" | "reject":
            _answer(step, command)
        case _:
            assert_never(command.verb)
    if len(step.events) == emitted:
        step.repeated(command.sequence)


def _refuse(step: Step, command: i.Command, code: str, text: str) -> None:
    step.refuse(command.sequence, code, text)


def _pause(step: Step, command: i.Command) -> None:
    session = step.session
    if session.status is SessionStatus.RUNNING:
        step.emit(e.SessionPaused(reason=command.reason))
    elif session.status is not SessionStatus.PAUSED:
        _refuse(step, command, "session.ended", f"session {session.id} is {session.status}: nothing to pause")


def _resume(step: Step, command: i.Command) -> None:
    session = step.session
    if session.status is SessionStatus.PAUSED:
        step.emit(e.SessionResumed(reason=command.reason))
    elif session.status is not SessionStatus.RUNNING:
        _refuse(
            step, command, "session.ended", f"session {session.id} is {session.status}: nothing to resume"
        )


def _cancel(step: Step, command: i.Command) -> None:
    session = step.session
    if session.status not in SESSION_ACTIVE:
        if session.status is not SessionStatus.CANCELLED:
            _refuse(
                step, command, "session.ended", f"session {session.id} is {session.status}: nothing to cancel"
            )
        return
    if session.cancelling:
        return
    reason = command.reason or "cancelled on request"
    step.emit(e.CancelRequested(reason=reason))
    reason = cut(reason, SHORT_MAX)
    for index, phase in enumerate(session.phases):
        if phase.status not in PHASE_OPEN:
            continue
        if phase.runtime_id is None and not phase.accepted:
            step.emit(e.PhaseCancelled(phase_id=session.spec(index).id, reason=reason))
        else:
            step.cancel_attempt(index, reason)


def _retry(step: Step, command: i.Command) -> None:
    """Failed phases run again; what was skipped or cancelled because of them waits for them again."""
    session = step.session
    if command.phase_id is None:
        chosen = [n for n, phase in enumerate(session.phases) if _can_retry(phase.status)]
        if not chosen:
            _refuse(step, command, "phase.not_failed", f"no phase of session {session.id} has failed")
            return
    else:
        index = _index(step, command)
        if index is None:
            return
        status = session.phases[index].status
        if status in (PhaseStatus.PENDING, PhaseStatus.READY) or status in PHASE_OPEN:
            return  # it is on its way already
        if status is PhaseStatus.BACKING_OFF:
            step.emit(e.PhaseReady(phase_id=session.spec(index).id))
            return
        if not _can_retry(status):
            text = (
                f"phase {command.phase_id} is {status}, not failed (use rerun to run a complete phase again)"
            )
            _refuse(step, command, "phase.not_failed", text)
            return
        chosen = sorted(with_items(session, [index]))
        if _refused_as_blocked(step, command, chosen):
            return
    _reset(step, sorted({*chosen, *_left_out(session)}), f"retry{_because(command)}")


def _can_retry(status: PhaseStatus) -> bool:
    return status in (PhaseStatus.FAILED, PhaseStatus.CANCELLED)


def _rerun(step: Step, command: i.Command) -> None:
    """The phase and everything that follows from it run again; the rest keeps its results."""
    session = step.session
    index = _index(step, command)
    if index is None:
        return
    chosen = session.graph.downstream([index])
    phases = session.phases
    busy = [session.spec(n).id for n in chosen if phases[n].status in PHASE_OPEN and not phases[n].stands]
    if busy:
        text = f"cannot rerun from {command.phase_id} while {', '.join(busy[:5])} runs: cancel or wait"
        _refuse(step, command, "phase.busy", text)
        return
    if _refused_as_blocked(step, command, chosen):
        return
    whole_of = session.graph.whole_of
    # Their list, their item or their arguments are those of before.
    begun = {n for n in chosen if phases[n].cleared or phases[whole_of.get(n, n)].cleared or phases[n].stands}
    reason = f"rerun from {command.phase_id}{_because(command)}"
    _reset(step, sorted({*chosen, *_left_out(session)}), reason, begun)


def _refused_as_blocked(step: Step, command: i.Command, chosen: list[int]) -> bool:
    """Whether nothing of it would be started, because another phase has failed and stays so."""
    session = step.session
    failed = next(
        (
            session.spec(n).id
            for n, phase in enumerate(session.phases)
            if phase.status is PhaseStatus.FAILED
            and n not in chosen
            and session.spec(n).on_failure in (FailureAction.RAISE, FailureAction.ABORT)
        ),
        None,
    )
    if failed is None:
        return False
    text = (
        f"cannot {command.verb} {command.phase_id}: phase {failed} failed, so nothing would be started; "
        "skip that one, or retry without a phase, which means every failed one"
    )
    _refuse(step, command, "phase.blocked", text)
    return True


def _skip(step: Step, command: i.Command) -> None:
    """The phase will not run, and what waits for it goes on."""
    session = step.session
    index = _index(step, command)
    if index is None:
        return
    phase = session.phases[index]
    whole = session.graph.whole_of.get(index)
    if phase.satisfies and (whole is None or phase.status is not PhaseStatus.FAILED):
        return  # done already, one way or another; a failed item lets its phase go on, to its failure
    if phase.status in PHASE_OPEN and (phase.runtime_id is not None or phase.accepted):
        text = f"phase {command.phase_id} is {phase.status}: skip it once its attempt has ended ({_PAUSE})"
        _refuse(step, command, "phase.busy", text)
        return
    if is_busy(session, index):
        text = f"items of phase {command.phase_id} are under way: skip it once they have ended ({_PAUSE})"
        _refuse(step, command, "phase.busy", text)
        return
    reason = f"skipped on request{_because(command)}"
    if session.status not in SESSION_ACTIVE:
        _reset(step, sorted({index, *({whole} if whole is not None else ()), *_left_out(session)}), reason)
    elif whole is not None and session.phases[whole].status is PhaseStatus.FAILED:
        _reset(step, sorted({whole, *never_run(session, whole)}), reason)
    close_items(step, index, reason)
    step.emit(e.PhaseSkipped(phase_id=session.spec(index).id, reason=reason, satisfies=True))


def _answer(step: Step, command: i.Command) -> None:
    """Somebody approves or rejects."""
    index = _index(step, command)
    if index is not None:
        answer(step, command, index)


def _left_out(session: Session) -> list[int]:
    """Phases that ended without having run, only because the session did."""
    return [
        n
        for n, phase in enumerate(session.phases)
        if not phase.satisfies and phase.status in (PhaseStatus.SKIPPED, PhaseStatus.CANCELLED)
    ]


def _reset(step: Step, chosen: list[int], reason: str, begun: Collection[int] = ()) -> None:
    """Reset what is not on its way already, and what of it has begun on what is not so any more."""
    session = step.session
    waiting = PHASE_OPEN | {PhaseStatus.PENDING, PhaseStatus.READY}
    names = tuple(session.spec(n).id for n in chosen if n in begun or session.phases[n].status not in waiting)
    if session.status not in SESSION_ACTIVE:
        step.emit(e.SessionReopened(reason=reason))
    if names:
        step.emit(e.PhasesReset(phase_ids=names, reason=reason))


def _index(step: Step, command: i.Command) -> int | None:
    if command.phase_id is None:
        _refuse(step, command, "phase.missing", f"{command.verb} needs a phase id")
        return None
    index = step.session.graph.index.get(command.phase_id)
    if index is None:
        text = f"session {step.session.id} has no phase {command.phase_id!r}"
        _refuse(step, command, "phase.unknown", text)
    return index


def _because(command: i.Command) -> str:
    return f": {command.reason}" if command.reason else ""
