"""The OpenAPI document: answers are described by the structs that are sent, so the two cannot differ."""

from typing import Any

import msgspec
from fastapi import FastAPI

from planter.api import answers
from planter.api.bodies import MANIFEST_TYPES
from planter.api.problems import KINDS, MEDIA_TYPE, type_of
from planter_protocol import messages

SUMMARY = "Phase orchestration over NATS: the Phase Manifest Protocol's endpoints and Planter's own."
_DESCRIPTION = """\
Every answer that is no is `application/problem+json` (RFC 9457); `type` leads to what it means. Everything
but GET and HEAD needs the bearer token. Streams are server-sent events whose ids are stream sequences:
`Last-Event-ID` goes on exactly there.
"""
_STRUCTS: tuple[type, ...] = (
    answers.Apply,
    answers.ArtifactPage,
    answers.CommitPage,
    answers.ControlBody,
    answers.Controlled,
    answers.Health,
    answers.LogPage,
    answers.PhasePage,
    answers.PlanAccepted,
    answers.PlanStaged,
    answers.PlanStored,
    answers.Planners,
    answers.ProblemKind,
    answers.ProblemKinds,
    answers.Runtimes,
    answers.Session,
    answers.SessionPage,
    messages.Diff,
    messages.PhaseState,
    messages.SessionState,
)
UNCHANGED = {"description": "The caller has it already."}
_REF = "#/components/schemas/{name}"
_ALWAYS = (401, 403, 421, 422, 500)
_EXAMPLE = [
    {"kind": "Phase", "id": "fetch", "spec": {"selector": {"matchLabels": {}}, "x-run": {"noop": {}}}},
    {
        "kind": "Phase",
        "id": "build",
        "spec": {
            "selector": {"matchLabels": {"phase": "build"}},
            "waitFor": {"phases": ["fetch"]},
            "retry": {"maxAttempts": 3},
        },
    },
]


def answer(kind: type, description: str, *, streamed: bool = False) -> dict[str, Any]:
    """A response with the struct as JSON, and as a stream of events where there is one."""
    content: dict[str, Any] = {"application/json": {"schema": ref(kind)}}
    if streamed:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {"description": description, "content": content}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses for the errors that an endpoint may answer, with those that all may."""
    return {
        status: {
            "description": ", ".join(f"`{code}`" for code, kind in KINDS.items() if kind.status == status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
        }
        for status in sorted({*_ALWAYS, *statuses})
    }


def manifest_input(*, required: bool = True) -> dict[str, Any]:
    """The body of an endpoint that takes a manifest, and the token that it needs."""
    content: dict[str, Any] = {}
    for kind in MANIFEST_TYPES:
        if "json" in kind:
            content[kind] = {"schema": {"$ref": _REF.format(name="Manifest")}, "example": _EXAMPLE}
        else:
            content[kind] = {"schema": {"type": "string"}}
    return {"requestBody": {"required": required, "content": content}, "security": [{"token": []}]}


def struct_input(kind: type, example: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The body of an endpoint that takes a small JSON object, and the token that it needs."""
    content = {"application/json": {"schema": ref(kind), "example": example}}
    return {"requestBody": {"required": required, "content": content}, "security": [{"token": []}]}


def ref(kind: type) -> dict[str, str]:
    """Where the struct is described."""
    return {"$ref": _REF.format(name=kind.__name__)}


def complete(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    from fastapi.openapi.utils import get_openapi  # noqa: PLC0415 (only when it is asked for)

    document = get_openapi(
        title="Planter",
        version=app.version,
        openapi_version="3.1.0",
        summary=SUMMARY,
        description=_DESCRIPTION,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        tags=[
            {"name": "pmp", "description": "Endpoints of the Phase Manifest Protocol."},
            {"name": "sessions", "description": "Sessions, their phases, events and logs."},
            {"name": "system", "description": "Planners, runtimes, health, metrics, problem types."},
        ],
    )
    components = document.setdefault("components", {})
    schemas = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)[1]
    components["schemas"] = dict(sorted({**schemas, "Problem": _problem(), "Manifest": _manifest()}.items()))
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "The content of the token file."}
    }
    return document


def _manifest() -> dict[str, Any]:
    return {
        "description": "A list of phases, or an object with `phases`, in any spelling of the protocol.",
        "anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "object"}],
    }


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "description": "RFC 9457. `code` is for programs; a planner may give one without a type of its own.",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "enum": [type_of(code) for code in KINDS]},
            "title": text,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": text,
            "code": {"type": "string", "examples": list(KINDS)},
            "remedy": text,
            "requestId": text,
            "errors": {
                "description": "Every problem of a manifest with its place, or of the request.",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["message"],
                    "properties": {
                        "code": text,
                        "severity": text,
                        "message": text,
                        "hint": text,
                        "source": text,
                        "path": {"type": "string", "description": "JSON pointer into the manifest."},
                        "line": {"type": "integer"},
                        "column": {"type": "integer"},
                        "endColumn": {"type": "integer"},
                        "label": text,
                        "in": text,
                        "name": text,
                        "pointer": text,
                    },
                },
            },
        },
    }
