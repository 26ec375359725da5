"""Reading what decides about a phase's runs: ``x-when``, ``x-trigger``, ``x-foreach`` and the like."""

from dataclasses import dataclass
from typing import Any, cast

from planter_schemas.findings import Finding
from planter_schemas.manifest import Cache, Concurrency, Foreach
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import KeyTable, read_fields
from planter_schemas.values import Context, choice, duration_ms, free_value, string_list, usable_text

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
CACHE = KeyTable("x-cache", ["key", "maxAge"])
FOREACH = KeyTable("x-foreach", ["items", "parallel"])


@dataclass(slots=True)
class Conditions:
    """What these extensions say; the defaults where they are absent."""

    when: str | None = None
    trigger: str = "all_success"
    outputs: tuple[str, ...] = ()
    concurrency: Concurrency | None = None
    foreach: Foreach | None = None
    cache: Cache | None = None


def read_condition(context: Context, into: Conditions, name: str, value: object, path: Path) -> Any:
    """Read one of them; returns its canonical form, None when it cannot be used."""
    match name:
        case "x-when":
            into.when = _expression(context, value, path, "`x-when`")
            return into.when
        case "x-trigger":
            given = choice(context, value, path, "`x-trigger`", TRIGGER_RULES)
            into.trigger = given or into.trigger
            return given
        case "x-outputs":
            into.outputs = _outputs(context, value, path)
            return list(into.outputs)
        case "x-foreach":
            into.foreach = _foreach(context, value, path)
            return None if into.foreach is None else into.foreach.to_json()
        case "x-cache":
            into.cache = _cache(context, value, path)
            return None if into.cache is None else into.cache.to_json()
        case _:
            into.concurrency = _concurrency(context, value, path)
            return None if into.concurrency is None else into.concurrency.to_json()


def _expression(context: Context, value: object, path: Path, what: str) -> str | None:
    """The text of an expression; ``${{ }}`` around all of it is taken off, as in other systems' manifests."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = usable_text(context, value, path, what)
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
    given = fields.get("max") if "max" in fields else 1
    limit = _limit(context, given, fields.path_of("max"), "`x-concurrency.max`", "PLT-1313")
    return None if key is None or limit is None else Concurrency(key=key, max=limit, extensions=extensions)


def _limit(context: Context, value: object, path: Path, what: str, code: str) -> int | None:
    """How many at a time; None, and a finding, when it is no such number."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= CONCURRENCY_MAX:
        return value
    message = f"{what} must be a whole number from 1 to {CONCURRENCY_MAX:,}"
    context.findings.add(Finding(path, code, message, label="not usable"))
    return None


def _foreach(context: Context, value: object, path: Path) -> Foreach | None:
    if not isinstance(value, dict):
        items = _items(context, value, path)
        return None if items is None else Foreach(items=items)
    fields = read_fields(context.findings, cast("dict[str, object]", value), path, FOREACH)
    extensions = {key: free_value(context, item, (*path, key)) for key, item in fields.extensions.items()}
    if "items" not in fields:
        message = "`x-foreach` has no `items`"
        hint = "give a list, or an expression that gives one"
        context.findings.add(Finding(path, "PLT-1315", message, label="no `items`", hint=hint))
        return None
    parallel = None
    if (given := fields.get("parallel")) is not None:
        place = fields.path_of("parallel")
        parallel = _limit(context, given, place, "`x-foreach.parallel`", "PLT-1315")
        if parallel is None:
            return None
    items = _items(context, fields.get("items"), fields.path_of("items"))
    return None if items is None else Foreach(items=items, parallel=parallel, extensions=extensions)


def _items(context: Context, value: object, path: Path) -> str | tuple[Any, ...] | None:
    if isinstance(value, str):
        return _expression(context, value, path, "`x-foreach`")
    if isinstance(value, list):
        return tuple(
            free_value(context, item, (*path, index))
            for index, item in enumerate(cast("list[object]", value))
        )
    message = "`x-foreach` must be a list, an expression that gives one, or {items: ..., parallel: ...}"
    context.findings.add(Finding(path, "PLT-1315", message, label="not usable"))
    return None


def _cache(context: Context, value: object, path: Path) -> Cache | None:
    if isinstance(value, bool):
        return Cache() if value else None
    if not isinstance(value, dict):
        message = "`x-cache` must be true, false, or {key: ..., maxAge: ...}"
        context.findings.add(Finding(path, "PLT-1317", message, label="not usable"))
        return None
    fields = read_fields(context.findings, cast("dict[str, object]", value), path, CACHE)
    key = max_age = None
    if "key" in fields:
        key = _expression(context, fields.get("key"), fields.path_of("key"), "`x-cache.key`")
    if "maxAge" in fields:
        max_age = duration_ms(context, fields.get("maxAge"), fields.path_of("maxAge"), "`x-cache.maxAge`")
    extensions = {name: free_value(context, item, (*path, name)) for name, item in fields.extensions.items()}
    return Cache(key=key, max_age_ms=max_age, extensions=extensions)
