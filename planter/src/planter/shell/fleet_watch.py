"""Heartbeats in, a fleet out: who is there, who is gone, who was somebody else a moment ago."""

from collections.abc import Callable

import anyio
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter.core.fleet import Fleet, Runtime
from planter.core.session import Session
from planter.core.status import PHASE_OPEN
from planter.shell.clock import now_ms
from planter_protocol import messages, subjects
from planter_protocol.codec import decode
from planter_protocol.errors import InvalidMessage

log = structlog.get_logger(__name__)

_CHECK_SECONDS = 1.0
UNKNOWN_LEASE_MS = 15_000
"""A runtime that a journal names but that has not been heard of gets this long."""

Lost = Callable[[str, str, str], None]


class FleetWatch:
    """Keeps the fleet true, and tells when a life of a runtime has ended."""

    def __init__(self, nc: Client, fleet: Fleet, on_change: Callable[[], None], on_lost: Lost) -> None:
        self._nc = nc
        self._fleet = fleet
        self._on_change = on_change
        self._on_lost = on_lost
        self._leases: dict[str, int] = {}
        self._expected: dict[tuple[str, str], int] = {}
        self._infos: dict[str, messages.Heartbeat] = {}

    async def start(self) -> None:
        """Listen, and ask every runtime to say who it is."""
        await self._nc.subscribe(subjects.RUNTIME_HEARTBEAT_WILDCARD, cb=self._on_heartbeat)
        await self.discover()

    async def discover(self) -> None:
        """Ask every runtime for its heartbeat now."""
        await self._nc.publish(subjects.RUNTIME_DISCOVER, b"")

    async def run(self) -> None:
        """End the leases that ran out, until cancelled."""
        while True:
            await anyio.sleep(_CHECK_SECONDS)
            self._expire(now_ms())

    def expect(self, session: Session) -> None:
        """A session read from its journal names runtimes: each must show up, as the same life, or is lost."""
        for phase in session.phases:
            if phase.status not in PHASE_OPEN or phase.instance is None or phase.runtime_id is None:
                continue
            known = self._fleet.runtimes.get(phase.runtime_id)
            if known is None:
                self._expected.setdefault((phase.runtime_id, phase.instance), now_ms() + UNKNOWN_LEASE_MS)
            elif known.instance != phase.instance:
                self._on_lost(phase.runtime_id, phase.instance, "it was restarted")

    def infos(self) -> tuple[messages.RuntimeInfo, ...]:
        """What the planner knows of each runtime."""
        return tuple(
            messages.RuntimeInfo(
                runtime_id=beat.runtime_id,
                state=beat.state,
                slots=beat.slots,
                in_use=self._fleet.in_use(beat.runtime_id),
                labels=beat.labels,
                executors=beat.executors,
                handlers=beat.handlers,
                capabilities=beat.capabilities,
                host=beat.host,
                version=beat.version,
            )
            for beat in self._infos.values()
        )

    async def _on_heartbeat(self, message: Msg) -> None:
        parsed = subjects.parse_runtime(message.subject)
        try:
            beat = decode(message.data, messages.Heartbeat)
        except InvalidMessage as error:
            log.warning("runtime.unreadable", subject=message.subject, error=str(error))
            return
        if parsed is None or parsed[0] != beat.runtime_id:
            log.warning("runtime.wrong_name", subject=message.subject, runtime=beat.runtime_id)
            return
        known = self._fleet.runtimes.get(beat.runtime_id)
        if known is not None and known.instance != beat.instance:
            self._lose(beat.runtime_id, known.instance, "it was restarted")
        if beat.state == "gone":
            self._lose(beat.runtime_id, beat.instance, "it left")
            return
        for runtime_id, instance in [key for key in self._expected if key[0] == beat.runtime_id]:
            del self._expected[(runtime_id, instance)]
            if instance != beat.instance:
                self._on_lost(runtime_id, instance, "it was restarted")
        self._leases[beat.runtime_id] = now_ms() + beat.lease_ms
        self._infos[beat.runtime_id] = beat
        if self._fleet.put(_runtime(beat)):
            log.info("runtime.seen", runtime=beat.runtime_id, state=beat.state, slots=beat.slots)
            self._on_change()

    def _expire(self, now: int) -> None:
        for runtime_id, until in list(self._leases.items()):
            if until < now:
                self._lose(runtime_id, self._fleet.runtimes[runtime_id].instance, "its lease ran out")
        for (runtime_id, instance), until in list(self._expected.items()):
            if until < now:
                del self._expected[(runtime_id, instance)]
                self._on_lost(runtime_id, instance, "it was never heard of again")

    def _lose(self, runtime_id: str, instance: str, reason: str) -> None:
        log.warning("runtime.lost", runtime=runtime_id, reason=reason)
        self._fleet.remove(runtime_id)
        self._leases.pop(runtime_id, None)
        self._infos.pop(runtime_id, None)
        self._on_lost(runtime_id, instance, reason)
        self._on_change()


def _runtime(beat: messages.Heartbeat) -> Runtime:
    return Runtime(
        id=beat.runtime_id,
        instance=beat.instance,
        slots=max(0, beat.slots),
        labels=beat.labels,
        handlers=beat.handlers,
        executors=frozenset(beat.executors),
        capabilities=frozenset(beat.capabilities),
        takes_new=beat.state == "ready",
    )
