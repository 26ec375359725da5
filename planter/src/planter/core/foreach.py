"""Deciding about phases that are done once for each item of a list: see ``core.items``."""

from collections.abc import Iterable

import msgspec

from planter.core import events as e
from planter.core.attempts import fail_phase
from planter.core.handlers import call_handler
from planter.core.items import listed_items
from planter.core.session import Session
from planter.core.status import PHASE_TERMINAL, PhaseStatus
from planter.core.step import Step

ITEMS_MAX = 10_000
ITEMS_BYTES_MAX = 256 * 1024
RESULTS_BYTES_MAX = 64 * 1024
"""Of the list of results; above that it is left out, and a phase whose results are used fails."""
_NAMED_MAX = 5


def expand(step: Step, index: int, listed: bytes) -> None:
    """The list is known (JSON): every item of it is a phase."""
    items = msgspec.json.decode(listed, type=list[msgspec.Raw])
    if len(items) > ITEMS_MAX or len(listed) > ITEMS_BYTES_MAX:
        text = (
            f"x-foreach gives {len(items):,} items of {len(listed):,} bytes, the limit is {ITEMS_MAX:,} "
            f"items and {ITEMS_BYTES_MAX:,} bytes: let each item stand for a portion, or for a reference"
        )
        fail_phase(step, index, text, "expression")
        return
    spec, phase = step.session.spec(index), step.session.phases[index]
    step.emit(e.PhaseExpanded(phase_id=spec.id, attempt=phase.attempt + 1, items=tuple(items)))


def leave_out(step: Step, index: int, whole: int) -> bool:
    """Skip an item that is not to run: its phase has ended without it, or has a shorter list now."""
    session, spec, phase = step.session, step.session.spec(index), step.session.phases[whole]
    name = session.spec(whole).id
    if phase.status in PHASE_TERMINAL:
        step.emit(
            e.PhaseSkipped(phase_id=spec.id, reason=f"it is an item of {name}, which is {phase.status}")
        )
        return True
    if phase.cleared and spec.number >= phase.items:
        reason = f"the list of {name} has only {phase.items} items now"
        step.emit(e.PhaseSkipped(phase_id=spec.id, reason=reason, satisfies=True))
        return True
    return False


def gather(step: Step, index: int) -> None:
    """End the whole, if all of its items have ended."""
    session = step.session
    if session.unmet[index] > _unmet_needs(session, index):
        return
    items = listed_items(session, index)
    failed = [session.spec(item).id for item in items if session.phases[item].status is PhaseStatus.FAILED]
    if failed:
        more = f" and {len(failed) - _NAMED_MAX} more" if len(failed) > _NAMED_MAX else ""
        text = f"{len(failed)} of {len(items)} items failed: {', '.join(failed[:_NAMED_MAX])}{more}"
        fail_phase(step, index, text, "items")
        return
    spec, phase = session.spec(index), session.phases[index]
    results = [session.phases[item].result for item in items]
    size = sum(len(bytes(one)) for one in results if one is not msgspec.UNSET) + 5 * len(results)
    if size > RESULTS_BYTES_MAX and any(spec.id in other.uses for other in session.graph.manifest):
        text = (
            f"the results of its {len(items)} items have {size:,} bytes together, the limit for expressions "
            f"is {RESULTS_BYTES_MAX:,}: let each return a reference instead of the data"
        )
        fail_phase(step, index, text, "outputs")
        return
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    if size <= RESULTS_BYTES_MAX:
        result = msgspec.Raw(msgspec.json.encode([None if one is msgspec.UNSET else one for one in results]))
    step.emit(e.PhaseCompleted(phase_id=spec.id, attempt=phase.attempt, result=result, started=phase.started))
    call_handler(step, index)


def _unmet_needs(session: Session, index: int) -> int:
    """Those that the phase went on without, by its rule: all else that is unmet are items."""
    needs = sum(1 for need in session.graph.needs[index] if not session.phases[need].satisfies)
    return needs + sum(1 for name in session.spec(index).external if name not in session.known)


def close_items(step: Step, index: int, reason: str) -> None:
    """The whole is skipped on request: what is left of its items is, too."""
    for item in step.session.graph.items.get(index, ()):
        if step.session.phases[item].status not in PHASE_TERMINAL:
            step.emit(e.PhaseSkipped(phase_id=step.session.spec(item).id, reason=reason, satisfies=True))


def never_run(session: Session, whole: int) -> list[int]:
    """Its items that were skipped with it, before or instead of being run."""
    return [
        item
        for item in session.graph.items.get(whole, ())
        if session.phases[item].status is PhaseStatus.SKIPPED and not session.phases[item].satisfies
    ]


def with_items(session: Session, chosen: Iterable[int]) -> set[int]:
    """Phases that are to run again, with the items that keep them from it, and the wholes of such items."""
    found = set(chosen)
    for index in list(found):
        whole = session.graph.whole_of.get(index)
        if whole is not None and session.phases[whole].status in PHASE_TERMINAL:
            found.add(whole)
        found.update(
            item
            for item in session.graph.items.get(index, ())
            if session.phases[item].status in (PhaseStatus.FAILED, PhaseStatus.CANCELLED)
        )
    return found
