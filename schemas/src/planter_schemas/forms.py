"""The forms of a manifest: which part of the document is which phase.

A list of phases; one phase; an object with ``phases:``; an object with ``plan:``, where phases stand under
their names; several YAML documents, each a phase or a list.
"""

from dataclasses import dataclass, field
from typing import Any, cast

from planter_schemas import limits
from planter_schemas.extensions import gather
from planter_schemas.findings import Finding
from planter_schemas.manifest import InstanceMode
from planter_schemas.phases import (
    PHASE,
    SPEC,
    Draft,
    read_instance_mode,
    read_named_phase,
    read_phase,
)
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import Fields, KeyTable, is_extension, read_fields, spellings
from planter_schemas.values import Context, free_value, object_of, string

_AROUND = ["apiVersion", "kind", "metadata"]
_SETTINGS = ["targetPhase", "defaultInstanceMode"]
ENVELOPE = KeyTable(
    "a manifest",
    ["phases", *_SETTINGS, *_AROUND],
    elsewhere=dict.fromkeys(SPEC.names, "this key belongs inside of a phase's `spec`"),
)
PLAN_ENVELOPE = KeyTable(
    "a manifest",
    ["plan", *_AROUND],
    elsewhere=dict.fromkeys(_SETTINGS, "this key belongs inside of `plan`"),
)
PLAN_SETTINGS = KeyTable("plan", _SETTINGS)
ENVELOPE_KIND = "PhaseManifest"
_EXPECTED = "expected a list of phases, one phase, or an object with `phases` or `plan`"


@dataclass(slots=True)
class Parts:
    """A document taken apart.

    Attributes:
        drafts: the phases, in order.
        is_complete: whether every phase could be read as far as its id.
        target_phase: with its place.
        envelope: what stands around the phases and is kept.
    """

    drafts: list[Draft] = field(default_factory=list[Draft])
    is_complete: bool = True
    target_phase: str | None = None
    target_place: Path = ()
    envelope: dict[str, Any] = field(default_factory=dict[str, Any])


def take_apart(context: Context) -> Parts:
    """The phases and settings of a document."""
    parts = Parts()
    value = context.document.value
    if context.document.is_stream:
        _read_stream(context, cast("list[object]", value), parts)
    elif isinstance(value, list):
        _read_list(context, cast("list[object]", value), (), parts)
    elif isinstance(value, dict):
        _read_root(context, cast("dict[str, object]", value), parts)
    else:
        context.findings.add(Finding((), "PLT-1101", "this is no phase manifest", label=_EXPECTED))
    return parts


def _has(value: dict[str, object], name: str) -> str | None:
    return next((key for key in spellings(name) if key in value), None)


def _read_root(context: Context, value: dict[str, object], parts: Parts) -> None:
    phases, plan = _has(value, "phases"), _has(value, "plan")
    if phases is not None and plan is not None:
        message = "`phases` and `plan` stand in one manifest"
        hint = "keep one: `phases` is a list, `plan` has phases by name"
        context.findings.add(
            Finding((plan,), "PLT-1115", message, label="second form", hint=hint, at_key=True)
        )
    elif phases is not None:
        _read_envelope(context, value, parts)
    elif plan is not None:
        _read_plan(context, value, parts)
    elif any(key in PHASE.canonical for key in value):
        _append(read_phase(context, value, (), "immediate"), parts)
    else:
        context.findings.add(
            Finding((), "PLT-1101", "this is no phase manifest", label="no phases here", hint=_EXPECTED)
        )


def _read_stream(context: Context, documents: list[object], parts: Parts) -> None:
    if not _fits(context, len(documents), (), parts):
        return
    for index, document in enumerate(documents):
        if context.findings.is_full:
            parts.is_complete = False
            return
        if isinstance(document, list):
            _read_list(context, cast("list[object]", document), (index,), parts)
        else:
            _read_one_of_several(context, document, (index,), parts)


def _read_one_of_several(context: Context, value: object, path: Path, parts: Parts) -> None:
    if isinstance(value, dict):
        source = cast("dict[str, object]", value)
        key = _has(source, "phases") or _has(source, "plan")
        if key is not None:
            message = f"{shown(key)} stands in one of several documents"
            hint = "each of several documents is a phase or a list of phases"
            context.findings.add(Finding((*path, key), "PLT-1115", message, hint=hint, at_key=True))
            parts.is_complete = False
            return
        if not any(key in PHASE.canonical for key in source):
            message = "this document is no phase"
            context.findings.add(Finding(path, "PLT-1101", message, label="no phase", hint=_EXPECTED))
            parts.is_complete = False
            return
    _append(read_phase(context, value, path, "immediate"), parts)


def _read_list(
    context: Context, values: list[object], path: Path, parts: Parts, mode: InstanceMode = "immediate"
) -> None:
    if not _fits(context, len(values), path, parts):
        return
    for index, value in enumerate(values):
        if context.findings.is_full:
            parts.is_complete = False
            return
        _append(read_phase(context, value, (*path, index), mode), parts)


def _fits(context: Context, count: int, path: Path, parts: Parts) -> bool:
    total = count + len(parts.drafts)
    if total <= limits.PHASES_MAX:
        return True
    message = f"the manifest has {total:,} phases; {limits.PHASES_MAX:,} are allowed"
    context.findings.add(Finding(path, "PLT-1112", message, hint="split it into several sessions"))
    parts.is_complete = False
    return False


def _append(draft: Draft | None, parts: Parts) -> None:
    if draft is None or draft.id is None:
        parts.is_complete = False
    if draft is not None:
        parts.drafts.append(draft)


def _read_envelope(context: Context, value: dict[str, object], parts: Parts) -> None:
    fields = read_fields(context.findings, value, (), ENVELOPE)
    mode = _read_settings(context, fields, parts)
    _read_around(context, fields, parts, {})
    phases = fields.get("phases")
    if isinstance(phases, list):
        _read_list(context, cast("list[object]", phases), fields.path_of("phases"), parts, mode)
    else:
        context.wrong_type(fields.path_of("phases"), "`phases`", "a list", phases)


def _read_plan(context: Context, value: dict[str, object], parts: Parts) -> None:
    outer = read_fields(context.findings, value, (), PLAN_ENVELOPE)
    path = outer.path_of("plan")
    plan = object_of(context, outer.get("plan"), path, "`plan`")
    if plan is None:
        return
    known = {key: item for key, item in plan.items() if key in PLAN_SETTINGS.canonical or is_extension(key)}
    settings = read_fields(context.findings, known, path, PLAN_SETTINGS)
    mode = _read_settings(context, settings, parts)
    places: dict[str, Path] = {}
    gather(context, places, settings.extensions, path)
    _read_around(context, outer, parts, places)
    for key, item in settings.extensions.items():
        parts.envelope[key] = free_value(context, item, (*path, key))
    if not _fits(context, len(plan) - len(known), path, parts):
        return
    for name, spec in plan.items():
        if name not in known:
            if context.findings.is_full:
                parts.is_complete = False
                return
            _append(read_named_phase(context, name, spec, (*path, name), mode), parts)


def _read_settings(context: Context, fields: Fields, parts: Parts) -> InstanceMode:
    if "targetPhase" in fields:
        parts.target_place = fields.path_of("targetPhase")
        parts.target_phase = string(context, fields.get("targetPhase"), parts.target_place, "`targetPhase`")
    return read_instance_mode(context, fields, "defaultInstanceMode") or "immediate"


def _read_around(context: Context, fields: Fields, parts: Parts, places: dict[str, Path]) -> None:
    if "apiVersion" in fields:
        text = string(context, fields.get("apiVersion"), fields.path_of("apiVersion"), "`apiVersion`")
        parts.envelope["apiVersion"] = text
    if "kind" in fields:
        kind = string(context, fields.get("kind"), fields.path_of("kind"), "`kind`")
        if kind is not None and kind != ENVELOPE_KIND:
            message = f"kind {shown(kind)} is not `{ENVELOPE_KIND}`"
            finding = Finding(fields.path_of("kind"), "PLT-1106", message, label="not a manifest")
            context.findings.add(finding)
        parts.envelope["kind"] = kind
    if "metadata" in fields:
        path = fields.path_of("metadata")
        metadata = object_of(context, fields.get("metadata"), path, "`metadata`")
        parts.envelope["metadata"] = free_value(context, metadata, path)
    gather(context, places, fields.extensions, ())
    for key, item in fields.extensions.items():
        parts.envelope[key] = free_value(context, item, (key,))
