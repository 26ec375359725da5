"""Why runtimes do not match: each constraint of a phase, and how many runtimes it removes.

``fleet.can_take`` is the rule, made for speed; this takes it apart, in the same order, for people.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from planter.core.constraints import described, holds
from planter.core.fleet import ANY_LABEL, Fleet, Requirement, Runtime, liking, requirement
from planter.core.gate import GATES
from planter.core.plan import Constraint, PhaseSpec, PlacementRules

_TEXT_MAX = 400
_Test = Callable[[Runtime], bool]


class Removed(msgspec.Struct, frozen=True):
    """One constraint, and how many of the runtimes that were left it removes."""

    constraint: str
    count: int
    text: str


class Sifted(NamedTuple):
    """What the constraints leave of the fleet."""

    considered: int
    removed: tuple[Removed, ...]
    left: tuple[Runtime, ...]


def sift(fleet: Fleet, wanted: Requirement) -> Sifted:
    """Take the registered runtimes through the constraints, one after the other."""
    labels, kind, capabilities, rules = wanted
    left = list(fleet.runtimes.values())
    considered = len(left)
    removed: list[Removed] = []
    for constraint, text, passes in _constraints(labels, kind, capabilities):
        kept = [runtime for runtime in left if passes(runtime)]
        if len(kept) < len(left):
            removed.append(Removed(constraint, len(left) - len(kept), text))
        left = kept
    if rules is not None:
        left = _by_rules(rules, left, removed)
    return Sifted(considered, tuple(removed), tuple(left))


def no_match(fleet: Fleet, wanted: Requirement) -> str:
    """Why no registered runtime matches, as a sentence."""
    sifted = sift(fleet, wanted)
    if not sifted.considered:
        return "no runtime is registered"
    listed = ", ".join(f"{one.count} {one.text}" for one in sifted.removed)
    many = f"{sifted.considered} runtime{'' if sifted.considered == 1 else 's'}"
    return f"no registered runtime matches: of {many}, {listed}"[:_TEXT_MAX]


class Preferred(msgspec.Struct, frozen=True):
    """How much a phase prefers a runtime that could take it."""

    runtime_id: str
    score: float
    """The weights of the affinities that hold, divided by all weights without their signs: -1 to 1."""


def preferences(runtimes: Iterable[Runtime], wanted: Requirement) -> tuple[Preferred, ...]:
    """The runtimes with what the phase's affinities say of them, best first; none when it has none."""
    rules = wanted[3]
    if rules is None or not rules.affinity:
        return ()
    total = sum(abs(one.weight) for one in rules.affinity) or 1
    found = [Preferred(runtime.id, round(liking(runtime, rules) / total, 3)) for runtime in runtimes]
    return tuple(sorted(found, key=lambda one: -one.score))


class Gap(NamedTuple):
    """Phases that no registered runtime takes, for one reason."""

    reason: str
    phases: tuple[str, ...]


def gaps(fleet: Fleet, specs: Iterable[PhaseSpec], most: int) -> list[Gap]:
    """The phases that nobody takes as things are, whether they are ready or not; in the order of the plan.

    ``most`` reasons are looked for; phases with others are counted together, last.
    """
    found: dict[str, list[str]] = {}
    reasons: dict[Requirement, str] = {}
    for spec in specs:
        wanted = requirement(spec)
        if spec.kind in GATES or fleet.matching(wanted):
            continue  # the planner does the former itself
        reason = reasons.get(wanted)
        if reason is None:
            is_enough = len(found) >= most
            reason = reasons[wanted] = "for other reasons" if is_enough else no_match(fleet, wanted)
        found.setdefault(reason, []).append(spec.id)
    return [Gap(reason, tuple(names)) for reason, names in found.items()]


def wish(wanted: Requirement) -> str:
    """What a runtime must have, in words."""
    labels, kind, capabilities, rules = wanted
    parts = [f"executor {kind}" if kind else "a handler for its labels"]
    if labels:
        parts.append(f"labels {_listed(labels)}")
    if capabilities:
        parts.append(f"capabilities {', '.join(capabilities)}")
    parts += described_rules(rules)
    return ", ".join(parts)[:_TEXT_MAX]


def described_rules(rules: PlacementRules | None) -> list[str]:
    """What the rules make a runtime need, in words."""
    if rules is None:
        return []
    found = [described(one) for one in rules.constraints]
    return found if rules.slots == 1 else [*found, f"at least {rules.slots} slots"]


def _constraints(
    labels: Sequence[tuple[str, str]], kind: str | None, capabilities: Sequence[str]
) -> Iterator[tuple[str, str, _Test]]:
    yield "draining", "take nothing new (draining, or not heard for a while)", _takes_new
    if capabilities:
        yield (
            "capabilities",
            f"lack capabilities of {', '.join(capabilities)}",
            lambda runtime: runtime.capabilities.issuperset(capabilities),
        )
    if kind is not None:
        yield "executor", f"have no executor {kind}", lambda runtime: kind in runtime.executors
        if labels:
            text = f"lack labels of {_listed(labels)}"
            yield "labels", text, lambda runtime: _has(runtime, labels, {})
        return
    selector = dict(labels)
    yield (
        "handler",
        f"have no handler for {_listed(labels) or 'a phase without labels'}",
        lambda runtime: any(_fits(handler, selector) for handler in runtime.handlers),
    )
    yield (
        "labels",
        f"lack what their handlers leave of {_listed(labels)}",
        lambda runtime: any(
            _fits(handler, selector) and _has(runtime, labels, handler) for handler in runtime.handlers
        ),
    )


def _by_rules(rules: PlacementRules, left: list[Runtime], removed: list[Removed]) -> list[Runtime]:
    """Each constraint removes those that do not fulfil it, whichever others they do not fulfil either."""
    attributes = {runtime.id: runtime.attributes() for runtime in left} if rules.constraints else {}
    for one in rules.constraints:
        kept = [runtime for runtime in left if holds(one, attributes[runtime.id])]
        if len(kept) < len(left):
            gone = {runtime.id for runtime in left}.difference(runtime.id for runtime in kept)
            count, unset = len(gone), sum(one.label not in attributes[name] for name in gone)
            removed.append(Removed("constraint", count, _why_not(one, count, unset)))
        left = kept
    kept = [runtime for runtime in left if runtime.slots >= rules.slots]
    if len(kept) < len(left):
        removed.append(Removed("size", len(left) - len(kept), f"have fewer than {rules.slots} slots in all"))
    return kept


def _why_not(one: Constraint, count: int, unset: int) -> str:
    """A label that nobody has is more often misspelt than missing: it is said."""
    text = f"do not fulfil {described(one)}"
    if not unset or one.operator == "is_set":
        return text
    return f"{text} ({'they have' if unset == count else f'{unset} have'} no such label)"


def _takes_new(runtime: Runtime) -> bool:
    return runtime.takes_new


def _fits(handler: dict[str, str], selector: dict[str, str]) -> bool:
    return all(selector.get(key) == value for key, value in handler.items())


def _has(runtime: Runtime, labels: Sequence[tuple[str, str]], without: dict[str, str]) -> bool:
    return ANY_LABEL in runtime.labels or all(
        runtime.labels.get(key) == value for key, value in labels if key not in without
    )


def _listed(labels: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels)
