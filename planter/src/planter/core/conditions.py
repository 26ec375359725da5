"""Whether a phase runs once its needs have ended: its trigger rule, then its condition and its arguments.

The rules are Airflow's (3.x), with its words. A phase with the default rule and without expressions never
comes through here: a counter of open needs decides for it.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple, Protocol

import msgspec

from planter.core import events as e
from planter.core.attempts import fail_phase
from planter.core.caching import cache_key
from planter.core.foreach import expand, gather, leave_out
from planter.core.large import keys_of, large_result, may_be_large
from planter.core.plan import PhaseSpec, TriggerRule
from planter.core.session import Session
from planter.core.status import PHASE_TERMINAL, PhaseStatus
from planter.core.step import Step

EVALUATED_MAX = 250
"""Phases whose expressions are evaluated in one commit: others wait meanwhile, and it has their arguments."""
RUN_BYTES_MAX = 64 * 1024
"""``x-run`` with its expressions filled in; what is larger travels by reference, not by value."""


class ExpressionFailed(Exception):
    """An expression has no value: a key is missing, the types do not fit, it takes too long."""


class Reckoner(Protocol):
    """Evaluates expressions. A function of its arguments alone: no clock, no environment.

    A result that is a ``LargeResult`` can only be handed on whole, as a value of ``with``.
    """

    def condition(self, text: str, variables: Mapping[str, object]) -> bool:
        """The value of an ``x-when``; ExpressionFailed when it has none, or another than true or false."""
        ...

    def value(self, text: str, variables: Mapping[str, object]) -> object:
        """The value of an expression, as JSON knows it; ExpressionFailed as above."""
        ...

    def listed(self, items: bytes, variables: Mapping[str, object]) -> bytes:
        """A list, as JSON: the one given, or the value of the expression given; ExpressionFailed as above."""
        ...

    def filled(self, run: bytes, variables: Mapping[str, object]) -> bytes:
        """``x-run``, as JSON, with each ``${{ }}`` replaced by its value; ExpressionFailed as above."""
        ...


class NoReckoner:
    """For sessions without expressions."""

    def condition(self, text: str, variables: Mapping[str, object]) -> bool:
        """Nothing is known here."""
        del variables
        raise ExpressionFailed(f"nobody evaluates expressions here: {text}")

    def value(self, text: str, variables: Mapping[str, object]) -> object:
        """Nothing is known here."""
        del variables
        raise ExpressionFailed(f"nobody evaluates expressions here: {text}")

    def listed(self, items: bytes, variables: Mapping[str, object]) -> bytes:
        """Nothing is known here."""
        del items, variables
        raise ExpressionFailed("nobody evaluates expressions here")

    def filled(self, run: bytes, variables: Mapping[str, object]) -> bytes:
        """Nothing is known here."""
        del run, variables
        raise ExpressionFailed("nobody evaluates expressions here")


class Ended(NamedTuple):
    """How the needs of a phase have ended so far."""

    succeeded: int = 0
    """Complete, or skipped by somebody on purpose."""
    failed: int = 0
    """Failed or cancelled, or never run because something else had failed (Airflow: ``upstream_failed``)."""
    skipped: int = 0
    """Left out by a condition or a rule."""
    open: int = 0


class Verdict(Enum):
    """What a rule says."""

    RUN = auto()
    WAIT = auto()
    SKIP = auto()


def verdict(rule: TriggerRule, ended: Ended) -> Verdict:
    """What the rule says of these needs (Airflow 3, "Trigger Rules"), as early as it can be known."""
    whole = Verdict.WAIT if ended.open else Verdict.RUN
    match rule:
        case TriggerRule.ALL_SUCCESS:
            return Verdict.SKIP if ended.failed or ended.skipped else whole
        case TriggerRule.ALL_FAILED:
            return Verdict.SKIP if ended.succeeded or ended.skipped else whole
        case TriggerRule.ALL_DONE:
            return whole
        case TriggerRule.ALL_DONE_MIN_ONE_SUCCESS:
            return Verdict.SKIP if not ended.open and not ended.succeeded else whole
        case TriggerRule.ALL_SKIPPED:
            return Verdict.SKIP if ended.succeeded or ended.failed else whole
        case TriggerRule.ONE_FAILED:
            return Verdict.RUN if ended.failed else Verdict.WAIT if ended.open else Verdict.SKIP
        case TriggerRule.ONE_SUCCESS:
            return Verdict.RUN if ended.succeeded else Verdict.WAIT if ended.open else Verdict.SKIP
        case TriggerRule.ONE_DONE:
            if ended.succeeded or ended.failed:
                return Verdict.RUN
            return Verdict.WAIT if ended.open else Verdict.SKIP
        case TriggerRule.NONE_FAILED:
            return Verdict.SKIP if ended.failed else whole
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
            if ended.failed or (not ended.open and not ended.succeeded):
                return Verdict.SKIP
            return whole
        case TriggerRule.NONE_SKIPPED:
            return Verdict.SKIP if ended.skipped else whole
        case TriggerRule.ALWAYS:
            return Verdict.RUN


def settle(step: Step) -> bool:
    """Decide about phases whose needs have brought news; whether any of them may run now.

    About all of them, unless many have expressions: see ``is_unsettled``.
    """
    session = step.session
    cleared = False
    while session.to_settle and step.evaluated < EVALUATED_MAX:
        index = next(iter(session.to_settle))
        del session.to_settle[index]
        phase, spec = session.phases[index], session.spec(index)
        if phase.status is not PhaseStatus.PENDING or session.cancelling:
            continue
        whole = session.graph.whole_of.get(index)
        if whole is not None and leave_out(step, index, whole):
            continue
        if (spec.on_use and not phase.demanded) or spec.id in session.stopping:
            continue
        if phase.cleared:
            if spec.foreach is not None:
                gather(step, index)
            continue
        says = _verdict(session, index)
        if says is Verdict.SKIP:
            step.emit(e.PhaseSkipped(phase_id=spec.id, reason=_why_skipped(session, index)))
        elif says is Verdict.RUN and index in session.graph.conditional and session.may_start(index):
            step.evaluated += 1
            cleared = _clear(step, index) or cleared
        elif says is Verdict.WAIT and session.graph.lazy_needs[index]:
            _demand(session, index)
    return cleared


def is_unsettled(step: Step) -> bool:
    """Whether the rest has to wait for the next commit."""
    return bool(step.session.to_settle) and step.evaluated >= EVALUATED_MAX


def _verdict(session: Session, index: int) -> Verdict:
    whole = session.graph.whole_of.get(index)
    if whole is None:
        return verdict(session.spec(index).trigger, needs_ended(session, index))
    return Verdict.RUN if session.phases[whole].cleared else Verdict.WAIT


def _demand(session: Session, index: int) -> None:
    """Ask for ``onUse`` needs once the phase waits for nothing else, however its other needs have ended."""
    needs = session.graph.needs[index]
    still_open = [need for need in needs if session.phases[need].status not in PHASE_TERMINAL]
    asleep = [need for need in still_open if session.spec(need).on_use]
    external = sum(1 for name in session.spec(index).external if name not in session.known)
    if len(asleep) == len(still_open) and not external:
        session.to_demand.extend((need, index) for need in asleep if not session.phases[need].demanded)


def missing_outputs(spec: PhaseSpec, result: msgspec.Raw | msgspec.UnsetType) -> tuple[str, ...]:
    """Those of the promised outputs that a result does not have."""
    if not spec.outputs:
        return ()
    value: object = None if result is msgspec.UNSET else msgspec.json.decode(result)
    if (keys := keys_of(value)) is not None:
        return tuple(name for name in spec.outputs if name not in keys)
    return tuple(name for name in spec.outputs if not isinstance(value, dict) or name not in value)


def needs_ended(session: Session, index: int) -> Ended:
    """How the needs of a phase, the external ones included, have ended so far."""
    spec = session.spec(index)
    succeeded = sum(1 for name in spec.external if name in session.known)
    failed = skipped = 0
    for need in session.graph.needs[index]:
        phase = session.phases[need]
        if phase.status is PhaseStatus.FAILED:
            goes_on = phase.satisfies and spec.trigger is TriggerRule.ALL_SUCCESS
            succeeded, failed = succeeded + goes_on, failed + (not goes_on)
        elif phase.satisfies:
            succeeded += 1
        elif phase.status is PhaseStatus.SKIPPED and not phase.left_out:
            skipped += 1
        elif phase.status in PHASE_TERMINAL:
            failed += 1
    total = len(session.graph.needs[index]) + len(spec.external)
    return Ended(succeeded, failed, skipped, total - succeeded - failed - skipped)


def _clear(step: Step, index: int) -> bool:
    """The rule holds: the condition and the arguments decide."""
    spec = step.session.spec(index)
    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    try:
        variables = _variables(step, index)
        if spec.when is not None and not step.reckoner.condition(spec.when, variables):
            step.emit(e.PhaseSkipped(phase_id=spec.id, reason=f"x-when is false: {spec.when}"))
            return False
        if spec.foreach is not None:
            expand(step, index, step.reckoner.listed(bytes(spec.foreach.items), variables))
            return False
        if spec.templated:
            assert spec.run is not msgspec.UNSET
            run = msgspec.Raw(step.reckoner.filled(bytes(spec.run), variables))
        key = _cache_key(step, spec, run, variables) if spec.cache is not None else ""
    except ExpressionFailed as error:
        missing = [name for name in spec.uses if _is_left_out(step.session, name)]
        why = f" (the results of {', '.join(missing)} were too large to be kept)" if missing else ""
        fail_phase(step, index, f"{error}{why}", "expression")
        return False
    if spec.templated and (size := len(bytes(run))) > RUN_BYTES_MAX:  # pyright: ignore[reportArgumentType]
        text = (
            f"x-run has {size:,} bytes with its expressions filled in, the limit is {RUN_BYTES_MAX:,}: "
            f"hand over a reference instead of the data"
        )
        fail_phase(step, index, text, "expression")
        return False
    step.emit(e.PhaseCleared(phase_id=spec.id, run=run, cache=key))
    return True


def _cache_key(
    step: Step, spec: PhaseSpec, run: msgspec.Raw | msgspec.UnsetType, variables: Mapping[str, object]
) -> str:
    assert spec.cache is not None
    value = None if spec.cache.key is None else step.reckoner.value(spec.cache.key, variables)
    return cache_key(spec, run, value)


def _variables(step: Step, index: int) -> dict[str, object]:
    """What expressions see: the phases that they name, and which session this is."""
    session = step.session
    phases: dict[str, dict[str, object]] = {}
    for name in session.spec(index).uses:
        if name not in session.graph.index:
            continue  # the compiler refuses that; the expression will say what it misses
        phase = session.phases[session.graph.index[name]]
        phases[name] = {"status": str(phase.status), "attempt": phase.attempt}
        if not _is_left_out(session, name):
            phases[name]["result"] = _result(step, session.graph.index[name])
    spec = session.spec(index)
    found: dict[str, object] = {"phases": phases, "session": {"id": session.id, "revision": session.revision}}
    if spec.item is not msgspec.UNSET:
        found["item"], found["index"] = msgspec.json.decode(spec.item), spec.number
    return found


def _is_left_out(session: Session, name: str) -> bool:
    """Whether the phase has a list of results that was too large to be kept: nothing, but not null."""
    index = session.graph.index.get(name)
    if index is None or session.spec(index).foreach is None:
        return False
    phase = session.phases[index]
    return phase.status is PhaseStatus.COMPLETE and phase.result is msgspec.UNSET


def _result(step: Step, index: int) -> object:
    """What a phase returned, decoded once a step."""
    given = step.session.phases[index].result
    if given is msgspec.UNSET:
        return None
    known = step.values.get(index)
    if known is None or known[0] is not given:
        try:
            value = msgspec.json.decode(given)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            name = step.session.spec(index).id
            text = f"the result of {name} cannot be read: {str(error) or type(error).__name__}"
            raise ExpressionFailed(text) from None
        large = large_result(value) if may_be_large(given) else None
        known = step.values[index] = given, value if large is None else large
    return known[1]


def _why_skipped(session: Session, index: int) -> str:
    """The first need that speaks against it."""
    spec = session.spec(index)
    for need in session.graph.needs[index]:
        phase = session.phases[need]
        if phase.status in PHASE_TERMINAL and not phase.satisfies:
            name, status = session.spec(need).id, phase.status
            if spec.trigger is TriggerRule.ALL_SUCCESS:
                return f"it needs {name}, which was {status}"
            return f"x-trigger {spec.trigger} does not hold: {name} is {status}"
    return f"x-trigger {spec.trigger} does not hold"
