"""Handing sessions over: whoever commits for a session that is not its own tells the owner, until it listens.

An owner learns of its sessions when their partition becomes its own. A commit that another planner made at about
that time may have come too late for it: nobody would watch over the session's timers.
"""

from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from planter_protocol import messages, subjects
from planter_protocol.codec import decode, encode
from planter_protocol.errors import InvalidMessage

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 1.0


class Handover:
    """Gives sessions away and takes them."""

    def __init__(
        self, nc: Client, tasks: TaskGroup, owns: Callable[[str], bool], take_over: Callable[[str], None]
    ) -> None:
        self._nc = nc
        self._tasks = tasks
        self._owns = owns
        self._take_over = take_over
        self._giving: set[str] = set()

    async def start(self) -> None:
        """Listen."""
        await self._nc.subscribe(subjects.PLANNER_HANDOVER, cb=self._on_handover)

    def give(self, session_id: str) -> None:
        """Tell the session's owner that there is something new to watch over."""
        if session_id not in self._giving:
            self._giving.add(session_id)
            self._tasks.start_soon(self._give, session_id)

    async def _give(self, session_id: str) -> None:
        data = encode(messages.Handover(session_id=session_id))
        while not self._owns(session_id):
            try:
                await self._nc.request(subjects.PLANNER_HANDOVER, data, timeout=_ANSWER_SECONDS)
            except (TimeoutError, NatsError):
                await anyio.sleep(_ANSWER_SECONDS / 4)  # nobody owns it now, or nobody could be reached
            else:
                self._giving.discard(session_id)
                return
        self._giving.discard(session_id)
        self._take_over(session_id)  # it has become ours meanwhile

    async def _on_handover(self, message: Msg) -> None:
        try:
            session_id = decode(message.data, messages.Handover).session_id
        except InvalidMessage as error:
            log.warning("handover.unreadable", error=str(error))
            return
        if self._owns(session_id):
            self._take_over(session_id)
            await self._nc.publish(message.reply, b"{}")
