"""Cycles: noticed in linear time; when there is one, the shortest is named (networkx splits the tangle)."""

from collections.abc import Mapping, Sequence

EDGES_MAX = 2_000_000
"""Edges looked at before the shortest cycle found so far is good enough (about a second)."""

Needs = Mapping[str, Sequence[str]]


def shortest_cycle(needs: Needs) -> list[str] | None:
    """The ids of a shortest cycle, each followed by one that it needs, or None.

    In a tangle of many thousand edges it is the shortest of those that could be looked at in time.

    Args:
        needs: for each phase the phases it needs; names outside the mapping are ignored.
    """
    tangled = _tangled(needs)
    if not tangled:
        return None
    import networkx as nx  # noqa: PLC0415  (a fifth of a second, only spent on a manifest that is wrong)

    graph = nx.DiGraph([(name, need) for name in sorted(tangled) for need in needs[name] if need in tangled])
    best: list[str] | None = None
    budget = EDGES_MAX
    for component in nx.strongly_connected_components(graph):
        for name in sorted(component):
            limit = len(best) - 1 if best else len(component)
            found, seen = _cycle_through(graph.adj, name, limit)
            best = found or best
            budget -= seen
            if budget < 0 or (best is not None and len(best) == 1):
                return best
    return best


def is_acyclic(needs: Needs) -> bool:
    """Whether no phase waits for itself by way of others."""
    return not _tangled(needs)


def _tangled(needs: Needs) -> set[str]:
    """Phases that are on a cycle or wait for one: what is left when free phases are taken away repeatedly."""
    missing = {name: sum(1 for need in wanted if need in needs) for name, wanted in needs.items()}
    dependents: dict[str, list[str]] = {name: [] for name in needs}
    for name, wanted in needs.items():
        for need in wanted:
            if need in dependents:
                dependents[need].append(name)
    free = [name for name, count in missing.items() if count == 0]
    for name in free:  # grows while it is walked
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                free.append(dependent)
    return set(needs).difference(free)


def _cycle_through(
    edges: Mapping[str, Mapping[str, object]], name: str, limit: int
) -> tuple[list[str] | None, int]:
    """A shortest cycle through a phase with at most ``limit`` phases, breadth first; and the edges seen."""
    came_from: dict[str, str] = {}
    front = [name]
    seen = 0
    for _ in range(limit):
        following: list[str] = []
        for here in front:
            for there in edges[here]:
                seen += 1
                if there == name:
                    return _walk_back(came_from, here, name), seen
                if there not in came_from:
                    came_from[there] = here
                    following.append(there)
        front = following
    return None, seen


def _walk_back(came_from: Mapping[str, str], last: str, name: str) -> list[str]:
    path = [last]
    while path[-1] != name:
        path.append(came_from[path[-1]])
    return path[::-1]
