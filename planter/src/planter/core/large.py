"""Results that are too large for the journal: it has references to them, and expressions cannot look inside.

A reference is ``{"planter:object": {"digest": ..., "bytes": ...}}``; what it refers to is known to runtimes
and readers, never to the core. An expression may hand on the whole result, as a value of ``with``; whoever
gets that finds the value in its place.
"""

from typing import NamedTuple

import msgspec

REFERENCE = "planter:object"
_BYTES = f'"{REFERENCE}"'.encode()


class LargeResult(NamedTuple):
    """A result, or a list of results, with references in it."""

    value: object
    """Itself, as JSON knows it."""
    bytes: int
    """Of what it refers to."""


class _Reference(msgspec.Struct):
    bytes: int
    keys: tuple[str, ...] | None = None


def may_be_large(result: msgspec.Raw | msgspec.UnsetType) -> bool:
    """Whether there may be references in it: a quick look."""
    return result is not msgspec.UNSET and _BYTES in bytes(result)


def large_result(value: object) -> LargeResult | None:
    """A decoded result as one to be handed on only; None when it has no references."""
    size = _referred(value)
    return None if size is None else LargeResult(value, size)


def keys_of(value: object) -> tuple[str, ...] | None:
    """Of an object that is too large to be here; None when that is not known."""
    reference = _reference(value)
    return None if reference is None else reference.keys


def _referred(value: object) -> int | None:
    """Bytes of all references in it; without recursion: who has sent it chose how deep it is."""
    found: int | None = None
    left = [value]
    while left:
        one = left.pop()
        if (reference := _reference(one)) is not None:
            found = (found or 0) + reference.bytes
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
    return found


def _reference(value: object) -> _Reference | None:
    if not isinstance(value, dict) or set(value) != {REFERENCE}:  # pyright: ignore[reportUnknownArgumentType]
        return None
    try:
        return msgspec.convert(value[REFERENCE], _Reference)
    except msgspec.ValidationError:
        return None
