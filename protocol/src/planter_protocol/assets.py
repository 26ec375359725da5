"""Streams and buckets as data, and the one idempotent step that creates what is missing.

What exists already is never altered: a difference is an operator's choice.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from nats.errors import NoRespondersError
from nats.js import JetStreamContext, api
from nats.js.errors import (
    BadRequestError,
    BucketNotFoundError,
    NotFoundError,
    ServerError,
    ServiceUnavailableError,
)

from planter_protocol import subjects
from planter_protocol.codec import MESSAGE_BYTES_MAX
from planter_protocol.errors import JetStreamUnavailable

IN = "PLANTER_IN"
JOURNAL = "PLANTER_JOURNAL"
LOGS = "PLANTER_LOGS"
DEAD_LETTERS = "PLANTER_DEAD_LETTERS"
NOTIFICATIONS = "PLANTER_NOTIFICATIONS"
_LOOKS, _LOOKS_SECONDS = 10, 0.1
SESSIONS_BUCKET = "PLANTER_SESSIONS"
SNAPSHOTS_BUCKET = "PLANTER_SNAPSHOTS"
"""A cache: may be emptied or removed at any time."""
KEYS_BUCKET = "PLANTER_KEYS"
"""Only planners may read it: holds the key of the dispatch ids."""
RESULTS_BUCKET = "PLANTER_RESULTS"
"""Results of phases with ``x-cache``, by their content: a cache, may be emptied at any time."""
RESULTS_SECONDS = 30 * 24 * 3600.0
MANIFESTS_BUCKET = "PLANTER_MANIFESTS"
ARTIFACTS_BUCKET = "PLANTER_ARTIFACTS"
"""Two of one name: objects (large results, artifacts), and keys that list the artifacts."""
OBJECT_BUCKETS = {
    MANIFESTS_BUCKET: "Planter: manifests and plans above the message limit",
    ARTIFACTS_BUCKET: "Planter: large results and artifacts of phases, by session and digest",
}
"""Object stores, with what they are for."""

PARTITIONS = 16
"""Of the inputs: as many planners as this can share the work. Fixed for the life of the stream."""
ACK_WAIT_SECONDS = 2.0
"""After this long without an ack an input is delivered again, to whichever planner asks."""
NOTIFIER_ACK_WAIT_SECONDS = 10.0
"""A planner that is sending says so more often than this; another one sends what it does not."""

_DAY = 24 * 3600.0
_HEADROOM = 16 * 1024

STREAMS: tuple[api.StreamConfig, ...] = (
    api.StreamConfig(
        name=IN,
        description="Planter: what clients and runtimes say, until a planner has committed it",
        subjects=list(subjects.INPUT_WILDCARDS),
        subject_transform=api.SubjectTransform(
            src=subjects.INPUTS_FROM, dest=subjects.INPUTS_STORED_AS % PARTITIONS
        ),
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,  # back-pressure instead of silent loss
        max_age=7 * _DAY,
        max_msg_size=MESSAGE_BYTES_MAX + _HEADROOM,
        duplicate_window=120,
        deny_delete=True,
        deny_purge=True,
    ),
    api.StreamConfig(
        name=JOURNAL,
        description="Planter: commit records, one subject a session; the source of truth",
        subjects=[subjects.JOURNAL_WILDCARD],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        allow_direct=True,
        deny_delete=True,
        duplicate_window=120,
        republish=api.RePublish(src=subjects.JOURNAL_WILDCARD, dest=subjects.JOURNAL_REPUBLISH_TO),
    ),
    api.StreamConfig(
        name=LOGS,
        description="Planter: output of phases",
        subjects=[subjects.LOG_WILDCARD],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_age=7 * _DAY,
        allow_direct=True,
        duplicate_window=120,
    ),
    api.StreamConfig(
        name=DEAD_LETTERS,
        description="Planter: inputs that could not be read, with the reason",
        subjects=[subjects.DEAD_LETTERS_WILDCARD],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_age=30 * _DAY,
        max_bytes=256 * 1024 * 1024,
        allow_direct=True,
    ),
    api.StreamConfig(
        name=NOTIFICATIONS,
        description="Planter: what handlers of phases want sent, until a planner has sent it or given up",
        subjects=[subjects.NOTIFICATIONS_WILDCARD],
        retention=api.RetentionPolicy.LIMITS,  # kept although sent: one subject each, so that none is twice
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_age=7 * _DAY,
        allow_direct=True,
    ),
)

BUCKETS: tuple[api.KeyValueConfig, ...] = (
    api.KeyValueConfig(
        bucket=SESSIONS_BUCKET,
        description="Planter: sessions, derived from the journal",
        history=1,
        direct=True,
    ),
    api.KeyValueConfig(
        bucket=SNAPSHOTS_BUCKET,
        description="Planter: states of sessions with long journals, a cache",
        history=1,
        direct=True,
    ),
    api.KeyValueConfig(
        bucket=RESULTS_BUCKET,
        description="Planter: results of phases with x-cache, a cache",
        history=1,
        ttl=RESULTS_SECONDS,
        direct=True,
    ),
    api.KeyValueConfig(
        bucket=ARTIFACTS_BUCKET,
        description="Planter: which artifacts there are, by session, phase, attempt and name",
        history=1,
        direct=True,
    ),
    api.KeyValueConfig(bucket=KEYS_BUCKET, description="Planter: keys of the planners", history=1),
)


def snapshot_subject(session_id: str, number: int | str) -> str:
    """Where a part of a session's snapshot is stored; ``number`` from 0, or a wildcard."""
    return f"$KV.{SNAPSHOTS_BUCKET}.{session_id}.{number}"


def consumer_name(partition: int) -> str:
    """Name of the durable consumer of a partition."""
    return f"planner-{partition}"


def partition_consumer(partition: int) -> api.ConsumerConfig:
    """The durable consumer from which planners take the inputs of a partition."""
    return api.ConsumerConfig(
        durable_name=consumer_name(partition),
        description="Shared by all planners; ownership is only a hint",
        filter_subject=subjects.partition(partition),
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_deliver=-1,  # the planner quarantines; the server must not forget
        max_ack_pending=20_000,
    )


def notifier_name(channel: str) -> str:
    """Name of the durable consumer of a channel's notifications."""
    return f"notifier-{channel}"


def notifier_consumer(channel: str) -> api.ConsumerConfig:
    """The durable consumer from which planners take what is to be sent by a channel."""
    return api.ConsumerConfig(
        durable_name=notifier_name(channel),
        description="Shared by all planners: each notification is sent by one of them",
        filter_subject=f"plan.notify.*.{channel}.*",
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=NOTIFIER_ACK_WAIT_SECONDS,
        max_deliver=-1,  # the planner gives up, with a line in the session's log
        max_ack_pending=10_000,  # those that wait for another try count
    )


async def ensure(js: JetStreamContext, *, url: str = "", replicas: int = 1) -> None:
    """Create every stream, bucket and consumer that is missing.

    Raises:
        JetStreamUnavailable: the server has no JetStream, or refuses an asset (the reason says why).
    """
    try:
        await asyncio.gather(
            *(_ensure_stream(js, config, replicas) for config in STREAMS),
            *(_ensure_bucket(js, config, replicas) for config in BUCKETS),
            *(_ensure_objects(js, bucket, text, replicas) for bucket, text in OBJECT_BUCKETS.items()),
        )
        # The same configuration again is not an error.
        await asyncio.gather(*(js.add_consumer(IN, partition_consumer(n)) for n in range(PARTITIONS)))
    except (NoRespondersError, ServiceUnavailableError) as error:
        raise JetStreamUnavailable(url, "start nats-server with -js (or use `planter dev`)") from error
    except (BadRequestError, ServerError) as error:
        raise JetStreamUnavailable(url, f"it refuses a stream of Planter: {error.description}") from error


def names() -> Iterable[str]:
    """Every stream that Planter uses, the ones behind buckets included."""
    yield from (str(config.name) for config in STREAMS)
    yield from (f"KV_{config.bucket}" for config in BUCKETS)
    yield from (f"OBJ_{bucket}" for bucket in OBJECT_BUCKETS)


async def _ensure_stream(js: JetStreamContext, config: api.StreamConfig, replicas: int) -> None:
    try:
        await js.stream_info(str(config.name))
    except NotFoundError:
        await _made(js, str(config.name), js.add_stream(config, num_replicas=replicas))


async def _ensure_bucket(js: JetStreamContext, config: api.KeyValueConfig, replicas: int) -> None:
    try:
        await js.key_value(config.bucket)
    except BucketNotFoundError:
        await _made(js, f"KV_{config.bucket}", js.create_key_value(config, replicas=replicas))


async def _ensure_objects(js: JetStreamContext, bucket: str, description: str, replicas: int) -> None:
    try:
        await js.stream_info(f"OBJ_{bucket}")
    except NotFoundError:
        config = api.ObjectStoreConfig(description=description)
        store = js.create_object_store(bucket, config, replicas=replicas)
        await _made(js, f"OBJ_{bucket}", store)


async def _made(js: JetStreamContext, name: str, making: Coroutine[Any, Any, object]) -> None:
    """Make a stream, unless somebody else does at the same time: room is reserved for each of us."""
    try:
        await making
    except (BadRequestError, ServerError):
        if not await _appears(js, name):
            raise


async def _appears(js: JetStreamContext, name: str) -> bool:
    for _ in range(_LOOKS):
        try:
            await js.stream_info(name)
        except NotFoundError:
            await asyncio.sleep(_LOOKS_SECONDS)
        else:
            return True
    return False
