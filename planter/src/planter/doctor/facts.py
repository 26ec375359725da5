"""What can be known about a server from outside, as data: no fact here is a judgement."""

from enum import StrEnum
from typing import Any

import msgspec

from planter_protocol.messages import Heartbeat


class Absence(StrEnum):
    """Why a question has no answer."""

    MISSING = "missing"
    """There is no such thing."""
    DENIED = "denied"
    """This user may not ask."""
    SILENT = "silent"
    """Asked, and nobody answered in time."""
    UNSERVED = "unserved"
    """Nobody listens where the question goes: JetStream is off, for example."""
    REFUSED = "refused"
    """The server answered with another error."""


class Server(msgspec.Struct, frozen=True):
    """The server that this connection is with."""

    url: str
    """Without any password."""
    version: str
    max_payload: int
    name: str = ""
    user: str = ""
    account: str = ""
    features: dict[str, bool] | None = None
    """Its feature flags; None: it does not tell (before 2.14, or this user may not ask)."""
    inbox_denied: bool = False
    """This user may not subscribe to inboxes, so no answer can arrive at all."""


class Usage(msgspec.Struct, frozen=True):
    """What the account uses and may use, in bytes and numbers; -1 is without a limit."""

    tier: str
    """``R1`` or ``R3`` where limits are by number of replicas, "" where there is one for all."""
    storage: int
    storage_max: int
    streams: int
    streams_max: int
    consumers: int
    consumers_max: int
    needs_max_bytes: bool = False
    """Streams without a limit in bytes are refused."""


class Account(msgspec.Struct, frozen=True):
    """The account's JetStream."""

    api_level: int
    usages: tuple[Usage, ...]


class Peer(msgspec.Struct, frozen=True):
    """A server that keeps a copy of a stream."""

    name: str
    current: bool = True
    offline: bool = False


class Stream(msgspec.Struct, frozen=True):
    """A stream as the server describes it."""

    config: dict[str, Any]
    """With NATS's own field names; durations in nanoseconds."""
    messages: int = 0
    last_sequence: int = 0
    leader: str = ""
    peers: tuple[Peer, ...] = ()
    """The leader among them."""

    @property
    def replicas(self) -> int:
        """How many copies there should be."""
        return int(self.config.get("num_replicas", 1))


class Consumer(msgspec.Struct, frozen=True):
    """A consumer of the inputs."""

    config: dict[str, Any]
    pending: int = 0
    """Stored and not yet delivered."""
    ack_pending: int = 0
    """Delivered and not yet acknowledged."""
    redelivered: int = 0
    paused: bool = False


class Storage(msgspec.Struct, frozen=True):
    """How one server keeps its JetStream, told by its monitoring or by the system account."""

    server: str
    """Its name."""
    sync_always: bool
    sync_seconds: float
    """Between two syncs, where it does not sync always."""
    used: int = 0
    maximum: int = 0
    """Bytes of disk that JetStream may use."""
    health: str = ""
    """What ``/healthz`` says when it does not say ok."""
    claimed: bool = False
    """Only the server's own tag says so (``server_tags: ["sync:always"]``), which a person wrote."""


class Clock(msgspec.Struct, frozen=True):
    """The server's clock against ours, in milliseconds."""

    ahead_ms: float
    """Of the server."""
    round_trip_ms: float
    """The difference is known to half of this."""


class Probe(StrEnum):
    """What became of a question whether something may be done."""

    ALLOWED = "allowed"
    DENIED = "denied"
    MISSING = "missing"
    """No stream takes it, or there is none to read."""
    SILENT = "silent"


class DeadLetter(msgspec.Struct, frozen=True):
    """The newest input that could not be read."""

    subject: str
    reason: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the checks look at."""

    server: Server
    account: Account | Absence
    account_error: str = ""
    """What the server said instead."""
    streams: dict[str, Stream | Absence]
    """Every stream that Planter uses, the ones behind buckets included."""
    consumers: dict[str, Consumer] | Absence = Absence.MISSING
    """By which planners take inputs."""
    notifiers: dict[str, Consumer] | Absence = Absence.MISSING
    """By which they take notifications; a planner makes them when it begins to send."""
    storages: tuple[Storage, ...] = ()
    monitors_silent: dict[str, str] = {}
    """Monitoring addresses that did not answer, with the reason."""
    clock: Clock | None = None
    inputs: dict[str, Probe] = {}
    """By verb: may this user publish ``plan.session.*.<verb>``, and does a stream confirm it?"""
    journal: Probe = Probe.ALLOWED
    """May this user read the journal?"""
    publish_ms: float | None = None
    """Median round trip of a publish that the stream answers and does not store."""
    planners: tuple[str, ...] = ()
    runtimes: tuple[Heartbeat, ...] = ()
    dead_letter: DeadLetter | None = None

    @property
    def visited(self) -> bool:
        """Whether a planner has ever made its streams here, or we cannot know."""
        nothing = (Absence.MISSING, Absence.UNSERVED)
        return any(found not in nothing for found in self.streams.values())

    def found(self, name: str) -> Stream | None:
        """The stream, when it exists and may be looked at."""
        stream = self.streams.get(name)
        return stream if isinstance(stream, Stream) else None
