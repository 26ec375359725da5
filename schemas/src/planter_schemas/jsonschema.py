"""The JSON Schema of a phase manifest in canonical spelling, for editors and other programs.

``python -m planter_schemas.jsonschema`` writes the file that is checked in beside this module; a test fails
when it is stale. The schema is narrower than what Planter reads: further spellings and forms are left out, so
that an editor suggests one way to write a thing.
"""

import json
from pathlib import Path as FilePath
from typing import Any

from planter_schemas import limits
from planter_schemas.conditions import CONCURRENCY_MAX, TRIGGER_RULES
from planter_schemas.container_runs import PULL
from planter_schemas.extensions import PRIORITY_LIMIT
from planter_schemas.gate_runs import APPROVERS_MAX, ON_EXPIRY
from planter_schemas.http_runs import EXPECT
from planter_schemas.manifest import ISOLATION
from planter_schemas.phases import ACTIONS, INSTANCE_MODES
from planter_schemas.placement import CONSTRAINTS_MAX, OPERATORS, SLOTS_MAX, WEIGHT_DEFAULT, WEIGHT_MAX
from planter_schemas.run_limits import OPEN_FILES_MIN
from planter_schemas.runs import PYTHON_TARGET, SECRET, VARIABLE
from planter_schemas.sizes import SIZE

ID = "https://planter.dev/schemas/v1/phase-manifest.schema.json"
FILE = FilePath(__file__).with_name("phase-manifest.schema.json")
_VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:[^}]*)?\}"

Schema = dict[str, Any]


def json_schema() -> Schema:
    """A JSON Schema (2020-12): a list of phases, an object with ``phases``, or an object with ``plan``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Phase manifest",
        "description": "A plan of phases that wait for each other (Phase Manifest Protocol 1.0.0).",
        "oneOf": [
            {"$ref": "#/$defs/phases"},
            {"$ref": "#/$defs/envelope"},
            {"$ref": "#/$defs/plan"},
        ],
        "examples": [[_EXAMPLE_PHASE], {"targetPhase": "build", "phases": [_EXAMPLE_PHASE]}],
        "$defs": {
            "phases": {
                "title": "Phases",
                "description": "The phases, in any order.",
                "type": "array",
                "maxItems": limits.PHASES_MAX,
                "items": {"$ref": "#/$defs/phase"},
            },
            "envelope": _envelope(),
            "plan": _plan(),
            "phase": _phase(),
            "metadata": _metadata(),
            "spec": _spec(),
            "waitFor": _wait_for(),
            "handler": _handler(),
            "run": _run(),
            "retryBackoff": _retry_backoff(),
            "timeouts": _timeouts(),
            **_small_values(),
        },
    }


_EXAMPLE_PHASE: Schema = {
    "kind": "Phase",
    "id": "build",
    "spec": {
        "description": "Build the site",
        "selector": {"matchLabels": {"phase": "build"}},
        "waitFor": {"phases": ["fetch"], "timeout": "5m"},
        "retry": {"maxAttempts": 3},
        "onFailure": {"action": "raise", "spec": {"message": ["The build failed"]}},
        "x-run": {"shell": "make site"},
    },
}


def _object(title: str, description: str, properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    result: Schema = {"title": title, "description": description, "type": "object", "properties": properties}
    if required:
        result["required"] = list(required)
    return {**result, "patternProperties": {"^[xX]-": True}, "additionalProperties": False}


def _ref(name: str, description: str | None = None, **more: Any) -> Schema:
    result: Schema = {"$ref": f"#/$defs/{name}"}
    return result | ({} if description is None else {"description": description}) | more


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _around() -> Schema:
    return {
        "apiVersion": _text("Version of the format.", examples=["planter/v1"]),
        "kind": {"const": "PhaseManifest", "description": "May be left out."},
        "metadata": {"type": "object", "description": "Anything about the manifest; kept as it is."},
    }


def _settings() -> Schema:
    return {
        "targetPhase": _text("Run only this phase and what it waits for.", examples=["deploy"]),
        "defaultInstanceMode": _ref("instanceMode", "For phases that have no `instanceMode`."),
    }


def _envelope() -> Schema:
    properties = {**_around(), **_settings(), "phases": _ref("phases")}
    description = "The phases as a list, with settings for all of them."
    return _object("Manifest with phases", description, properties, required=("phases",))


def _plan() -> Schema:
    plan = {
        "title": "Plan",
        "description": "The phases under their ids.",
        "type": "object",
        "properties": _settings(),
        "patternProperties": {"^[xX]-": True},
        "additionalProperties": _ref("spec"),
    }
    description = "The phases by name."
    return _object("Manifest with a plan", description, {**_around(), "plan": plan}, required=("plan",))


def _phase() -> Schema:
    properties: Schema = {
        "kind": {"const": "Phase", "description": "Always `Phase`; may be left out."},
        "id": _ref("phaseId"),
        "metadata": _ref("metadata"),
        "spec": _ref("spec"),
    }
    phase = _object("Phase", "A unit of work.", properties, required=("spec",))
    named = {"required": ["metadata"], "properties": {"metadata": {"required": ["name"]}}}
    return {**phase, "anyOf": [{"required": ["id"]}, named], "examples": [_EXAMPLE_PHASE]}


def _metadata() -> Schema:
    properties = {
        "name": _ref("phaseId", "The phase's id, when there is no `id`."),
        "labels": _ref("textMap", "Labels of the phase itself."),
        "annotations": _ref("textMap", "Notes for people and programs."),
    }
    return _object("Metadata", "What is known about the phase beside its work.", properties)


def _spec() -> Schema:
    match_labels = _ref("textMap", "Labels that a runtime must have.", examples=[{"phase": "build"}])
    attempts = _ref("attempts")
    properties: Schema = {
        "description": _text("A summary for people.", examples=["Build the site"]),
        "selector": _object(
            "Selector",
            "Which runtimes may run the phase; without labels, all.",
            {"matchLabels": match_labels},
        ),
        "instanceMode": _ref("instanceMode", default="immediate"),
        "waitFor": _ref("waitFor"),
        "retry": _object("Retry", "How often the phase is tried.", {"maxAttempts": attempts}),
        "onFailure": _ref("handler", "What to do when the last attempt failed."),
        "onSuccess": _ref("handler", "What to do when the phase is complete."),
        "x-run": _ref("run"),
        "x-retry": _ref("retryBackoff"),
        "x-timeout": _ref("timeouts"),
        "x-priority": {
            "type": "integer",
            "minimum": -PRIORITY_LIMIT,
            "maximum": PRIORITY_LIMIT,
            "default": 0,
            "description": "Phases with a larger number are offered first.",
        },
        **_conditions(),
        **_placement(),
        "x-capabilities": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "description": "Only runtimes that have all of these are offered the phase.",
            "examples": [["docker", "gpu"]],
        },
    }
    return _object("Spec", "What the phase needs, and how it is run.", properties)


def _conditions() -> Schema:
    """What decides whether, how often and how many at a time."""
    return {
        "x-when": {
            "type": ["string", "boolean"],
            "minLength": 1,
            "description": "Runs only when this expression (CEL) is true; it sees `phases` and `session`.",
            "examples": ["phases.build.result.count > 0"],
        },
        "x-trigger": {
            "enum": list(TRIGGER_RULES),
            "default": "all_success",
            "description": "Which ends of what it waits for let the phase run.",
        },
        "x-outputs": {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1},
            "description": "Keys that the result of the phase must have.",
        },
        "x-concurrency": {
            "description": "Phases of a session with the same key share a limit, 1 by default.",
            "oneOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "required": ["key"],
                    "properties": {
                        "key": {"type": "string", "minLength": 1},
                        "max": {"type": "integer", "minimum": 1, "maximum": CONCURRENCY_MAX},
                    },
                    "patternProperties": {"^x-": {}},
                    "additionalProperties": False,
                },
            ],
        },
        "x-cache": _cache(),
        "x-foreach": {
            "description": "The phase is done once for each item, which expressions in `x-run` see.",
            "oneOf": [
                *_items_of_foreach(),
                {
                    "type": "object",
                    "required": ["items"],
                    "properties": {
                        "items": {"oneOf": _items_of_foreach()},
                        "parallel": {"type": "integer", "minimum": 1, "maximum": CONCURRENCY_MAX},
                    },
                    "patternProperties": {"^x-": {}},
                    "additionalProperties": False,
                },
            ],
        },
    }


def _placement() -> Schema:
    """What the phase asks of its runtime."""
    text: Schema = {"type": ["string", "number", "boolean"]}
    about: Schema = {
        "label": _text("Of the runtime, or planter.runtime, .host, .version.", minLength=1),
        "operator": {"enum": list(OPERATORS), "default": "=", "description": "How it is compared."},
        "value": {"anyOf": [text, {"type": "array", "minItems": 1, "items": text}]},
    }
    weight: Schema = {
        "type": "integer",
        "minimum": -WEIGHT_MAX,
        "maximum": WEIGHT_MAX,
        "not": {"const": 0},
        "default": WEIGHT_DEFAULT,
        "description": "How much it counts; less than 0: such runtimes are avoided.",
    }
    affinity = {**about, "weight": weight}
    return {
        "x-constraints": {
            "type": "array",
            "maxItems": CONSTRAINTS_MAX,
            "items": _object("Constraint", "What a label must be.", about, required=("label",)),
            "description": "Only runtimes whose labels fulfil all of these are offered the phase.",
            "examples": [[{"label": "gpu.memory", "operator": ">=", "value": 16}]],
        },
        "x-affinity": {
            "type": "array",
            "maxItems": CONSTRAINTS_MAX,
            "items": _object("Affinity", "What a label had better be.", affinity, required=("label",)),
            "description": "Of the runtimes with room, those whose labels fulfil these are preferred.",
            "examples": [[{"label": "zone", "value": "eu", "weight": 80}]],
        },
        "x-slots": {
            "type": "integer",
            "minimum": 1,
            "maximum": SLOTS_MAX,
            "default": 1,
            "description": "How many slots of its runtime an attempt takes.",
        },
    }


def _cache() -> Schema:
    return {
        "description": "An earlier result of the same content is taken instead of running the phase.",
        "oneOf": [
            {"type": "boolean"},
            {
                "type": "object",
                "properties": {
                    "key": {"type": ["string", "boolean"], "minLength": 1},
                    "maxAge": _ref("duration"),
                },
                "patternProperties": {"^x-": {}},
                "additionalProperties": False,
            },
        ],
    }


def _items_of_foreach() -> list[Schema]:
    return [{"type": "array"}, {"type": "string", "minLength": 1}]


def _wait_for() -> Schema:
    properties: Schema = {
        "phases": {
            "type": "array",
            "items": _ref("phaseId"),
            "description": "Ids of the phases that must be complete first.",
            "examples": [["fetch", "configure"]],
        },
        "timeout": _ref("duration", "How long to wait at most."),
    }
    return _object("Wait for", "What must be complete before the phase starts.", properties)


def _handler() -> Schema:
    notify = _object(
        "Notify",
        "Whom to tell.",
        {
            "email": _text("An address.", examples=["ops@example.com"]),
            "slack": _text("A channel.", examples=["#ops"]),
            "webhook": _text("A URL that receives a POST."),
        },
    )
    message: Schema = {
        "type": ["array", "string"],
        "items": {"type": "string"},
        "description": "What to tell.",
        "examples": [["The build failed"]],
    }
    properties: Schema = {
        "action": {
            "enum": list(ACTIONS),
            "description": "raise: the session fails; continue: it goes on; "
            "abort: the rest is cancelled; log: tell only.",
        },
        "spec": _object(
            "Handler spec", "The message.", {"message": message, "notify": notify, "labels": _ref("textMap")}
        ),
    }
    return _object("Handler", "What to do with the outcome.", properties)


def _run() -> Schema:
    ways: Schema = {
        "python": _text(
            "A function: module:function.", pattern=f"^{PYTHON_TARGET.pattern}$", examples=["site.build:main"]
        ),
        "exec": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string"},
            "description": "A program and its arguments.",
            "examples": [["make", "site"]],
        },
        "shell": _text("A script for the shell.", minLength=1, examples=["make site"]),
        "http": _http(),
        "container": _container(),
        "noop": {"type": ["object", "null"], "description": "Nothing; the phase is complete at once."},
        "wait": _wait(),
        "approval": _approval(),
    }
    properties: Schema = {
        **ways,
        "with": {"type": "object", "description": "Arguments for what runs."},
        "env": _ref("textMap", "Environment variables.", examples=[{"LANG": "C.UTF-8"}]),
        "timeout": _ref("duration", "How long one attempt may take."),
        "cwd": _text("The folder to run in.", minLength=1),
        "venv": _text("The folder of a Python environment to run with.", minLength=1, examples=[".venv"]),
        "secrets": {
            "type": "object",
            "description": "Names of secrets that the runtime has, by environment variable.",
            "patternProperties": {
                f"^{VARIABLE.pattern}$": {"type": "string", "pattern": f"^{SECRET.pattern}$"}
            },
            "additionalProperties": False,
            "examples": [{"API_TOKEN": "deploy-token"}],
        },
        "limits": _limits(),
        "isolation": {
            "enum": list(ISOLATION),
            "default": "none",
            "description": "files: it writes into the work folder only; strict: it sees little else.",
        },
        "artifacts": {
            "type": ["array", "string"],
            "items": {"type": "string", "minLength": 1},
            "description": "Files of its folder to keep, as patterns.",
            "examples": [["report.html", "out/*.csv"]],
        },
    }
    run = _object(
        "Run", "What the phase runs: one way, or arguments for a handler, and settings.", properties
    )
    for_handler = {"required": ["with"], "not": {"anyOf": [{"required": [way]} for way in ways]}}
    return {**run, "oneOf": [*({"required": [way]} for way in ways), for_handler]}


def _wait() -> Schema:
    properties: Schema = {
        "for": _span("For so long."),
        "until": _text("Until a time, with its zone.", examples=["2026-12-24T18:00:00Z"]),
    }
    wait = _object("Wait", "Nothing runs: the phase is complete later. Either `for` or `until`.", properties)
    return {**wait, "oneOf": [{"required": ["for"]}, {"required": ["until"]}]}


def _span(description: str) -> Schema:
    """A duration, or an expression that gives one."""
    return {
        "description": description,
        "anyOf": [_ref("duration"), {"type": "string", "pattern": "\\$\\{\\{"}],
    }


def _approval() -> Schema:
    properties: Schema = {
        "message": _text("What is asked.", minLength=1, examples=["Deploy to production?"]),
        "approvers": {
            "type": ["array", "string"],
            "minItems": 1,
            "maxItems": APPROVERS_MAX,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1},
            "description": "Who may answer; left out: anybody who may send commands.",
            "examples": [["alice", "bob"]],
        },
        "needed": {
            "type": "integer",
            "minimum": 1,
            "maximum": APPROVERS_MAX,
            "default": 1,
            "description": "So many different people have to approve.",
        },
        "expires": _span("How long the question stands."),
        "onExpiry": {"enum": list(ON_EXPIRY), "default": "fail", "description": "What becomes of it then."},
    }
    return _object(
        "Approval",
        "Nothing runs: the phase is complete when people approve.",
        properties,
        required=("message",),
    )


def _limits() -> Schema:
    def size(description: str) -> Schema:
        return {
            "description": description,
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^{SIZE.pattern}$"},
            ],
            "examples": ["512MiB"],
        }

    properties: Schema = {
        "memory": size("Address space of each process."),
        "cpu": _ref("duration", "Processor time of each process."),
        "openFiles": {
            "type": "integer",
            "minimum": OPEN_FILES_MIN,
            "description": "How many files each process may have open.",
        },
        "fileSize": size("Of a file that it writes."),
        "output": size("Of all that an attempt writes to stdout and stderr."),
    }
    return _object("Limits", "What a program may use of the machine.", properties)


def _container() -> Schema:
    def words(description: str) -> Schema:
        return {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": description}

    properties: Schema = {
        "image": _text("As the engine knows it.", minLength=1, examples=["python:3.12-slim"]),
        "command": words("Instead of the image's own."),
        "entrypoint": words("Instead of the image's own."),
        "mount": _text("Where in the container the work folder is; left out, it is not.", pattern="^/[^:]+$"),
        "network": _text("none, or a network of the engine.", minLength=1, examples=["none"]),
        "user": _text("Instead of the image's own.", minLength=1),
        "pull": {"enum": list(PULL), "default": "missing", "description": "When the image is fetched."},
        "readOnly": {"type": "boolean", "default": False, "description": "Its root folder is read-only."},
    }
    return _object(
        "Container", "A container: an image, and what runs in it.", properties, required=("image",)
    )


def _http() -> Schema:
    status: Schema = {
        "anyOf": [
            {"type": "integer", "minimum": 100, "maximum": 599},
            {"type": "string", "pattern": f"^{EXPECT.pattern}$"},
        ]
    }
    properties: Schema = {
        "url": _text("Where to: an absolute address.", minLength=1, examples=["https://example.org/build"]),
        "method": _text("GET without anything to send, else POST.", examples=["PUT"]),
        "headers": _ref("textMap", "Headers of the request."),
        "query": _ref("textMap", "Added to what the address has behind its `?`."),
        "body": _text("What is sent, as text; without it, `with` is sent as JSON."),
        "expect": {
            "description": "Statuses that mean that it was done: numbers, or classes such as 2xx.",
            "anyOf": [status, {"type": "array", "minItems": 1, "items": status}],
            "default": "2xx",
        },
        "followRedirects": {"type": "boolean", "default": False, "description": "Go where it is sent to."},
    }
    return _object("HTTP request", "An HTTP request.", properties, required=("url",))


def _retry_backoff() -> Schema:
    properties: Schema = {
        "initial": _ref("duration", "The wait before the second attempt.", default="1s"),
        "factor": {
            "type": "number",
            "minimum": 1,
            "maximum": 100,
            "default": 2,
            "description": "What each further wait is multiplied with.",
        },
        "max": _ref("duration", "The longest wait.", default="100s"),
        "jitter": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.1,
            "description": "The share of each wait that is drawn at random.",
        },
        "maxAttempts": _ref("attempts", "Instead of `retry.maxAttempts`."),
    }
    return _object("Retry backoff", "The waits between attempts.", properties)


def _timeouts() -> Schema:
    named = _object(
        "Timeouts",
        "Up to four limits.",
        {
            "scheduleToStart": _ref("duration", "From ready to the start of an attempt. Not retried."),
            "startToClose": _ref("duration", "How long one attempt may take. Retried."),
            "scheduleToClose": _ref(
                "duration", "From ready to the end, all attempts and waits together. Not retried."
            ),
            "heartbeat": _ref("duration", "How long a running attempt may be silent. Retried."),
        },
    )
    return {
        "description": "How long one attempt may take, or up to four limits by name.",
        "anyOf": [_ref("duration"), named],
        "examples": ["5m", {"startToClose": "5m", "scheduleToClose": "1h", "heartbeat": "30s"}],
    }


def _small_values() -> Schema:
    return {
        "phaseId": {
            "type": "string",
            "minLength": 1,
            "maxLength": limits.PHASE_ID_LENGTH_MAX,
            "description": "Unique within the manifest; printable characters.",
            "examples": ["build"],
        },
        "instanceMode": {
            "enum": list(INSTANCE_MODES),
            "description": "immediate: as soon as possible; onUse: on first use.",
        },
        "attempts": {
            "description": "All attempts, the first included.",
            "default": 1,
            "examples": [3],
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": limits.ATTEMPTS_MAX},
                {"type": "string", "pattern": f"^([0-9]+|{_VARIABLE})$"},
            ],
        },
        "duration": {
            "description": "A whole number with ms, s, m or h; a number alone is seconds.",
            "examples": ["300ms", "5m"],
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^([0-9]+(ms|s|m|h)?|{_VARIABLE})$"},
            ],
        },
        "textMap": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
    }


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
