"""A phase that is done once for each item of a list (``x-foreach``).

The phase of the manifest, the whole, waits and is asked its condition like any other. When it may run, its
list is evaluated (``PhaseExpanded``) and every item becomes a phase of its own beside those of the manifest:
``resize[0]``, ``resize[1]``, ..., with all that the manifest says of attempts, limits and placement. The
whole stays pending while they run, and ends with the last of them: failed if one has failed, else complete,
with the list of their results. Handlers and what a failure does are the whole's.

What is decided about them is in ``core.foreach``; here is what they are, and how they are folded in.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec

from planter.core.graph import Graph
from planter.core.plan import Concurrency, FailureAction, PhaseSpec, Plan
from planter.core.replan import Fate, is_out
from planter.core.session import PhaseState, Session
from planter.core.status import PhaseStatus

Slot = tuple[int, int, bytes]
"""Index of the whole, number of the item, and the item as JSON."""


# -- the graph ---------------------------------------------------------------------------------


def item_id(whole_id: str, number: int) -> str:
    """The id of the phase that stands for an item."""
    return f"{whole_id}[{number}]"


def item_spec(whole: PhaseSpec, number: int, item: msgspec.Raw) -> PhaseSpec:
    """The phase that stands for an item: waits, handlers and what a failure does stay with the whole."""
    parallel = whole.foreach.parallel if whole.foreach is not None else None
    return msgspec.structs.replace(
        whole,
        id=item_id(whole.id, number),
        needs=(),
        external=(),
        on_use=False,
        wait_timeout_ms=None,
        on_failure=FailureAction.CONTINUE,
        failure=None,
        success=None,
        when=None,
        foreach=None,
        item=item,
        number=number,
        concurrency=whole.concurrency if parallel is None else Concurrency(f"x-foreach {whole.id}", parallel),
    )


def slots(graph: Graph) -> list[Slot]:
    """The items of a graph, in the order in which they were added."""
    found: list[Slot] = []
    for index, whole in graph.whole_of.items():
        spec = graph.plan.phases[index]
        assert spec.item is not msgspec.UNSET
        found.append((whole, spec.number, bytes(spec.item)))
    return found


def with_slots(plan: Plan, given: Iterable[Slot]) -> Graph:
    """A session's own graph of the plan and these items."""
    graph = Graph(plan)
    for whole, items in groupby(given, key=itemgetter(0)):
        specs = [item_spec(plan.phases[whole], number, msgspec.Raw(item)) for _, number, item in items]
        graph.grow(whole, specs)
    return graph


def carried(before: Graph, graph: Graph, changes: Sequence[Fate]) -> list[Slot]:
    """The items of those wholes that another plan leaves as they are, for its graph."""
    moved = {
        before.index[spec.id]: number
        for number, spec in enumerate(graph.plan.phases)
        if spec.foreach is not None and spec.id in before.index and changes[number].keeps
    }
    return [(moved[whole], number, item) for whole, number, item in slots(before) if whole in moved]


# -- folding -----------------------------------------------------------------------------------


def add_items(session: Session, index: int, items: Sequence[msgspec.Raw], at: int) -> None:
    """Add the phases for the items, or give those that are there (reset, all of them) the new ones."""
    if items and not session.graph.whole_of:
        session.graph = Graph(session.graph.plan)  # from now on the session's own
    graph, whole = session.graph, session.spec(index)
    there = graph.items.get(index, [])
    kept = zip(there, items, strict=False)
    if there:
        graph.put_items({child: item_spec(whole, number, item) for number, (child, item) in enumerate(kept)})
    session.to_settle.update(dict.fromkeys(there))  # what is left over is skipped
    new = [item_spec(whole, n, item) for n, item in enumerate(items[len(there) :], start=len(there))]
    for child in graph.grow(index, new) if new else ():
        session.phases.append(PhaseState(updated=at, since=at))
        session.unmet.append(int(session.spec(child).id in session.stopping))
        session.unmet[index] += 1
        session.counts[PhaseStatus.PENDING] += 1
        session.to_settle[child] = None
    session.phases[index].items = len(items)
    session.ready.extend([] for _ in range(len(graph.groups) - len(session.ready)))
    session.to_settle[index] = None


def listed_items(session: Session, index: int) -> list[int]:
    """The phases that stand for the items of its list; what a longer one has left over is not among them."""
    return session.graph.items.get(index, [])[: session.phases[index].items]


def unmet_items(session: Session) -> Iterable[tuple[int, int]]:
    """Each whole, and how many of its items it still waits for."""
    for whole, items in session.graph.items.items():
        yield whole, sum(1 for index in items if not session.phases[index].satisfies)


def stays_expanded(session: Session, index: int, reset: set[int]) -> bool:
    """Whether a whole that is reset keeps its list: some of its items are done, and are not reset with it."""
    return session.phases[index].cleared and any(
        item not in reset for item in session.graph.items.get(index, ())
    )


def is_busy(session: Session, index: int) -> bool:
    """Whether somebody may work on an item of the phase."""
    return any(is_out(session.phases[item]) for item in session.graph.items.get(index, ()))
