"""The NATS side as an AsyncAPI 3.1 document: ``schemas/asyncapi.json``.

Made from the message types and the table below, seen from a planner: ``receive`` is what a planner takes,
``send`` what it publishes. Runtimes and monitors do the opposite. A test compares the stored file and holds
the table to ``subjects``; ``python -m planter_protocol.asyncapi > schemas/asyncapi.json`` writes it anew.

Sources: AsyncAPI 3.1.0; its NATS binding 0.1.0, which has nothing but ``queue``.
"""

import ast
import inspect
import sys
from functools import cache
from typing import Any, NamedTuple

import msgspec

from planter_protocol import explaining, gate, matching, services
from planter_protocol import messages as m
from planter_protocol.asyncapi_examples import EXAMPLES

VERSION = "1.0.0"
"""Of the described interface: that of the Phase Manifest Protocol which it extends."""

_SCHEMAS = "#/components/schemas/{name}"
_QUEUE = "planter"
_REPLIES = "replies"
_EMPTY = "Empty"
_PARAMETERS = {
    "sessionId": "A session: 1 to 64 of the characters A-Z, a-z, 0-9, '_' and '-'.",
    "runtimeId": "A runtime; characters as in a session id.",
    "plannerId": "A planner; characters as in a session id.",
    "channel": "`email`, `slack`, `webhook`, or one that starts with `x-`.",
    "token": "The same for the same handler of the same attempt.",
    "serviceName": "`planter-planner` or `planter-runtime`.",
    "serviceId": "Id of the planner or runtime.",
}


class Channel(NamedTuple):
    """A subject, what is sent on it, and what a planner does with it."""

    key: str
    address: str
    text: str
    message: type | None
    """None: the payload is empty or does not matter."""
    actions: tuple[str, ...] = ("receive",)
    reply: type | None = None
    """The answer to a request; ``Refusal`` may come instead of those of queries."""
    queue: str | None = None


_TEXT = """\
The Phase Manifest Protocol's NATS interface and Planter's additions, as a planner sees them:
`receive` is what a planner takes, `send` what it publishes; runtimes and monitors do the opposite.
Fields of the protocol keep its names and meaning; all others are optional for a client that knows
the protocol alone. Unknown fields are ignored on reading. Times are RFC 3339 in UTC, durations
milliseconds."""

_SESSION = "plan.session.{sessionId}."
_SERVICE_TEXT = "NATS services (ADR-32): asked by `nats micro`; every process answers for itself."

CHANNELS = (
    Channel(
        "start",
        f"{_SESSION}start",
        "A manifest begins or revises a session (PMP). Kept in the stream PLANTER_IN: publish it confirmed.",
        m.Start,
    ),
    Channel(
        "control",
        f"{_SESSION}control",
        "Control commands (PMP: pause, resume, cancel). Kept in PLANTER_IN.",
        m.Control,
    ),
    Channel(
        "ack", f"{_SESSION}ack", "A runtime accepts or rejects a target (PMP). Kept in PLANTER_IN.", m.Acks
    ),
    Channel(
        "report",
        f"{_SESSION}report",
        "A runtime tells how an attempt goes, echoing what its target carried. Kept in PLANTER_IN.",
        m.Reports,
    ),
    Channel(
        "target",
        f"{_SESSION}target",
        "A phase is offered to whoever takes it, because no registered runtime matches (PMP).",
        m.Target,
        ("send",),
    ),
    Channel(
        "state",
        f"{_SESSION}state",
        "A phase changed its status (PMP). A runtime that knows only PMP reports here itself.",
        m.State,
        ("send", "receive"),
    ),
    Channel(
        "events",
        f"{_SESSION}events",
        "Every commit of the session's journal, republished by the server with Nats-Sequence and "
        "Nats-Last-Sequence in its headers (PMP: lifecycle events).",
        m.Commit,
        ("send",),
    ),
    Channel(
        "log",
        f"{_SESSION}log",
        "Output of phases, sent by runtimes, and remarks of planners (PMP). Kept in PLANTER_LOGS.",
        m.Log,
        ("send",),
    ),
    Channel(
        "progress",
        f"{_SESSION}progress",
        "How far running work is, sent by runtimes at most twice a second. Kept nowhere, and may be lost.",
        m.Progress,
        ("send",),
    ),
    Channel(
        "getState",
        f"{_SESSION}get_state",
        "The full state of a session (PMP), in pages when it has many phases.",
        m.GetState,
        reply=m.SessionState,
        queue=_QUEUE,
    ),
    Channel(
        "diff",
        f"{_SESSION}diff",
        "What a manifest would change in a session (PMP).",
        m.Start,
        reply=m.Diff,
        queue=_QUEUE,
    ),
    Channel(
        "explain",
        f"{_SESSION}explain",
        "Why a phase, or any phase, is not running: what is missing, since when, and what would help.",
        explaining.Explain,
        reply=explaining.Explanation,
        queue=_QUEUE,
    ),
    Channel(
        "plannerInfo",
        "plan.planner.info",
        "Which planner answers, and which runtimes it knows.",
        m.GetState,
        reply=m.PlannerInfo,
        queue=_QUEUE,
    ),
    Channel(
        "plannerPresence",
        "plan.planner.{plannerId}.presence",
        "A planner says that it is there, twice a second.",
        m.Presence,
        ("send", "receive"),
    ),
    Channel(
        "plannerEcho",
        "plan.planner.{plannerId}.echo",
        "Nobody listens; that the server says so shows that it is there.",
        None,
        ("send",),
    ),
    Channel(
        "plannerHandover",
        "plan.planner.handover",
        "Sessions that have become somebody else's; their owner answers, without a payload.",
        m.Handover,
        ("send", "receive"),
    ),
    Channel(
        "runtimeTarget",
        "plan.runtime.{runtimeId}.target",
        "Targets addressed to one runtime.",
        m.Targets,
        ("send",),
    ),
    Channel(
        "runtimeControl",
        "plan.runtime.{runtimeId}.control",
        "Cancel an attempt, drain.",
        m.RuntimeControl,
        ("send",),
    ),
    Channel(
        "runtimeHeartbeat",
        "plan.runtime.{runtimeId}.heartbeat",
        "A runtime's registration, repeated to renew its lease.",
        m.Heartbeat,
    ),
    Channel(
        "runtimeDiscover",
        "plan.runtime.discover",
        "A planner asks every runtime for its heartbeat now.",
        None,
        ("send",),
    ),
    Channel(
        "journal",
        "plan.journal.{sessionId}",
        "The commit records of a session, appended by planners with Nats-Expected-Last-Subject-Sequence. "
        "Kept in PLANTER_JOURNAL: the source of truth.",
        m.Commit,
        ("send",),
    ),
    Channel(
        "notification",
        "plan.notify.{sessionId}.{channel}.{token}",
        "What the handler of a phase wants sent, for the notifiers. Kept until then.",
        m.Notification,
        ("send", "receive"),
    ),
    Channel(
        "deadLetter",
        "plan.dead.{sessionId}",
        "The bytes of an input that could not be read, with the reason in the header Planter-Reason. Kept in "
        "PLANTER_DEAD_LETTERS.",
        None,
        ("send",),
    ),
    *(
        Channel(
            f"service{verb.title()}{suffix}",
            f"$SRV.{verb}{address}",
            _SERVICE_TEXT,
            None,
            reply=reply,
        )
        for verb, reply in (("PING", services.Ping), ("INFO", services.Info), ("STATS", services.Stats))
        for suffix, address in (("", ""), ("Kind", ".{serviceName}"), ("One", ".{serviceName}.{serviceId}"))
    ),
)


def document() -> dict[str, Any]:
    """The document, as JSON values."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Planter over NATS",
            "version": VERSION,
            "description": _TEXT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "A NATS server with JetStream, version 2.12 or later.",
            }
        },
        "channels": {channel.key: _channel(channel) for channel in CHANNELS} | {_REPLIES: _replies()},
        "operations": {
            name: operation for channel in CHANNELS for name, operation in _operations(channel).items()
        },
        "components": {"schemas": _schemas(), "messages": _messages()},
    }


def text() -> str:
    """The document, as it is stored."""
    return f"{msgspec.json.format(msgspec.json.encode(document()), indent=2).decode()}\n"


def _channel(channel: Channel) -> dict[str, Any]:
    names = [name for name in _PARAMETERS if f"{{{name}}}" in channel.address]
    found: dict[str, Any] = {
        "address": channel.address,
        "description": channel.text,
        "messages": _references([channel.message], "components"),
    }
    if names:
        found["parameters"] = {name: {"description": _PARAMETERS[name]} for name in names}
    return found


def _replies() -> dict[str, Any]:
    return {
        "address": None,
        "description": "The reply subject of a request: an inbox of whoever asks.",
        "messages": _references([*_reply_types(), m.Refusal], "components"),
    }


def _reply_types() -> list[type]:
    return list(dict.fromkeys(channel.reply for channel in CHANNELS if channel.reply is not None))


def _operations(channel: Channel) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for action in channel.actions:
        operation: dict[str, Any] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel.key}"},
            "summary": channel.text,
            "messages": list(_references([channel.message], f"channels/{channel.key}").values()),
        }
        if channel.queue is not None:
            operation["bindings"] = {"nats": {"queue": channel.queue, "bindingVersion": "0.1.0"}}
        if channel.reply is not None:
            kinds: list[type | None] = [channel.reply]
            if channel.queue is not None:
                kinds.append(m.Refusal)
            operation["reply"] = {
                "channel": {"$ref": f"#/channels/{_REPLIES}"},
                "messages": list(_references(kinds, f"channels/{_REPLIES}").values()),
            }
        found[f"{action}{channel.key[:1].upper()}{channel.key[1:]}"] = operation
    return found


def _references(kinds: "list[type | None]", where: str) -> dict[str, dict[str, str]]:
    names = [_EMPTY if kind is None else kind.__name__ for kind in kinds]
    return {name: {"$ref": f"#/{where}/messages/{name}"} for name in names}


def _message_types() -> list[type]:
    named = [channel.message for channel in CHANNELS if channel.message is not None]
    return list(dict.fromkeys([*named, *_reply_types(), m.Refusal]))


def _messages() -> dict[str, Any]:
    found: dict[str, Any] = {
        _EMPTY: {"name": _EMPTY, "summary": "The payload is empty, or is not looked at."}
    }
    for kind in _message_types():
        headers = _HEADERS.get(kind)
        found[kind.__name__] = {
            "name": kind.__name__,
            "summary": inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "),
            "contentType": "application/json",
            **({"headers": {"type": "object", "properties": headers}} if headers else {}),
            "payload": {"$ref": _SCHEMAS.format(name=kind.__name__)},
            "examples": [
                {"name": name, "payload": msgspec.json.decode(msgspec.json.encode(example))}
                for name, example in EXAMPLES[kind].items()
            ],
        }
    return found


_HEADERS: dict[type, dict[str, Any]] = {
    m.Start: {
        "Nats-Msg-Id": {"type": "string", "description": "The same id again, within two minutes, is dropped."}
    },
    m.Commit: {
        "Nats-Sequence": {"type": "string", "description": "Sequence in PLANTER_JOURNAL."},
        "Nats-Last-Sequence": {
            "type": "string",
            "description": "The session's sequence before; another one than was seen means a gap.",
        },
    },
    m.Refusal: {
        services.ERROR: {"type": "string", "description": "The text, as NATS services say it."},
        services.ERROR_CODE: {
            "type": "string",
            "description": "A number as HTTP's: 400, 404, 413, 500, 503.",
        },
    },
}


def _schemas() -> dict[str, Any]:
    """JSON Schema of every message and what it holds, with the fields' docstrings."""
    _, schemas = msgspec.json.schema_components(_message_types(), ref_template=_SCHEMAS)
    documented = _field_docstrings()
    for name, schema in schemas.items():
        for field, described in schema.get("properties", {}).items():
            text = documented.get((name, _snake(field)))
            if text:
                described["description"] = text
    return dict(sorted(schemas.items()))


@cache
def _field_docstrings() -> dict[tuple[str, str], str]:
    """What stands under a field of a class, by class and field; a subclass has those of its base too."""
    found: dict[tuple[str, str], str] = {}
    for module in (gate, matching, m, explaining, services):
        for node in ast.parse(inspect.getsource(module)).body:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            inherited = {(node.name, field): text for (of, field), text in found.items() if of in bases}
            found.update(inherited)
            for field, follower in zip(node.body, node.body[1:], strict=False):
                match field, follower:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found[node.name, name] = " ".join(text.split())
                    case _:
                        pass
    return found


def _snake(field: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in field)


if __name__ == "__main__":
    sys.stdout.write(text())
