"""Snapshots of sessions in the bucket PLANTER_SNAPSHOTS: a cache, so that long journals are not read whole.

A snapshot names the journal record that it includes last, by sequence, number and id; it counts only while
the journal has exactly that record. Else, and when anything about it is wrong, the journal is folded from its
beginning, which gives the same state. It is written after the effects of a step, seldom enough that the work
stays in proportion to what a session does; above the message limit in several messages.
"""

import hashlib
import zlib

import anyio
import anyio.to_thread
import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from planter.core import Session
from planter.core.snapshot import Snapshot, decode, encode, take
from planter.core.status import SESSION_TERMINAL
from planter.shell.failpoints import passing
from planter_protocol import assets, headers
from planter_protocol.names import random_token
from planter_protocol.reading import last_message, read_subject

log = structlog.get_logger(__name__)

RECORDS = 64
"""Shorter journals are read as they are; a snapshot is due after so many further records,"""
EVENTS = 5_000
"""or after so many further events; both more for large sessions, of which each snapshot costs more."""
_PHASES_A_RECORD = 25
_PHASES_AN_EVENT = 2
_THREAD_FROM_PHASES = 2_000
_CHUNK_BYTES = 512 * 1024
_FORMAT = 1
STATE_BYTES_MAX = 256 * 1024 * 1024
"""No state is so large: a bomb."""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot as stored."""

    format: int
    sha256: bytes
    """Of ``state``."""
    state: bytes
    """``core.snapshot``, compressed with zlib."""


class Progress(msgspec.Struct):
    """What a session has had since its newest snapshot."""

    commits: int = 0
    """Included in the snapshot."""
    events: int = 0
    """Since then."""


class Snapshots:
    """Writes and reads snapshots."""

    def __init__(self, nc: Client, js: JetStreamContext) -> None:
        self._nc = nc
        self._js = js
        self._progress: dict[str, Progress] = {}
        self._waiting: dict[str, bytes] = {}
        self._news = anyio.Event()

    async def stepped(self, session: Session, events: int) -> None:
        """A step is done, effects and all: take a snapshot if one is due.

        Nobody may change the session before this returns.
        """
        progress = self._progress.setdefault(session.id, Progress())
        progress.events += events
        if not _is_due(session, progress):
            return
        progress.commits, progress.events = session.commits, 0
        try:
            if len(session.phases) < _THREAD_FROM_PHASES:
                data = pack(session)
            else:
                data = await anyio.to_thread.run_sync(pack, session)
        except Exception:
            log.exception("snapshot.broken", session=session.id)  # our bug, and no reason to stop the session
            return
        if data is not None:
            self._waiting[session.id] = data
            self._news.set()

    def forget(self, session_id: str) -> None:
        """The session has left this planner's memory."""
        self._progress.pop(session_id, None)

    async def run(self) -> None:
        """Store what was taken, until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._waiting:
                session_id, data = next(iter(self._waiting.items()))
                del self._waiting[session_id]
                passing("snapshot.write")
                try:
                    await self._store(session_id, data)
                except (TimeoutError, NatsError) as error:  # the next one will do
                    log.warning("snapshot.lost", session=session_id, error=str(error) or type(error).__name__)
                passing("snapshot.written")

    async def read(self, session_id: str) -> Snapshot | None:
        """The session's snapshot, if all of one is there; whether it is true is yet to be seen."""
        try:
            data = await self._fetch(session_id)
            found = unpack(data) if data is not None else None
        except Exception as error:  # whatever it is: the journal has everything
            log.info("snapshot.ignored", session=session_id, reason=str(error) or type(error).__name__)
            return None
        if found is not None:
            self._progress[session_id] = Progress(commits=found.commits)
        return found

    async def _store(self, session_id: str, data: bytes) -> None:
        token = random_token(8)
        parts = [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]
        for number, part in reversed(
            list(enumerate(parts))
        ):  # the first one last: it says that all are there
            await self._js.publish(
                assets.snapshot_subject(session_id, number),
                part,
                timeout=5,
                headers={headers.SNAPSHOT: f"{token} {len(parts)}"},
            )

    async def _fetch(self, session_id: str) -> bytes | None:
        stream = f"KV_{assets.SNAPSHOTS_BUCKET}"
        first = await last_message(self._nc, stream, assets.snapshot_subject(session_id, 0))
        if first is None:
            return None
        mark = first.headers.get(headers.SNAPSHOT, "")
        count = int(mark.rpartition(" ")[2])
        parts = {first.subject: first.data}
        if count > 1:
            every = assets.snapshot_subject(session_id, "*")
            async for stored in read_subject(self._nc, stream, every):
                if stored.headers.get(headers.SNAPSHOT) == mark:
                    parts[stored.subject] = stored.data
        if len(parts) != count:
            raise ValueError(f"{len(parts)} of {count} parts are there")
        return b"".join(parts[assets.snapshot_subject(session_id, number)] for number in range(count))


def pack(session: Session) -> bytes | None:
    """A session's snapshot as stored."""
    taken = take(session)
    if taken is None:
        return None
    state = zlib.compress(encode(taken), 1)
    return msgspec.msgpack.encode(Envelope(_FORMAT, hashlib.sha256(state).digest(), state))


def unpack(data: bytes) -> Snapshot:
    """A snapshot from what was stored.

    Raises:
        ValueError, zlib.error: it is damaged, or of another format.
    """
    envelope = msgspec.msgpack.decode(data, type=Envelope)
    if envelope.format != _FORMAT:
        raise ValueError(f"format {envelope.format}")
    if hashlib.sha256(envelope.state).digest() != envelope.sha256:
        raise ValueError("the checksum is another")
    unpacking = zlib.decompressobj()
    state = unpacking.decompress(envelope.state, STATE_BYTES_MAX)
    if not unpacking.eof:
        raise ValueError(f"it has more than {STATE_BYTES_MAX:,} bytes, or is cut off")
    return decode(state)


def _is_due(session: Session, progress: Progress) -> bool:
    records = session.commits - progress.commits
    if session.commits < RECORDS or records == 0 or session.tombstone:
        return False
    if session.status in SESSION_TERMINAL:
        return records >= RECORDS // 4
    phases = len(session.phases)
    return records >= max(RECORDS, phases // _PHASES_A_RECORD) or progress.events >= max(
        EVENTS, phases // _PHASES_AN_EVENT
    )
