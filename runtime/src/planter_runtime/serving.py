"""A runtime's life: connect, serve, drain, leave."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import anyio
import structlog
from nats.aio.client import Client

import planter_runtime
from planter_protocol.connection import connect
from planter_protocol.errors import ServerUnreachable
from planter_protocol.loops import calm_collector, loop_factory
from planter_runtime import logs
from planter_runtime.agent import Agent
from planter_runtime.claiming import claim_name
from planter_runtime.errors import ConnectionLost, NameTaken
from planter_runtime.executors.process import ProcessGroups
from planter_runtime.sdk import Handler
from planter_runtime.settings import Settings

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 2.0
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_UNREACHABLE = 4
EXIT_REFUSED = 5


class Stop:
    """How a runtime is told to end."""

    def __init__(self, groups: ProcessGroups) -> None:
        self.requested = anyio.Event()
        self._groups = groups

    async def watch_signals(self) -> None:
        """The first SIGTERM or SIGINT asks for a drain; the second ends the process, and what it runs."""
        count = 0
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                count += 1
                if count > 1:
                    self._groups.kill_all()
                    log.warning("runtime.killed", signal=number.name)
                    leave(128 + number)
                self.requested.set()


async def serve(settings: Settings, handlers: Sequence[Handler]) -> None:
    """Serve until cancelled or drained by a planner; see ``Runtime.serve``."""
    groups = ProcessGroups()
    await _serve(settings, handlers, Stop(groups), groups, signals=False)


def run(settings: Settings, handlers: Sequence[Handler]) -> NoReturn:
    """Serve until a signal, then end the process.

    Its status: 0, 1 (connection or reports lost), 4 (no server), 5 (its name is taken), 130 or 143 (a second
    signal).
    """
    if not structlog.is_configured():
        logs.configure()
    try:
        calm_collector()
        options = {"loop_factory": loop_factory()}
        status = anyio.run(_run, settings, handlers, backend_options=options)
    except KeyboardInterrupt:  # before there was anything to drain
        status = 130
    except ServerUnreachable as error:
        _say(f"{error}\n  start one with `planter dev`, or name another one with --nats or PLANTER_NATS_URL")
        status = EXIT_UNREACHABLE
    except ConnectionLost as error:
        _say(f"{error}")
        status = EXIT_FAILED
    except NameTaken as error:
        _say(f"{error}\n  give this one another name with --id, or none: then it makes one of its own")
        status = EXIT_REFUSED
    leave(status)


def leave(status: int) -> NoReturn:
    """End the process, whatever its threads are doing: a handler that hangs must not keep it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def _run(settings: Settings, handlers: Sequence[Handler]) -> int:
    groups = ProcessGroups(owns_children=not handlers)
    return EXIT_OK if await _serve(settings, handlers, Stop(groups), groups, signals=True) else EXIT_FAILED


async def _serve(
    settings: Settings, handlers: Sequence[Handler], stop: Stop, groups: ProcessGroups, *, signals: bool
) -> bool:
    """True when everything was told before the end."""
    closed = anyio.Event()
    agents: list[Agent] = []

    def on_reconnected() -> None:
        log.info("connection.restored")
        for agent in agents:
            agent.beat_now()

    nc = await _connect(settings, closed.set, on_reconnected)
    confirmed = True
    try:
        await claim_name(nc, settings.runtime_id)
        async with anyio.create_task_group() as tasks:
            agent = Agent(settings, handlers, nc, tasks, groups)
            agent.on_drain = stop.requested.set
            agents.append(agent)
            if signals:
                tasks.start_soon(stop.watch_signals)
            tasks.start_soon(_cancel_when, closed, tasks.cancel_scope)
            await agent.start()
            log.info("runtime.started", runtime=settings.runtime_id, slots=settings.slots)
            await stop.requested.wait()
            confirmed = await agent.drain()
            tasks.cancel_scope.cancel()
    finally:
        groups.close()
        lost = closed.is_set()
        await _close(nc)
    if lost:
        raise ConnectionLost("the connection to NATS was closed for good; phases that ran here are lost")
    if not confirmed:
        log.error("runtime.unconfirmed", remedy="the planner notices the lost attempts by itself")
    log.info("runtime.stopped", runtime=settings.runtime_id)
    return confirmed


async def _connect(
    settings: Settings, on_closed: Callable[[], None], on_reconnected: Callable[[], None]
) -> Client:
    def on_error(error: Exception) -> None:
        log.warning("connection.failed", error=f"{type(error).__name__}: {error}".rstrip(": "))

    return await connect(
        settings.nats_url,
        role=f"runtime/{planter_runtime.__version__} {settings.runtime_id}",
        wait=CONNECT_SECONDS,
        on_error=on_error,
        on_closed=on_closed,
        on_reconnected=on_reconnected,
    )


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _close(nc: Client) -> None:
    """Whatever was published is on its way before the connection closes."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
        try:
            if nc.is_connected:
                await nc.flush(1)
            await nc.close()
        except Exception as error:
            log.warning("connection.failed", error=f"{type(error).__name__}: {error}")


def _say(text: str) -> None:
    sys.stderr.write(f"planter-runtime: {text}\n")
