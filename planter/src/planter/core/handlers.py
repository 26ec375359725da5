"""What a manifest wants said and sent when a phase has ended (PMP ``onSuccess`` and ``onFailure``), or asks.

An outbox in the journal: ``HandlerCalled`` stands in the commit that ends the phase, ``HandlerPassedOn``
follows once all of it is stored. Whoever reads the journal in between orders it again, and a session does not
end before.
"""

from collections.abc import Iterable, Mapping

from planter.core import effects as f
from planter.core import events as e
from planter.core import inputs as i
from planter.core.plan import Handler
from planter.core.step import Step
from planter.core.texts import TEXT_MAX, cut

PAIRS_MAX = 50
"""Labels, or addressees, of a handler that are passed on."""
VALUE_MAX = 500


def call_handler(step: Step, index: int, *, reason: str | None = None) -> None:
    """Note what the manifest wants said, now that the phase is complete (no reason) or has failed.

    Args:
        step: the decision under way.
        index: of the phase.
        reason: why it failed; None when it is complete.
    """
    spec = step.session.spec(index)
    handler = spec.success if reason is None else spec.failure
    if handler is not None and (handler.message or handler.notify or handler.labels):
        call_out(step, index, "complete" if reason is None else "failed", handler, reason)


def call_out(step: Step, index: int, outcome: str, handler: Handler, reason: str | None = None) -> None:
    """Note what is to be said and sent about a phase; see ``HandlerCalled``."""
    session = step.session
    step.emit(
        e.HandlerCalled(
            phase_id=session.spec(index).id,
            number=session.calls + 1,
            revision=session.revision,
            attempt=session.phases[index].attempt,
            outcome=outcome,
            reason=cut(reason) if reason is not None else None,
            message=_bounded(handler.message),
            labels=_few(handler.labels),
            notify=_few(handler.notify),
        )
    )


def pass_on(step: Step) -> None:
    """Order what is not stored yet, once for each reading of the journal."""
    session = step.session
    for number, called in session.untold.items():
        if number not in session.telling:
            session.telling.add(number)
            step.effects.append(f.PassOn(called))


def passed_on(step: Step, given: i.PassedOn) -> None:
    """It is stored: note that, so that nobody orders it again."""
    if given.number in step.session.untold:
        step.emit(e.HandlerPassedOn(phase_id=given.phase_id, number=given.number))


def _bounded(lines: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    left = TEXT_MAX
    for line in lines:
        if left <= 0:
            break
        found.append(cut(line, left))
        left -= len(line) + 1
    return tuple(found)


def _few(pairs: Mapping[str, str]) -> dict[str, str]:
    chosen = list(pairs.items())[:PAIRS_MAX]
    return {cut(key, VALUE_MAX): cut(value, VALUE_MAX) for key, value in chosen}
