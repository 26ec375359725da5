"""Which planners are alive: each says so twice a second; silence for a second and a half means gone.

A planner that knows of no other has nobody who would miss it: it says so seldom, and at once when one comes.
"""

from collections.abc import Callable

import anyio
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter.shell.clock import monotonic_ms
from planter.shell.partitions import owned_by
from planter_protocol import messages, subjects
from planter_protocol.codec import decode, encode
from planter_protocol.errors import InvalidMessage

log = structlog.get_logger(__name__)

BEAT_SECONDS = 0.5
ALONE_SECONDS = 2.0
GONE_MS = 1_500


class Presence:
    """Keeps the list of members and says which partitions are ours whenever that changes."""

    def __init__(
        self,
        nc: Client,
        planner_id: str,
        on_owned: Callable[[frozenset[int]], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._nc = nc
        self._id = planner_id
        self._on_owned = on_owned
        self._on_gone = on_gone
        self._members: dict[str, int] = {}
        self._owned: frozenset[int] = frozenset()
        self._hurry = anyio.Event()

    async def start(self) -> None:
        """Listen, say that we are there, and own what falls to us until others are heard of."""
        await self._nc.subscribe(subjects.PLANNER_PRESENCE_WILDCARD, cb=self._on_presence)
        await self._say()
        self._update()

    async def run(self) -> None:
        """Say it again and forget the silent, until cancelled."""
        while True:
            with anyio.move_on_after(BEAT_SECONDS if self._members else ALONE_SECONDS):
                await self._hurry.wait()
            self._hurry = anyio.Event()
            await self._say()
            now = monotonic_ms()
            gone = [member for member, seen in self._members.items() if now - seen > GONE_MS]
            for member in gone:
                log.info("planner.gone", planner=member)
                del self._members[member]
            self._update()
            if gone:
                self._on_gone()

    def reconnected(self) -> None:
        """Others may have missed us while the server was away."""
        self._hurry.set()

    async def leave(self) -> None:
        """Say that we go, so that the others take over at once."""
        await self._say(leaving=True)

    async def _say(self, *, leaving: bool = False) -> None:
        presence = messages.Presence(planner_id=self._id, leaving=leaving)
        await self._nc.publish(subjects.planner_presence(self._id), encode(presence))

    async def _on_presence(self, message: Msg) -> None:
        try:
            presence = decode(message.data, messages.Presence)
        except InvalidMessage as error:
            log.warning("planner.unreadable", subject=message.subject, error=str(error))
            return
        if presence.planner_id == self._id:
            return
        if presence.leaving:
            if self._members.pop(presence.planner_id, None) is not None:
                self._update()
                self._on_gone()
            return
        newcomer = presence.planner_id not in self._members
        self._members[presence.planner_id] = monotonic_ms()
        if newcomer:
            log.info("planner.seen", planner=presence.planner_id)
            self._hurry.set()  # it should not wait for us
            self._update()

    def _update(self) -> None:
        owned = owned_by(self._id, self._members)
        if owned != self._owned:
            self._owned = owned
            self._on_owned(owned)
