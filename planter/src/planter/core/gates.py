"""Deciding about gates: phases that wait for time or for people, and that no runtime is offered.

A gate begins to stand when its phase is ready, and is over by its timer, or by the answers of people. All of
it is in the journal: when it began and when it is due, what was asked of whom, and each answer with its name.
See docs/adr/0017.
"""

from heapq import heappop, heappush

import msgspec

from planter.core import events as e
from planter.core import inputs as i
from planter.core.attempts import fail_attempt, fail_phase
from planter.core.conditions import missing_outputs
from planter.core.gate import (
    BY_MAX,
    Answer,
    Gate,
    GateUnreadable,
    Wait,
    is_gate,
    listed,
    read_gate,
    with_answer,
)
from planter.core.handlers import call_handler, call_out
from planter.core.plan import Handler
from planter.core.session import PhaseState, Session
from planter.core.status import PhaseStatus
from planter.core.step import Step

DATA_BYTES_MAX = 16 * 1024
"""Of an answer's data, as JSON."""
DATA_PARTS_MAX = 100
RESULT_BYTES_MAX = 64 * 1024
COMMENT_MAX = 4_000
RESERVED = "approvedBy"
"""Key of the result that says who has approved; no data may have it."""


# -- the beginning -----------------------------------------------------------------------------


def open_gates(step: Step, most: int) -> bool:
    """Let gates that are ready begin to stand; True when there is more to do at once.

    Args:
        step: the decision under way.
        most: so many in this decision.
    """
    session, left, has_ended = step.session, most, False
    for number in session.graph.gates:
        heap, limit = session.ready[number], session.graph.limits[number]
        held_back: list[tuple[int, int, int]] = []
        while heap and left:
            if limit is not None and session.at_work.get(limit.key, 0) >= limit.max:
                break
            entry = heappop(heap)
            phase = session.phases[entry[2]]
            if phase.status is not PhaseStatus.READY:
                continue  # it was skipped or cancelled since
            if not session.may_start(entry[2]):
                held_back.append(entry)  # it may be needed again, should the failed phase be retried
                continue
            left -= 1
            _begin(step, entry[2])
            has_ended = has_ended or not session.phases[entry[2]].stands
        for entry in held_back:
            heappush(heap, entry)
        if not left:
            return True
    return has_ended  # what waits for it may be a gate, too


def _begin(step: Step, index: int) -> None:
    spec, phase = step.session.spec(index), step.session.phases[index]
    attempt = phase.attempt + 1
    try:
        asked = read_gate(spec.run if phase.run is msgspec.UNSET else phase.run)
        due = asked.due(step.now)
    except GateUnreadable as error:
        fail_phase(step, index, str(error), "expression")
        return
    if isinstance(asked, Wait):
        is_fixed = asked.until is not None
        step.emit(e.WaitStarted(phase_id=spec.id, attempt=attempt, due=due, fixed=is_fixed))
        if due <= step.now:
            end_gate(step, index)
        return
    step.emit(
        e.ApprovalRequested(
            phase_id=spec.id,
            attempt=attempt,
            message=asked.message[:COMMENT_MAX],
            approvers=asked.approvers,
            needed=asked.needed,
            expires=due or None,
            on_expiry=asked.on_expiry,
        )
    )
    if asked.notify:
        call_out(step, index, "asked", Handler((asked.message,), notify=asked.notify))


# -- the end, by time --------------------------------------------------------------------------


def end_gate(step: Step, index: int) -> None:
    """The time of a gate is over: a wait is done, a question has expired."""
    spec, phase = step.session.spec(index), step.session.phases[index]
    gate = phase.gate
    assert gate is not None, "only what stands has a time"
    if gate.kind == "wait":
        _complete(step, index, msgspec.UNSET)
        return
    step.emit(e.ApprovalExpired(phase_id=spec.id, attempt=phase.attempt, outcome=gate.on_expiry))
    if gate.on_expiry != "approve":
        many = f"{len(gate.approved_by)} of {gate.needed} approvals"
        fail_phase(step, index, f"the question expired with {many}", "expired")
        return
    result = _result(gate)
    if missing := missing_outputs(spec, result):
        text = f"the question expired, and nobody has given {', '.join(missing)} (x-outputs)"
        fail_attempt(step, index, text, "outputs", retryable=False)
        return
    _complete(step, index, result)


def _complete(step: Step, index: int, result: msgspec.Raw | msgspec.UnsetType) -> None:
    phase, gate = step.session.phases[index], step.session.phases[index].gate
    assert gate is not None
    step.emit(
        e.PhaseCompleted(
            phase_id=step.session.spec(index).id,
            attempt=phase.attempt,
            result=result,
            started=gate.since,
            finished=step.now,
        )
    )
    call_handler(step, index)


def _result(gate: Gate) -> msgspec.Raw:
    """What the answers have brought, the later ones before the earlier, and who has approved."""
    found: dict[str, object] = {}
    for one in gate.answers:
        if one.approves and one.data:
            found |= msgspec.json.decode(one.data, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**found, RESERVED: gate.approved_by}))


# -- answers -----------------------------------------------------------------------------------


def answer(step: Step, command: i.Command, index: int) -> None:
    """Somebody approves or rejects: note it, and what follows; or refuse it with the reason.

    Nothing is noted, and nothing refused, when the same was said before.
    """
    session, spec, phase = step.session, step.session.spec(index), step.session.phases[index]
    approves = command.verb == "approve"
    by = (command.by or "").strip()
    data = b"" if command.data is msgspec.UNSET else bytes(command.data)
    comment = command.comment if command.comment is not None else command.reason
    if (said := _said(phase, by, approves=approves)) is not None:
        if data not in (b"", said.data):
            text = f"{by} has approved with other data already: an answer stays as it was given"
            step.refuse(command.sequence, "approval.answered", text)
        return
    refusal = _refusal(session, command, index) or _unfit(phase, command, by)
    if refusal is not None:
        step.refuse(command.sequence, *refusal)
        return
    gate = phase.gate
    assert gate is not None
    if not approves:
        step.emit(
            e.PhaseRejected(
                phase_id=spec.id,
                attempt=phase.attempt,
                by=by,
                comment=comment,
                plan_digest=command.plan_digest,
            )
        )
        why = f": {comment}" if comment else ""
        fail_phase(step, index, f"rejected by {by}{why}", "rejected")
        return
    after = with_answer(gate, Answer(by, step.now, approves=True, comment=comment, data=data))
    is_last = len(after.approved_by) >= gate.needed
    result = _result(after)
    if len(bytes(result)) > RESULT_BYTES_MAX:
        text = f"the data of all answers has more than {RESULT_BYTES_MAX:,} bytes together"
        step.refuse(command.sequence, "approval.data", text)
        return
    if is_last and (missing := missing_outputs(spec, result)):
        names = ", ".join(missing)
        text = f"phase {spec.id} promises {names} (x-outputs): give it with the answer (data)"
        step.refuse(command.sequence, "approval.outputs", text)
        return
    step.emit(
        e.PhaseApproved(
            phase_id=spec.id,
            attempt=phase.attempt,
            by=by,
            comment=comment,
            plan_digest=command.plan_digest,
            data=msgspec.Raw(data) if data else msgspec.UNSET,
        )
    )
    if is_last:
        _complete(step, index, result)


def _said(phase: PhaseState, by: str, *, approves: bool) -> Answer | None:
    """This answer, if this person has given it to this question already: it counts once."""
    gate = phase.gate
    is_over = phase.status in (PhaseStatus.COMPLETE, PhaseStatus.FAILED)
    if gate is None or not (phase.stands or is_over):
        return None
    return next((one for one in gate.answers if (one.by, one.approves) == (by, approves)), None)


def _refusal(session: Session, command: i.Command, index: int) -> tuple[str, str] | None:
    """Why the phase takes no answer from anybody."""
    spec, phase = session.spec(index), session.phases[index]
    name = f"phase {spec.id}"
    if spec.kind != "approval":
        return "approval.none", f"{name} asks for no approval: there is nothing to {command.verb}"
    if not is_gate(spec):
        return "approval.items", f"{name} asks once for each item (x-foreach): answer {spec.id}[0], ..."
    if command.plan_digest not in (None, session.plan_digest):
        return "plan.stale", (
            f"the answer is about plan {command.plan_digest}, session {session.id} has plan "
            f"{session.plan_digest}: look again, then answer"
        )
    if phase.stands:
        return None
    if phase.status in (PhaseStatus.PENDING, PhaseStatus.READY, PhaseStatus.BACKING_OFF):
        status = phase.status.replace("_", " ")
        return "approval.not_asked", f"{name} is {status}: nobody has been asked yet"
    ending = f": {phase.reason}" if phase.reason else ""
    text = f"{name} is {phase.status}{ending}; the answer comes too late"
    return "approval.ended", text


def _unfit(phase: PhaseState, command: i.Command, by: str) -> tuple[str, str] | None:
    """What is wrong with this very answer."""
    gate = phase.gate
    assert gate is not None
    if not by or len(by) > BY_MAX or not by.isprintable():
        return "approval.by", f"an answer needs a name (by), of at most {BY_MAX} characters"
    if gate.approvers and by not in gate.approvers:
        return "approval.not_approver", f"{by!r} is not among those who may answer: {listed(gate.approvers)}"
    comment = command.comment or command.reason or ""
    if len(comment) > COMMENT_MAX:
        return "approval.comment", f"the comment has {len(comment):,} characters, {COMMENT_MAX:,} are allowed"
    if command.data is msgspec.UNSET:
        return None
    data = bytes(command.data)
    if len(data) > DATA_BYTES_MAX:
        return "approval.data", f"the data has {len(data):,} bytes, the limit is {DATA_BYTES_MAX:,}"
    if data.count(b"{") + data.count(b"[") > DATA_PARTS_MAX:
        return "approval.data", f"the data has more than {DATA_PARTS_MAX} objects and lists"
    if command.verb == "reject":
        return "approval.data", "a rejection has no data: the phase fails, and has no outputs"
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return "approval.data", f"the data cannot be read: {str(error) or type(error).__name__}"
    if not isinstance(value, dict):
        return "approval.data", "the data must be a JSON object: its keys are the outputs of the phase"
    if RESERVED in value:
        return (
            "approval.data",
            f"the data must not have the key {RESERVED}: the planner says who has approved",
        )
    return None
