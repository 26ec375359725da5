"""Reading the ``x-`` keys of a phase that Planter understands; all others are kept as they stand."""

from dataclasses import dataclass, field
from typing import Any, cast

from planter_schemas.conditions import Conditions, read_condition
from planter_schemas.durations import format_duration
from planter_schemas.findings import Finding
from planter_schemas.gate_runs import check_gate
from planter_schemas.manifest import Backoff, Run
from planter_schemas.placement import Placement, read_placement
from planter_schemas.problems import Path, shown
from planter_schemas.runs import read_run
from planter_schemas.spelling import KeyTable, read_fields
from planter_schemas.timeouts import Timeouts, check_order, read_timeouts
from planter_schemas.values import Context, attempts, duration_ms, free_value, object_of, usable_text

_CONDITIONS = ("x-when", "x-trigger", "x-outputs", "x-concurrency", "x-foreach", "x-cache")
_PLACEMENT = ("x-constraints", "x-affinity", "x-slots")
KNOWN = ("x-run", "x-retry", "x-timeout", "x-priority", "x-capabilities", *_CONDITIONS, *_PLACEMENT)
RETRY_BACKOFF = KeyTable("x-retry", ["initial", "factor", "max", "jitter", "maxAttempts"])
PRIORITY_LIMIT = 1_000


@dataclass(slots=True)
class Extensions:
    """What the extensions of a phase say.

    ``kept`` holds them all for the canonical document: those in ``KNOWN`` in canonical form, so that two
    spellings of one phase have one digest.
    """

    kept: dict[str, Any] = field(default_factory=dict[str, Any])
    run: Run | None = None
    backoff: Backoff | None = None
    max_attempts: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    priority: int = 0
    capabilities: tuple[str, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    placement: Placement = field(default_factory=Placement)
    paths: dict[str, Path] = field(default_factory=dict[str, Path])


def gather(context: Context, into: dict[str, Path], keys: dict[str, object], path: Path) -> None:
    """Note where each extension stands; the same one in two places is a finding."""
    for key in keys:
        name = key.lower() if key.lower() in KNOWN else key
        place = (*path, key)
        if name in into:
            message = f"extension {shown(key)} is given twice"
            context.findings.add(
                Finding(
                    place,
                    "PLT-1307",
                    message,
                    label="given again",
                    at_key=True,
                    related=into[name],
                    related_text="first given at",
                )
            )
        else:
            into[name] = place


def read_extensions(context: Context, values: dict[str, object], paths: dict[str, Path]) -> Extensions:
    """Read the extensions of a phase.

    Args:
        context: see there.
        values: by canonical name for those in ``KNOWN``, by the written key for others.
        paths: where each stands.
    """
    result = Extensions(paths=paths)
    for name, value in values.items():
        path = paths[name]
        if name not in KNOWN:
            result.kept[name] = free_value(context, value, path)
        elif value is not None:
            _read_known(context, result, name, value)
    _settle_timeout(context, result)
    check_gate(context, result.run, paths, heartbeat="heartbeat" in result.timeouts.milliseconds)
    return result


def _read_known(context: Context, result: Extensions, name: str, value: object) -> None:
    path = result.paths[name]
    if name == "x-run":
        result.run = read_run(context, value, path)
        if result.run is not None:
            result.kept[name] = result.run.to_json()
    elif name == "x-retry":
        _read_backoff(context, result, value, path)
    elif name == "x-timeout":
        result.timeouts = read_timeouts(context, value, path)
        if (kept := result.timeouts.to_json()) is not None:
            result.kept[name] = kept
    elif name in _CONDITIONS:
        kept = read_condition(context, result.conditions, name, value, path)
        if kept is not None:
            result.kept[name] = kept
    elif name in _PLACEMENT:
        kept = read_placement(context, result.placement, name, value, path)
        if kept is not None:
            result.kept[name] = kept
    elif name == "x-priority":
        result.priority = _priority(context, value, path)
        result.kept[name] = result.priority
    else:
        result.capabilities = _capabilities(context, value, path)
        result.kept[name] = list(result.capabilities)


def _settle_timeout(context: Context, result: Extensions) -> None:
    """``x-run.timeout`` is another place for start to close."""
    timeouts = result.timeouts
    of_run = result.run.timeout_ms if result.run is not None else None
    own = timeouts.milliseconds.get("startToClose")
    if of_run is not None:
        run_path = (*result.paths["x-run"], "timeout")
        if own is None:
            timeouts.milliseconds["startToClose"] = of_run
            timeouts.paths["startToClose"] = run_path
        elif of_run != own:
            path = timeouts.paths["startToClose"]
            name = "x-timeout" if path == result.paths["x-timeout"] else "x-timeout.startToClose"
            context.findings.add(
                Finding(
                    path,
                    "PLT-1304",
                    f"`{name}` is {format_duration(own)}, `x-run.timeout` {format_duration(of_run)}",
                    label="differs",
                    hint="both limit one attempt: keep one of them",
                    related=run_path,
                    related_text="`x-run.timeout` stands at",
                )
            )
    check_order(context, timeouts)


def _read_backoff(context: Context, result: Extensions, value: object, path: Path) -> None:
    source = object_of(context, value, path, "x-retry")
    if source is None:
        return
    fields = read_fields(context.findings, source, path, RETRY_BACKOFF)
    found: dict[str, Any] = {}
    kept: dict[str, Any] = {k: free_value(context, v, (*path, k)) for k, v in fields.extensions.items()}
    for name in ("initial", "max"):
        if name in fields:
            what = f"`x-retry.{name}`"
            milliseconds = duration_ms(context, fields.get(name), fields.path_of(name), what)
            if milliseconds is not None:
                found[f"{name}_ms"] = milliseconds
                kept[name] = format_duration(milliseconds)
    for name, low, high in (("factor", 1, 100), ("jitter", 0, 1)):
        if name in fields:
            number = _number(context, fields.get(name), fields.path_of(name), (low, high))
            if number is not None:
                found[name] = kept[name] = number
    if "maxAttempts" in fields:
        place = fields.path_of("maxAttempts")
        result.max_attempts = attempts(context, fields.get("maxAttempts"), place)
        result.paths["x-retry.maxAttempts"] = place
    result.backoff = backoff = Backoff(**found)
    if kept:
        result.kept["x-retry"] = kept
    if backoff.initial_ms > backoff.max_ms:
        message = f"the first wait, {format_duration(backoff.initial_ms)}, is longer than the longest"
        hint = f"`max` is {format_duration(backoff.max_ms)}" + ("" if "max" in fields else " unless given")
        context.findings.add(Finding(fields.path_of("initial"), "PLT-1303", message, hint=hint))


def _number(context: Context, value: object, path: Path, bounds: tuple[int, int]) -> float | None:
    low, high = bounds
    if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    message = f"`x-retry.{path[-1]}` must be a number from {low} to {high}"
    context.findings.add(Finding(path, "PLT-1303", message, label="not usable"))
    return None


def _priority(context: Context, value: object, path: Path) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= PRIORITY_LIMIT:
        return value
    message = f"`x-priority` must be a whole number from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}"
    context.findings.add(Finding(path, "PLT-1305", message, label="not a priority"))
    return 0


def _capabilities(context: Context, value: object, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        message = "`x-capabilities` must be a list of strings"
        hint = "write [docker, gpu], one name an entry"
        context.findings.add(Finding(path, "PLT-1306", message, label="expected a list", hint=hint))
        return ()
    names = [
        usable_text(context, item, (*path, index), "a capability")
        for index, item in enumerate(cast("list[object]", value))
    ]
    return tuple(name for name in names if name is not None)
