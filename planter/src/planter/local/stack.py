"""NATS server, planner and runtime on this machine, as the real processes, for as long as a context lasts."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from planter.errors import ChildFailed, ServerFailed
from planter.local.child import Child
from planter.local.nats_server import LOG_FILE, RunningServer, embedded_nats, port_is_free
from planter.settings import HTTP_TOKEN_FILE, HttpAddress
from planter_protocol import PlanClient, PlannerUnavailable

READY_SECONDS = 15.0
DRAIN_SECONDS = 5.0
_POLL_SECONDS = 0.02
_WATCH_SECONDS = 1.0
_GRACE_SECONDS = 10.0
_HTTP_SECONDS = 3.0
_HTTP_TOLD_FILE = "dev.http"


class StackOptions(msgspec.Struct, frozen=True):
    """What a local stack is made of."""

    data_dir: Path
    workdir: Path
    """Where phases run."""
    port: int | None = None
    """Of the NATS server; None takes a free one."""
    port_or_free: bool = False
    """Take a free port when the wanted one is not."""
    runtime_id: str = "local"
    slots: int | None = None
    """Phases at the same time; None leaves it to the runtime."""
    modules: tuple[str, ...] = ()
    """Files or modules with handlers, for the runtime."""
    sync_always: bool = False
    verbose: bool = False
    """Planner and runtime log to our stderr instead of files in the data folder."""
    ready_seconds: float = READY_SECONDS
    http: HttpAddress | None = None
    """Where the planner listens for HTTP; None: nowhere."""
    http_token_file: Path | None = None
    """None: in the data folder."""


class Stack:
    """A stack that is ready for sessions."""

    def __init__(self, server: RunningServer, planner: Child, runtime: Child, http: str | None) -> None:
        self.server = server
        self.planner = planner
        self.runtime = runtime
        self.http = http
        """Where the planner answers over HTTP, as ``host:port``; None when it does not."""

    @property
    def url(self) -> str:
        """Address of the NATS server."""
        return self.server.url

    async def watch(self) -> None:
        """Return never; raises ServerFailed or ChildFailed when one of the processes ends."""
        while True:
            check_alive(self.server, (self.planner, self.runtime))
            await asyncio.sleep(_WATCH_SECONDS)


@asynccontextmanager
async def running_stack(options: StackOptions) -> AsyncGenerator[Stack]:
    """Start everything, wait until the planner knows the runtime, and end it in the order of need.

    Raises:
        ServerMissing, DataFolderInUse, ServerFailed: see ``embedded_nats``.
        ChildFailed: planner or runtime ended early, or was not ready in time.
    """
    port = options.port
    if port is not None and options.port_or_free and not port_is_free(port):
        port = None
    async with embedded_nats(options.data_dir, port, sync_always=options.sync_always) as server:
        told = server.data_dir / _HTTP_TOLD_FILE
        told.unlink(missing_ok=True)
        planner = _child("planner", [*planner_argv(server.url), *_http_argv(options, told)], options, server)
        try:
            runtime = _child("runtime", runtime_argv(server.url, options), options, server)
            try:
                await _ready(server, (planner, runtime), options)
                http = await _http_address(told) if options.http else None
                yield Stack(server, planner, runtime, http)
            finally:
                await runtime.stop(DRAIN_SECONDS + _GRACE_SECONDS)
        finally:
            await planner.stop(DRAIN_SECONDS)
            told.unlink(missing_ok=True)


def planner_argv(url: str) -> list[str]:
    """The command line of a planner without HTTP."""
    return [sys.executable, "-m", "planter", "serve", "--nats", url, "--http", "off"]


def token_file(options: StackOptions) -> Path:
    """Where the token for HTTP is."""
    return options.http_token_file or options.data_dir.expanduser().absolute() / HTTP_TOKEN_FILE


def runtime_argv(url: str, options: StackOptions) -> list[str]:
    """The command line of the runtime."""
    argv = [sys.executable, "-m", "planter_runtime", "--nats", url, "--id", options.runtime_id]
    argv += ["--any-selector", "--workdir", str(options.workdir), "--drain-timeout", f"{DRAIN_SECONDS:g}"]
    if options.slots is not None:
        argv += ["--slots", str(options.slots)]
    for module in options.modules:
        argv += ["--module", module]
    return argv


def _http_argv(options: StackOptions, told: Path) -> list[str]:
    return ["--http", options.http.setting, "--http-told", str(told)] if options.http else []


async def _http_address(told: Path) -> str | None:
    """What the planner, which is ready, says of its address; None when it has no port."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _HTTP_SECONDS
    address = None
    while address is None and loop.time() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
        address = _read(told)
    return None if address == "off" else address


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def check_alive(server: RunningServer, children: Sequence[Child]) -> None:
    """Raise ServerFailed or ChildFailed when a process has ended."""
    if server.child.exit_status() is not None:
        raise ServerFailed(server.child.ended_by(), server.data_dir / LOG_FILE, server.child.tail())
    for child in children:
        if child.exit_status() is not None:
            raise ChildFailed(child.name, child.ended_by(), child.log, child.tail())


def _child(name: str, argv: list[str], options: StackOptions, server: RunningServer) -> Child:
    log = None if options.verbose else server.data_dir / f"{name}.log"
    log_format = "auto" if options.verbose else "text"
    env = {key: value for key, value in os.environ.items() if key != "NATS_URL"}
    # Planner and runtime talk to this stack and to no other server, whatever the caller's settings say.
    env["PLANTER_NATS_URL"] = server.url
    env["PLANTER_DATA"] = str(server.data_dir)
    env["PLANTER_HTTP_TOKEN_FILE"] = str(token_file(options))
    return Child(name, [*argv, "--log-format", log_format], log=log, env=env)


async def _ready(server: RunningServer, children: tuple[Child, Child], options: StackOptions) -> None:
    """Wait until a planner answers and knows our runtime."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.ready_seconds
    planner, runtime = children
    async with PlanClient.connected(server.url, role="stack") as client:
        answered = False
        while loop.time() < deadline:
            check_alive(server, children)
            try:
                info = await client.planner_info(timeout=1)
            except PlannerUnavailable:
                pass
            else:
                answered = True
                if any(known.runtime_id == options.runtime_id for known in info.runtimes):
                    return
            await asyncio.sleep(_POLL_SECONDS)
    late = runtime if answered else planner
    raise ChildFailed(late.name, f"was not ready within {options.ready_seconds:g} s", late.log, late.tail())
