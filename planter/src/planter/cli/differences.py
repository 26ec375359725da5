"""What a manifest would do to a session: asked, and shown in the way of terraform."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from planter.cli.output import builtins, counted, one_line
from planter.cli.render import printable
from planter_protocol import PlanClient, RequestRefused, messages
from planter_protocol.client import INLINE_BYTES_MAX
from planter_protocol.codec import encode
from planter_protocol.names import session_id

if TYPE_CHECKING:
    from planter.cli.loading import Read
    from planter.core import Plan

FORMAT_VERSION = "1.1"
"""Of the JSON: a new minor only adds, whoever reads it ignores what it does not know."""
_LISTED_MAX = 200
_FIELDS_MAX = 20
_VALUE_MAX = 60
_ID_WIDTH_MAX = 32
_GAP_NAMES_MAX = 5


async def asked(client: PlanClient, session: str, read: "Read") -> messages.Diff:
    """The difference, whole, without a trace on the server.

    A planner answers for a manifest that fits a message. A larger one would have to be stored for that: it is
    compared here, with the session as its journal says.
    """
    assert read.plan is not None, "an invalid manifest is told before anything is asked"
    manifest = read.canonical()
    if len(encode(manifest)) <= INLINE_BYTES_MAX:
        found = await client.diff(session, manifest, target_phase=read.target)
        if not found.cut:
            return found
    return await _compared_here(client, session, read.plan)


async def _compared_here(client: PlanClient, session: str, plan: "Plan") -> messages.Diff:
    from planter.core import Session  # noqa: PLC0415 (seldom needed, and slow to import)
    from planter.core.graph import graph_of  # noqa: PLC0415
    from planter.core.starts import purged_text  # noqa: PLC0415
    from planter.core.status import SessionStatus  # noqa: PLC0415
    from planter.shell.diffs import diff  # noqa: PLC0415
    from planter.shell.gaps import fleet_of  # noqa: PLC0415
    from planter.shell.journal import Journal  # noqa: PLC0415

    found = Session(session_id(session))
    await Journal(client.nc, client.js, "cli").load(found)
    if found.status is SessionStatus.PURGED:
        raise RequestRefused("session.purged", purged_text(found))
    fleet = fleet_of((await client.planner_info()).runtimes)
    return diff(found if found.commits else None, session, graph_of(plan), fleet, bounded=False)


# -- as text -----------------------------------------------------------------------------------


def plan_lines(diff: messages.Diff) -> list[str]:
    """The difference for people: one phase a line, its fields below, and a summary."""
    shown = diff.changes[:_LISTED_MAX]
    width = min(_ID_WIDTH_MAX, max((len(one.phase_id) for one in shown), default=0))
    lines = [f"session {diff.session_id}, {_base(diff)}:"]
    for one in shown:
        lines.append(f"  {_symbol(one)} {printable(one.phase_id).ljust(width)}  {_story(one)}")
        lines += [f"      {_field(field)}" for field in one.changes[:_FIELDS_MAX]]
        if len(one.changes) > _FIELDS_MAX:
            lines.append(f"      and {len(one.changes) - _FIELDS_MAX} more fields")
    if len(diff.changes) > len(shown) or diff.cut:
        more = f"{len(diff.changes) - len(shown)} more" if not diff.cut else "more"
        lines.append(f"    and {more}; --output json lists them")
    return [*lines, summary(diff), *gap_lines(diff.gaps)]


def gap_lines(gaps: Iterable[messages.Gap]) -> list[str]:
    """What no runtime takes as things are, and what then happens."""
    lines: list[str] = []
    for gap in gaps:
        names = ", ".join(printable(name) for name in gap.phases[:_GAP_NAMES_MAX])
        names += ", ..." if gap.count > _GAP_NAMES_MAX else ""
        waits = "waits" if gap.count == 1 else "wait"
        lines.append(f"warning: {counted(gap.count, 'phase')} {waits} for a runtime: {names}")
        lines.append(f"  {gap.reason}")
    return lines


def summary(diff: messages.Diff) -> str:
    """The last line: how many of what."""
    if not diff.would_change:
        is_now = "executes" if diff.live else "has done"
        return f"No changes: session {diff.session_id} {is_now} all of this."
    counts = diff.counts
    parts = [
        f"{counts.get('add', 0)} to add",
        f"{counts.get('update', 0)} to change",
        f"{counts.get('drop', 0)} to remove",
        f"{counts.get('rerun', 0)} to run again",
    ]
    if counts.get("cancel"):
        parts.append(f"{counted(counts['cancel'], 'attempt')} to cancel")
    return f"Plan: {', '.join(parts)}; {counts.get('keep', 0)} unchanged."


def _base(diff: messages.Diff) -> str:
    return f"revision {diff.base_revision} ({diff.status})" if diff.base_revision else "nothing applied yet"


def _symbol(one: messages.PhaseChange) -> str:
    for action, symbol in (("add", "+"), ("drop", "-"), ("update", "~"), ("rerun", ">")):
        if action in one.actions:
            return symbol
    return " "


def _story(one: messages.PhaseChange) -> str:
    parts = [_what(one)]
    if "cancel" in one.actions:
        parts.append(f"attempt {one.attempt}{_where(one)} is cancelled")
    if one.renamed is not None:
        other = printable(one.renamed)
        is_new = "add" in one.actions
        parts.append(
            f"same content as {other}, which {'goes' if is_new else 'comes'}: renamed? "
            "A result does not follow a name"
        )
    return "; ".join(parts)


def _what(one: messages.PhaseChange) -> str:
    if "add" in one.actions:
        return "added"
    if "drop" in one.actions:
        return "removed"
    if "keep" in one.actions:
        return f"goes on: attempt {one.attempt}{_where(one)}"
    if "update" in one.actions:
        return "changed, runs again" if "rerun" in one.actions else "changed before it ran"
    return f"runs again: {_why(one)}"


def _why(one: messages.PhaseChange) -> str:
    if one.reason == "depends":
        words = {"added": "is added", "changed": "changed", "failed": "failed"}
        cause = words.get(one.because_reason or "", "runs again")
        return f"depends on {printable(one.because or '')}, which {cause}"
    return f"it {'failed' if one.reason == 'failed' else f'is {one.status}'}"


def _where(one: messages.PhaseChange) -> str:
    return f" on {one.runtime_id}" if one.runtime_id else ""


def _field(field: messages.FieldChange) -> str:
    before, after = _value(field.before), _value(field.after)
    if before is None and after is None:
        return f"{printable(field.path)}: an extension that is not part of the plan"
    return f"{printable(field.path)}: {before or '(none)'} -> {after or '(none)'}"


def _value(value: Any) -> str | None:
    import msgspec  # noqa: PLC0415

    if value is msgspec.UNSET:
        return None
    return one_line(printable(bytes(value).decode()), _VALUE_MAX)


# -- as JSON -----------------------------------------------------------------------------------


def plan_document(diff: messages.Diff) -> dict[str, Any]:
    """The difference for programs; what every field means: ``planter_protocol.messages.Diff``."""
    found: dict[str, Any] = {
        "formatVersion": FORMAT_VERSION,
        "sessionId": diff.session_id,
        "sessionStatus": diff.status,
        "live": diff.live,
        "baseRevision": diff.base_revision,
        "baseDigest": diff.base_digest,
        "planDigest": diff.plan_digest,
        "wouldChange": diff.would_change,
        "complete": not diff.cut,
        "counts": diff.counts,
    }
    gaps = [builtins(gap) for gap in diff.gaps]
    return {**found, "changes": _documents(diff.changes), "unchanged": list(diff.unchanged), "gaps": gaps}


def _documents(changes: Iterable[messages.PhaseChange]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in changes:
        document = builtins(one)
        document.pop("fields", None)
        found.append(document)
    return found
