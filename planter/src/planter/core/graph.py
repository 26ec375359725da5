"""A plan's edges as index lists, built once, so that a step costs what it touches and no more."""

from collections.abc import Sequence
from weakref import WeakValueDictionary

from planter.core.fleet import Requirement, requirement
from planter.core.plan import AFTER_FAILURE, Concurrency, PhaseSpec, Plan, TriggerRule


class Graph:
    """Index lists over ``plan.phases``. Everything here is fixed once built."""

    __slots__ = (
        "__weakref__",
        "conditional",
        "dependents",
        "group_of",
        "groups",
        "has_after_failure",
        "has_limit",
        "index",
        "lazy_needs",
        "limits",
        "needs",
        "order",
        "plan",
        "waiters",
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
        self.conditional: frozenset[int] = frozenset(
            number
            for number, spec in enumerate(plan.phases)
            if spec.templated or spec.when is not None or spec.trigger is not TriggerRule.ALL_SUCCESS
        )
        #: Whether anything is left to be started when the session fails.
        self.has_after_failure = any(plan.phases[n].trigger in AFTER_FAILURE for n in self.conditional)
        #: Placement groups: phases of one group are placed by the same rule and share the same limit.
        self.groups: list[Requirement] = []
        self.limits: list[Concurrency | None] = []
        self.group_of: list[int] = self._number_groups()
        #: Indices so that every phase comes after its needs.
        self.order: list[int] = self._sorted()

    def _number_groups(self) -> list[int]:
        numbers: dict[tuple[Requirement, Concurrency | None], int] = {}
        group_of: list[int] = []
        for spec in self.plan.phases:
            wanted = requirement(spec), spec.concurrency
            number = numbers.get(wanted)
            if number is None:
                number = numbers[wanted] = len(self.groups)
                self.groups.append(wanted[0])
                self.limits.append(spec.concurrency)
            group_of.append(number)
        return group_of

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
        found = set(roots)
        return [
            number
            for number in self.order
            if number in found
            or (any(need in found for need in self.needs[number]) and not found.add(number))
        ]


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
