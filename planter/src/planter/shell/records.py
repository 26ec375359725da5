"""Session records in the bucket PLANTER_SESSIONS: derived from the journal, for listings and for recovery."""

import anyio
import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from planter.core.session import Session
from planter.shell.failpoints import passing
from planter_protocol import assets, headers, messages
from planter_protocol.codec import encode, timestamp

log = structlog.get_logger(__name__)

_REFRESH_SECONDS = 0.5
_TRIES = 3


class RecordWriter:
    """Writes a record at once when a session begins or ends, and now and then while its counts change.

    A record says which journal sequence it includes, and is never replaced by one that includes less:
    planners that were overtaken may write late.
    """

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._written: dict[str, tuple[str, int]] = {}
        #: Revision of the record in the bucket and the journal sequence that it includes, as far as we know.
        self._known: dict[str, tuple[int, int]] = {}
        self._dirty: dict[str, messages.SessionRecord] = {}

    async def update(self, session: Session) -> None:
        """Take note of a session's new state; returns when a change that recovery needs is stored.

        Should the bucket not answer, the record is written later.
        """
        key = (session.status.value, session.revision)
        record = _record(session)
        if self._written.get(session.id) == key:
            self._dirty[session.id] = record
            return
        self._dirty.pop(session.id, None)
        passing("record.write")
        if not await self._put(record):
            self._dirty[session.id] = record
        passing("record.written")
        self._written[session.id] = key

    def reconnected(self) -> None:
        """The server may have lost what was written last: nothing counts as written any more."""
        self._written.clear()
        self._known.clear()

    def forget(self, session_id: str) -> None:
        """The session has left this planner's memory."""
        self._written.pop(session_id, None)
        self._known.pop(session_id, None)
        self._dirty.pop(session_id, None)

    async def run(self) -> None:
        """Write what has changed, a few times a second, until cancelled."""
        while True:
            await anyio.sleep(_REFRESH_SECONDS)
            dirty, self._dirty = self._dirty, {}
            for record in dirty.values():
                if not await self._put(record):
                    self._dirty.setdefault(record.session_id, record)

    async def _put(self, record: messages.SessionRecord) -> bool:
        """Whether the bucket has this record now, or one that includes more."""
        subject = f"$KV.{assets.SESSIONS_BUCKET}.{record.session_id}"
        for _ in range(_TRIES):
            expected, included = self._known.get(record.session_id, (0, 0))
            if included > record.sequence:
                return True
            header = {headers.EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected)}
            try:
                ack = await self._js.publish(subject, encode(record), timeout=2, headers=header)
            except (TimeoutError, NatsError, APIError) as error:
                if not isinstance(error, APIError):
                    log.warning(
                        "record.late", session=record.session_id, error=str(error) or type(error).__name__
                    )
            else:
                self._known[record.session_id] = ack.seq, record.sequence
                return True
            try:
                found = await self._js.get_last_msg(f"KV_{assets.SESSIONS_BUCKET}", subject)
            except NotFoundError:
                self._known.pop(record.session_id, None)
            except (TimeoutError, NatsError, APIError):
                return False
            else:
                included = decode_record(found.data).sequence if found.data else 0
                self._known[record.session_id] = int(found.seq or 0), included
        return False


def _record(session: Session) -> messages.SessionRecord:
    return messages.SessionRecord(
        session_id=session.id,
        status=session.status.value,
        sequence=session.sequence,
        revision=session.revision,
        plan_digest=session.plan_digest,
        counts={status.value: count for status, count in session.counts.items() if count},
        created=timestamp(session.created) if session.created else None,
        updated=timestamp(session.updated) if session.updated else None,
        reason=session.reason,
    )


def decode_record(data: bytes) -> messages.SessionRecord:
    """A record as stored."""
    return msgspec.json.decode(data, type=messages.SessionRecord)
