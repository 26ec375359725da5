"""How an attempt ended: a closed union, and the failures that executors share."""

import msgspec

from planter_protocol.artifacts import INLINE_RESULT_BYTES_MAX
from planter_protocol.codec import free_json
from planter_protocol.errors import InvalidMessage
from planter_protocol.messages import Failure

RESULT_BYTES_MAX = 16 * 1024 * 1024
"""Largest result, as JSON; one of more than 64 KiB is stored beside its report (``storing``)."""
FAILURE_TEXT_MAX = 2_000
"""Characters of a failure's message; the whole story is in the log."""


class Completed(msgspec.Struct, frozen=True):
    """The work was done."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON, at most ``RESULT_BYTES_MAX`` bytes."""


class Failed(msgspec.Struct, frozen=True):
    """The work was not done."""

    failure: Failure


class Cancelled(msgspec.Struct, frozen=True):
    """Somebody wanted the work no more."""

    message: str


Outcome = Completed | Failed | Cancelled


def failed(message: str, kind: str, *, retryable: bool = True) -> Failed:
    """A failure without an exit status; the message is cut to ``FAILURE_TEXT_MAX``."""
    return Failed(Failure(message=cut(message), kind=kind, retryable=retryable))


def completed(result: bytes) -> Outcome:
    """A completion with the JSON result, or the failure that says that it is too large, or unreadable.

    A large one is looked into when it is stored.
    """
    if len(result) > RESULT_BYTES_MAX:
        size = f"{len(result):,} bytes as JSON, the limit is {RESULT_BYTES_MAX:,}"
        remedy = "keep it as an artifact (docs/artifacts.md), and return what others have to know of it"
        return failed(f"the result has {size}: {remedy}", "exception", retryable=False)
    if len(result) <= INLINE_RESULT_BYTES_MAX:
        try:
            free_json(result, "result")
        except InvalidMessage as error:
            return unusable(error)
    return Completed(msgspec.Raw(result))


def unusable(error: InvalidMessage) -> Failed:
    """That a planner could not read the result: it would be the same the next time."""
    return failed(f"the result cannot be used as JSON: {error.reason}", "result", retryable=False)


def with_last_line(outcome: Outcome, line: str | None) -> Outcome:
    """The outcome; a failure's message ends with the last line of stderr when there is one."""
    if line is None or not isinstance(outcome, Failed):
        return outcome
    failure = outcome.failure
    return Failed(msgspec.structs.replace(failure, message=cut(f"{failure.message}: {line.strip()[:500]}")))


def cut(text: str) -> str:
    """The text, shortened with a mark when it is over ``FAILURE_TEXT_MAX``. A file's name may be no UTF-8."""
    short = text if len(text) <= FAILURE_TEXT_MAX else f"{text[:FAILURE_TEXT_MAX]} [...]"
    return short.encode("utf-8", "replace").decode()
