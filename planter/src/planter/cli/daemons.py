"""``planter dev``, ``planter serve`` and ``planter runtime``: the processes that stay."""
# ruff: noqa: FBT002, PLR0913, PLR0917 - typer makes options of parameters, and flags of boolean defaults

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import (
    DataOption,
    HttpOption,
    LogFormatOption,
    ModuleOption,
    NatsOption,
    SlotsOption,
    SyncOption,
    modules,
    settings,
)
from planter.cli.output import duration, note

if TYPE_CHECKING:
    from planter.cli.signals import Signals
    from planter.local import Stack, StackOptions

DEFAULT_PORT = 4222


@guarded
def dev(
    data: DataOption = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Of the NATS server [4222, else a free one]."),
    ] = None,
    http: HttpOption = None,
    sync: SyncOption = None,
    slots: SlotsOption = None,
    module: ModuleOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the logs of planner and runtime.")
    ] = False,
) -> int:
    """Run everything on this machine: NATS with JetStream, a planner with HTTP, a runtime in this folder.

    Example: planter dev --module handlers.py
    """
    begun = time.monotonic()
    from planter.local import StackOptions  # noqa: PLC0415
    from planter.settings import HttpAddress  # noqa: PLC0415

    chosen = settings(data=str(data) if data else None, sync=sync, http=http)
    options = StackOptions(
        data_dir=chosen.data,
        workdir=Path.cwd(),
        port=port or DEFAULT_PORT,
        port_or_free=port is None,
        runtime_id="dev",
        slots=slots,
        modules=modules(module),
        sync_always=chosen.sync == "always",
        verbose=verbose,
        http=chosen.http if "http" in chosen.origins else HttpAddress(or_free=True),
        http_token_file=chosen.http_token_file,
    )
    return run_async(lambda signals: _dev(options, signals, begun))


@guarded
def serve(
    nats: NatsOption = None,
    planner_id: Annotated[str | None, typer.Option("--id", help="Id of this planner [a random one].")] = None,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=5, help="Copies of streams that do not exist yet.")
    ] = 1,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for the server at start.")
    ] = 10.0,
    retain: Annotated[
        str | None,
        typer.Option("--retain", metavar="TIME", help="Purge ended sessions after this long, 0 never [7d]."),
    ] = None,
    retain_sessions: Annotated[
        int | None,
        typer.Option("--retain-sessions", min=0, help="Ended sessions that are kept, 0 for all [10000]."),
    ] = None,
    http: HttpOption = None,
    http_told: Annotated[Path | None, typer.Option("--http-told", hidden=True)] = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run a planner, with HTTP. Any number of them share the work of one NATS server.

    Example: planter serve --nats nats://nats.internal:4222 --replicas 3
    """
    import asyncio  # noqa: PLC0415

    from planter import logs  # noqa: PLC0415
    from planter.api.hosting import guest_of  # noqa: PLC0415
    from planter.errors import PlanterError  # noqa: PLC0415
    from planter.shell.daemon import ConnectionLost, PlannerOptions  # noqa: PLC0415
    from planter.shell.daemon import serve as run_planner  # noqa: PLC0415
    from planter_protocol.loops import calm_collector, loop_factory  # noqa: PLC0415

    sessions = str(retain_sessions) if retain_sessions is not None else None
    chosen = settings(
        nats_url=nats, log_format=log_format, retain=retain, retain_sessions=sessions, http=http
    )
    logs.configure(chosen.log_format, chosen.log or "info")
    options = PlannerOptions(
        nats_url=chosen.nats_url,
        planner_id=planner_id,
        replicas=replicas,
        wait=wait,
        retain_seconds=chosen.retain_seconds,
        retain_sessions=chosen.retain_sessions,
    )
    try:
        calm_collector()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run_planner(options, guest_of(chosen, http_told)))
    except ConnectionLost as error:
        raise PlanterError(str(error), "start the planner again once the server is well") from error
    return Exit.OK


def runtime(context: typer.Context) -> None:
    """Run a runtime: takes phases, executes them, reports. Arguments are those of planter-runtime.

    Example: planter runtime --nats nats://127.0.0.1:4222 --module handlers.py
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "planter_runtime", *context.args])  # noqa: S606


async def _dev(options: "StackOptions", signals: "Signals", begun: float) -> int:
    import asyncio  # noqa: PLC0415

    from planter.local import running_stack  # noqa: PLC0415
    from planter.settings import DEV_URL_FILE  # noqa: PLC0415

    stopping = asyncio.Event()
    async with running_stack(options) as stack:
        # From here on a signal is the usual way to end, and no failure.
        signals.taker = lambda _: stopping.set()
        url_file = options.data_dir / DEV_URL_FILE
        url_file.write_text(f"{stack.url}\n")
        try:
            for line in ready_lines(stack, options, time.monotonic() - begun):
                note(line)
            watching = asyncio.create_task(stack.watch())
            ending = asyncio.create_task(stopping.wait())
            await asyncio.wait((watching, ending), return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if watching.done():
                watching.result()
            watching.cancel()
        finally:
            # Removed while the folder is still locked: the next one to work here writes its own.
            url_file.unlink(missing_ok=True)
        note("ending runtime, planner and NATS server")
    return Exit.OK


def ready_lines(stack: "Stack", options: "StackOptions", seconds: float) -> list[str]:
    """What ``planter dev`` says once it is ready."""
    from planter.settings import DEFAULT_NATS_URL, default_data  # noqa: PLC0415

    url = stack.url
    found_by_itself = url == DEFAULT_NATS_URL or options.data_dir == default_data()
    flag = "" if found_by_itself else f" --nats {url}"
    return [
        f"planter dev is ready after {duration(seconds)}; Ctrl-C ends it",
        f"  NATS  {url}",
        *_http_lines(stack, options),
        f"  data  {options.data_dir}",
        f"  next  planter run FILE{flag}",
    ]


def _http_lines(stack: "Stack", options: "StackOptions") -> list[str]:
    from planter.local.stack import token_file  # noqa: PLC0415

    if options.http is None:
        return []
    if stack.http is None:
        return [f"  HTTP  off: {stack.planner.log or 'the log above'} says why"]
    return [f"  HTTP  http://{stack.http}", f"  token {token_file(options)} (for everything but reads)"]
