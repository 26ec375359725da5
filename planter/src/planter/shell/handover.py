"""Handing sessions over: who knows of commits that the session's owner may have missed says so until heard.

An owner learns of its sessions when their partition becomes its own. What another planner commits after that,
because an input had been sent to it before, or because the two did not see each other for a while, would be
nobody's to watch over: its timers would never fire.
"""

from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from planter.shell.partitions import partition_of
from planter_protocol import messages, subjects
from planter_protocol.codec import decode, encode
from planter_protocol.errors import InvalidMessage
from planter_protocol.names import is_token

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 1.0
_PAUSE_SECONDS = 0.25
_SESSIONS_MAX = 2_000
"""In one message."""


class Handover:
    """Gives sessions away and takes them."""

    def __init__(
        self, nc: Client, tasks: TaskGroup, owns: Callable[[str], bool], take_over: Callable[[str, int], None]
    ) -> None:
        self._nc = nc
        self._tasks = tasks
        self._owns = owns
        self._take_over = take_over
        #: Session id to the journal sequence that its owner has to know.
        self._leaving: dict[str, int] = {}
        self._busy = False

    async def start(self) -> None:
        """Listen."""
        await self._nc.subscribe(subjects.PLANNER_HANDOVER, cb=self._on_handover)

    def give(self, session_id: str, sequence: int) -> None:
        """See to it that the session's owner knows it up to this journal sequence."""
        self._leaving[session_id] = max(sequence, self._leaving.get(session_id, 0))
        if not self._busy:
            self._busy = True
            self._tasks.start_soon(self._run)

    async def _run(self) -> None:
        while self._leaving:
            by_partition: dict[int, dict[str, int]] = {}
            for session_id, sequence in list(self._leaving.items()):
                if self._owns(session_id):  # it has become ours meanwhile
                    del self._leaving[session_id]
                    self._take_over(session_id, sequence)
                    continue
                portion = by_partition.setdefault(partition_of(session_id), {})
                if len(portion) < _SESSIONS_MAX:
                    portion[session_id] = sequence
            for portion in by_partition.values():  # each partition has one owner, who answers
                await self._offer(portion)
            if self._leaving:
                await anyio.sleep(_PAUSE_SECONDS)
        self._busy = False

    async def _offer(self, sessions: dict[str, int]) -> None:
        data = encode(messages.Handover(sessions=sessions))
        try:
            await self._nc.request(subjects.PLANNER_HANDOVER, data, timeout=_ANSWER_SECONDS)
        except (TimeoutError, NatsError):
            return  # nobody owns them at the moment, or nobody could be reached
        for session_id, sequence in sessions.items():
            if self._leaving.get(session_id) == sequence:
                del self._leaving[session_id]

    async def _on_handover(self, message: Msg) -> None:
        try:
            sessions = decode(message.data, messages.Handover).sessions
        except InvalidMessage as error:
            log.warning("handover.unreadable", error=str(error))
            return
        if not all(is_token(session_id) for session_id in sessions):
            log.warning("handover.unreadable", error="it names a session whose id is not valid")
            return
        if sessions and all(self._owns(session_id) for session_id in sessions):
            for session_id, sequence in sessions.items():
                self._take_over(session_id, sequence)
            await self._nc.publish(message.reply, b"{}")
