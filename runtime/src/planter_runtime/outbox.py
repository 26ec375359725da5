"""Acks and reports on their way: kept until a stream has confirmed them, many in one message.

Per session one flush is under way at a time; what comes meanwhile collects for the next one. A final report
that finds the ack or the running report of its attempt still unsent takes their place, for it implies both.
"""

import asyncio
from collections.abc import Iterable, Iterator

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from planter_protocol import subjects
from planter_protocol.codec import encode
from planter_protocol.messages import Ack, Report
from planter_runtime.publishing import CONCURRENT_MAX, Publisher

log = structlog.get_logger(__name__)

MESSAGE_BYTES_MAX = 256 * 1024
LINGER_SECONDS = 0.003
"""Acks and running reports wait this long for a final report that makes them needless."""

_Key = tuple[str, int | None]


class _Box:
    """What one session still has to say."""

    __slots__ = ("acks", "beats", "final", "reports")

    def __init__(self) -> None:
        self.acks: dict[_Key, Ack] = {}
        self.reports: dict[_Key, Report] = {}
        self.beats: dict[_Key, Report] = {}
        self.final = asyncio.Event()

    def report(self, report: Report) -> None:
        """Put a report in. Of several heartbeats the newest stays; with a last word only details do."""
        key = (report.phase_id, report.fence)
        if report.status == "heartbeat":
            self.beats[key] = report
            return
        if report.status != "running":
            beat = self.beats.get(key)
            if beat is not None and (report.status == "complete" or beat.details is msgspec.UNSET):
                del self.beats[key]
            self.acks.pop(key, None)
            self.reports.pop(key, None)  # so that it goes to the end
            self.final.set()
        self.reports[key] = report

    def take(self) -> tuple[list[Ack], list[Report]]:
        """Everything in it; it is empty afterwards."""
        taken = list(self.acks.values()), [*self.beats.values(), *self.reports.values()]
        self.acks, self.reports, self.beats, self.final = {}, {}, {}, asyncio.Event()
        return taken


class Outbox:
    """Takes acks and reports at once; sends them in the order of their session, acks first."""

    def __init__(self, publisher: Publisher, tasks: TaskGroup) -> None:
        self._publisher = publisher
        self._tasks = tasks
        self._boxes: dict[str, _Box] = {}
        #: Boxes with something in them, and who empties them: workers live on, for a task costs more.
        self._full: asyncio.Queue[tuple[str, _Box]] = asyncio.Queue()
        self._workers = self._resting = 0
        self._empty = anyio.Event()
        self._empty.set()

    def ack(self, session: str, ack: Ack) -> None:
        """Send an ack."""
        self._box(session).acks[(ack.phase_id, ack.fence)] = ack

    def report(self, session: str, report: Report) -> None:
        """Send a report."""
        self._box(session).report(report)

    async def drained(self) -> None:
        """Wait until everything has been confirmed."""
        while self._boxes:
            await self._empty.wait()

    @property
    def sessions(self) -> int:
        """Sessions with something unconfirmed."""
        return len(self._boxes)

    def _box(self, session: str) -> _Box:
        box = self._boxes.get(session)
        if box is None:
            if not self._boxes:
                self._empty = anyio.Event()
            box = self._boxes[session] = _Box()
            self._full.put_nowait((session, box))
            if self._full.qsize() > self._resting and self._workers < CONCURRENT_MAX:
                self._workers += 1
                self._tasks.start_soon(self._work)
        return box

    async def _work(self) -> None:
        """Empty whatever box has something in it, until cancelled."""
        while True:
            self._resting += 1
            session, box = await self._full.get()
            self._resting -= 1
            try:
                await self._flush(session, box)
            except Exception:  # our bug, and no reason to end all that runs
                log.exception("outbox.broken", session=session)
                self._put_away(session)

    async def _flush(self, session: str, box: _Box) -> None:
        while box.acks or box.reports or box.beats:
            if not box.final.is_set():
                with anyio.move_on_after(LINGER_SECONDS):
                    await box.final.wait()
            acks, reports = box.take()
            for message in messages(b"acks", map(encode, acks)):
                await self._publisher.confirmed(subjects.ack(session), message)
            for message in messages(b"reports", map(encode, reports)):
                await self._publisher.confirmed(subjects.report(session), message)
        self._put_away(session)

    def _put_away(self, session: str) -> None:
        del self._boxes[session]
        if not self._boxes:
            self._empty.set()


def messages(name: bytes, items: Iterable[bytes]) -> Iterator[bytes]:
    """JSON objects as messages of at most ``MESSAGE_BYTES_MAX``: one as it is, several as a list ``name``."""
    portion: list[bytes] = []
    size = 0
    for item in items:
        if portion and size + len(item) + 1 > MESSAGE_BYTES_MAX - 64:
            yield _message(name, portion)
            portion, size = [], 0
        portion.append(item)
        size += len(item) + 1
    if portion:
        yield _message(name, portion)


def _message(name: bytes, portion: list[bytes]) -> bytes:
    return portion[0] if len(portion) == 1 else b'{"%b":[%b]}' % (name, b",".join(portion))
