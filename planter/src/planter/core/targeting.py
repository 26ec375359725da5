"""Which runtime gets which ready phase."""

from heapq import heappop, heappush

from planter.core import effects as f
from planter.core import events as e
from planter.core.deadlines import arm
from planter.core.fleet import Runtime, slots_of
from planter.core.placement import no_match
from planter.core.session import Session
from planter.core.status import PhaseStatus
from planter.core.step import Step


def target_ready(step: Step, targets_max: int) -> bool:
    """Target ready phases while somebody can take them; True when more could be targeted at once."""
    session = step.session
    left, is_left = targets_max, False
    for number, heap in enumerate(session.ready):
        limit = session.graph.limits[number]
        if not heap or number in session.graph.gates:
            continue
        if limit is not None and session.at_work.get(limit.key, 0) >= limit.max:
            continue
        matching = step.fleet.matching(session.graph.groups[number])
        unmatched = None if matching else no_match(step.fleet, session.graph.groups[number])
        free = {runtime.id: step.fleet.free_for(session.id, session.load, runtime) for runtime in matching}
        tiers, cost = step.fleet.tiers(session.graph.groups[number]), slots_of(session.graph.groups[number])
        held_back: list[tuple[int, int, int]] = []
        while heap and left:
            if limit is not None and session.at_work.get(limit.key, 0) >= limit.max:
                break
            entry = heap[0]
            index = entry[2]
            phase = session.phases[index]
            if phase.status is not PhaseStatus.READY or phase.not_before:
                heappop(heap)  # it was skipped, cancelled, targeted or deferred since
                continue
            if step.unasked and session.spec(index).id in step.unasked:
                held_back.append(heappop(heap))
                is_left = True
                continue
            if not session.may_start(index):
                held_back.append(heappop(heap))  # it may be needed again, should the failed phase be retried
                continue
            if index in session.looking:
                held_back.append(heappop(heap))  # there may be an earlier result
                continue
            chosen = _choose(step, index, tiers, free, cost) if matching else None
            if matching and chosen is None:
                if not any(count >= cost for count in free.values()):
                    break  # no slot is free: the rest of the group has to wait as well
                held_back.append(heappop(heap))  # only runtimes that rejected it are free
                arm(session, index, min(session.avoid[index, name] for name in free if free[name] >= cost))
                continue
            heappop(heap)
            left -= 1
            if unmatched is not None and not session.phases[index].unmatched:
                step.emit(e.PhaseUnmatched(phase_id=session.spec(index).id, reason=unmatched))
            _target(step, index, chosen)
            if chosen is not None:
                free[chosen.id] -= cost
        for entry in held_back:
            heappush(heap, entry)
        if not left and heap:
            return True
    return is_left


def _choose(
    step: Step, index: int, tiers: tuple[tuple[Runtime, ...], ...], free: dict[str, int], cost: int
) -> Runtime | None:
    """Of the runtimes with room those that are liked most, and of these the one with most room."""
    for tier in tiers:
        chosen = _roomiest(step, index, tier, free, cost)
        if chosen is not None:
            return chosen
    return None


def _roomiest(
    step: Step, index: int, runtimes: tuple[Runtime, ...], free: dict[str, int], cost: int
) -> Runtime | None:
    """The runtime with most room, those that just rejected the phase left out."""
    best: Runtime | None = None
    for runtime in runtimes:
        if free[runtime.id] < cost or (best is not None and free[runtime.id] <= free[best.id]):
            continue
        if step.session.avoid and step.session.avoid.get((index, runtime.id), 0) > step.now:
            continue
        best = runtime
    return best


def _target(step: Step, index: int, runtime: Runtime | None) -> None:
    session = step.session
    step.emit(
        e.PhaseTargeted(
            phase_id=session.spec(index).id,
            attempt=session.phases[index].attempt + 1,
            runtime_id=runtime.id if runtime else None,
            instance=runtime.instance if runtime else None,
        )
    )
    step.effects.append(f.PublishTarget(index))


def re_place(step: Step) -> None:
    """Take back open offers that nobody took, once a registered runtime matches them."""
    session = step.session
    for index in sorted(session.offered):
        phase = session.phases[index]
        if not phase.accepted and not is_offered_openly(step, index):
            reason = "a registered runtime matches now"
            step.emit(e.PhaseWithdrawn(phase_id=session.spec(index).id, attempt=phase.attempt, reason=reason))


def is_offered_openly(step: Step, index: int) -> bool:
    """Whether no registered runtime matches the phase."""
    graph = step.session.graph
    number = graph.group_of[index]
    return number not in graph.gates and not step.fleet.matching(graph.groups[number])


def is_waiting(session: Session) -> bool:
    """Whether a change of the fleet could help: something is ready, or offered openly."""
    return session.counts[PhaseStatus.READY] > 0 or bool(session.offered)
