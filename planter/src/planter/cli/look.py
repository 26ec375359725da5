"""``planter sessions``, ``status``, ``events`` and ``logs``: look at what goes on."""
# ruff: noqa: FBT002 - typer makes options of parameters, and flags of boolean defaults

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.items import beneath
from planter.cli.options import NatsOption, SessionArgument
from planter.cli.output import (
    Listing,
    Streamed,
    ago,
    counted,
    data,
    data_json,
    data_line,
    duration,
    local_time,
    milliseconds,
    note,
    one_line,
    symbol,
    table,
)
from planter_protocol.names import is_of_phase

if TYPE_CHECKING:
    from planter.cli.signals import Signals
    from planter_protocol.messages import Commit, Log, PhaseState, SessionState

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the session has ended.")]
_RECENT = 500
_LAST_LINES = 8


@guarded
def sessions(
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    nats: NatsOption = None,
) -> int:
    """List the sessions of a server, newest first.

    Example: planter sessions --output json
    """
    records = run_async(lambda _: _sessions(nats))
    if output is Listing.JSON:
        data_json(records)
    elif not records:
        note("no sessions yet; `planter run FILE` starts one")
    else:
        rows = [
            (
                record.session_id,
                record.status,
                str(record.revision),
                ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in record.counts.items()),
                ago(record.updated),
            )
            for record in records
        ]
        table(("SESSION", "STATUS", "REVISION", "PHASES", "UPDATED"), rows)
    return Exit.OK


@guarded
def status(
    session: SessionArgument,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    nats: NatsOption = None,
) -> int:
    """Show a session: its phases, what waits for what, the last output, and what to do next.

    Example: planter status nightly
    """
    is_json = output is Listing.JSON
    state, logs = run_async(lambda _: _status(session, nats, with_results=is_json))
    if output is Listing.JSON:
        data_json(state)
        return Exit.OK
    data(status_head(state))
    data("")
    listed = beneath(state.phases, lambda phase: phase.phase_id)
    table(("PHASE", "STATUS", "ATTEMPT", "TIME", "RUNTIME", "WHY"), [_row(phase) for phase in listed])
    lines = [line for message in logs for line in _log_lines(message)][-_LAST_LINES:]
    if lines:
        data("")
        for line in lines:
            data(f"  {line}")
    note("")
    note(f"next: {_next_command(state)}")
    return Exit.OK


@guarded
def events(
    session: SessionArgument,
    follow: FollowOption = False,
    output: Annotated[Streamed, typer.Option("--output", "-o", help="text or ndjson.")] = Streamed.TEXT,
    nats: NatsOption = None,
) -> int:
    """Print a session's journal: every decision, in order.

    Example: planter events nightly --output ndjson | jq .events[].type
    """
    run_async(lambda _: _events(session, nats, follow=follow, output=output))
    return Exit.OK


@guarded
def logs(
    session: SessionArgument,
    phase: Annotated[
        str | None, typer.Argument(metavar="PHASE", help="Only this phase, and its items.")
    ] = None,
    follow: FollowOption = False,
    output: Annotated[Streamed, typer.Option("--output", "-o", help="text or ndjson.")] = Streamed.TEXT,
    nats: NatsOption = None,
) -> int:
    """Print what the phases of a session said.

    Example: planter logs nightly build --follow
    """
    printer = LogPrinter(phase, output)
    run_async(lambda signals: _logs(session, nats, printer, signals if follow else None))
    if not printer.printed and not follow:
        note(f"no output{f' of phase {phase}' if phase else ''} yet")
    return Exit.OK


class LogPrinter:
    """Prints log lines and nothing else of a session that is followed."""

    def __init__(self, phase: str | None, output: Streamed) -> None:
        self._phase = phase
        self._output = output
        self.printed = 0

    def log(self, line: "Log") -> None:
        """One message."""
        if self._phase is not None and not is_of_phase(line.phase_id or "", self._phase):
            return
        self.printed += 1
        if self._output is Streamed.NDJSON:
            data_line(line)
        else:
            from planter.cli.render import log_lines, printable  # noqa: PLC0415

            only = self._phase is not None and line.phase_id == self._phase
            for text in [printable(part) for part in line.message.splitlines()] if only else log_lines(line):
                typer.echo(text)

    def commit(self, view: Any, commit: "Commit", changes: Any) -> None:
        """Not shown."""

    def progress(self, view: Any, progress: Any) -> None:
        """Not shown."""

    def hint(self, text: str) -> None:
        """On stderr."""
        note(f"hint: {text}")

    def tick(self, view: Any, now: int) -> None:
        """Not shown."""

    def close(self, view: Any, now: int) -> None:
        """Nothing is left to show."""


def status_head(state: "SessionState") -> str:
    """The first lines of ``planter status``."""
    counts: dict[str, int] = {}
    for phase in state.phases:
        counts[phase.status] = counts.get(phase.status, 0) + 1
    listed = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items())
    lines = [
        f"{symbol(state.status)} {state.session_id}",
        f"   Status: {state.status}, last change {local_time(state.updated)} ({ago(state.updated)})",
        f"  Started: {local_time(state.created)}, revision {state.revision}",
        f"   Phases: {counted(len(state.phases), 'phase')}" + (f" ({listed})" if listed else ""),
    ]
    if state.target_phase is not None:
        lines.append(f"   Target: up to phase {state.target_phase}, the others are left out")
    if state.reason:
        lines.append(f"   Reason: {one_line(state.reason, 300)}")
    return "\n".join(lines)


def _row(phase: "PhaseState") -> tuple[str, ...]:
    from planter.cli.view import attempt_of  # noqa: PLC0415

    attempt = attempt_of(phase.attempt, phase.max_attempts) if phase.attempt else "-"
    return (
        phase.phase_id,
        phase.status,
        attempt,
        _time(phase),
        phase.runtime_id or "-",
        _why(phase),
    )


def _why(phase: "PhaseState") -> str:
    if phase.waits_for:
        outside = set(phase.external)
        names = [f"{name} (external)" if name in outside else name for name in phase.waits_for]
        return f"waits for {', '.join(names)}"
    return one_line(phase.reason or "")


def _time(phase: "PhaseState") -> str:
    if phase.started is None:
        return "-"
    if phase.finished is None:
        from planter.cli.view import PHASE_ENDED  # noqa: PLC0415

        return "-" if phase.status in PHASE_ENDED else f"{ago(phase.started).removesuffix(' ago')}..."
    return duration((milliseconds(phase.finished) - milliseconds(phase.started)) / 1000)


def _next_command(state: "SessionState") -> str:
    name = state.session_id
    failed = [phase for phase in state.phases if phase.status == "failed"]
    ran = next((phase.phase_id for phase in failed if phase.gate is None), None)
    asked = next(
        (p.phase_id for p in state.phases if p.gate and p.gate.open and p.gate.kind == "approval"), None
    )
    match state.status:
        case "failed" if ran is not None:
            return f"planter logs {name} {shlex.quote(ran)}, then planter control {name} retry"
        case "failed" if failed:
            return f"planter control {name} retry"
        case "running" if asked is not None:
            return f"planter control {name} approve {shlex.quote(asked)} (or reject)"
        case "paused":
            return f"planter control {name} resume"
        case "running" | "pending":
            return f"planter logs {name} --follow"
        case _:
            return f"planter events {name}"


def _log_lines(message: "Log") -> list[str]:
    from planter.cli.render import log_lines  # noqa: PLC0415

    return log_lines(message)


def event_lines(commit: "Commit") -> list[str]:
    """A commit as lines for people: one an event."""
    lines: list[str] = []
    for event in commit.events:
        rest = " ".join(
            f"{key}={_short(value)}"
            for key, value in event.items()
            if key not in ("type", "phaseId", "plan") and value not in (None, "", [], {})
        )
        if "plan" in event:
            rest += f" phases={len(event['plan'].get('phases', ()))}"
        phase = f" {event['phaseId']}" if "phaseId" in event else ""
        lines.append(f"{commit.n:>5}  {commit.at}  {event['type']}{phase}  {rest}".rstrip())
    return lines


def _short(value: Any) -> str:
    import json  # noqa: PLC0415

    if isinstance(value, str) and value.isprintable() and " " not in value:
        return one_line(value)
    return one_line(json.dumps(value, ensure_ascii=True))


async def _sessions(nats: str | None) -> list[Any]:
    from planter.cli.talk import connected  # noqa: PLC0415

    async with connected(nats) as client:
        return list(await client.sessions())


async def _status(session: str, nats: str | None, *, with_results: bool) -> "tuple[SessionState, list[Log]]":
    from planter.cli.talk import connected, last_log, require_session  # noqa: PLC0415

    async with connected(nats) as client:
        await require_session(client, session)
        state = await client.get_state(session, with_results=with_results)
        after = max(0, await last_log(client, session) - _RECENT)
        return state, [message async for _, message in client.logs(session, after=after)]


async def _events(session: str, nats: str | None, *, follow: bool, output: Streamed) -> None:
    from planter.cli.talk import connected, require_session  # noqa: PLC0415

    def show(commit: "Commit") -> None:
        if output is Streamed.NDJSON:
            data_line(commit)
        else:
            for line in event_lines(commit):
                typer.echo(line)

    async with connected(nats) as client:
        await require_session(client, session)
        if follow:
            async for commit in client.watch(session):
                show(commit)
            return
        for commit in await client.history(session):
            show(commit)


async def _logs(session: str, nats: str | None, printer: LogPrinter, follow: "Signals | None") -> None:
    from planter.cli.talk import connected, require_session  # noqa: PLC0415

    async with connected(nats) as client:
        await require_session(client, session)
        if follow is None:
            async for _, line in client.logs(session):
                printer.log(line)
            return
        from planter.cli.exits import Interrupted  # noqa: PLC0415
        from planter.cli.follow import Follower, Outcome, Starting  # noqa: PLC0415
        from planter.cli.view import View  # noqa: PLC0415

        async with Follower(client, Starting(View(session), 0, 0), printer, follow) as follower:
            if await follower.run() is Outcome.INTERRUPTED:
                raise Interrupted(follow.seen or 2)
