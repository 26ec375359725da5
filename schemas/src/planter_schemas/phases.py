"""Reading one phase: an object with ``id`` or ``metadata.name`` and a ``spec``, or a named spec."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from planter_schemas import limits
from planter_schemas.extensions import KNOWN, gather, read_extensions
from planter_schemas.findings import Finding
from planter_schemas.manifest import Handler, InstanceMode
from planter_schemas.notify import read_notify
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import Fields, KeyTable, closest, read_fields
from planter_schemas.values import (
    Context,
    attempts,
    choice,
    duration_ms,
    free_value,
    object_of,
    string,
    string_list,
    string_map,
)

SPEC_KEYS = ["description", "selector", "instanceMode", "waitFor", "retry", "onFailure", "onSuccess"]
PHASE_KEYS = ["kind", "id", "metadata", "spec"]
SPEC = KeyTable(
    "a spec",
    SPEC_KEYS,
    elsewhere={
        **dict.fromkeys(PHASE_KEYS, "this key belongs to the phase, beside `spec`"),
        "spec": "under `plan:`, a phase's name is followed by the spec's own keys, without `spec:`",
        "dependsOn": "write `waitFor: {phases: [...]}`",
        "matchLabels": "this key belongs inside of `selector`",
        "maxAttempts": "this key belongs inside of `retry`",
        "timeout": "write `x-timeout` for an attempt, `waitFor.timeout` for waiting",
        "run": "write `x-run`",
        "priority": "write `x-priority`",
        "constraints": "write `x-constraints`",
        "affinity": "write `x-affinity`",
        "slots": "write `x-slots`",
    },
)
PHASE = KeyTable(
    "a phase",
    PHASE_KEYS,
    elsewhere={
        **dict.fromkeys(SPEC_KEYS, "this key belongs inside of `spec`"),
        "name": "write `id`, or put it inside of `metadata`",
    },
)
METADATA = KeyTable("metadata", ["name", "labels", "annotations"])
SELECTOR = KeyTable("a selector", ["matchLabels"])
WAIT = KeyTable("waitFor", ["phases", "timeout"], aliases={"dependsOn": "phases"})
RETRY = KeyTable("retry", ["maxAttempts"])
_IN_HANDLER_SPEC = dict.fromkeys(
    ["message", "notify", "labels"], "this key belongs inside of the handler's `spec`"
)
HANDLER = KeyTable("a handler", ["action", "spec"], elsewhere=_IN_HANDLER_SPEC)
HANDLER_SPEC = KeyTable("a handler's spec", ["message", "notify", "labels"])
_TIMEOUT_FIELDS = {
    "scheduleToStart": "schedule_to_start_ms",
    "startToClose": "timeout_ms",
    "scheduleToClose": "schedule_to_close_ms",
    "heartbeat": "heartbeat_ms",
}
ACTIONS = ("raise", "continue", "abort", "log")
INSTANCE_MODES = ("immediate", "onUse")
MEANING_IMMEDIATE = ("parallel", "sequential")


@dataclass(slots=True)
class Draft:
    """A phase that was read, until its references are checked.

    Attributes:
        id: None when it has none that can be used.
        place: what names the phase in the document.
        wait_place: the list of waits, or the one string of it; None when it waits for nothing.
        is_wait_list: whether ``wait_place`` is a list.
        extension_places: where each ``x-`` key stands.
        fields: the arguments of ``Phase`` that differ from their defaults.
    """

    id: str | None
    place: Path
    wait_place: Path | None = None
    is_wait_list: bool = True
    extension_places: dict[str, Path] = field(default_factory=dict[str, Path])
    fields: dict[str, Any] = field(default_factory=dict[str, Any])

    def path_of_wait(self, index: int) -> Path:
        """The path of one entry of the list of waits."""
        if self.wait_place is None:
            return self.place
        return (*self.wait_place, index) if self.is_wait_list else self.wait_place


def read_phase(context: Context, value: object, path: Path, default_mode: InstanceMode) -> Draft | None:
    """Read a phase object; None when it is no phase at all."""
    source = object_of(context, value, path, "a phase")
    if source is None:
        return None
    kind_key = "kind" if "kind" in source else "Kind"
    kind = source.get(kind_key)
    if kind != "Phase" and kind is not None:
        _wrong_kind(context, kind, (*path, kind_key))
        return None  # a document of another kind: its keys would all be unknown
    fields = read_fields(context.findings, source, path, PHASE)
    metadata = _part(context, fields, "metadata", METADATA)
    draft = Draft(None, path)
    _read_id(context, fields, metadata, draft)
    if metadata is not None:
        _read_metadata(context, metadata, draft)
    spec_value = fields.values.get("spec")
    if spec_value is None:
        what = shown(draft.id) if draft.id else "a phase"
        finding = Finding(draft.place, "PLT-1105", f"{what} has no `spec`", hint="an empty one is `spec: {}`")
        context.findings.add(finding)
        _read_spec(context, {}, path, draft, fields)
        return draft
    place = fields.path_of("spec")
    spec = object_of(context, spec_value, place, "`spec`")
    if spec is not None:
        _read_spec(context, spec, place, draft, fields, default_mode=default_mode)
    return draft


def read_named_phase(
    context: Context, name: str, value: object, path: Path, default_mode: InstanceMode
) -> Draft | None:
    """Read a spec that stands under the phase's name (``plan:`` form)."""
    draft = Draft(_checked_id(context, name, path, at_key=True), path)
    spec = object_of(context, value, path, f"the spec of {shown(name)}")
    if spec is not None:
        _read_spec(context, spec, path, draft, None, default_mode=default_mode)
    return draft


def _wrong_kind(context: Context, value: object, path: Path) -> None:
    text = string(context, value, path, "`kind`")
    if text is not None:
        message = f"kind {shown(text)} is not `Phase`"
        hint = "a phase manifest holds phases only"
        if closest(text, ("Phase",)):
            hint = "did you mean `Phase`?"
        context.findings.add(Finding(path, "PLT-1106", message, label="not a phase", hint=hint))


def _read_id(context: Context, fields: Fields, metadata: Fields | None, draft: Draft) -> None:
    id_, name = fields.get("id"), metadata.get("name") if metadata is not None else None
    if id_ is not None:
        draft.place = fields.path_of("id")
        draft.id = _checked_id(context, id_, draft.place)
        if metadata is not None and name is not None and name != id_:
            message = "`id` and `metadata.name` differ"
            hint = "both name the phase: keep one of them"
            finding = Finding(
                metadata.path_of("name"), "PLT-1114", message, label="differs from `id`", hint=hint
            )
            context.findings.add(finding)
    elif metadata is not None and name is not None:
        draft.place = metadata.path_of("name")
        draft.id = _checked_id(context, name, draft.place)
    else:
        message = "a phase has no id"
        hint = "give it an `id`, or a `name` inside of `metadata`"
        context.findings.add(Finding(fields.path, "PLT-1105", message, label="no `id`", hint=hint))


def _checked_id(context: Context, value: object, path: Path, *, at_key: bool = False) -> str | None:
    text = string(context, value, path, "a phase id")
    if text is None:
        return None
    if 0 < len(text) <= limits.PHASE_ID_LENGTH_MAX and text.isprintable() and text.strip() == text:
        return text
    if not text:
        reason = "is empty"
    elif len(text) > limits.PHASE_ID_LENGTH_MAX:
        reason = f"has {len(text)} characters; {limits.PHASE_ID_LENGTH_MAX} are allowed"
    elif not text.isprintable():
        reason = "holds characters that cannot be printed"
    else:
        reason = "has a blank at its start or end"
    message = f"phase id {shown(text)} {reason}"
    context.findings.add(Finding(path, "PLT-1110", message, label="not allowed", at_key=at_key))
    return None


def _read_metadata(context: Context, metadata: Fields, draft: Draft) -> None:
    for name in ("labels", "annotations"):
        if name in metadata:
            draft.fields[name] = string_map(
                context, metadata.get(name), metadata.path_of(name), name, substituted=name == "labels"
            )
    _keep_part(context, draft, "metadata", metadata)


def _read_spec(  # noqa: PLR0913 - the phase's own fields and the default are needed to the end
    context: Context,
    source: Mapping[str, object],
    path: Path,
    draft: Draft,
    phase: Fields | None,
    *,
    default_mode: InstanceMode = "immediate",
) -> None:
    spec = read_fields(context.findings, source, path, SPEC)
    description = spec.values.get("description")
    if type(description) is str:
        draft.fields["description"] = description
    elif description is not None:
        string(context, description, spec.path_of("description"), "`description`")
    selector = _part(context, spec, "selector", SELECTOR)
    if selector is not None:
        match_labels = selector.values.get("matchLabels")
        if match_labels is not None:
            draft.fields["match_labels"] = string_map(
                context,
                match_labels,
                selector.path_of("matchLabels"),
                "matchLabels",
                substituted=True,
            )
        _keep_part(context, draft, "selector", selector)
    draft.fields["instance_mode"] = read_instance_mode(context, spec, "instanceMode") or default_mode
    wait = spec.values.get("waitFor")
    if wait is not None:
        _read_wait(context, wait, spec.path_of("waitFor"), draft)
    for key, name in (("onFailure", "on_failure"), ("onSuccess", "on_success")):
        value = spec.values.get(key)
        if value is not None:
            draft.fields[name] = _handler(context, value, spec.path_of(key), f"`{key}`")
    retry = _part(context, spec, "retry", RETRY)
    if retry is not None:
        count = retry.values.get("maxAttempts")
        if count is not None:
            draft.fields["max_attempts"] = attempts(context, count, retry.path_of("maxAttempts"))
        _keep_part(context, draft, "retry", retry)
    if spec.extensions or (phase is not None and phase.extensions):
        _read_extensions(context, spec, phase, draft, retry)


def read_instance_mode(context: Context, fields: Fields, name: str) -> InstanceMode | None:
    """The instance mode under this key; old words are warned of and mean ``immediate``."""
    value = fields.values.get(name)
    if value is None:
        return None
    path = fields.path_of(name)
    if value in MEANING_IMMEDIATE:
        message = f"{name} {shown(str(value))} is read as `immediate`"
        hint = "what a phase waits for decides when it runs: see `waitFor`"
        finding = Finding(path, "PLT-1113", message, label="immediate", hint=hint, severity="warning")
        context.findings.add(finding)
        return "immediate"
    return cast("InstanceMode | None", choice(context, value, path, name, INSTANCE_MODES))


def _read_wait(context: Context, value: object, path: Path, draft: Draft) -> None:
    """`waitFor` as an object, a list or one string (protocol, `waitFor`)."""
    names, place = value, path
    if isinstance(value, dict):
        fields = read_fields(context.findings, cast("dict[str, object]", value), path, WAIT)
        names, place = fields.get("phases"), fields.path_of("phases")
        timeout = fields.values.get("timeout")
        if timeout is not None:
            draft.fields["wait_timeout_ms"] = duration_ms(
                context, timeout, fields.path_of("timeout"), "`waitFor.timeout`"
            )
        _keep_part(context, draft, "waitFor", fields)
    if names is not None:
        draft.fields["wait_for"] = string_list(context, names, place, "`waitFor.phases`")
        draft.wait_place, draft.is_wait_list = place, isinstance(names, list)


def _handler(context: Context, value: object, path: Path, what: str) -> Handler | None:
    source = object_of(context, value, path, what)
    if not source:
        return None  # an empty object means that there is no handler
    fields = read_fields(context.findings, source, path, HANDLER)
    found: dict[str, Any] = {}
    action = fields.values.get("action")
    if action is not None:
        place = fields.path_of("action")
        found["action"] = choice(context, action, place, f"the action of {what}", ACTIONS)
    spec = _part(context, fields, "spec", HANDLER_SPEC)
    if spec is not None:
        _read_handler_spec(context, spec, found)
    if fields.extensions or (spec is not None and spec.extensions):
        places: dict[str, Path] = {}
        gather(context, places, fields.extensions, path)
        extensions = fields.extensions
        if spec is not None:
            gather(context, places, spec.extensions, spec.path)
            extensions = spec.extensions | extensions
        found["extensions"] = {
            key: free_value(context, item, places[_known(key)]) for key, item in extensions.items()
        }
    return Handler(**found)


def _read_handler_spec(context: Context, spec: Fields, found: dict[str, Any]) -> None:
    message, labels = spec.values.get("message"), spec.values.get("labels")
    if message is not None:
        found["message"] = string_list(context, message, spec.path_of("message"), "`message`") or ()
    if labels is not None:
        place = spec.path_of("labels")
        found["labels"] = string_map(context, labels, place, "labels", substituted=True) or {}
    if "notify" in spec:
        found["notify"] = read_notify(context, spec.get("notify"), spec.path_of("notify")) or {}


def _read_extensions(
    context: Context, spec: Fields, phase: Fields | None, draft: Draft, retry: Fields | None
) -> None:
    places: dict[str, Path] = {}
    gather(context, places, spec.extensions, spec.path)
    values = {_known(key): item for key, item in spec.extensions.items()}
    if phase is not None:
        gather(context, places, phase.extensions, phase.path)
        values = {_known(key): item for key, item in phase.extensions.items()} | values
    found = read_extensions(context, values, places)
    draft.extension_places = places
    draft.fields.update(
        extensions=found.kept,
        run=found.run,
        priority=found.priority,
        required_capabilities=found.capabilities,
        when=found.conditions.when,
        trigger=found.conditions.trigger,
        outputs=found.conditions.outputs,
        concurrency=found.conditions.concurrency,
        foreach=found.conditions.foreach,
        cache=found.conditions.cache,
        constraints=found.placement.constraints,
        affinity=found.placement.affinity,
        slots=found.placement.slots,
        **{_TIMEOUT_FIELDS[name]: value for name, value in found.timeouts.milliseconds.items()},
    )
    if found.backoff is not None:
        draft.fields["retry_backoff"] = found.backoff
    if found.max_attempts is None:
        return
    if retry is not None and "maxAttempts" in retry:
        context.findings.add(
            Finding(
                found.paths["x-retry.maxAttempts"],
                "PLT-1308",
                "`maxAttempts` is given in `retry` and in `x-retry`",
                label="given again",
                hint="keep the one in `retry`",
                related=retry.path_of("maxAttempts"),
                related_text="first given at",
            )
        )
    draft.fields["max_attempts"] = found.max_attempts


def _known(key: str) -> str:
    return key.lower() if key.lower() in KNOWN else key


def _part(context: Context, fields: Fields, name: str, table: KeyTable) -> Fields | None:
    """The fields of an object inside of an object; None when it is absent or no object."""
    value = fields.values.get(name)
    if value is None:
        return None
    path = fields.path_of(name)
    source = object_of(context, value, path, f"`{name}`")
    return None if source is None else read_fields(context.findings, source, path, table)


def _keep_part(context: Context, draft: Draft, name: str, part: Fields) -> None:
    if part.extensions:
        kept = {key: free_value(context, item, (*part.path, key)) for key, item in part.extensions.items()}
        draft.fields.setdefault("part_extensions", {})[name] = kept
