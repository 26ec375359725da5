"""What can go wrong between Planter's processes.

ProtocolError
    MessageTooLarge      a message would not pass the server
    InvalidMessage       bytes that are not the message they should be
    ServerUnreachable    no NATS server answers
    JetStreamUnavailable the server answers, its JetStream does not
    PlannerUnavailable   no planner answers on this server
    RequestRefused       a planner answered, and the answer is no
    SessionNotFound      no planner knows this session
    ObjectNotFound       there is no such object in the bucket PLANTER_ARTIFACTS
    ObjectBroken         what the bucket has of it are other bytes
    ObjectNotStored      the bucket does not take it
"""

from collections.abc import Sequence
from typing import Any


class ProtocolError(Exception):
    """Base of everything this package raises."""


class MessageTooLarge(ProtocolError):
    """A message would be over the limit; NATS would close the connection for it."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        self.subject = subject
        self.size = size
        self.limit = limit
        super().__init__(f"message for {subject} has {size:,} bytes, the limit is {limit:,}")


class InvalidMessage(ProtocolError):
    """Bytes from the wire that do not have the shape of their subject."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(f"not a valid {what}: {reason}")


class ServerUnreachable(ProtocolError):
    """No NATS server answers at the address."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"no NATS server answers at {url}: {reason}")


class JetStreamUnavailable(ProtocolError):
    """The server is there, but JetStream is off or its streams are missing."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        super().__init__(f"JetStream does not answer at {url}: {reason}")


class PlannerUnavailable(ProtocolError):
    """The server is there, but no planner listens."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"no planner answers on {subject}: start one with `planter serve` or `planter dev`")


class RequestRefused(ProtocolError):
    """A planner refused a request; ``code`` is for programs, the text for people."""

    def __init__(self, code: str, text: str, problems: Sequence[dict[str, Any]] = ()) -> None:
        self.code = code
        self.text = text
        self.problems = tuple(problems)
        super().__init__(text)


class SessionNotFound(RequestRefused):
    """No journal exists for the session."""

    def __init__(self, session: str) -> None:
        self.session = session
        super().__init__("session.unknown", f"session {session!r} is not known on this server")


class ObjectNotFound(ProtocolError):
    """No object with this name: it was removed with its session, or never stored."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"there is no object {name} in PLANTER_ARTIFACTS: it went with its session, or never was"
        )


class ObjectBroken(ProtocolError):
    """The bytes are not those that the digest names."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"the object {name} in PLANTER_ARTIFACTS is broken: {reason}")


class ObjectNotStored(ProtocolError):
    """The bucket did not confirm a part of it."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"the object {name} cannot be stored in PLANTER_ARTIFACTS: {reason}")
