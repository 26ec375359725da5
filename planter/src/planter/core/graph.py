"""A plan's edges as index lists, built once, so that a step costs what it touches and no more."""

from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec

from planter.core.fleet import Requirement, requirement
from planter.core.gate import GATES
from planter.core.plan import AFTER_FAILURE, Concurrency, PhaseSpec, Plan, TriggerRule


class Graph:
    """Index lists over ``plan.phases``. Everything here is fixed once built, but for what ``grow`` adds."""

    __slots__ = (
        "__weakref__",
        "conditional",
        "dependents",
        "gates",
        "group_of",
        "groups",
        "has_after_failure",
        "has_limit",
        "index",
        "items",
        "lazy_needs",
        "limits",
        "needs",
        "order",
        "plan",
        "waiters",
        "whole_of",
    )

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        #: Phase id to index.
        self.index: dict[str, int] = {spec.id: number for number, spec in enumerate(plan.phases)}
        #: For each phase, the phases that it needs.
        self.needs: list[list[int]] = [[self.index[need] for need in spec.needs] for spec in plan.phases]
        #: For each phase, the phases that need it.
        self.dependents: list[list[int]] = [[] for _ in plan.phases]
        for number, needs in enumerate(self.needs):
            for need in needs:
                self.dependents[need].append(number)
        #: For each phase, those of its needs that are ``onUse``.
        self.lazy_needs: list[list[int]] = self._lazy_needs()
        #: External id to the phases that wait for it.
        self.waiters: dict[str, list[int]] = {}
        for number, spec in enumerate(plan.phases):
            for name in spec.external:
                self.waiters.setdefault(name, []).append(number)
        #: For each phase, whether any of its clocks can run out.
        self.has_limit: list[bool] = [_has_limit(spec) for spec in plan.phases]
        #: Phases that no counter can decide about: they have a rule, a condition or arguments to fill in.
        self.conditional: set[int] = {
            number
            for number, spec in enumerate(plan.phases)
            if spec.templated
            or spec.when is not None
            or spec.trigger is not TriggerRule.ALL_SUCCESS
            or spec.foreach
            or spec.cache
        }
        #: Whether anything is left to be started when the session fails.
        self.has_after_failure = any(plan.phases[n].trigger in AFTER_FAILURE for n in self.conditional)
        #: By the index of a phase with ``x-foreach``: the phases that stand for its items, by their number.
        self.items: dict[int, list[int]] = {}
        #: The other way round.
        self.whole_of: dict[int, int] = {}
        #: Placement groups: phases of one group are placed by the same rule and share the same limit.
        self.groups: list[Requirement] = []
        self.limits: list[Concurrency | None] = []
        self.group_of: list[int] = []
        #: Those of the groups that no runtime is offered: the planner decides their phases itself.
        self.gates: set[int] = set()
        self._number_groups(plan.phases)
        #: Indices so that every phase comes after its needs.
        self.order: list[int] = self._sorted()

    @property
    def manifest(self) -> tuple[PhaseSpec, ...]:
        """The phases that the manifest has: all but items."""
        return self.plan.phases[: len(self.plan.phases) - len(self.whole_of)]

    def grow(self, whole: int, specs: Sequence[PhaseSpec]) -> list[int]:
        """Add phases that stand for items of a phase, after those that it has; returns their indices.

        Only for a graph that is one session's own (``graph_of`` shares them).
        """
        first = len(self.plan.phases)
        added = list(range(first, first + len(specs)))
        self.plan = msgspec.structs.replace(self.plan, phases=(*self.plan.phases, *specs))
        self.index.update((spec.id, number) for number, spec in zip(added, specs, strict=True))
        self.needs.extend([] for _ in specs)
        self.dependents.extend([whole] for _ in specs)
        self.lazy_needs.extend([] for _ in specs)
        self.has_limit.extend(_has_limit(spec) for spec in specs)
        self.conditional.update(added)
        self._number_groups(specs)
        self.order.extend(added)
        self.items.setdefault(whole, []).extend(added)
        self.whole_of.update(dict.fromkeys(added, whole))
        return added

    def put_items(self, specs: Mapping[int, PhaseSpec]) -> None:
        """Other items in the place of some, by index; like ``grow`` for a graph of one session only."""
        phases = list(self.plan.phases)
        for index, spec in specs.items():
            phases[index] = spec
        self.plan = msgspec.structs.replace(self.plan, phases=tuple(phases))

    def _number_groups(self, specs: Sequence[PhaseSpec]) -> None:
        numbers = {wanted: n for n, wanted in enumerate(zip(self.groups, self.limits, strict=True))}
        for spec in specs:
            wanted = requirement(spec), spec.concurrency
            number = numbers.get(wanted)
            if number is None:
                number = numbers[wanted] = len(self.groups)
                self.groups.append(wanted[0])
                self.limits.append(spec.concurrency)
                if spec.kind in GATES:
                    self.gates.add(number)
            self.group_of.append(number)

    def _lazy_needs(self) -> list[list[int]]:
        lazy = {number for number, spec in enumerate(self.plan.phases) if spec.on_use}
        if not lazy:
            return [[]] * len(self.needs)
        return [[need for need in needs if need in lazy] for needs in self.needs]

    def _sorted(self) -> list[int]:
        """Kahn's algorithm, in manifest order among equals."""
        missing = [len(needs) for needs in self.needs]
        order = [number for number, count in enumerate(missing) if count == 0]
        for number in order:  # grows while it is walked
            for dependent in self.dependents[number]:
                missing[dependent] -= 1
                if missing[dependent] == 0:
                    order.append(dependent)
        if len(order) != len(missing):
            raise ValueError("the plan has a cycle; the compiler should have refused it")
        return order

    def downstream(self, roots: Sequence[int]) -> list[int]:
        """The roots and everything that depends on them, in graph order."""
        by_item = {self.whole_of[number] for number in roots if number in self.whole_of}
        found = {*roots, *by_item}
        for number in self.order:
            if number in found or any(need in found for need in self.needs[number]):
                found.add(number)
        for whole, items in self.items.items():
            if whole in found and (whole not in by_item or any(need in found for need in self.needs[whole])):
                found.update(items)
        return [number for number in self.order if number in found]


def _has_limit(spec: PhaseSpec) -> bool:
    return (
        spec.wait_timeout_ms is not None
        or spec.timeout_ms is not None
        or spec.heartbeat_ms is not None
        or spec.schedule_to_start_ms is not None
        or spec.schedule_to_close_ms is not None
    )


EMPTY = Graph(Plan(digest=""))
_graphs: WeakValueDictionary[int, Graph] = WeakValueDictionary()


def graph_of(plan: Plan) -> Graph:
    """The graph of this very plan object: made once, as long as somebody holds it."""
    found = _graphs.get(id(plan))
    if found is None or found.plan is not plan:
        found = _graphs[id(plan)] = Graph(plan)
    return found
