"""Planter's processes as NATS services: what ``nats micro ls``, ``info``, ``stats`` and ``ping`` ask for.

Source: NATS ADR-32. Requests on ``$SRV.PING``, ``$SRV.INFO`` and ``$SRV.STATS``, each also with ``.<name>``
and ``.<name>.<id>`` behind it; every process answers for itself, so there is no queue group.

nats-py has ``nats.micro``, which is not used: it makes its own ids (the runtime build-7 should be reached by
``$SRV.PING.planter-runtime.build-7``), its metadata cannot change (a runtime drains), and it owns the
subscriptions of what it counts. Here an endpoint only counts; who listens to its subject stays who it was.
While nobody asks, nothing happens: no timer, no message.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import TypedDict

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter_protocol.codec import encode

PLANNER = "planter-planner"
RUNTIME = "planter-runtime"
"""Names of the two services; the id is that of the planner or runtime."""

PING_TYPE = "io.nats.micro.v1.ping_response"
INFO_TYPE = "io.nats.micro.v1.info_response"
STATS_TYPE = "io.nats.micro.v1.stats_response"

ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
"""Headers of a reply that says no: a text of one line, and a number as HTTP's."""

_ERROR_LENGTH_MAX = 200
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer has; field names are those of the ADR."""

    type: str
    name: str
    id: str
    version: str
    metadata: dict[str, str]


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint in an answer to INFO."""

    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str]


class EndpointStats(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint in an answer to STATS; times in nanoseconds."""

    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int


class Ping(_Answer, frozen=True, kw_only=True):
    """Answer to PING."""


class Info(_Answer, frozen=True, kw_only=True):
    """Answer to INFO."""

    description: str
    endpoints: tuple[EndpointInfo, ...]


class Stats(_Answer, frozen=True, kw_only=True):
    """Answer to STATS."""

    started: str
    endpoints: tuple[EndpointStats, ...]


class _Identity(TypedDict):
    name: str
    id: str
    version: str
    metadata: dict[str, str]


class Endpoint:
    """Counts the requests on one subject.

    Args:
        name: of the endpoint, for people.
        subject: where it is listened to, wildcards included.
        queue_group: of that subscription; empty when every process gets every message.
        metadata: further facts for people.
    """

    __slots__ = (
        "errors", "last_error", "metadata", "name", "nanoseconds", "queue_group", "requests", "subject"
    )  # fmt: skip

    def __init__(
        self, name: str, subject: str, queue_group: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.subject = subject
        self.queue_group = queue_group
        self.metadata = dict(metadata or {})
        self.requests = self.errors = self.nanoseconds = 0
        self.last_error = ""

    def count(self, since: int, error: str | None = None) -> None:
        """A request of that moment (``perf_counter_ns``) was dealt with; ``error``: why it was refused."""
        self.requests += 1
        self.nanoseconds += perf_counter_ns() - since
        if error is not None:
            self.errors += 1
            self.last_error = one_line(error)

    def info(self) -> EndpointInfo:
        """What it is."""
        return EndpointInfo(
            name=self.name, subject=self.subject, queue_group=self.queue_group, metadata=self.metadata
        )

    def stats(self) -> EndpointStats:
        """What it has done."""
        return EndpointStats(
            name=self.name,
            subject=self.subject,
            queue_group=self.queue_group,
            num_requests=self.requests,
            num_errors=self.errors,
            last_error=self.last_error,
            processing_time=self.nanoseconds,
            average_processing_time=self.nanoseconds // self.requests if self.requests else 0,
        )


class Service:
    """Answers for one process.

    Args:
        nc: the connection.
        name: ``PLANNER`` or ``RUNTIME``.
        service_id: of this process; one token of a subject.
        description: for people.
        version: of the program; what is no semantic version is sent as ``0.0.0``.
        endpoints: what it counts; read for each answer.
        metadata: called for each answer, because facts such as the state change.
    """

    def __init__(  # noqa: PLR0913  (what the ADR asks a service to tell)
        self,
        nc: Client,
        *,
        name: str,
        service_id: str,
        description: str,
        version: str,
        endpoints: Sequence[Endpoint],
        metadata: Callable[[], Mapping[str, str]],
    ) -> None:
        self._nc = nc
        self._name = name
        self._id = service_id
        self._description = description
        self._version = version if _SEMVER.fullmatch(version) else "0.0.0"
        self._endpoints = endpoints
        self._metadata = metadata
        self._started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    async def start(self) -> None:
        """Listen; reconnections keep the subscriptions."""
        for verb, answer in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for subject in subjects_of(verb, self._name, self._id):
                await self._nc.subscribe(subject, cb=self._answering(answer))

    def _answering(self, answer: Callable[[], _Answer]) -> Callable[[Msg], Awaitable[None]]:
        async def on_request(message: Msg) -> None:
            if message.reply:
                await self._nc.publish(message.reply, encode(answer()))

        return on_request

    def _ping(self) -> Ping:
        return Ping(type=PING_TYPE, **self._identity())

    def _info(self) -> Info:
        endpoints = tuple(endpoint.info() for endpoint in self._endpoints)
        return Info(type=INFO_TYPE, **self._identity(), description=self._description, endpoints=endpoints)

    def _stats(self) -> Stats:
        endpoints = tuple(endpoint.stats() for endpoint in self._endpoints)
        return Stats(type=STATS_TYPE, **self._identity(), started=self._started, endpoints=endpoints)

    def _identity(self) -> _Identity:
        return {
            "name": self._name,
            "id": self._id,
            "version": self._version,
            "metadata": {key: value for key, value in self._metadata().items() if value},
        }


def subjects_of(verb: str, name: str, service_id: str) -> tuple[str, str, str]:
    """Where a service is asked: all services, those of the name, this one."""
    return f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{service_id}"


def error_headers(code: str, text: str) -> dict[str, str]:
    """What NATS tools show of a reply that says no."""
    return {ERROR: one_line(text), ERROR_CODE: code}


def one_line(text: str) -> str:
    """The text as a header can carry it."""
    return " ".join(text.split())[:_ERROR_LENGTH_MAX].encode("ascii", "replace").decode()


def pairs(labels: Mapping[str, str]) -> str:
    """Labels as metadata shows them: ``os=linux,zone=a``; metadata values are strings."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
