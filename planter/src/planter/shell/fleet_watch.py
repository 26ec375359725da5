"""Heartbeats in, a fleet out: who is there, who is gone, who was somebody else a moment ago."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from planter.core.fleet import Fleet, Runtime
from planter.core.session import Session
from planter.core.status import PHASE_OPEN
from planter.shell.clock import monotonic_ms
from planter_protocol import messages, subjects
from planter_protocol.codec import decode, encode
from planter_protocol.errors import InvalidMessage
from planter_protocol.inline import subscribe_inline

log = structlog.get_logger(__name__)

FACTS_BYTES_MAX = 128 * 1024
"""Of what a runtime says of itself, but for what it holds."""
INFOS_BYTES_MAX = 768 * 1024
LEASE_MS_MIN, LEASE_MS_MAX, SLOTS_MAX = 100, 24 * 3_600_000, 1_000_000
_CHECK_SECONDS = 1.0
_DEAF_MS = 4_000
"""A check that comes this late means that the process stood still."""
UNKNOWN_LEASE_MS = 15_000
"""A runtime that a journal names but that has not been heard of gets this long."""
LEFT_MS = 3_000
"""Who says that it leaves has reported everything before; reports may still be on their way here."""


class Sessions(Protocol):
    """Who wants to know about runtimes."""

    def fleet_changed(self) -> None:
        """Placement may have changed."""

    def runtime_lost(self, runtime_id: str, instance: str, reason: str) -> None:
        """A life of a runtime is over."""

    def disowned(self, held: Sequence[messages.Held]) -> list[messages.Held]:
        """Those of a runtime's attempts that are not its own any more."""
        ...

    def unheard(self, runtime_id: str, instance: str, held: Sequence[messages.Held]) -> None:
        """All that a runtime holds: what it has taken and does not name is to be asked for again."""


class FleetWatch:
    """Keeps the fleet true, and tells when a life of a runtime has ended."""

    def __init__(self, nc: Client, fleet: Fleet, sessions: Sessions) -> None:
        self._nc = nc
        self._fleet = fleet
        self._sessions = sessions
        self._leases: dict[str, int] = {}
        self._expected: dict[tuple[str, str], int] = {}
        #: Lives of runtimes that have ended by themselves, and when what they have not reported is lost.
        self._left: dict[tuple[str, str], int] = {}
        self._infos: dict[str, messages.Heartbeat] = {}
        self._tasks: TaskGroup | None = None

    async def start(self, tasks: TaskGroup) -> None:
        """Listen, and ask every runtime to say who it is.

        Heartbeats are handled where they are read, as inputs are: one that came before a start is known when
        the start is decided.
        """
        self._tasks = tasks
        await subscribe_inline(self._nc, subjects.RUNTIME_HEARTBEAT_WILDCARD, self._on_heartbeat)
        await self.discover()

    async def discover(self) -> None:
        """Ask every runtime for its heartbeat now."""
        await self._nc.publish(subjects.RUNTIME_DISCOVER, b"")

    async def run(self) -> None:
        """End the leases that ran out, until cancelled.

        Silence counts only while we could have heard: not while the server was away, and not while this
        process itself stood still.
        """
        checked = monotonic_ms()
        while True:
            await anyio.sleep(_CHECK_SECONDS)
            now = monotonic_ms()
            deaf = now - checked > _DEAF_MS or not self._nc.is_connected
            if deaf:
                self.forgive(now)
            else:
                self._expire(now)
            checked = now

    def forgive(self, now: int) -> None:
        """Nobody could be heard for a while: every lease begins anew."""
        for runtime_id, beat in self._infos.items():
            self._leases[runtime_id] = now + beat.lease_ms
        for key in self._expected:
            self._expected[key] = now + UNKNOWN_LEASE_MS
        for key in self._left:
            self._left[key] = now + LEFT_MS

    def expect(self, session: Session) -> None:
        """A session read from its journal names runtimes: each must show up, as the same life, or is lost."""
        for phase in session.phases:
            if phase.status not in PHASE_OPEN or phase.instance is None or phase.runtime_id is None:
                continue
            known = self._fleet.runtimes.get(phase.runtime_id)
            if known is None:
                self._expected.setdefault(
                    (phase.runtime_id, phase.instance), monotonic_ms() + UNKNOWN_LEASE_MS
                )
            elif known.instance != phase.instance and (phase.runtime_id, phase.instance) not in self._left:
                self._sessions.runtime_lost(phase.runtime_id, phase.instance, "it was restarted")

    def infos(self) -> tuple[messages.RuntimeInfo, ...]:
        """What the planner knows of each runtime, of as many as a message has room for."""
        found: list[messages.RuntimeInfo] = []
        size = 0
        for beat in self._infos.values():
            info = messages.RuntimeInfo(
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
            size += len(encode(info)) + 1
            if size > INFOS_BYTES_MAX:
                break
            found.append(info)
        return tuple(found)

    def _on_heartbeat(self, message: Msg) -> None:
        assert self._tasks is not None, "nothing is heard before the start"
        parsed = subjects.parse_runtime(message.subject)
        try:
            beat = decode(message.data, messages.Heartbeat)
        except InvalidMessage as error:
            log.warning("runtime.unreadable", subject=message.subject, error=str(error))
            return
        if parsed is None or parsed[0] != beat.runtime_id:
            log.warning("runtime.wrong_name", subject=message.subject, runtime=beat.runtime_id)
            return
        if len(encode((beat.labels, beat.handlers, beat.executors, beat.capabilities))) > FACTS_BYTES_MAX:
            log.warning("runtime.too_large", runtime=beat.runtime_id, bytes_max=FACTS_BYTES_MAX)
            return
        beat = _within_bounds(beat)
        known = self._fleet.runtimes.get(beat.runtime_id)
        if known is not None and known.instance != beat.instance:
            self._lose(beat.runtime_id, known.instance, "it was restarted")
        if beat.state == "gone":
            self._leave(beat.runtime_id, beat.instance)
            return
        self._left.pop((beat.runtime_id, beat.instance), None)
        for runtime_id, instance in [key for key in self._expected if key[0] == beat.runtime_id]:
            del self._expected[(runtime_id, instance)]
            if instance != beat.instance:
                self._sessions.runtime_lost(runtime_id, instance, "it was restarted")
        self._leases[beat.runtime_id] = monotonic_ms() + beat.lease_ms
        self._infos[beat.runtime_id] = beat
        if self._fleet.put(_runtime(beat)):
            log.info("runtime.seen", runtime=beat.runtime_id, state=beat.state, slots=beat.slots)
            self._sessions.fleet_changed()
        for held in self._sessions.disowned(beat.held):
            self._tasks.start_soon(self._take_back, beat.runtime_id, held)
        if beat.held_all:
            self._sessions.unheard(beat.runtime_id, beat.instance, beat.held)

    async def _take_back(self, runtime_id: str, held: messages.Held) -> None:
        """A runtime that was away works on what others have got since: tell it to stop."""
        log.info("attempt.taken_back", runtime=runtime_id, session=held.session_id, phase=held.phase_id)
        message = messages.RuntimeControl(
            command="cancel",
            session_id=held.session_id,
            phase_id=held.phase_id,
            attempt=held.attempt,
            fence=held.fence,
            reason="the attempt is no longer yours",
        )
        with suppress(NatsError):  # its next heartbeat names it again
            await self._nc.publish(subjects.runtime_control(runtime_id), encode(message))

    def _expire(self, now: int) -> None:
        for runtime_id, until in list(self._leases.items()):
            beat = self._infos[runtime_id]
            if until < now:
                self._lose(runtime_id, beat.instance, "its lease ran out")
            elif until - now < beat.lease_ms // 2 and self._fleet.runtimes[runtime_id].takes_new:
                # Suspect: it keeps what it has, and gets nothing new until it is heard again.
                log.warning("runtime.suspect", runtime=runtime_id)
                self._fleet.put(msgspec.structs.replace(_runtime(beat), takes_new=False))
        for (runtime_id, instance), until in list(self._expected.items()):
            if until < now:
                del self._expected[(runtime_id, instance)]
                self._sessions.runtime_lost(runtime_id, instance, "it was never heard of again")
        for (runtime_id, instance), until in list(self._left.items()):
            if until < now:
                del self._left[(runtime_id, instance)]
                self._sessions.runtime_lost(runtime_id, instance, "it left")

    def _leave(self, runtime_id: str, instance: str) -> None:
        """It gets nothing more; what it has reported comes in before anything of it is given to others."""
        log.info("runtime.left", runtime=runtime_id)
        self._forget(runtime_id)
        self._left.setdefault((runtime_id, instance), monotonic_ms() + LEFT_MS)
        self._sessions.fleet_changed()

    def _lose(self, runtime_id: str, instance: str, reason: str) -> None:
        log.warning("runtime.lost", runtime=runtime_id, reason=reason)
        self._forget(runtime_id)
        self._sessions.runtime_lost(runtime_id, instance, reason)
        self._sessions.fleet_changed()

    def _forget(self, runtime_id: str) -> None:
        self._fleet.remove(runtime_id)
        self._leases.pop(runtime_id, None)
        self._infos.pop(runtime_id, None)


def _within_bounds(beat: messages.Heartbeat) -> messages.Heartbeat:
    """Numbers as a runtime can mean them: what a stranger says must not last for ever."""
    lease, slots = min(max(beat.lease_ms, LEASE_MS_MIN), LEASE_MS_MAX), min(max(beat.slots, 0), SLOTS_MAX)
    if (lease, slots) == (beat.lease_ms, beat.slots):
        return beat
    return msgspec.structs.replace(beat, lease_ms=lease, slots=slots)


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
        host=beat.host,
        version=beat.version,
    )
