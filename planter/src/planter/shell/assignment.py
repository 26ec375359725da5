"""The partitions that this planner takes inputs from: pulls begin and end as planners come and go."""

from collections.abc import Callable
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from planter.core.status import SESSION_TERMINAL
from planter.shell.host import SessionHost
from planter.shell.intake import Delivery, Puller
from planter.shell.partitions import partition_of
from planter.shell.records import read_record
from planter_protocol import assets
from planter_protocol.errors import ProtocolError
from planter_protocol.reading import read_subject

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5


class Assignment:
    """Pulls what is ours, and takes over the sessions of partitions that become ours."""

    def __init__(
        self,
        nc: Client,
        js: JetStreamContext,
        tasks: TaskGroup,
        host: SessionHost,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        self._nc = nc
        self._js = js
        self._tasks = tasks
        self._host = host
        self._on_delivery = on_delivery
        self._pullers: dict[int, Puller] = {}

    def own(self, partitions: frozenset[int]) -> None:
        """From now on these are ours, and no others."""
        gained = partitions.difference(self._pullers)
        self._host.own(partitions)
        for number in set(self._pullers).difference(partitions):
            self._pullers.pop(number).stop()
        for number in sorted(gained):
            puller = Puller(
                self._nc,
                assets.IN,
                assets.consumer_name(number),
                self._on_delivery,
                partial(self._host.has_room, number),
            )
            self._pullers[number] = puller
            self._tasks.start_soon(puller.run)
        log.info("planner.assigned", partitions=len(partitions), gained=len(gained))
        if gained:
            self._tasks.start_soon(self._take_over, gained, self._host.take_over)

    def look_again(self) -> None:
        """A planner is gone: whatever it began for us and could not tell us of any more is in the listing."""
        if self._pullers:
            self._tasks.start_soon(self._take_over, frozenset(self._pullers), self._host.look_after)

    def stop(self) -> None:
        """Take no more inputs."""
        for puller in self._pullers.values():
            puller.stop()

    def reconnected(self) -> None:
        """The server has forgotten our pulls."""
        for puller in self._pullers.values():
            puller.reconnected()

    async def _take_over(self, gained: frozenset[int], take: Callable[[str, int], None]) -> None:
        """Go on with the sessions of these partitions that are not over; their records say which."""
        while True:
            try:
                active = await self._active(gained)
            except (TimeoutError, ProtocolError, NatsError) as error:
                log.warning("planner.takeover_late", error=str(error) or type(error).__name__)
            else:
                break
            await anyio.sleep(_RETRY_SECONDS)  # the server is away, or what answers is behind
        if active:
            log.info("planner.recovering", sessions=len(active))
        for session_id, sequence in active.items():
            if self._host.owns(session_id):  # not given away meanwhile
                take(session_id, sequence)

    async def _active(self, gained: frozenset[int]) -> dict[str, int]:
        """Sessions that are not over, and the journal sequence that each had at least.

        Any replica answers a listing, also one that lags; only the leader knows how far it has to reach.

        Raises:
            ProtocolError: it does not reach that far.
        """
        stream, pattern = f"KV_{assets.SESSIONS_BUCKET}", f"$KV.{assets.SESSIONS_BUCKET}.>"
        newest, reached = await _last_sequence(self._js, stream, pattern), 0
        active: dict[str, int] = {}
        async for stored in read_subject(self._nc, stream, pattern):
            reached = max(reached, stored.sequence)
            found = read_record(stored)
            if found is None or partition_of(found[0]) not in gained:
                continue
            session_id, record = found
            if record is None:
                active[session_id] = 0  # its journal knows
            elif record.status not in SESSION_TERMINAL:
                active[session_id] = record.sequence
        if reached < newest:
            raise ProtocolError(f"the listing was read up to {reached}, and its leader has {newest}")
        return active


async def _last_sequence(js: JetStreamContext, stream: str, pattern: str) -> int:
    try:
        return int((await js.get_last_msg(stream, pattern)).seq or 0)
    except NotFoundError:
        return 0
