"""What becomes of each phase when another plan is applied: one rule for ended and for running sessions.

The same function folds ``PlanApplied`` and answers ``diff``, so that what is shown is what is done. It is
part of the journal's meaning: another rule needs another field of the event, see docs/adr/0015.
"""

from collections.abc import Sequence
from enum import StrEnum
from heapq import heapify
from typing import NamedTuple

from planter.core.graph import Graph
from planter.core.session import STOPS, PhaseState, Session, Stopping
from planter.core.status import PHASE_OPEN, PHASE_TERMINAL, PhaseStatus


class Cause(StrEnum):
    """Why a phase does not stay as it is."""

    ADDED = "added"
    CHANGED = "changed"
    DEPENDS = "depends"
    """Something that it needs is added, changed or runs again."""
    FAILED = "failed"
    UNFINISHED = "unfinished"
    """It was skipped or cancelled, or had not run yet when its session ended."""


class Fate(NamedTuple):
    """What becomes of one phase of the new plan."""

    cause: Cause | None = None
    """None: neither it nor anything that it needs changes."""
    root: int = -1
    """Index of the phase that all this begins with; -1 without a cause."""
    keeps: bool = True
    """It keeps its state: its result, its attempt with fence and runtime, or its place in the wait."""


STAYS = Fate()
_WAITING = (PhaseStatus.PENDING, PhaseStatus.READY)


def fates(session: Session, graph: Graph, *, live: bool) -> list[Fate]:
    """For each phase of the new plan, in its order, what becomes of it.

    A phase stays when its digest is that of before, everything that it needs stays, and it is done. In a live
    session also when it is not over yet: running work goes on, and what waits has nothing to lose.

    Args:
        session: with the plan and the phases of before.
        graph: of the new plan.
        live: the session is running or paused, so this is a replan.
    """
    before, phases = session.graph, session.phases
    found = [STAYS] * len(graph.plan.phases)
    for number in graph.order:
        spec = graph.plan.phases[number]
        at = before.index.get(spec.id)
        former = (before.plan.phases[at], phases[at]) if at is not None else session.aside.get(spec.id)
        if former is None:
            found[number] = Fate(Cause.ADDED, number, keeps=False)
            continue
        if former[0].digest != spec.digest:
            found[number] = Fate(Cause.CHANGED, number, keeps=False)
            continue
        old = former[1]
        moved = next((found[need].root for need in graph.needs[number] if found[need].cause), None)
        if moved is not None:
            waits = old.status in _WAITING and not old.cleared  # a condition is asked again, of other needs
            found[number] = Fate(Cause.DEPENDS, moved, keeps=live and waits)
        elif not (is_done(old) or (live and (old.satisfies or old.status not in PHASE_TERMINAL))):
            cause = Cause.FAILED if old.status is PhaseStatus.FAILED else Cause.UNFINISHED
            found[number] = Fate(cause, number, keeps=False)
    return found


def is_done(phase: PhaseState) -> bool:
    """Complete or skipped on purpose: a new revision does not run it again."""
    return phase.satisfies and phase.status is not PhaseStatus.FAILED


def is_out(phase: PhaseState) -> bool:
    """Whether somebody may work on the phase; an open offer that nobody took can just be taken back."""
    return phase.status in PHASE_OPEN and (phase.runtime_id is not None or phase.accepted)


def carry_over(session: Session, before: Graph, phases: Sequence[PhaseState], due: int) -> None:
    """A replan: everything that goes by a phase's index follows it, and what is out and not kept is to stop.

    Args:
        session: with its new graph and phases.
        before: the graph of before.
        phases: the phases of before; one that is kept is the same object in the new plan.
        due: when attempts that are not kept count as stopped, whatever their runtimes say.
    """
    moved: dict[int, int] = {}
    for index, (spec, phase) in enumerate(zip(before.plan.phases, phases, strict=True)):
        new = session.graph.index.get(spec.id)
        if new is not None:
            moved[index] = new
        is_kept = new is not None and session.phases[new] is phase
        if not is_kept and is_out(phase):
            limit = before.limits[before.group_of[index]]
            session.stopping[spec.id] = Stopping(
                phase.attempt,
                phase.fence,
                phase.runtime_id,
                phase.instance,
                due,
                limit.key if limit else None,
                spec.slots,
            )
    session.touched = {moved[index]: None for index in session.touched if index in moved}
    session.heard = {
        moved[index]: at
        for index, at in session.heard.items()
        if index in moved and session.phases[moved[index]].status in PHASE_OPEN
    }
    session.avoid = {
        (moved[index], runtime): until for (index, runtime), until in session.avoid.items() if index in moved
    }
    session.declined = {
        (moved[index], runtime): times
        for (index, runtime), times in session.declined.items()
        if index in moved
    }
    session.timers = [(phase.due, index) for index, phase in enumerate(session.phases) if phase.due]
    if session.stopping:
        session.stop_due = min(one.due for one in session.stopping.values())
        session.timers.append((session.stop_due, STOPS))
    heapify(session.timers)
    _count_open(session)


def _count_open(session: Session) -> None:
    session.offered = set()
    session.load = {}
    for index, phase in enumerate(session.phases):
        if phase.status in PHASE_OPEN:
            if phase.stands:
                continue
            if phase.instance is None:
                session.offered.add(index)
            else:
                _count(session, phase.runtime_id, session.spec(index).slots)
    for one in session.stopping.values():
        if one.instance is not None:
            _count(session, one.runtime_id, one.slots)


def _count(session: Session, runtime_id: str | None, slots: int) -> None:
    if runtime_id is not None:
        session.load[runtime_id] = session.load.get(runtime_id, 0) + slots
