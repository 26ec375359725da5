"""What is told of phases that the planner decides itself, as a message."""

from planter.core.session import PhaseState
from planter.core.texts import SHORT_MAX, cut_if_any
from planter_protocol.codec import timestamp
from planter_protocol.gate import Gate, GateAnswer

_ANSWERS_MAX = 20


def gate_of(phase: PhaseState) -> Gate | None:
    """The gate of a phase, while it stands and afterwards; None for every other phase."""
    found = phase.gate
    if found is None:
        return None
    return Gate(
        kind="wait" if found.kind == "wait" else "approval",
        open=phase.stands,
        since=timestamp(found.since),
        until=timestamp(found.due) if found.due else None,
        message=found.message or None,
        approvers=found.approvers,
        needed=found.needed,
        answers=tuple(
            GateAnswer(
                by=one.by,
                at=timestamp(one.at),
                answer="approve" if one.approves else "reject",
                comment=cut_if_any(one.comment, SHORT_MAX),  # all of it is in the journal
            )
            for one in found.answers[-_ANSWERS_MAX:]
        ),
        more_answers=max(0, len(found.answers) - _ANSWERS_MAX),
    )


def reason_of(phase: PhaseState) -> str | None:
    """Its reason; for a phase that waits for time, until when."""
    if phase.gate is not None and phase.stands and phase.gate.kind == "wait":
        return f"waits until {timestamp(phase.gate.due)}"
    return phase.reason
