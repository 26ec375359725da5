"""``x-run`` in the JSON Schema: each way to run a phase."""

from planter_schemas.container_runs import PULL
from planter_schemas.gate_runs import APPROVERS_MAX, ON_EXPIRY
from planter_schemas.http_runs import EXPECT
from planter_schemas.jsonschema_parts import Schema, notify, object_of, ref, text_of
from planter_schemas.manifest import ISOLATION
from planter_schemas.run_limits import OPEN_FILES_MIN
from planter_schemas.runs import PYTHON_TARGET, SECRET, VARIABLE
from planter_schemas.sizes import SIZE


def run() -> Schema:
    ways: Schema = {
        "python": text_of(
            "A function: module:function.", pattern=f"^{PYTHON_TARGET.pattern}$", examples=["site.build:main"]
        ),
        "exec": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string"},
            "description": "A program and its arguments.",
            "examples": [["make", "site"]],
        },
        "shell": text_of("A script for the shell.", minLength=1, examples=["make site"]),
        "http": _http(),
        "container": _container(),
        "noop": {"type": ["object", "null"], "description": "Nothing; the phase is complete at once."},
        "wait": _wait(),
        "approval": _approval(),
    }
    properties: Schema = {
        **ways,
        "with": {"type": "object", "description": "Arguments for what runs."},
        "env": ref("textMap", "Environment variables.", examples=[{"LANG": "C.UTF-8"}]),
        "timeout": ref("duration", "How long one attempt may take."),
        "cwd": text_of("The folder to run in.", minLength=1),
        "venv": text_of("The folder of a Python environment to run with.", minLength=1, examples=[".venv"]),
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
    run = object_of(
        "Run", "What the phase runs: one way, or arguments for a handler, and settings.", properties
    )
    for_handler = {"required": ["with"], "not": {"anyOf": [{"required": [way]} for way in ways]}}
    return {**run, "oneOf": [*({"required": [way]} for way in ways), for_handler]}


def _wait() -> Schema:
    properties: Schema = {
        "for": _span("For so long."),
        "until": text_of("Until a time, with its zone.", examples=["2026-12-24T18:00:00Z"]),
    }
    wait = object_of("Wait", "The phase is complete later. Either `for` or `until`.", properties)
    return {**wait, "oneOf": [{"required": ["for"]}, {"required": ["until"]}]}


def _span(description: str) -> Schema:
    """A duration, or an expression that gives one."""
    return {
        "description": description,
        "anyOf": [ref("duration"), {"type": "string", "pattern": "\\$\\{\\{"}],
    }


def _approval() -> Schema:
    properties: Schema = {
        "message": text_of("What is asked.", minLength=1, examples=["Deploy to production?"]),
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
        "notify": notify(),
    }
    return object_of(
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
        "cpu": ref("duration", "Processor time of each process."),
        "openFiles": {
            "type": "integer",
            "minimum": OPEN_FILES_MIN,
            "description": "How many files each process may have open.",
        },
        "fileSize": size("Of a file that it writes."),
        "output": size("Of all that an attempt writes to stdout and stderr."),
    }
    return object_of("Limits", "What a program may use of the machine.", properties)


def _container() -> Schema:
    def words(description: str) -> Schema:
        return {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": description}

    properties: Schema = {
        "image": text_of("As the engine knows it.", minLength=1, examples=["python:3.12-slim"]),
        "command": words("Instead of the image's own."),
        "entrypoint": words("Instead of the image's own."),
        "mount": text_of("Where the work folder is; not there unless given.", pattern="^/[^:]+$"),
        "network": text_of("none, or a network of the engine.", minLength=1, examples=["none"]),
        "user": text_of("Instead of the image's own.", minLength=1),
        "pull": {"enum": list(PULL), "default": "missing", "description": "When the image is fetched."},
        "readOnly": {"type": "boolean", "default": False, "description": "Its root folder is read-only."},
    }
    return object_of(
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
        "url": text_of("Where to: an absolute address.", minLength=1, examples=["https://example.org/build"]),
        "method": text_of("GET without anything to send, else POST.", examples=["PUT"]),
        "headers": ref("textMap", "Headers of the request."),
        "query": ref("textMap", "Added to what the address has behind its `?`."),
        "body": text_of("What is sent, as text; without it, `with` is sent as JSON."),
        "expect": {
            "description": "Statuses that mean that it was done: numbers, or classes such as 2xx.",
            "anyOf": [status, {"type": "array", "minItems": 1, "items": status}],
            "default": "2xx",
        },
        "followRedirects": {"type": "boolean", "default": False, "description": "Go where it is sent to."},
    }
    return object_of("HTTP request", "An HTTP request.", properties, required=("url",))
