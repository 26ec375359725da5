"""The answer to ``get_state``, made from a session's state."""

from itertools import islice

import msgspec

from planter.core.gate import is_gate
from planter.core.placement import described_rules
from planter.core.plan import PhaseSpec
from planter.core.session import Session
from planter.core.status import PHASE_TERMINAL, PhaseStatus, SessionStatus
from planter.core.step import full_limit, waits_for
from planter.shell.gates import gate_of, reason_of
from planter_protocol import messages
from planter_protocol.codec import encode, timestamp

PAGE_PHASES = 1_000
"""Phases in one reply, so that it stays below the message limit."""
PAGE_RESULT_BYTES = 192 * 1024


def session_state(session: Session, offset: int = 0) -> messages.SessionState:
    """The reply to ``get_state``, from a phase on; ``next`` says where the following page begins."""
    phases: list[messages.PhaseState] = []
    size = 0
    index = max(0, offset)
    while index < len(session.phases) and len(phases) < PAGE_PHASES and size < PAGE_RESULT_BYTES:
        phases.append(_phase(session, index))
        size += _size(phases[-1])
        index += 1
    return messages.SessionState(
        session_id=session.id,
        status=session.status.value,
        revision=session.revision,
        plan_digest=session.plan_digest,
        target_phase=session.graph.plan.target,
        reason=session.reason or session.failing,
        created=_time(session.created),
        updated=_time(session.updated),
        sequence=session.sequence,
        phases=tuple(phases),
        total=len(session.phases),
        next=index if index < len(session.phases) else None,
        stopping=tuple(islice(session.stopping, PAGE_PHASES)),
    )


def _phase(session: Session, index: int) -> messages.PhaseState:
    spec, phase = session.spec(index), session.phases[index]
    unmet = () if phase.status in PHASE_TERMINAL else waits_for(session, index)
    return messages.PhaseState(
        phase_id=spec.id,
        status=phase.status.value,
        attempt=phase.attempt,
        max_attempts=spec.max_attempts,
        runtime_id=phase.runtime_id,
        updated=_time(phase.updated),
        started=_time(phase.started),
        finished=_time(phase.finished),
        reason=reason_of(phase) or _why(session, index, unmet),
        needs=(*spec.needs, *spec.external),
        waits_for=unmet,
        external=tuple(name for name in spec.external if name in unmet),
        result=phase.result,
        gate=gate_of(phase),
    )


def _why(session: Session, index: int, unmet: tuple[str, ...]) -> str | None:
    """Why the phase is not running, as far as its own record tells."""
    spec, phase = session.spec(index), session.phases[index]
    match phase.status:
        case PhaseStatus.PENDING if spec.id in session.stopping:
            return "its attempt by the plan of before still has to stop"
        case PhaseStatus.PENDING if spec.on_use and not phase.demanded:
            return "onUse: nothing needs it yet"
        case PhaseStatus.PENDING:
            outside = [name for name in spec.external if name in unmet]
            return f"waits for {', '.join(outside)} outside this manifest" if outside else None
        case PhaseStatus.READY if session.status is SessionStatus.PAUSED:
            return "the session is paused"
        case PhaseStatus.READY if not session.may_start(index):
            return f"nothing more is started: {session.failing}"
        case PhaseStatus.READY if is_gate(spec):
            return full_limit(session, index)
        case PhaseStatus.READY:
            return full_limit(session, index) or _busy(spec)
        case PhaseStatus.TARGETED if phase.instance is None and not phase.accepted:
            labels = ", ".join(f"{key}={value}" for key, value in spec.labels.items()) or "(none)"
            kind = spec.kind or "(by labels)"
            rules = "".join(f", {text}" for text in described_rules(spec.placement))
            return f"offered openly: no registered runtime matches kind {kind}, labels {labels}{rules}"
        case _:
            return None


def _busy(spec: PhaseSpec) -> str:
    return "every matching runtime is busy" + (f": it takes {spec.slots} slots" if spec.slots > 1 else "")


def _size(phase: messages.PhaseState) -> int:
    """Bytes of all that has no bound of its own."""
    size = 0 if phase.result is msgspec.UNSET else len(bytes(phase.result))
    size += 0 if phase.gate is None else len(encode(phase.gate))
    size += 0 if phase.reason is None else len(phase.reason.encode())
    return size + sum(len(name) + 3 for names in (phase.needs, phase.waits_for) for name in names)


def _time(milliseconds: int) -> str | None:
    return timestamp(milliseconds) if milliseconds else None
