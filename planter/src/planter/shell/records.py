"""Session records in the bucket PLANTER_SESSIONS: derived from the journal, for listings and for recovery."""

from typing import NamedTuple

import anyio
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from planter.core.session import Session
from planter.core.status import SESSION_TERMINAL, PhaseStatus
from planter.shell.failpoints import passing
from planter_protocol import assets, headers, messages
from planter_protocol.codec import decode, encode, timestamp
from planter_protocol.confirming import Confirmed
from planter_protocol.errors import InvalidMessage
from planter_protocol.names import is_token
from planter_protocol.reading import Stored

log = structlog.get_logger(__name__)

_REFRESH_SECONDS = 0.5
_TRIES = 3


class RecordWriter:
    """Writes a record at once when a session begins or ends, and now and then while its counts change.

    A record says which journal sequence it includes, and is never replaced by one that includes less:
    planners that were overtaken may write late.
    """

    def __init__(self, nc: Client, js: JetStreamContext) -> None:
        self._confirmed = Confirmed(nc)
        self._js = js
        #: Status and revision that were written at once, or were to be, and those that are stored.
        self._tried: dict[str, tuple[str, int]] = {}
        self._stored: dict[str, tuple[str, int]] = {}
        #: Revision of the record in the bucket and the journal sequence that it includes, as far as we know.
        self._known: dict[str, tuple[int, int]] = {}
        self._dirty: dict[str, _Facts] = {}
        self._is_dirty = anyio.Event()

    async def update(self, session: Session, *, anew: bool = False) -> None:
        """Take note of a session's new state; returns when a change that recovery needs is stored.

        Should the bucket not answer, the record is written later.

        Args:
            session: after a step.
            anew: it was read from its journal, so that others may have written its record meanwhile.
        """
        if anew:
            self._tried.pop(session.id, None)
            self._stored.pop(session.id, None)
        key = (session.status.value, session.revision)
        record = _facts(session)
        if self._tried.get(session.id) == key:
            self._write_later(record)
            return
        self._dirty.pop(session.id, None)
        self._tried[session.id] = key
        passing("record.write")
        if not await self._put(record):
            self._write_later(record)
        passing("record.written")

    def has(self, session: Session) -> bool:
        """Whether whoever takes over finds the session by its record, as far as we know.

        One that is under way is not found by a record that says that it is over.
        """
        if session.status in SESSION_TERMINAL:
            return session.id in self._known
        return self._stored.get(session.id) == (session.status.value, session.revision)

    def reconnected(self) -> None:
        """The server may have lost what was written last: nothing counts as written any more."""
        self._tried.clear()
        self._stored.clear()
        self._known.clear()

    def forget(self, session_id: str) -> None:
        """The session has left this planner's memory."""
        self._tried.pop(session_id, None)
        self._stored.pop(session_id, None)
        self._known.pop(session_id, None)
        self._dirty.pop(session_id, None)

    async def run(self) -> None:
        """Write what has changed, a few times a second, until cancelled."""
        while True:
            await self._is_dirty.wait()
            await anyio.sleep(_REFRESH_SECONDS)
            self._is_dirty = anyio.Event()
            dirty, self._dirty = self._dirty, {}
            for record in dirty.values():
                if not await self._put(record):
                    self._write_later(self._dirty.get(record.session_id, record))

    def _write_later(self, record: "_Facts") -> None:
        self._dirty[record.session_id] = record
        self._is_dirty.set()

    async def _put(self, record: "_Facts") -> bool:
        """Whether the bucket has this record now, or one that includes more."""
        subject = f"$KV.{assets.SESSIONS_BUCKET}.{record.session_id}"
        for _ in range(_TRIES):
            expected, included = self._known.get(record.session_id, (0, 0))
            if included > record.sequence:
                self._stored[record.session_id] = record.status, record.revision
                return True
            header = {headers.EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected)}
            try:
                sequence = await self._confirmed.publish(subject, _encoded(record), timeout=2, headers=header)
            except (TimeoutError, NatsError, APIError) as error:
                if not isinstance(error, APIError):
                    log.warning(
                        "record.late", session=record.session_id, error=str(error) or type(error).__name__
                    )
            else:
                self._known[record.session_id] = sequence, record.sequence
                self._stored[record.session_id] = record.status, record.revision
                return True
            try:
                found = await self._js.get_last_msg(f"KV_{assets.SESSIONS_BUCKET}", subject)
            except NotFoundError:
                self._known.pop(record.session_id, None)
            except (TimeoutError, NatsError, APIError):
                return False
            else:
                there = _read(record.session_id, found.data or b"")
                included = 0 if there is None else there.sequence
                self._known[record.session_id] = int(found.seq or 0), included
        return False


class _Facts(NamedTuple):
    """What a record will say, cheaply noted at each step: most are overtaken before they are written."""

    session_id: str
    status: str
    sequence: int
    revision: int
    plan_digest: str | None
    counts: dict[PhaseStatus, int]
    created: int
    updated: int
    reason: str | None


def _facts(session: Session) -> _Facts:
    return _Facts(
        session.id,
        session.status.value,
        session.sequence,
        session.revision,
        session.plan_digest,
        session.counts.copy(),
        session.created,
        session.updated,
        session.reason,
    )


def _encoded(facts: _Facts) -> bytes:
    return encode(
        messages.SessionRecord(
            session_id=facts.session_id,
            status=facts.status,
            sequence=facts.sequence,
            revision=facts.revision,
            plan_digest=facts.plan_digest,
            counts={status.value: count for status, count in facts.counts.items() if count},
            created=timestamp(facts.created) if facts.created else None,
            updated=timestamp(facts.updated) if facts.updated else None,
            reason=facts.reason,
        )
    )


def read_record(stored: Stored) -> tuple[str, messages.SessionRecord | None] | None:
    """A session's id and its record, of a message of the listing; None when it is a deletion.

    No record, if nobody can read it: others may write to the bucket, and no planner may end for that.
    """
    session_id = stored.subject.removeprefix(f"$KV.{assets.SESSIONS_BUCKET}.")
    if "KV-Operation" in stored.headers or not is_token(session_id):
        return None
    return session_id, _read(session_id, stored.data)


def _read(session_id: str, data: bytes) -> messages.SessionRecord | None:
    try:
        record = decode(data, messages.SessionRecord)
    except InvalidMessage as error:
        if data:
            log.warning("record.unreadable", session=session_id, error=str(error))
        return None
    return record if record.session_id == session_id else None
