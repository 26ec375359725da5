"""Which runtimes there are, what they can take, and how much of it is taken.

Soft state: it is learnt from heartbeats and never journalled. A decision that used it is.
"""

from collections.abc import Mapping

import msgspec

from planter.core.plan import PhaseSpec

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


Requirement = tuple[tuple[tuple[str, str], ...], str | None, tuple[str, ...]]
"""What placement depends on: selector labels, kind of ``x-run``, capabilities. Equal ones place equally."""


def requirement(spec: PhaseSpec) -> Requirement:
    """What a runtime must fulfil to take the phase."""
    return tuple(sorted(spec.labels.items())) if spec.labels else (), spec.kind, spec.capabilities


def can_take(runtime: Runtime, wanted: Requirement) -> bool:
    """Whether the runtime could execute such a phase, free slots aside.

    With ``x-run`` the runtime needs the executor and the selector's labels. Without, it needs a handler whose
    labels all stand in the selector, and the rest of the selector among its own labels.
    """
    labels, kind, capabilities = wanted
    if not runtime.takes_new or not runtime.capabilities.issuperset(capabilities):
        return False
    if kind is not None:
        return kind in runtime.executors and _has(runtime.labels, labels)
    selector = dict(labels)
    return any(
        all(selector.get(key) == value for key, value in handler.items())
        and _has(runtime.labels, tuple(item for item in labels if item[0] not in handler))
        for handler in runtime.handlers
    )


def _has(labels: Mapping[str, str], wanted: tuple[tuple[str, str], ...]) -> bool:
    return ANY_LABEL in labels or all(labels.get(key) == value for key, value in wanted)


class Fleet:
    """The runtimes of one planner, with the load that each session puts on them."""

    def __init__(self) -> None:
        self.runtimes: dict[str, Runtime] = {}
        self._load: dict[str, int] = {}
        self._by_session: dict[str, dict[str, int]] = {}
        self._matches: dict[Requirement, tuple[Runtime, ...]] = {}

    def put(self, runtime: Runtime) -> bool:
        """Add or update a runtime; True when placement may have changed."""
        if self.runtimes.get(runtime.id) == runtime:
            return False
        self.runtimes[runtime.id] = runtime
        self._matches.clear()
        return True

    def remove(self, runtime_id: str) -> None:
        """Forget a runtime."""
        if self.runtimes.pop(runtime_id, None) is not None:
            self._matches.clear()

    def matching(self, wanted: Requirement) -> tuple[Runtime, ...]:
        """Runtimes that could take such a phase, free or not."""
        found = self._matches.get(wanted)
        if found is None:
            found = tuple(runtime for runtime in self.runtimes.values() if can_take(runtime, wanted))
            self._matches[wanted] = found
        return found

    def in_use(self, runtime_id: str) -> int:
        """Attempts that this planner's sessions have out on the runtime."""
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
