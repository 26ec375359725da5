"""The journal: commit records appended with compare-and-set, and folded back into sessions.

The append rule: after any doubt - a wrong sequence, a busy server, a time-out - the
subject's last message says whether the record is there (its id), may still come (nothing new) or has lost
against another planner (anything else).
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from planter.core.events import (
    AnyEvent,
    ApprovalExpired,
    HandlerCalled,
    PhaseApproved,
    PhaseRejected,
    PhaseTargeted,
    PlanApplied,
    SessionPurged,
)
from planter.core.evolve import apply
from planter.core.graph import EMPTY
from planter.core.plan import Plan
from planter.core.session import Session
from planter.core.snapshot import restore
from planter.shell.plans import graph_apart
from planter.shell.snapshots import RECORDS, Snapshots
from planter_protocol import assets, headers, subjects
from planter_protocol.client import load_object, store_object
from planter_protocol.codec import SERVER_BYTES_MAX, timestamp
from planter_protocol.confirming import Confirmed
from planter_protocol.names import random_token
from planter_protocol.reading import Stored, last_message, message_at, read_subject

log = structlog.get_logger(__name__)

RECORD_BYTES_MAX = 512 * 1024
PLAN_INLINE_BYTES_MAX = 128 * 1024
RECORD_VERSION = 1
_FEW_EVENTS = 64
"""So many are encoded in one go before anybody asks how large each of them is."""
_APPEND_SECONDS = 2.0
_READERS_MAX = 64
"""Sessions that are read or verified at a time; thousands at once would all run into their time-outs."""
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_ANSWERS = (PhaseApproved, PhaseRejected, ApprovalExpired)


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One commit, as stored: JSON that a person can read. Monitors read the same bytes."""

    v: int = RECORD_VERSION
    n: int
    at: str
    at_ms: int
    by: str
    inputs: tuple[int, ...] = ()
    events: tuple[AnyEvent, ...] = ()


class _Number(msgspec.Struct):
    n: int = 0


class Fenced(Exception):
    """Another planner has committed since this session was read: read it again and decide again.

    ``at_least`` is the journal sequence that it has to be read up to: a replica that lags may not have it.
    """

    def __init__(self, text: str, at_least: int = 0) -> None:
        super().__init__(text)
        self.at_least = at_least


class Unwritable(Exception):
    """The journal does not answer; nothing was decided. Try again later."""


class RecordTooLarge(Exception):
    """One event is larger than a message may be: trying again would not help."""


class JournalBroken(Exception):
    """The journal of a session cannot be folded: records are missing, or a newer planner wrote them.

    Nothing may be decided for the session until somebody has looked at it.
    """


class Appended(NamedTuple):
    """What identifies the newest record of a session."""

    sequence: int
    record: str
    """Its message id. A sequence is not enough: a server that lost its newest messages gives theirs anew."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_number_decoder = msgspec.json.Decoder(_Number)
_plan_decoder = msgspec.json.Decoder(Plan)


class Journal:
    """All journals of one server."""

    def __init__(
        self, nc: Client, js: JetStreamContext, planner_id: str, snapshots: Snapshots | None = None
    ) -> None:
        self._nc = nc
        self._js = js
        self._confirmed = Confirmed(nc)
        self._planner_id = planner_id
        self._life = random_token(6)
        self._appends = count(1)
        self._snapshots = snapshots
        self._reading = asyncio.Semaphore(_READERS_MAX)

    async def append(
        self,
        session: Session,
        events: Sequence[AnyEvent],
        at: int,
        inputs: Sequence[int],
    ) -> Appended:
        """Append events as one record, or several when they are many; returns the last one.

        Inputs without any event get a record too: that they change nothing is a decision, and only the
        compare-and-set shows that it was not made on a stale state. The inputs stand in the first record:
        should the planner end in between, they are known as taken in, and the rest follows from the state.

        Raises:
            Fenced: the session has moved on without us.
            Unwritable: the server does not confirm.
        """
        stored = [
            await self._without_large_plan(event) if isinstance(event, PlanApplied) else event
            for event in events
        ]
        last = Appended(session.sequence, session.record)
        record = Record(
            n=session.commits + 1,
            at=timestamp(at),
            at_ms=at,
            by=self._planner_id,
            inputs=tuple(inputs),
            events=tuple(stored),
        )
        fences: dict[str, int] = {}
        plan_at = 0
        for part, data in _parts(record):
            last = await self._append(session.id, last, data)
            session.commits = part.n - 1  # seal() counts the last one
            # Targets and plan stand where their own record stands.
            fences.update((e.phase_id, last.sequence) for e in part.events if isinstance(e, PhaseTargeted))
            plan_at = last.sequence if any(isinstance(e, PlanApplied) for e in part.events) else plan_at
        session.place(fences, plan_at)
        session.taken.update(inputs)
        return last

    async def load(self, session: Session) -> None:
        """Fold everything that the journal has and the session has not.

        Raises:
            JournalBroken: a record is missing, or this planner cannot read it.
        """
        subject = subjects.journal(session.id)
        async with self._reading:
            if session.commits == 0:
                await self._restore(session)
            start = session.sequence + 1
            async for stored in read_subject(self._nc, assets.JOURNAL, subject, start=start):
                record = _decode(session, stored)
                for event in record.events:
                    if isinstance(event, PlanApplied):
                        await self._apply_plan(session, event, record.at_ms)
                    else:
                        apply(session, event, record.at_ms)
                session.taken.update(record.inputs)
                session.seal(stored.sequence, stored.headers.get(headers.MSG_ID, ""))

    async def _restore(self, session: Session) -> None:
        """Begin with the session's snapshot, if its journal is long and has the record that it ends with."""
        if self._snapshots is None:
            return
        newest = await last_message(self._nc, assets.JOURNAL, subjects.journal(session.id))
        if newest is None or _number_of(newest) < RECORDS:
            return
        snapshot = await self._snapshots.read(session.id)
        if snapshot is None:
            return
        try:
            await self._record_at(session.id, snapshot.sequence, snapshot.commits, snapshot.record)
            graph = EMPTY
            if snapshot.plan_at:
                applied = await self._record_at(session.id, snapshot.plan_at)
                plans = [event for event in applied.events if isinstance(event, PlanApplied)]
                graph = await graph_apart(await self._plan_of(plans[-1]))
            restore(session, snapshot, graph)
        except (NatsError, TimeoutError):
            raise  # the server's trouble: the journal cannot be read now either
        except Exception as error:  # whatever it is: the journal has everything
            log.info("snapshot.ignored", session=session.id, reason=str(error) or type(error).__name__)
            vars(session).update(vars(Session(session.id)))

    async def _record_at(
        self, session_id: str, sequence: int, number: int | None = None, record_id: str | None = None
    ) -> Record:
        """The session's record of this sequence; ValueError when it is not there, or another one is."""
        stored = await message_at(self._nc, assets.JOURNAL, sequence)
        if stored is None or stored.subject != subjects.journal(session_id):
            raise ValueError(f"the journal has no record of it at {sequence}")
        record = _decoder.decode(stored.data)
        if number not in (None, record.n) or record_id not in (None, stored.headers.get(headers.MSG_ID, "")):
            raise ValueError(f"the journal has another record at {sequence}")
        return record

    async def is_current(self, session: Session) -> bool:
        """Whether the journal's last record is the last one that the session includes."""
        async with self._reading:
            last = await last_message(self._nc, assets.JOURNAL, subjects.journal(session.id))
        if last is None:
            return session.commits == 0
        return (last.sequence, last.headers.get(headers.MSG_ID, "")) == (session.sequence, session.record)

    async def last(self, session_id: str) -> int:
        """Sequence of the session's last record, 0 without any, from the stream's leader, not a replica."""
        try:
            return int((await self._js.get_last_msg(assets.JOURNAL, subjects.journal(session_id))).seq or 0)
        except NotFoundError:
            return 0

    async def _append(self, session_id: str, before: Appended, data: bytes) -> Appended:
        subject = subjects.journal(session_id)
        if len(data) > SERVER_BYTES_MAX:
            raise RecordTooLarge(f"a record of {session_id} would have {len(data):,} bytes")
        record_id = f"{session_id}/{before.sequence}/{self._planner_id}/{self._life}-{next(self._appends)}"
        for pause in (*_PAUSES, None):
            try:
                sequence = await self._confirmed.publish(
                    subject,
                    data,
                    timeout=_APPEND_SECONDS,
                    headers={
                        headers.EXPECTED_LAST_SUBJECT_SEQUENCE: str(before.sequence),
                        headers.MSG_ID: record_id,
                        headers.EXPECTED_STREAM: assets.JOURNAL,
                    },
                )
            except (TimeoutError, NatsError) as error:
                found = await self._find(subject, record_id, before, error)
                if found:
                    return Appended(found, record_id)
            else:
                return Appended(sequence, record_id)
            if pause is not None:
                await asyncio.sleep(pause)
        raise Unwritable(f"journal of {session_id} is not confirmed")

    async def _find(self, subject: str, record_id: str, before: Appended, error: Exception) -> int | None:
        """The record's sequence if it is there; None if it may be tried again; Fenced if it has lost."""
        try:
            last = await self._js.get_last_msg(assets.JOURNAL, subject)
        except NotFoundError:
            if before.sequence:
                raise Fenced(f"{subject} was purged") from error
            return None
        except (TimeoutError, APIError, NatsError):
            return None
        found = (last.headers or {}).get(headers.MSG_ID, "")
        if found == record_id:
            return last.seq
        if (last.seq, found) != before:
            text = f"{subject}: last is {last.seq} ({found}), expected {before}"
            raise Fenced(text, int(last.seq or 0)) from error
        return None

    async def _without_large_plan(self, event: PlanApplied) -> PlanApplied:
        if event.plan is None:
            return event
        data = _encoder.encode(event.plan)
        if len(data) <= PLAN_INLINE_BYTES_MAX:
            return event
        import hashlib  # noqa: PLC0415

        reference = f"sha256:{hashlib.sha256(data).hexdigest()}"
        await store_object(self._js, reference, data)
        return msgspec.structs.replace(event, plan=None, plan_ref=reference)

    async def _plan_of(self, event: PlanApplied) -> Plan:
        if event.plan is not None:
            return event.plan
        return _plan_decoder.decode(await load_object(self._js, str(event.plan_ref)))

    async def _apply_plan(self, session: Session, event: PlanApplied, at: int) -> None:
        graph = await graph_apart(await self._plan_of(event))  # held until it is applied
        apply(session, msgspec.structs.replace(event, plan=graph.plan), at)


def _number_of(stored: Stored) -> int:
    return _number_decoder.decode(stored.data).n


def _decode(session: Session, stored: Stored) -> Record:
    """The next record of a session."""
    where = f"the journal of session {session.id}, sequence {stored.sequence}"
    try:
        record = _decoder.decode(stored.data)
    except msgspec.DecodeError as error:
        raise JournalBroken(f"{where}: {error}") from error
    if record.v > RECORD_VERSION:
        raise JournalBroken(f"{where}: format {record.v} is of a newer planner: update this one")
    if session.commits == 0 and any(isinstance(event, SessionPurged) for event in record.events):
        session.commits = record.n - 1  # everything before it was removed
    if record.n != session.commits + 1:
        raise JournalBroken(f"{where}: record {record.n} follows record {session.commits}: some are missing")
    return record


def _parts(record: Record) -> Iterator[tuple[Record, bytes]]:
    """The record and its bytes; of a large one, several that follow each other."""
    if len(record.events) <= _FEW_EVENTS:
        data = _encoder.encode(record)
        if len(data) <= RECORD_BYTES_MAX:
            yield record, data
            return
    for part, chunk in enumerate(_chunks(record.events)):
        one = msgspec.structs.replace(
            record, n=record.n + part, inputs=() if part else record.inputs, events=tuple(chunk)
        )
        yield one, _encoder.encode(one)


def _chunks(events: Sequence[AnyEvent]) -> list[list[AnyEvent]]:
    """The events in portions that fit a record each; measured by encoding only when there are many.

    What follows from an answer stands in its record, and what is to be told of an event in that of the event:
    no crash may come between them.
    """
    limit = RECORD_BYTES_MAX - 64 * 1024
    chunks: list[list[AnyEvent]] = [[]]
    size, is_answered = 0, False
    for event in events:
        length = len(_encoder.encode(event)) + 1 if len(events) > 1 else 0
        is_answer = type(event) in _ANSWERS
        may_begin = type(event) is not HandlerCalled and (is_answer or not is_answered)
        if chunks[-1] and size + length > limit and may_begin:
            chunks.append([])
            size = 0
        chunks[-1].append(event)
        size += length
        is_answered = is_answer
    return chunks
