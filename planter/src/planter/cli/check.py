"""``planter validate`` and ``planter graph``: look at manifests without running them."""
# ruff: noqa: FBT002 - typer makes options of parameters, and flags of boolean defaults

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import NatsOption, StrictOption, VarOption, settings, variables
from planter.cli.output import Listing, counted, data, data_json


class GraphFormat(StrEnum):
    """How a graph is written."""

    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


@guarded
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Manifests; - reads standard input.")],
    strict: StrictOption = False,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    var: VarOption = None,
) -> int:
    """Tell every problem of manifests, with file, line, column and what would be right.

    Example: planter validate site.planter.yaml --strict
    """
    from planter.cli.loading import Read, edges, read_manifest, show_problems  # noqa: PLC0415

    given = variables(var)
    results: list[Read] = [read_manifest(file, given, strict=strict) for file in files]
    if output is Listing.JSON:
        data_json([_result(read) for read in results])
    else:
        for read in results:
            show_problems(read)
            if read.plan is not None:
                warned = f", {counted(read.warnings, 'warning')}" if read.warnings else ""
                phases = counted(len(read.plan.phases), "phase")
                data(f"{read.source}: ok, {phases}, {counted(edges(read.plan), 'edge')}{warned}")
            else:
                warned = f", {counted(read.warnings, 'warning')}" if read.warnings else ""
                data(f"{read.source}: not valid, {counted(read.errors, 'error')}{warned}")
    return Exit.OK if all(read.plan is not None for read in results) else Exit.INVALID


@guarded
def graph(
    what: Annotated[str, typer.Argument(metavar="FILE|ID", help="A manifest, or the id of a session.")],
    output: Annotated[
        GraphFormat, typer.Option("--format", "-f", help="mermaid, dot or json.")
    ] = GraphFormat.MERMAID,
    var: VarOption = None,
    nats: NatsOption = None,
) -> int:
    """Draw the phases of a manifest or a session; what they wait for outside is drawn dashed.

    Example: planter graph site.planter.yaml --format dot | dot -Tsvg > site.svg
    """
    from planter.cli import graphs  # noqa: PLC0415

    if _is_session(what):
        found = run_async(lambda _: _state_graph(what, nats))
    else:
        from planter.cli.loading import read_manifest, show_problems  # noqa: PLC0415

        read = read_manifest(what, variables(var))
        show_problems(read)
        if read.plan is None:
            return Exit.INVALID
        found = graphs.graph_of_plan(read.plan)
    match output:
        case GraphFormat.MERMAID:
            data(graphs.mermaid(found))
        case GraphFormat.DOT:
            data(graphs.dot(found))
        case GraphFormat.JSON:
            data(graphs.as_json(found))
    return Exit.OK


def _is_session(what: str) -> bool:
    """A file wins; what no file is named and could be a session's id, is one."""
    import re  # noqa: PLC0415

    return what != "-" and not Path(what).exists() and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", what) is not None


async def _state_graph(session: str, nats: str | None) -> Any:
    from planter.cli.graphs import graph_of_state  # noqa: PLC0415
    from planter_protocol import PlanClient  # noqa: PLC0415

    async with PlanClient.connected(settings(nats_url=nats).nats_url) as client:
        return graph_of_state(await client.get_state(session))


def _result(read: Any) -> dict[str, Any]:
    from planter.cli.loading import edges  # noqa: PLC0415

    return {
        "file": read.source,
        "valid": read.plan is not None,
        "errors": read.errors,
        "warnings": read.warnings,
        "phases": len(read.plan.phases) if read.plan else None,
        "edges": edges(read.plan) if read.plan else None,
        "problems": [problem.to_json() for problem in read.problems],
    }
