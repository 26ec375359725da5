"""Reading what decides about a phase's run: ``x-when``, ``x-trigger``, ``x-outputs``, ``x-concurrency``."""

from dataclasses import dataclass
from typing import Any, cast

from planter_schemas.findings import Finding
from planter_schemas.manifest import Concurrency
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import KeyTable, read_fields
from planter_schemas.values import Context, choice, free_value, string_list, usable_text

TRIGGER_RULES = (
    "all_success",
    "all_failed",
    "all_done",
    "all_done_min_one_success",
    "all_skipped",
    "one_failed",
    "one_success",
    "one_done",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "always",
)
"""Airflow's words. Its ``all_done_setup_success`` speaks of setup tasks, which phases do not have."""
CONCURRENCY = KeyTable("x-concurrency", ["key", "max"])
CONCURRENCY_MAX = 100_000


@dataclass(slots=True)
class Conditions:
    """What the four extensions say; the defaults where they are absent."""

    when: str | None = None
    trigger: str = "all_success"
    outputs: tuple[str, ...] = ()
    concurrency: Concurrency | None = None


def read_condition(context: Context, into: Conditions, name: str, value: object, path: Path) -> Any:
    """Read one of the four; returns its canonical form, None when it cannot be used."""
    match name:
        case "x-when":
            into.when = _expression(context, value, path)
            return into.when
        case "x-trigger":
            given = choice(context, value, path, "`x-trigger`", TRIGGER_RULES)
            into.trigger = given or into.trigger
            return given
        case "x-outputs":
            into.outputs = _outputs(context, value, path)
            return list(into.outputs)
        case _:
            into.concurrency = _concurrency(context, value, path)
            return None if into.concurrency is None else into.concurrency.to_json()


def _expression(context: Context, value: object, path: Path) -> str | None:
    """The text of an expression; ``${{ }}`` around all of it is taken off, as in other systems' manifests."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = usable_text(context, value, path, "`x-when`")
    if text is None:
        return None
    text = text.strip()
    if text.startswith("${{") and text.endswith("}}"):
        text = text[3:-2].strip()
    return text


def _outputs(context: Context, value: object, path: Path) -> tuple[str, ...]:
    names = string_list(context, value, path, "`x-outputs`") or ()
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            message = f"output {shown(name)} is given twice" if name else "an output has no name"
            context.findings.add(Finding((*path, index), "PLT-1312", message, label="not an output"))
    return tuple(dict.fromkeys(names))


def _concurrency(context: Context, value: object, path: Path) -> Concurrency | None:
    if isinstance(value, str):
        key = usable_text(context, value, path, "`x-concurrency`")
        return None if key is None else Concurrency(key=key)
    if not isinstance(value, dict):
        message = "`x-concurrency` must be a key, or {key: ..., max: ...}"
        context.findings.add(Finding(path, "PLT-1313", message, label="not usable"))
        return None
    fields = read_fields(context.findings, cast("dict[str, object]", value), path, CONCURRENCY)
    extensions = {key: free_value(context, item, (*path, key)) for key, item in fields.extensions.items()}
    if "key" not in fields:
        message = "`x-concurrency` has no `key`"
        hint = "phases with the same key share a limit"
        context.findings.add(Finding(path, "PLT-1313", message, label="no `key`", hint=hint))
        return None
    key = usable_text(context, fields.get("key"), fields.path_of("key"), "`x-concurrency.key`")
    limit = fields.get("max") if "max" in fields else 1
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= CONCURRENCY_MAX:
        message = f"`x-concurrency.max` must be a whole number from 1 to {CONCURRENCY_MAX:,}"
        context.findings.add(Finding(fields.path_of("max"), "PLT-1313", message, label="not usable"))
        return None
    return None if key is None else Concurrency(key=key, max=limit, extensions=extensions)
