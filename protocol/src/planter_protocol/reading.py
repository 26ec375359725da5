"""Reading a stream by subject without a consumer: batched direct gets (NATS ADR-31, server 2.11 or later).

A consumer per reader would have to be created, found again and removed; a direct get leaves nothing behind.
Reads are not linearizable: decide nothing on them that a compare-and-set does not check.
"""

from collections.abc import AsyncGenerator
from typing import NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from planter_protocol import headers
from planter_protocol.errors import JetStreamUnavailable, ProtocolError

BATCH = 512
_TRIES = 4
_REPLY_SECONDS = 5.0
_STATUS_END_OF_BATCH = "204"
_STATUS_NOTHING = "404"
_STATUS_NO_RESPONDERS = "503"


class _Torn(Exception):
    """A message of a batch has not come, or not in its place."""


class Stored(NamedTuple):
    """One message of a stream."""

    subject: str
    sequence: int
    data: bytes
    headers: dict[str, str]


async def read_subject(
    nc: Client, stream: str, subject: str, *, start: int = 1, batch_max: int = BATCH
) -> AsyncGenerator[Stored]:
    """Every stored message of a subject (wildcards allowed) from a sequence on, oldest first.

    Ends at what the stream held when the last batch was asked for.

    At most ``batch_max`` of them are in memory at a time.

    Every batch is checked to be whole: each message names the one before it, and so does the end.

    Raises:
        JetStreamUnavailable: nobody answers for the stream.
        ProtocolError: the server refuses, or no batch arrives whole.
    """
    while True:
        batch, pending = await _read_whole_batch(nc, stream, subject, start, batch_max)
        for message in batch:
            yield message
        if not batch or pending == 0:
            return
        start = batch[-1].sequence + 1


async def last_message(nc: Client, stream: str, subject: str) -> Stored | None:
    """The subject's last message, None when there is none."""
    return await _request_one(nc, stream, {"last_by_subj": subject})


async def message_at(nc: Client, stream: str, sequence: int) -> Stored | None:
    """The message with this sequence, None when there is none (any more)."""
    return await _request_one(nc, stream, {"seq": sequence})


async def last_sequence(nc: Client, stream: str, subject: str) -> int:
    """Sequence of the subject's last message, 0 when there is none."""
    found = await last_message(nc, stream, subject)
    return found.sequence if found else 0


async def _request_one(nc: Client, stream: str, query: dict[str, object]) -> Stored | None:
    try:
        reply = await nc.request(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query), timeout=_REPLY_SECONDS
        )
    except NoRespondersError as error:
        raise JetStreamUnavailable(_address(nc), _missing(stream)) from error
    except (TimeoutError, NatsTimeoutError) as error:
        raise JetStreamUnavailable(_address(nc), f"no answer for stream {stream}") from error
    status = _status(reply)
    if status == _STATUS_NOTHING:
        return None
    if status is not None:
        raise ProtocolError(f"direct get on {stream}: {_describe(reply)}")
    return _stored(reply)


async def _read_whole_batch(
    nc: Client, stream: str, subject: str, start: int, batch_max: int
) -> tuple[list[Stored], int]:
    for _ in range(_TRIES):
        try:
            return await _read_batch(nc, stream, subject, start, batch_max)
        except _Torn:
            continue
    raise ProtocolError(f"reads of {stream} from sequence {start} on never arrive whole")


async def _read_batch(
    nc: Client, stream: str, subject: str, start: int, batch_max: int
) -> tuple[list[Stored], int]:
    query = msgspec.json.encode({"seq": start, "next_by_subj": subject, "batch": batch_max})
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    try:
        await nc.publish(f"$JS.API.DIRECT.GET.{stream}", query, reply=inbox)
        batch: list[Stored] = []
        while True:
            try:
                message = await subscription.next_msg(_REPLY_SECONDS)
            except (TimeoutError, NatsTimeoutError) as error:
                raise JetStreamUnavailable(
                    _address(nc), f"a read of {stream} stopped in the middle"
                ) from error
            status = _status(message)
            before = (message.headers or {}).get(headers.LAST_SEQUENCE)
            if status in (None, _STATUS_END_OF_BATCH) and before != str(batch[-1].sequence if batch else 0):
                raise _Torn
            if status is None:
                batch.append(_stored(message))
            elif status == _STATUS_END_OF_BATCH:
                return batch, int((message.headers or {}).get(headers.NUM_PENDING, "0"))
            elif status == _STATUS_NOTHING:
                return batch, 0
            elif status == _STATUS_NO_RESPONDERS:
                raise JetStreamUnavailable(_address(nc), _missing(stream))
            else:
                raise ProtocolError(f"direct get on {stream}: {_describe(message)}")
    finally:
        await subscription.unsubscribe()


def _stored(message: Msg) -> Stored:
    found = dict(message.headers or {})
    return Stored(found.get(headers.SUBJECT, ""), int(found.get(headers.SEQUENCE, "0")), message.data, found)


def _status(message: Msg) -> str | None:
    return (message.headers or {}).get("Status")


def _missing(stream: str) -> str:
    return f"there is no stream {stream}: has a planner ever run on this server?"


def _describe(message: Msg) -> str:
    return " ".join((message.headers or {}).values())


def _address(nc: Client) -> str:
    return nc.connected_url.netloc if nc.connected_url else "(not connected)"
