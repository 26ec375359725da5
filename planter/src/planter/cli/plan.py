"""``planter plan`` and ``planter apply``: look at what a manifest would do, then do exactly that."""
# ruff: noqa: FBT002, PLR0913, PLR0917 - typer makes options of parameters, and flags of boolean defaults

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planter.cli.exits import Exit, fail, guarded, run_async
from planter.cli.options import NatsOption, StrictOption, TimeoutOption, VarOption, variables
from planter.cli.output import Listing, Output, data, data_json, note, parse_duration

if TYPE_CHECKING:
    from planter.cli.loading import Read
    from planter_protocol.messages import Diff

CHANGES = 2
"""Exit status of ``--detailed-exitcode`` when there are changes, as terraform has it."""

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The manifest; - reads standard input.")]
SessionOption = Annotated[
    str | None,
    typer.Option("--session", metavar="ID", help="Id of the session [the file's name up to the first dot]."),
]


@guarded
def plan(
    file: FileArgument,
    session: SessionOption = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Status 0: no changes, 1: error, 2: changes.")
    ] = False,
    var: VarOption = None,
    strict: StrictOption = False,
    nats: NatsOption = None,
) -> int:
    """Show what applying a manifest would do: what is added, changed, removed, and what runs again and why.

    Of a session that runs, also what goes on and what is cancelled. Nothing is changed or stored anywhere.

    Example: planter plan site.planter.yaml --session nightly --detailed-exitcode
    """
    try:
        status = _plan(file, session, output, variables(var), strict=strict, nats=nats)
    except Exception as error:
        if not detailed_exitcode or isinstance(error, typer.Exit):
            raise
        return _error_status(error)
    if detailed_exitcode:
        return status if status in (Exit.OK, CHANGES) else Exit.NO
    return Exit.OK if status == CHANGES else status


@guarded
def apply(
    file: FileArgument,
    session: SessionOption = None,
    digest: Annotated[
        str | None,
        typer.Option("--digest", metavar="DIGEST", help="Apply only this plan: what `planter plan` showed."),
    ] = None,
    base: Annotated[
        int | None,
        typer.Option("--base", min=0, metavar="N", help="Apply only to this revision of the session."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    replan: Annotated[
        bool, typer.Option("--replan", help="Apply it even while the session runs, to what runs.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text, json or ndjson.")] = Output.TEXT,
    var: VarOption = None,
    strict: StrictOption = False,
    timeout: TimeoutOption = None,
    nats: NatsOption = None,
) -> int:
    """Apply a manifest to a session and follow it; what is done and unchanged is not run again.

    Shows the plan and asks, unless it was reviewed (--digest) or --yes is given. A plan that is not what was
    reviewed any more is refused (status 5). Else the exit status is that of `planter run`.

    Example: planter apply site.planter.yaml --session nightly --digest sha256:6f1c... --base 3
    """
    if not yes and digest is None and not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: give --yes, or --digest with what was reviewed")
    wait = parse_duration(timeout) if timeout else None
    read = _read(file, variables(var), strict=strict)
    if read.plan is None:
        return Exit.INVALID
    name = session or session_of(file)
    from planter.cli.differences import plan_lines  # noqa: PLC0415
    from planter.cli.running import Request, followed, shown_state  # noqa: PLC0415

    diff = _ask(name, read, nats)
    for line in plan_lines(diff):
        note(line)
    is_done = not diff.would_change and diff.status == "complete"
    if is_done and digest in (None, diff.plan_digest) and base in (None, diff.base_revision):
        if output is not Output.TEXT:
            run_async(lambda _: shown_state(name, nats))
        return Exit.OK
    if digest is None and not yes and (replan or not diff.live):
        if not _confirmed():
            note("nothing was applied")
            return Exit.REFUSED
        digest, base = diff.plan_digest, diff.base_revision if base is None else base
    request = Request(
        read=read,
        session=name,
        named=True,
        output=output,
        timeout=wait,
        nats=nats,
        workdir=Path(),
        replan=replan,
        expect_digest=digest,
        expect_revision=base,
        reviewed=True,
    )
    return run_async(lambda signals: followed(request, signals))


def _confirmed() -> bool:
    try:
        return typer.confirm("Apply this?", err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        return False


def session_of(file: str) -> str:
    """The session that a file stands for: ``site.planter.yaml`` means ``site``, whenever it is applied."""
    name = file.rpartition("/")[2].partition(".")[0]
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64]
    if file == "-" or not cleaned:
        raise typer.BadParameter(f"{file!r} names no session: give one with --session")
    return cleaned


def _plan(
    file: str,
    session: str | None,
    output: Listing,
    given: dict[str, str],
    *,
    strict: bool,
    nats: str | None,
) -> int:
    read = _read(file, given, strict=strict)
    if read.plan is None:
        return Exit.INVALID
    name = session or session_of(file)
    diff = _ask(name, read, nats)
    from planter.cli.differences import plan_document, plan_lines  # noqa: PLC0415

    if output is Listing.JSON:
        data_json(plan_document(diff))
    else:
        for line in plan_lines(diff):
            data(line)
        data(f"Digest {diff.plan_digest}, base revision {diff.base_revision}.")
        if diff.would_change:
            note(f"next: {_next(file, diff, nats)}")
    return CHANGES if diff.would_change else Exit.OK


def _read(file: str, given: dict[str, str], *, strict: bool) -> "Read":
    from planter.cli.loading import read_manifest, show_problems  # noqa: PLC0415

    read = read_manifest(file, given, strict=strict)
    show_problems(read)
    return read


def _ask(session: str, read: "Read", nats: str | None) -> "Diff":
    from planter.cli.differences import asked  # noqa: PLC0415
    from planter.cli.talk import connected  # noqa: PLC0415

    async def ask() -> "Diff":
        async with connected(nats) as client:
            return await asked(client, session, read)

    return run_async(lambda _: ask())


def _next(file: str, diff: "Diff", nats: str | None) -> str:
    words = ["planter", "apply", file, "--session", diff.session_id]
    words += ["--digest", str(diff.plan_digest), "--base", str(diff.base_revision)]
    words += ["--replan"] if diff.live else []
    words += ["--nats", nats] if nats else []
    return shlex.join(words)


def _error_status(error: Exception) -> int:
    """Say what is wrong; with ``--detailed-exitcode`` every error is 1, for 2 means changes."""
    try:
        fail(error)
    except typer.Exit:
        return Exit.NO
