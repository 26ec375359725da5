"""The answer to ``explain``: the core's words as a message."""

from planter.core.explain import Condition, Explanation, Group, Placement, explain, overview
from planter.core.fleet import Fleet
from planter.core.session import Session
from planter_protocol import explaining
from planter_protocol.codec import timestamp
from planter_protocol.matching import PreferredRuntime


def explanation_of_phase(session: Session, fleet: Fleet, index: int, now: int) -> explaining.Explanation:
    """Why one phase is not running."""
    found = explain(session, fleet, index, now)
    return explaining.Explanation(
        session_id=session.id,
        status=session.status.value,
        text=found.text,
        sequence=session.sequence,
        phase=_phase(session, index, found),
    )


def explanation_of_all(session: Session, fleet: Fleet, now: int) -> explaining.Explanation:
    """Why all those phases are not running that neither run nor are done."""
    found = overview(session, fleet, now)
    return explaining.Explanation(
        session_id=session.id,
        status=session.status.value,
        text=found.text,
        sequence=session.sequence,
        groups=tuple(_group(group) for group in found.groups),
        waiting=found.waiting,
        more=found.more,
    )


def _phase(session: Session, index: int, found: Explanation) -> explaining.PhaseExplanation:
    state = session.phases[index]
    return explaining.PhaseExplanation(
        phase_id=found.phase_id,
        status=found.status.value,
        text=found.text,
        since=_time(found.since),
        attempt=state.attempt,
        runtime_id=state.runtime_id,
        conditions=tuple(_condition(one) for one in found.conditions),
        more=found.more,
        placement=_placement(found.placement),
    )


def _condition(one: Condition) -> explaining.Condition:
    return explaining.Condition(
        code=one.code,
        text=one.text,
        since=_time(one.since),
        until=_time(one.until),
        unblock=one.unblock or None,
        phase_id=one.phase_id,
    )


def _group(group: Group) -> explaining.WaitingGroup:
    return explaining.WaitingGroup(
        code=group.code,
        text=group.text,
        count=group.count,
        phases=group.phases,
        since=_time(group.since),
        unblock=group.unblock or None,
        placement=_placement(group.placement),
    )


def _placement(found: Placement | None) -> explaining.Placement | None:
    if found is None:
        return None
    removed = tuple(
        explaining.RemovedRuntimes(constraint=one.constraint, count=one.count, text=one.text)
        for one in found.removed
    )
    preferred = tuple(PreferredRuntime(runtime_id=one.runtime_id, score=one.score) for one in found.preferred)
    return explaining.Placement(
        considered=found.considered, free=found.free, removed=removed, preferred=preferred
    )


def _time(milliseconds: int) -> str | None:
    return timestamp(milliseconds) if milliseconds else None
