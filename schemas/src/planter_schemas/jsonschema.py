"""The JSON Schema of a phase manifest in canonical spelling, for editors and other programs.

``python -m planter_schemas.jsonschema`` writes the file that is checked in beside this module; a test fails
when it is stale. The schema is narrower than what Planter reads: further spellings and forms are left out, so
that an editor suggests one way to write a thing.
"""

import json
from pathlib import Path as FilePath

from planter_schemas import limits
from planter_schemas.conditions import CONCURRENCY_MAX, TRIGGER_RULES
from planter_schemas.extensions import PRIORITY_LIMIT
from planter_schemas.jsonschema_parts import Schema, notify, object_of, ref, text_of
from planter_schemas.jsonschema_runs import run
from planter_schemas.phases import ACTIONS, INSTANCE_MODES
from planter_schemas.placement import CONSTRAINTS_MAX, OPERATORS, SLOTS_MAX, WEIGHT_DEFAULT, WEIGHT_MAX

ID = "https://planter.dev/schemas/v1/phase-manifest.schema.json"
FILE = FilePath(__file__).with_name("phase-manifest.schema.json")
_VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:[^}]*)?\}"


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
            "run": run(),
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


def _around() -> Schema:
    return {
        "apiVersion": text_of("Version of the format.", examples=["planter/v1"]),
        "kind": {"const": "PhaseManifest", "description": "May be left out."},
        "metadata": {"type": "object", "description": "Anything about the manifest; kept as it is."},
    }


def _settings() -> Schema:
    return {
        "targetPhase": text_of("Run only this phase and what it waits for.", examples=["deploy"]),
        "defaultInstanceMode": ref("instanceMode", "For phases that have no `instanceMode`."),
    }


def _envelope() -> Schema:
    properties = {**_around(), **_settings(), "phases": ref("phases")}
    description = "The phases as a list, with settings for all of them."
    return object_of("Manifest with phases", description, properties, required=("phases",))


def _plan() -> Schema:
    plan = {
        "title": "Plan",
        "description": "The phases under their ids.",
        "type": "object",
        "properties": _settings(),
        "patternProperties": {"^[xX]-": True},
        "additionalProperties": ref("spec"),
    }
    description = "The phases by name."
    return object_of("Manifest with a plan", description, {**_around(), "plan": plan}, required=("plan",))


def _phase() -> Schema:
    properties: Schema = {
        "kind": {"const": "Phase", "description": "Always `Phase`; may be left out."},
        "id": ref("phaseId"),
        "metadata": ref("metadata"),
        "spec": ref("spec"),
    }
    phase = object_of("Phase", "A unit of work.", properties, required=("spec",))
    named = {"required": ["metadata"], "properties": {"metadata": {"required": ["name"]}}}
    return {**phase, "anyOf": [{"required": ["id"]}, named], "examples": [_EXAMPLE_PHASE]}


def _metadata() -> Schema:
    properties = {
        "name": ref("phaseId", "The phase's id, when there is no `id`."),
        "labels": ref("textMap", "Labels of the phase itself."),
        "annotations": ref("textMap", "Notes for people and programs."),
    }
    return object_of("Metadata", "What is known about the phase beside its work.", properties)


def _spec() -> Schema:
    match_labels = ref("textMap", "Labels that a runtime must have.", examples=[{"phase": "build"}])
    attempts = ref("attempts")
    properties: Schema = {
        "description": text_of("A summary for people.", examples=["Build the site"]),
        "selector": object_of(
            "Selector",
            "Which runtimes may run the phase; without labels, all.",
            {"matchLabels": match_labels},
        ),
        "instanceMode": ref("instanceMode", default="immediate"),
        "waitFor": ref("waitFor"),
        "retry": object_of("Retry", "How often the phase is tried.", {"maxAttempts": attempts}),
        "onFailure": ref("handler", "What to do when the last attempt failed."),
        "onSuccess": ref("handler", "What to do when the phase is complete."),
        "x-run": ref("run"),
        "x-retry": ref("retryBackoff"),
        "x-timeout": ref("timeouts"),
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
    return object_of("Spec", "What the phase needs, and how it is run.", properties)


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
        "label": text_of("Of the runtime, or planter.runtime, .host, .version.", minLength=1),
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
            "items": object_of("Constraint", "What a label must be.", about, required=("label",)),
            "description": "Only runtimes whose labels fulfil all of these are offered the phase.",
            "examples": [[{"label": "gpu.memory", "operator": ">=", "value": 16}]],
        },
        "x-affinity": {
            "type": "array",
            "maxItems": CONSTRAINTS_MAX,
            "items": object_of("Affinity", "What a label had better be.", affinity, required=("label",)),
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
                    "maxAge": ref("duration"),
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
            "items": ref("phaseId"),
            "description": "Ids of the phases that must be complete first.",
            "examples": [["fetch", "configure"]],
        },
        "timeout": ref("duration", "How long to wait at most."),
    }
    return object_of("Wait for", "What must be complete before the phase starts.", properties)


def _handler() -> Schema:
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
        "spec": object_of(
            "Handler spec", "The message.", {"message": message, "notify": notify(), "labels": ref("textMap")}
        ),
    }
    return object_of("Handler", "What to do with the outcome.", properties)


def _retry_backoff() -> Schema:
    properties: Schema = {
        "initial": ref("duration", "The wait before the second attempt.", default="1s"),
        "factor": {
            "type": "number",
            "minimum": 1,
            "maximum": 100,
            "default": 2,
            "description": "What each further wait is multiplied with.",
        },
        "max": ref("duration", "The longest wait.", default="100s"),
        "jitter": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.1,
            "description": "The share of each wait that is drawn at random.",
        },
        "maxAttempts": ref("attempts", "Instead of `retry.maxAttempts`."),
    }
    return object_of("Retry backoff", "The waits between attempts.", properties)


def _timeouts() -> Schema:
    named = object_of(
        "Timeouts",
        "Up to four limits.",
        {
            "scheduleToStart": ref("duration", "From ready to the start of an attempt. Not retried."),
            "startToClose": ref("duration", "How long one attempt may take. Retried."),
            "scheduleToClose": ref(
                "duration", "From ready to the end, all attempts and waits together. Not retried."
            ),
            "heartbeat": ref("duration", "How long a running attempt may be silent. Retried."),
        },
    )
    return {
        "description": "How long one attempt may take, or up to four limits by name.",
        "anyOf": [ref("duration"), named],
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
