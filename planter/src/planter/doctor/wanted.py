"""What each stream and consumer should be, from the data that creates them, and why each field matters."""

from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Any

import msgspec
from nats.js import api

from planter_protocol import assets

_NS = 1_000_000_000
_DAY = 86_400 * _NS

IN, JOURNAL = assets.IN, assets.JOURNAL
OBJECTS = f"OBJ_{assets.MANIFESTS_BUCKET}"
ARTIFACTS = f"OBJ_{assets.ARTIFACTS_BUCKET}"
KEYS = f"KV_{assets.KEYS_BUCKET}"
ESSENTIAL = (IN, JOURNAL, OBJECTS, ARTIFACTS, KEYS)
"""What cannot be made again from something else; listings, logs and dead letters could be lost."""


class Kind(StrEnum):
    """How a field is compared."""

    EQUAL = "equal"
    AT_LEAST = "at least"
    """A number where 0 and -1 mean without a limit."""
    IF_WANTED = "if wanted"
    """Only its absence is a difference."""


class Rule(msgspec.Struct, frozen=True):
    """One field, and what follows when it is another."""

    field: str
    """NATS's own name."""
    cause: str
    fails: tuple[str, ...] = ()
    """Streams for which a difference is a failure; for the others it is a warning."""
    kind: Kind = Kind.EQUAL
    only: tuple[str, ...] = ()
    """Streams it is looked at for; none: all."""
    edit: Callable[[Any], str] | None = None
    """Flags of ``nats stream edit`` (``consumer edit``) for the wanted value; None: it cannot be changed."""


_ALL = tuple(assets.names())
_KEPT = (IN, JOURNAL, OBJECTS, ARTIFACTS, KEYS, f"KV_{assets.SESSIONS_BUCKET}")

STREAM_RULES: tuple[Rule, ...] = (
    Rule(
        "subjects",
        "what is published there is not stored, so nobody ever takes it",
        _ALL,
        edit=lambda wanted: " ".join(f"--subjects='{subject}'" for subject in wanted),
    ),
    Rule(
        "subject_transform",
        "inputs are filed by partition; without it no planner is given any",
        (IN,),
        only=(IN,),
        edit=lambda wanted: (
            f"--transform-source='{wanted['src']}' --transform-destination='{wanted['dest']}'"
        ),
    ),
    Rule("retention", "messages vanish when they are read", _ALL),
    Rule("storage", "it is in memory: a restart of the server loses it", _ALL),
    Rule("persist_mode", "a publish is confirmed before it is written: even a killed server loses it", _ALL),
    Rule("no_ack", "publishes are not confirmed, so nothing says that they are stored", _ALL),
    Rule("sealed", "nothing can be stored in it any more", _ALL),
    Rule("mirror", "it follows another stream and takes nothing itself", _ALL),
    Rule(
        "discard",
        "when a limit is reached, old messages are removed in silence instead of new ones refused",
        _KEPT,
        edit=lambda wanted: f"--discard={wanted}",
    ),
    Rule(
        "discard_new_per_subject", "the limit is reached a subject", edit=lambda _: "--no-discard-per-subject"
    ),
    Rule(
        "max_age",
        "what is older is removed, though it may still be needed",
        (JOURNAL, OBJECTS, KEYS),
        Kind.AT_LEAST,
        edit=lambda wanted: f"--max-age={duration(wanted)}",
    ),
    Rule(
        "max_msgs_per_subject",
        "older messages of a subject are removed, though they are part of its history",
        (IN, JOURNAL, OBJECTS),
        Kind.AT_LEAST,
        edit=lambda wanted: f"--max-msgs-per-subject={wanted}",
    ),
    Rule(
        "max_msg_size",
        "larger messages that Planter allows are refused",
        (JOURNAL,),
        Kind.AT_LEAST,
        edit=lambda wanted: f"--max-msg-size={wanted}",
    ),
    Rule(
        "duplicate_window",
        "a publish that is tried again after this time is stored twice",
        (),
        Kind.AT_LEAST,
        only=(IN, JOURNAL, assets.LOGS),
        edit=lambda wanted: f"--dupe-window={duration(wanted)}",
    ),
    Rule(
        "deny_delete",
        "single messages can be deleted through the API",
        (),
        Kind.IF_WANTED,
        edit=lambda _: "--deny-delete",
    ),
    Rule(
        "deny_purge",
        "it can be emptied through the API",
        (),
        Kind.IF_WANTED,
        edit=lambda _: "--deny-purge",
    ),
    Rule(
        "allow_rollup_hdrs",
        "a client that may publish one message can erase the others with the header Nats-Rollup",
        (IN, JOURNAL),
        only=(IN, JOURNAL, assets.LOGS, assets.DEAD_LETTERS),
        edit=lambda _: "--no-allow-rollup",
    ),
    Rule(
        "allow_msg_schedules",
        "a client that may publish one subject can write to others with the header Nats-Schedule-Target",
        (IN, JOURNAL),
        edit=lambda _: "--no-allow-schedules",
    ),
    Rule(
        "republish",
        "monitors get no events as they happen, only when they look",
        (),
        only=(JOURNAL,),
        edit=lambda wanted: (
            f"--republish-source='{wanted['src']}' --republish-destination='{wanted['dest']}'"
        ),
    ),
    Rule(
        "allow_direct",
        "it cannot be read: planners and monitors read without a consumer",
        (JOURNAL, assets.LOGS, f"KV_{assets.SESSIONS_BUCKET}"),
        Kind.IF_WANTED,
        edit=lambda _: "--allow-direct",
    ),
)

CONSUMER_RULES: tuple[Rule, ...] = (
    Rule(
        "filter_subject",
        "it gives inputs of another partition, or none",
        (IN,),
        edit=lambda v: f"--filter={v}",
    ),
    Rule("ack_policy", "inputs count as done before they are in the journal", (IN,)),
    Rule(
        "max_deliver",
        "the server forgets an input after so many deliveries, though no planner has dealt with it",
        (IN,),
        Kind.AT_LEAST,
        edit=lambda v: f"--max-deliver={v}",
    ),
    Rule("deliver_policy", "inputs from before the consumer was made are never given", (IN,)),
    Rule("deliver_subject", "it pushes its messages away, planners pull", (IN,)),
    Rule("headers_only", "inputs come without their content", (IN,)),
    Rule(
        "ack_wait",
        "an input of a planner that died is given to another one sooner or later than planned",
        edit=lambda v: f"--wait={duration(v)}",
    ),
    Rule(
        "max_ack_pending",
        "fewer inputs may be under way: deliveries stop when so many wait for their ack",
        (),
        Kind.AT_LEAST,
        edit=lambda v: f"--max-pending={v}",
    ),
    Rule("inactive_threshold", "it is removed when no planner asks for a while"),
    Rule("mem_storage", "what is acknowledged is forgotten when the server restarts"),
)

_DEFAULTS: dict[str, Any] = {
    "subject_transform": None,
    "persist_mode": "default",
    "no_ack": False,
    "sealed": False,
    "mirror": None,
    "discard_new_per_subject": False,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "duplicate_window": 0,
    "deny_delete": False,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "allow_msg_schedules": False,
    "republish": None,
    "allow_direct": False,
    "deliver_policy": "all",
    "deliver_subject": None,
    "headers_only": False,
    "inactive_threshold": 0,
    "mem_storage": False,
    "max_deliver": -1,
    "retention": "limits",
    "storage": "file",
    "discard": "old",
}


class Difference(msgspec.Struct, frozen=True):
    """A field that is not what this version expects."""

    rule: Rule
    found: Any
    wanted: Any
    fails: bool


def wanted_streams() -> dict[str, dict[str, Any]]:
    """The configuration of every stream, with NATS's own names; buckets as nats-py makes them."""
    configs = [*assets.STREAMS, *(_of_bucket(bucket) for bucket in assets.BUCKETS)]
    configs += [_of_objects(bucket) for bucket in assets.OBJECT_BUCKETS]
    return {str(config.name): config.as_dict() for config in configs}


def wanted_consumers() -> dict[str, dict[str, Any]]:
    """The configuration of every consumer of the inputs."""
    return {
        assets.consumer_name(number): assets.partition_consumer(number).as_dict()
        for number in range(assets.PARTITIONS)
    }


def differences(
    rules: tuple[Rule, ...], stream: str, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> list[Difference]:
    """The fields in which a stream, or a consumer of it, is not what is wanted."""
    result: list[Difference] = []
    for rule in rules:
        if rule.only and stream not in rule.only:
            continue
        has, should = _value(found, rule.field), _value(wanted, rule.field)
        if _differs(rule.kind, has, should):
            result.append(Difference(rule, has, should, stream in rule.fails))
    return result


def shown(field: str, value: Any) -> str:
    """A value for people: durations as durations, subjects without brackets."""
    if field in ("max_age", "duplicate_window", "ack_wait", "inactive_threshold"):
        return duration(value) if value else "without a limit" if field == "max_age" else "0s"
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return f"{value.get('src')} to {value.get('dest')}" if "src" in value else str(value.get("name"))
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


def duration(nanoseconds: int) -> str:
    """``7d``, ``2m``, ``1.5s``, as the nats command line reads them."""
    for unit, size in (("d", _DAY), ("h", 3600 * _NS), ("m", 60 * _NS)):
        if nanoseconds and nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return f"{nanoseconds / _NS:g}s" if nanoseconds else "0s"


def _value(config: Mapping[str, Any], field: str) -> Any:
    value = config.get(field)
    if value is None:
        return _DEFAULTS.get(field)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict) and field in ("subject_transform", "republish"):
        return {key: value.get(key) for key in ("src", "dest")}
    return sorted(value) if isinstance(value, list) else value


def _differs(kind: Kind, found: Any, wanted: Any) -> bool:
    match kind:
        case Kind.EQUAL:
            return found != wanted
        case Kind.AT_LEAST:
            return found > 0 and (wanted <= 0 or found < wanted)
        case Kind.IF_WANTED:
            return bool(wanted) and not found


def _of_bucket(config: api.KeyValueConfig) -> api.StreamConfig:
    return api.StreamConfig(
        name=f"KV_{config.bucket}",
        subjects=[f"$KV.{config.bucket}.>"],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_msgs_per_subject=config.history,
        allow_direct=config.direct,
        max_age=config.ttl or 0,
    )


def _of_objects(bucket: str) -> api.StreamConfig:
    return api.StreamConfig(
        name=f"OBJ_{bucket}",
        subjects=[f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        allow_direct=True,
        max_age=0,
    )
