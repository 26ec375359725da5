"""A phase graph as Mermaid, Graphviz dot or JSON, and the order in which phases can run. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from planter.cli.items import by_whole
from planter.cli.output import builtins

_MERMAID_CLASSES = {
    "complete": "fill:#d3f9d8,stroke:#2b8a3e",
    "running": "fill:#d0ebff,stroke:#1971c2",
    "targeted": "fill:#d0ebff,stroke:#1971c2",
    "backing_off": "fill:#fff3bf,stroke:#e67700",
    "failed": "fill:#ffe3e3,stroke:#c92a2a",
    "skipped": "fill:#f1f3f5,stroke:#868e96",
    "cancelled": "fill:#f3d9fa,stroke:#9c36b5",
    "external": "fill:#ffffff,stroke:#868e96,stroke-dasharray:4 3",
}
_DOT_COLORS = {
    "complete": "palegreen",
    "running": "lightblue",
    "targeted": "lightblue",
    "backing_off": "lightyellow",
    "failed": "lightpink",
    "skipped": "gray90",
    "cancelled": "plum",
}


class Node(NamedTuple):
    """A phase, or something outside of the manifest that phases wait for."""

    id: str
    status: str = ""
    external: bool = False


class GraphView(NamedTuple):
    """What is drawn."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    """From what is waited for to who waits."""


def graph_of_plan(plan: Any) -> GraphView:
    """The graph of a compiled plan."""
    needs = {phase.id: (*phase.needs, *phase.external) for phase in plan.phases}
    return _graph(needs, {})


def graph_of_state(state: Any) -> GraphView:
    """The graph of a session, with the status of each phase; items come before the phase that they are of."""
    needs = {phase.phase_id: tuple(phase.needs or phase.waits_for) for phase in state.phases}
    for whole, names in by_whole(needs).items():
        before = tuple(need for need in needs[whole] if need not in names)
        needs |= dict.fromkeys(names, before) | {whole: tuple(names)}
    return _graph(needs, {phase.phase_id: phase.status for phase in state.phases})


def mermaid(graph: GraphView) -> str:
    """As a Mermaid flowchart."""
    names = {node.id: f"p{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    used: set[str] = set()
    for node in graph.nodes:
        label = _mermaid_text(node.id)
        shape = f'(["{label}"])' if node.external else f'["{label}"]'
        style = "external" if node.external else node.status
        marked = f":::{style}" if style in _MERMAID_CLASSES else ""
        used |= {style} & _MERMAID_CLASSES.keys()
        lines.append(f"    {names[node.id]}{shape}{marked}")
    outside = {node.id for node in graph.nodes if node.external}
    for before, after in graph.edges:
        arrow = "-.->" if before in outside else "-->"
        lines.append(f"    {names[before]} {arrow} {names[after]}")
    lines += [f"    classDef {style} {_MERMAID_CLASSES[style]}" for style in sorted(used)]
    return "\n".join(lines)


def dot(graph: GraphView) -> str:
    """As a Graphviz digraph."""
    lines = ["digraph planter {", "  rankdir=LR;", '  node [shape=box, style="rounded"];']
    for node in graph.nodes:
        attributes = ""
        if node.external:
            attributes = ' [shape=ellipse, style="dashed"]'
        elif node.status in _DOT_COLORS:
            attributes = f' [style="rounded,filled", fillcolor="{_DOT_COLORS[node.status]}"]'
        lines.append(f"  {_dot_text(node.id)}{attributes};")
    outside = {node.id for node in graph.nodes if node.external}
    for before, after in graph.edges:
        dashed = " [style=dashed]" if before in outside else ""
        lines.append(f"  {_dot_text(before)} -> {_dot_text(after)}{dashed};")
    return "\n".join([*lines, "}"])


def as_json(graph: GraphView) -> str:
    """As one JSON document: nodes and edges."""
    nodes: list[dict[str, Any]] = []
    for node in graph.nodes:
        entry: dict[str, Any] = {"id": node.id, "external": node.external}
        if node.status:
            entry["status"] = node.status
        nodes.append(entry)
    edges = [{"from": before, "to": after} for before, after in graph.edges]
    return json.dumps(builtins({"nodes": nodes, "edges": edges}), indent=2, ensure_ascii=False)


def levels(plan: Any) -> list[list[str]]:
    """The phases in the order they can run: each list needs only the lists before it."""
    needs = {phase.id: set(phase.needs) for phase in plan.phases}
    depth: dict[str, int] = {}
    dependents: dict[str, list[str]] = {name: [] for name in needs}
    for name, before in needs.items():
        for need in before:
            dependents[need].append(name)
    left = {name: len(before) for name, before in needs.items()}
    ready = [name for name, number in left.items() if number == 0]
    for name in ready:  # grows while it is read
        depth.setdefault(name, 0)
        for dependent in dependents[name]:
            depth[dependent] = max(depth.get(dependent, 0), depth[name] + 1)
            left[dependent] -= 1
            if left[dependent] == 0:
                ready.append(dependent)
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in needs:
        found[depth[name]].append(name)
    return found


def _graph(needs: Mapping[str, Iterable[str]], statuses: Mapping[str, str]) -> GraphView:
    nodes = [Node(name, statuses.get(name, "")) for name in needs]
    outside: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    for name, before in needs.items():
        for need in dict.fromkeys(before):
            if need not in needs:
                outside.setdefault(need, Node(need, external=True))
            edges.append((need, name))
    return GraphView((*nodes, *outside.values()), tuple(edges))


def _mermaid_text(text: str) -> str:
    """Entity codes for whatever Mermaid might read as syntax."""
    return re.sub(r"[^\w .,:/@-]", lambda found: f"#{ord(found[0])};", text)


def _dot_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
