"""Ended sessions are forgotten after a while, by age and by number; their ids stay taken.

A session is purged by a commit like any other (``SessionPurged``), so a start at the same moment either comes
first and keeps it, or is refused. Only then everything before that record is removed. What a planner leaves
undone that ends in between is done by the next sweep: the session stands in the listing until all is gone.
"""

from datetime import datetime

import anyio
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from planter.core import inputs as i
from planter.core.status import SESSION_TERMINAL
from planter.shell.clock import Clock
from planter.shell.host import SessionHost
from planter.shell.records import read_record
from planter_protocol import assets, messages
from planter_protocol.errors import ProtocolError
from planter_protocol.reading import read_subject

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 60.0
SWEEP_MAX = 1_000
"""Sessions purged in one sweep; the next one takes the rest."""


class Retention:
    """Looks once a minute for sessions of ours that are over for too long, or too many."""

    def __init__(
        self, nc: Client, host: SessionHost, retain_seconds: float | None, retain_sessions: int | None
    ) -> None:
        self._nc = nc
        self._host = host
        self._seconds = retain_seconds
        self._sessions = retain_sessions
        self._clock = Clock()

    async def run(self) -> None:
        """Sweep until cancelled."""
        if self._seconds is None and self._sessions is None:
            return
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            try:
                await self._sweep()
            except (TimeoutError, NatsError, ProtocolError) as error:
                log.info("retention.late", error=str(error) or type(error).__name__)

    async def _sweep(self) -> None:
        bucket = assets.SESSIONS_BUCKET
        ended: list[messages.SessionRecord] = []
        async for stored in read_subject(self._nc, f"KV_{bucket}", f"$KV.{bucket}.>"):
            _, record = read_record(stored) or ("", None)
            if record is not None and record.status in SESSION_TERMINAL:
                ended.append(record)
        doomed = [record for record in self._doomed(ended) if self._host.owns(record.session_id)]
        for record in doomed[:SWEEP_MAX]:
            self._host.tell(record.session_id, i.Forget(known=record.sequence))
        if doomed:
            log.info("retention.purging", sessions=len(doomed[:SWEEP_MAX]))

    def _doomed(self, ended: list[messages.SessionRecord]) -> list[messages.SessionRecord]:
        """Oldest first."""
        ended.sort(key=lambda record: record.updated or "")
        too_many = len(ended) - self._sessions if self._sessions is not None else 0
        now = self._clock.now_ms()
        return [
            record
            for number, record in enumerate(ended)
            if number < too_many or (self._seconds is not None and _age(record, now) > self._seconds)
        ]


def _age(record: messages.SessionRecord, now_ms: int) -> float:
    """Seconds since the session's last change."""
    try:
        return now_ms / 1000 - datetime.fromisoformat(record.updated or "").timestamp()
    except ValueError:
        return 0.0
