"""Bytes on the wire: JSON through msgspec, with a limit on both sides.

The limit counts payload and headers, because the server closes a connection that goes over its
``max_payload`` (nats-py checks the payload alone, so the check has to be ours).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from planter_protocol.errors import InvalidMessage, MessageTooLarge

MESSAGE_BYTES_MAX = 512 * 1024
"""Largest message that Planter sends or takes, payload plus headers; the server's default limit is 1 MiB."""
SERVER_BYTES_MAX = 1000 * 1024
"""Payload of what a planner stores or answers: with its headers, the server's default limit takes it."""

DEPTH_MAX = 100
"""Objects and lists in each other, in JSON that anybody has made: results, details."""

_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999: others cannot be written."""
_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}

T = TypeVar("T")


def encode(message: Any) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """A message of the kind; raises ``InvalidMessage`` with the place and reason, never anything else."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise InvalidMessage(kind.__name__, f"{len(data):,} bytes, the limit is {MESSAGE_BYTES_MAX:,}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(kind.__name__, str(error) or type(error).__name__) from error


def free_json(data: bytes, what: str) -> Any:
    """The value of JSON that anybody has made; raises ``InvalidMessage`` when it is none, or too deep.

    What is decoded as ``msgspec.Raw`` was only skipped over: it may hold what nobody can read.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(what, str(error) or type(error).__name__) from error
    if data.count(b"[") + data.count(b"{") > DEPTH_MAX and _depth(value) > DEPTH_MAX:
        raise InvalidMessage(what, f"objects and lists are more than {DEPTH_MAX} deep")
    return value


def _depth(value: Any) -> int:
    """How deep objects and lists are in each other; without recursion, for a stranger has chosen that."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
    return depth


def check_size(subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Raise ``MessageTooLarge`` when payload and headers together are over the limit."""
    size = len(data) + sum(len(k) + len(v) + 4 for k, v in (headers or {}).items())
    if size > MESSAGE_BYTES_MAX:
        raise MessageTooLarge(subject, size, MESSAGE_BYTES_MAX)


@lru_cache(maxsize=256)  # a step says its time ten times
def timestamp(milliseconds: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC, such as ``2025-07-19T20:00:00.125Z``."""
    seconds, rest = divmod(min(max(milliseconds, _FIRST_MS), _LAST_MS), 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=256)  # thousands of times that are said follow closely on each other
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
