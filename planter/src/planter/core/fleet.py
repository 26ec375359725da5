"""Which runtimes there are, what they can take, and how much of it is taken.

Soft state: it is learnt from heartbeats and never journalled. A decision that used it is.
"""

from collections.abc import Mapping

import msgspec

from planter.core.constraints import ATTRIBUTE_PREFIX, holds
from planter.core.plan import PhaseSpec, PlacementRules

ANY_LABEL = "*"
"""A runtime with this label matches every selector."""


class Runtime(msgspec.Struct, frozen=True):
    """One runtime, as its newest heartbeat describes it."""

    id: str
    instance: str
    slots: int
    labels: dict[str, str] = {}
    handlers: tuple[dict[str, str], ...] = ()
    executors: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()
    takes_new: bool = True
    """False while it drains."""
    host: str = ""
    version: str = ""

    def attributes(self) -> dict[str, str]:
        """What constraints are about: its labels, and what it is."""
        own = {"planter.runtime": self.id, "planter.host": self.host, "planter.version": self.version}
        labels = {name: value for name, value in self.labels.items() if not name.startswith(ATTRIBUTE_PREFIX)}
        return labels | {name: value for name, value in own.items() if value}


Requirement = tuple[tuple[tuple[str, str], ...], str | None, tuple[str, ...], PlacementRules | None]
"""What placement depends on: selector labels, kind of ``x-run``, capabilities, and the rules of those phases
that have any. Equal ones place equally."""


def requirement(spec: PhaseSpec) -> Requirement:
    """What a runtime must fulfil to take the phase."""
    labels = tuple(sorted(spec.labels.items())) if spec.labels else ()
    return labels, spec.kind, spec.capabilities, spec.placement


def slots_of(wanted: Requirement) -> int:
    """How many slots an attempt of such a phase takes."""
    return 1 if wanted[3] is None else wanted[3].slots


def can_take(runtime: Runtime, wanted: Requirement) -> bool:
    """Whether the runtime could execute such a phase, free slots aside.

    With ``x-run`` the runtime needs the executor and the selector's labels. Without, it needs a handler whose
    labels all stand in the selector, and the rest of the selector among its own labels. In any case its
    labels fulfil the constraints, and it has as many slots as an attempt takes.
    """
    labels, kind, capabilities, rules = wanted
    if not runtime.takes_new or not runtime.capabilities.issuperset(capabilities):
        return False
    if rules is not None and not _keeps(runtime, rules):
        return False
    if kind is not None:
        return kind in runtime.executors and _has(runtime.labels, labels)
    selector = dict(labels)
    return any(
        all(selector.get(key) == value for key, value in handler.items())
        and _has(runtime.labels, tuple(item for item in labels if item[0] not in handler))
        for handler in runtime.handlers
    )


def _keeps(runtime: Runtime, rules: PlacementRules) -> bool:
    if runtime.slots < rules.slots:
        return False
    attributes = runtime.attributes() if rules.constraints else {}
    return all(holds(one, attributes) for one in rules.constraints)


def liking(runtime: Runtime, rules: PlacementRules) -> int:
    """The weights of the affinities that hold for the runtime, added up."""
    attributes = runtime.attributes()
    return sum(one.weight for one in rules.affinity if holds(one, attributes))


def _has(labels: Mapping[str, str], wanted: tuple[tuple[str, str], ...]) -> bool:
    return ANY_LABEL in labels or all(labels.get(key) == value for key, value in wanted)


class Fleet:
    """The runtimes of one planner, with the load that each session puts on them."""

    def __init__(self) -> None:
        self.runtimes: dict[str, Runtime] = {}
        self._load: dict[str, int] = {}
        self._by_session: dict[str, dict[str, int]] = {}
        self._matches: dict[Requirement, tuple[Runtime, ...]] = {}
        self._tiers: dict[Requirement, tuple[tuple[Runtime, ...], ...]] = {}

    def put(self, runtime: Runtime) -> bool:
        """Add or update a runtime; True when placement may have changed."""
        if self.runtimes.get(runtime.id) == runtime:
            return False
        self.runtimes[runtime.id] = runtime
        self._forget()
        return True

    def remove(self, runtime_id: str) -> None:
        """Forget a runtime."""
        if self.runtimes.pop(runtime_id, None) is not None:
            self._forget()

    def _forget(self) -> None:
        self._matches.clear()
        self._tiers.clear()

    def matching(self, wanted: Requirement) -> tuple[Runtime, ...]:
        """Runtimes that could take such a phase, free or not."""
        found = self._matches.get(wanted)
        if found is None:
            found = tuple(runtime for runtime in self.runtimes.values() if can_take(runtime, wanted))
            self._matches[wanted] = found
        return found

    def tiers(self, wanted: Requirement) -> tuple[tuple[Runtime, ...], ...]:
        """The same by how much such a phase prefers them, best first; one tier when it does not care."""
        rules = wanted[3]
        if rules is None or not rules.affinity:
            return (self.matching(wanted),)
        found = self._tiers.get(wanted)
        if found is None:
            equals: dict[int, list[Runtime]] = {}
            for runtime in self.matching(wanted):
                equals.setdefault(liking(runtime, rules), []).append(runtime)
            found = self._tiers[wanted] = tuple(tuple(equals[n]) for n in sorted(equals, reverse=True))
        return found

    def in_use(self, runtime_id: str) -> int:
        """Slots that the attempts of this planner's sessions take on the runtime."""
        return self._load.get(runtime_id, 0)

    def has_room(self) -> bool:
        """Whether any runtime could take anything now."""
        return any(
            runtime.takes_new and self._load.get(runtime.id, 0) < runtime.slots
            for runtime in self.runtimes.values()
        )

    def free_for(self, session_id: str, own_load: Mapping[str, int], runtime: Runtime) -> int:
        """Free slots from one session's point of view: its own load is newer than what is settled."""
        settled = self._by_session.get(session_id, {}).get(runtime.id, 0)
        return runtime.slots - (self._load.get(runtime.id, 0) - settled) - own_load.get(runtime.id, 0)

    def settle(self, session_id: str, load: Mapping[str, int]) -> bool:
        """Take over a session's load (empty: it is gone); True when any runtime has more room than before."""
        before = self._by_session.pop(session_id, {})
        freed = False
        for runtime_id, count in before.items():
            self._load[runtime_id] -= count
            freed = freed or load.get(runtime_id, 0) < count
        after = {runtime_id: count for runtime_id, count in load.items() if count}
        for runtime_id, count in after.items():
            self._load[runtime_id] = self._load.get(runtime_id, 0) + count
        if after:
            self._by_session[session_id] = after
        return freed
