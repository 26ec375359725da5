"""``planter run``: submit a manifest and follow its session to the end."""
# ruff: noqa: FBT002, PLR0913, PLR0917 - typer makes options of parameters, and flags of boolean defaults

from pathlib import Path
from typing import Annotated

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import (
    ModuleOption,
    NatsOption,
    SlotsOption,
    StrictOption,
    SyncOption,
    TimeoutOption,
    VarOption,
    modules,
    settings,
    variables,
)
from planter.cli.output import Output, parse_duration


@guarded
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The manifest; - reads standard input.")],
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Id of the session [from the file's name].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="PHASE", help="Run up to this phase, and stop: it and its needs."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Submit, and do not wait.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text, json or ndjson.")] = Output.TEXT,
    local: Annotated[
        bool, typer.Option("--local", help="Start server, planner and runtime for this run only.")
    ] = False,
    keep_data: Annotated[
        str | None,
        typer.Option("--keep-data", metavar="DIR", help="With --local: keep the server's data there."),
    ] = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            "--workdir",
            metavar="DIR",
            file_okay=False,
            exists=True,
            help="With --local: where phases run [the manifest's folder].",
        ),
    ] = None,
    sync: SyncOption = None,
    module: ModuleOption = None,
    slots: SlotsOption = None,
    var: VarOption = None,
    strict: StrictOption = False,
    timeout: TimeoutOption = None,
    nats: NatsOption = None,
) -> int:
    """Run a manifest and show how it goes; the exit status is the session's.

    Status 0: complete, 1: failed or cancelled, 3: invalid manifest, 4: no server, 5: refused, 124: timed out.

    Example: planter run site.planter.yaml --local
    """
    _check_usage(
        local=local,
        detach=detach,
        nats=nats,
        keep_data=keep_data,
        stack_only=bool(module or slots or workdir or sync),
    )
    from planter.cli.loading import read_manifest, show_problems  # noqa: PLC0415

    read = read_manifest(file, variables(var), strict=strict, target=target)
    show_problems(read)
    if read.plan is None:
        return Exit.INVALID
    from planter.cli.running import Request, detached, dry, followed, order_only, run_local  # noqa: PLC0415

    request = Request(
        read=read,
        session=session or _session_name(file),
        named=session is not None,
        output=output,
        timeout=parse_duration(timeout) if timeout else None,
        nats=nats,
        local=local,
        modules=modules(module),
        slots=slots,
        keep_data=keep_data,
        sync_always=local and settings(sync=sync).sync == "always",
        workdir=(workdir or _folder_of(file)).absolute(),
    )
    if dry_run:
        return order_only(request) if local else run_async(lambda _: dry(request))
    if detach:
        return run_async(lambda _: detached(request))
    if local:
        return run_async(lambda signals: run_local(request, signals))
    return run_async(lambda signals: followed(request, signals))


def _check_usage(
    *, local: bool, detach: bool, nats: str | None, keep_data: str | None, stack_only: bool
) -> None:
    if local and detach:
        raise typer.BadParameter("--local ends with its session, so it cannot be used with --detach")
    if local and nats:
        raise typer.BadParameter("--local starts its own server, so it cannot be used with --nats")
    if not local and (keep_data or stack_only):
        raise typer.BadParameter(
            "--module, --slots, --workdir, --sync and --keep-data are for what --local starts"
        )


def _folder_of(file: str) -> Path:
    """Paths in a manifest mean the same from wherever it is run, as in a compose file."""
    return Path(file).parent if file != "-" else Path()


def _session_name(file: str) -> str:
    """A new id that begins with the file's name: ``site.planter.yaml`` becomes ``site-7k3f2qx9``."""
    from planter_protocol.names import new_session_id  # noqa: PLC0415

    name = file.rpartition("/")[2].partition(".")[0] if file != "-" else "stdin"
    return new_session_id(name or "s")
