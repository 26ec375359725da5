"""What a plan that goes up to a target phase leaves out: it is not run, and what was done is remembered.

Without this, going up to one phase once would make all others run again afterwards.
"""

from collections.abc import Mapping

from planter.core.graph import Graph
from planter.core.plan import PhaseSpec
from planter.core.session import PhaseState

Known = Mapping[str, tuple[PhaseSpec, PhaseState]]


def left_aside(
    graph: Graph, phases: list[PhaseState], before: Known, aside: Known
) -> dict[str, tuple[PhaseSpec, PhaseState]]:
    """The done phases that the new plan leaves out, and that count still should a later one have them.

    One that needs a phase that has to run again does not: it would have run again, too.

    Args:
        graph: of the new plan.
        phases: the new plan's, with those kept that are done.
        before: the phases of the plan before, each after its needs.
        aside: what that plan had left out itself, likewise.
    """
    if graph.plan.target is None:
        return {}
    found: dict[str, tuple[PhaseSpec, PhaseState]] = {}
    for name, (spec, phase) in (*before.items(), *aside.items()):
        if name in graph.index or name in found or not phase.satisfies:
            continue
        if all(_counts(need, graph, phases, before, found) for need in spec.needs):
            found[name] = spec, phase
    return found


def _counts(need: str, graph: Graph, phases: list[PhaseState], before: Known, found: Known) -> bool:
    """Whether it is done, and the same as it was."""
    index = graph.index.get(need)
    if index is None:
        return need in found
    return phases[index].satisfies and (need not in before or phases[index] is before[need][1])
