"""The planner process: connect, recover, serve, drain."""

import asyncio
import functools
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from planter.core import Fleet, Session
from planter.core.inputs import LookedUp, PassedOn
from planter.core.status import SESSION_TERMINAL, SessionStatus
from planter.shell.artifacts import ArtifactSweeper
from planter.shell.assignment import Assignment
from planter.shell.bare import BareListener
from planter.shell.clock import monotonic_ms
from planter.shell.connection_watch import ConnectionWatch
from planter.shell.failpoints import passing
from planter.shell.fleet_watch import FleetWatch
from planter.shell.handover import Handover
from planter.shell.host import SessionHost
from planter.shell.inputs import InputReader
from planter.shell.intake import Delivery
from planter.shell.journal import Journal
from planter.shell.keys import DispatchKey, load_key
from planter.shell.outbox import Outbox
from planter.shell.perform import Performer
from planter.shell.presence import Presence
from planter.shell.queries import Queries
from planter.shell.records import RecordWriter, read_record
from planter.shell.results import Results
from planter.shell.retention import Retention
from planter.shell.snapshots import Snapshots
from planter_protocol import assets, headers, messages, services, subjects
from planter_protocol.connection import connect
from planter_protocol.names import random_token
from planter_protocol.reading import read_subject
from planter_protocol.sending import publish

log = structlog.get_logger(__name__)

_DISCOVERY_SECONDS = 0.25
"""Runtimes answer within this when a planner starts; later ones are welcome, but may cost a second offer."""
RETAIN_SECONDS = 7 * 24 * 3600.0
RETAIN_SESSIONS = 10_000
_DEAD_LETTER_BYTES_MAX = 64 * 1024
_BESIDE_SECONDS = 5.0


class Beside(Protocol):
    """Something else that a planner does on its connection; whatever happens to it, sessions go on."""

    async def run(self, nc: Client, js: JetStreamContext) -> None:
        """Work until cancelled."""


class PlannerOptions(msgspec.Struct, frozen=True):
    """How one planner process runs."""

    nats_url: str
    planner_id: str | None = None
    replicas: int = 1
    """Of streams and buckets that do not exist yet."""
    wait: float = 10.0
    """Seconds to wait for the server at start."""
    retain_seconds: float | None = RETAIN_SECONDS
    """Ended sessions are purged after this long; None: never because of their age."""
    retain_sessions: int | None = RETAIN_SESSIONS
    """At most so many ended sessions are kept; None: any number."""
    unfenced: bool = True
    """Take acks and reports of runtimes that know only PMP, for phases that are offered openly."""
    notify_hosts: frozenset[str] = frozenset()
    """Hosts that the handlers of a manifest may name by URL."""
    beside: tuple[Beside, ...] = ()
    """Begun when the planner is ready."""


class ConnectionLost(Exception):
    """The connection is closed for good; the process has to end, its supervisor starts a new one."""


async def serve(
    options: PlannerOptions, guest: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> None:
    """Run a planner until SIGTERM or SIGINT.

    Args:
        options: how it runs.
        guest: runs in the same process from when the planner is ready until it ends; never raises.

    Raises:
        ServerUnreachable: no server answered within ``options.wait`` seconds.
        JetStreamUnavailable: the server cannot keep the journal.
        ConnectionLost: the server closed the connection and will not have us back.
    """
    planner_id = options.planner_id or f"planner-{random_token(6)}"
    closed = asyncio.Event()
    reconnected = asyncio.Event()
    nc = await connect(
        options.nats_url,
        role=f"planner {planner_id}",
        wait=options.wait,
        on_error=lambda error: log.warning("nats.error", error=str(error) or type(error).__name__),
        on_closed=closed.set,
        on_reconnected=reconnected.set,
    )
    try:
        js = nc.jetstream(timeout=5)
        await assets.ensure(js, url=options.nats_url, replicas=options.replicas)
        planner = await Planner.create(nc, js, planner_id, options)
        async with anyio.create_task_group() as tasks:
            async with planner.running(tasks):
                log.info("planner.ready", planner=planner_id, nats=options.nats_url)
                if guest is not None:
                    tasks.start_soon(guest)
                await _until_told_to_stop(closed, reconnected, planner)
                log.info("planner.stopping", planner=planner_id)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        with anyio.move_on_after(2, shield=True):
            await nc.close()


class Planner:
    """The parts of a planner, put together."""

    def __init__(self, nc: Client, js: JetStreamContext, options: PlannerOptions, key: DispatchKey) -> None:
        self.id = planner_id = str(options.planner_id)
        self._nc = nc
        self._js = js
        self._fleet = Fleet()
        self._snapshots = Snapshots(nc, js)
        journal = Journal(nc, js, planner_id, self._snapshots)
        reader = InputReader(js, key, unfenced=options.unfenced, notify_hosts=options.notify_hosts)
        self._outbox = Outbox(nc, self._tell)
        self._results = Results(nc, self._tell)
        performer = Performer(nc, key, planner_id, self._outbox, self._results)
        self._host = SessionHost(journal, reader, performer, self._fleet, self)
        self._watch = FleetWatch(nc, self._fleet, self._host)
        self._records = RecordWriter(nc, js)
        self._bare = BareListener(nc, js)
        self._retention = Retention(nc, self._host, options.retain_seconds, options.retain_sessions)
        self._artifacts = ArtifactSweeper(nc, js, self._host.owns)
        self._queries = Queries(nc, js, self._host, self._fleet, self._info)
        self._service = services.Service(
            nc,
            name=services.PLANNER,
            service_id=planner_id,
            description="Compiles manifests, decides, offers phases to runtimes, answers queries",
            version=_release(),
            endpoints=self._queries.endpoints,
            metadata=self._facts,
        )
        self._stopping = False
        self._assignment: Assignment | None = None
        self._presence: Presence | None = None
        self._handover: Handover | None = None
        self._tasks: TaskGroup | None = None
        self._key = key
        self._beside = options.beside

    @classmethod
    async def create(
        cls, nc: Client, js: JetStreamContext, planner_id: str, options: PlannerOptions
    ) -> "Planner":
        """A planner with the key that all planners share."""
        options = msgspec.structs.replace(options, planner_id=planner_id)
        return cls(nc, js, options, await load_key(js))

    @asynccontextmanager
    async def running(self, tasks: TaskGroup) -> AsyncGenerator[None]:
        """Recover what is under way, then take inputs; at the end take no more and finish what was begun."""
        self._tasks = tasks
        await self._watch.start(tasks)
        await self._wait_for_runtimes()
        self._assignment = Assignment(self._nc, self._js, tasks, self._host, self._on_delivery)
        self._handover = Handover(self._nc, tasks, self._host.owns, self._host.take_over)
        await self._handover.start()
        presence = Presence(self._nc, self.id, self._assignment.own, self._assignment.look_again)
        self._presence = presence
        tasks.start_soon(self._host.run, tasks)
        tasks.start_soon(self._watch.run)
        tasks.start_soon(self._records.run)
        tasks.start_soon(self._snapshots.run)
        tasks.start_soon(self._retention.run)
        tasks.start_soon(self._artifacts.run)
        self._outbox.start(tasks)
        self._results.start(tasks)
        tasks.start_soon(ConnectionWatch(self._nc, self.id).run)
        await presence.start()
        tasks.start_soon(presence.run)
        await self._queries.start()
        await self._service.start()
        await self._nc.flush()
        for one in self._beside:
            tasks.start_soon(self._run_beside, one)
        yield
        self._stopping = True
        self._assignment.stop()
        await self._host.stop()
        with anyio.move_on_after(2):
            await presence.leave()
            await self._nc.flush()

    def reconnected(self) -> None:
        """The server is back: our pulls are forgotten, data may be lost, heartbeats may have been missed."""
        self._watch.forgive(monotonic_ms())
        if self._tasks is not None:
            self._tasks.start_soon(self._share_key)
        self._records.reconnected()
        self._host.reconnected()
        if self._assignment is not None:
            self._assignment.reconnected()
        if self._presence is not None:
            self._presence.reconnected()

    async def _share_key(self) -> None:
        """See to it that the server has the key that we sign with."""
        while True:
            try:
                await self._key.share(self._js)
            except (TimeoutError, NatsError) as error:
                log.warning("key.late", error=str(error) or type(error).__name__)
                await anyio.sleep(1)
            else:
                return

    async def _wait_for_runtimes(self) -> None:
        """Let runtimes answer before sessions are resumed, if any session may be under way."""
        bucket = assets.SESSIONS_BUCKET
        async for stored in read_subject(self._nc, f"KV_{bucket}", f"$KV.{bucket}.>"):
            found = read_record(stored)
            if found is not None and (found[1] is None or found[1].status not in SESSION_TERMINAL):
                await anyio.sleep(_DISCOVERY_SECONDS)
                return

    def _on_delivery(self, delivery: Delivery) -> None:
        parsed = subjects.parse_input(delivery.subject)
        if parsed is None:
            asyncio.get_running_loop().create_task(
                self.bury(delivery, "its subject names no valid session id")
            )
            return
        self._host.deliver(parsed.session, parsed.verb, delivery)

    async def _run_beside(self, one: Beside) -> None:
        while True:
            try:
                await one.run(self._nc, self._js)
            except Exception:
                log.exception("beside.broken", what=type(one).__name__)
            await anyio.sleep(_BESIDE_SECONDS)

    def _tell(self, session_id: str, given: PassedOn | LookedUp) -> None:
        self._host.tell(session_id, given)

    def _info(self) -> messages.PlannerInfo:
        return messages.PlannerInfo(
            planner_id=self.id, version=_version(), sessions=self._host.size, runtimes=self._watch.infos()
        )

    def _facts(self) -> dict[str, str]:
        """What services tools show of this planner."""
        return {
            "id": self.id,
            "host": socket.gethostname(),
            "state": "stopping" if self._stopping else "ready",
            "sessions": str(self._host.size),
            "runtimes": str(len(self._watch.infos())),
        }

    # -- the surroundings of the session host ----------------------------------------------------

    async def acknowledge(self, delivery: Delivery) -> None:
        """The input is in the journal; should this ack be lost, its redelivery is recognised."""
        await publish(self._nc, delivery.reply, b"+ACK")

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Keep an unreadable input with the reason, so that it neither blocks nor vanishes."""
        parsed = subjects.parse_input(delivery.subject)
        session_id = parsed.session if parsed else "_"
        passing("input.bury")
        log.warning("input.unreadable", subject=delivery.subject, sequence=delivery.sequence, reason=reason)
        try:
            await self._js.publish(
                subjects.dead_letter(session_id),
                delivery.data[:_DEAD_LETTER_BYTES_MAX],
                headers={
                    headers.REASON: reason.replace("\n", " ")[:1000],
                    headers.INPUT_SUBJECT: delivery.subject,
                    headers.INPUT_SEQUENCE: str(delivery.sequence),
                    headers.MSG_ID: f"dead/{delivery.sequence}",
                },
            )
        except (TimeoutError, NatsError) as error:
            log.warning(
                "dead_letter.late", sequence=delivery.sequence, error=str(error) or type(error).__name__
            )
            return  # not acknowledged: it comes again
        await self.acknowledge(delivery)

    async def publish_record(self, session: Session, *, anew: bool) -> None:
        """Keep the listing true; a purged session is in none."""
        if session.status is SessionStatus.PURGED:
            self._records.forget(session.id)
        else:
            await self._records.update(session, anew=anew)

    def is_listed(self, session: Session) -> bool:
        """Its record is stored; a purged session has none, and nothing to be found for."""
        return session.status is SessionStatus.PURGED or self._records.has(session)

    async def listen(self, session: Session) -> None:
        """Hear bare runtimes while the session offers phases openly."""
        await self._bare.follow(session)

    def expect_runtimes(self, session: Session) -> None:
        """Runtimes that the journal names must show up."""
        self._watch.expect(session)

    def forget(self, session_id: str) -> None:
        """Nothing is kept for it any more."""
        self._records.forget(session_id)
        self._snapshots.forget(session_id)

    async def stepped(self, session: Session, events: int) -> None:
        """Take a snapshot when one is due."""
        await self._snapshots.stepped(session, events)

    def hand_over(self, session_id: str, sequence: int) -> None:
        """Somebody else owns it."""
        if self._handover is not None:
            self._handover.give(session_id, sequence)


async def _until_told_to_stop(closed: asyncio.Event, reconnected: asyncio.Event, planner: Planner) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        while not stop.is_set():
            await _first_of(stop, closed, reconnected)
            if closed.is_set() and not stop.is_set():
                raise ConnectionLost("the NATS server closed the connection for good")
            if reconnected.is_set():
                reconnected.clear()
                planner.reconnected()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _first(group: BaseExceptionGroup) -> BaseException:
    """The error that ended the others, without the group around it: callers tell errors apart by class."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _first_of(*events: asyncio.Event) -> None:
    async with anyio.create_task_group() as tasks:

        async def wait(event: asyncio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait, event)


def _version() -> str:
    release = _release()
    return f"{release}@{socket.gethostname()}" if release else "unknown"


@functools.cache
def _release() -> str:
    try:
        return version("planter-daemon")
    except PackageNotFoundError:
        return ""
