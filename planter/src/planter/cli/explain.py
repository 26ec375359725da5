"""``planter explain``: why is this not running?"""

from typing import TYPE_CHECKING, Annotated

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import NatsOption, SessionArgument
from planter.cli.output import Listing, ago, counted, data, data_json, local_time

if TYPE_CHECKING:
    from planter_protocol.explaining import Condition, Explanation, PhaseExplanation, Placement, WaitingGroup


@guarded
def explain(
    session: SessionArgument,
    phase: Annotated[
        str | None, typer.Argument(metavar="PHASE", help="Only this phase [all that wait].")
    ] = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    nats: NatsOption = None,
) -> int:
    """Say why a phase is not running: every condition that is not met, since when, and what would meet it.

    Without PHASE: all phases that neither run nor are done, grouped by what keeps them.

    Example: planter explain nightly deploy
    """
    found = run_async(lambda _: _explain(session, phase, nats))
    if output is Listing.JSON:
        data_json(found)
        return Exit.OK
    for line in explanation_lines(found):
        data(line)
    return Exit.OK


def explanation_lines(found: "Explanation") -> list[str]:
    """An explanation for people."""
    from planter.cli.render import printable  # noqa: PLC0415

    lines = _phase_lines(found.phase) if found.phase is not None else _overview_lines(found)
    return [printable(line) for line in lines]


def _phase_lines(phase: "PhaseExplanation") -> list[str]:
    head = phase.text.partition(": ")[0] if phase.conditions else phase.text
    lines = [f"{head}, since {local_time(phase.since)} ({ago(phase.since)})"]
    for one in phase.conditions:
        lines += _condition_lines(one)
    if phase.more:
        lines.append(f"  and {phase.more} more")
    return lines + _placement_lines(phase.placement)


def _condition_lines(one: "Condition") -> list[str]:
    times = [f"since {ago(one.since)}"] if one.since else []
    times += [f"until {local_time(one.until)}"] if one.until else []
    when = f" ({', '.join(times)})" if times else ""
    lines = [f"  - {one.text}{when}"]
    return [*lines, f"      ends it: {one.unblock}"] if one.unblock else lines


def _overview_lines(found: "Explanation") -> list[str]:
    if not found.groups:
        return [f"{found.text}; every phase runs or is done"]
    lines = [f"{found.text}; {counted(found.waiting, 'phase')} neither running nor done:"]
    for group in found.groups:
        lines += _group_lines(group)
    if found.more:
        lines.append(f"  and {found.more} more groups")
    return lines


def _group_lines(group: "WaitingGroup") -> list[str]:
    names = ", ".join(group.phases)
    more = f" and {group.count - len(group.phases)} more" if group.count > len(group.phases) else ""
    lines = [f"  - {names}{more}:", f"      {group.text} (since {ago(group.since)})"]
    if group.unblock:
        lines.append(f"      ends it: {group.unblock}")
    return lines + [f"    {line}" for line in _placement_lines(group.placement)]


def _placement_lines(placement: "Placement | None") -> list[str]:
    if placement is None:
        return []
    lines = [f"  runtimes: {placement.considered} registered, {placement.free} could take it now"]
    lines += [f"      {one.count} {one.text}" for one in placement.removed]
    if placement.preferred:
        scores = ", ".join(f"{one.runtime_id} {one.score:+.2f}" for one in placement.preferred)
        lines.append(f"      preferred, best first (x-affinity): {scores}")
    return lines


async def _explain(session: str, phase: str | None, nats: str | None) -> "Explanation":
    from planter.cli.talk import connected, require_session  # noqa: PLC0415

    async with connected(nats) as client:
        await require_session(client, session)
        return await client.explain(session, phase)
