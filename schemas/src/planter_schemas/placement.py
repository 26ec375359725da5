"""Reading what a phase asks of its runtime: ``x-constraints``, ``x-affinity`` and ``x-slots``.

The words are Nomad's. What a pattern or a version comparison says is checked where it is compiled.
"""

from dataclasses import dataclass
from typing import Any, cast

from planter_schemas.findings import Finding
from planter_schemas.manifest import Affinity, Constraint
from planter_schemas.problems import Path, shown, shown_list
from planter_schemas.spelling import KeyTable, closest, read_fields
from planter_schemas.values import Context, free_value, substituted_text, usable_text

OPERATORS = (
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "regexp",
    "version",
    "set_contains",
    "set_contains_any",
    "is_set",
    "is_not_set",
)
_WITHOUT_VALUE = ("is_set", "is_not_set")
_SETS = ("set_contains", "set_contains_any")
_MEANT = {
    "==": "=",
    "is": "=",
    "eq": "=",
    "not": "!=",
    "<>": "!=",
    "ne": "!=",
    "=>": ">=",
    "ge": ">=",
    "gt": ">",
    "=<": "<=",
    "le": "<=",
    "lt": "<",
    "regex": "regexp",
    "matches": "regexp",
    "=~": "regexp",
    "semver": "version",
    "~>": "version",
    "set_contains_all": "set_contains",
    "contains": "set_contains",
    "in": "set_contains_any",
    "exists": "is_set",
}
"""Words of other systems, and slips of the pen that are too short for a comparison."""
RESERVED = "planter."
ATTRIBUTES = ("planter.runtime", "planter.host", "planter.version")
CONSTRAINT = KeyTable("a constraint", ["label", "operator", "value"], is_exact=True)
AFFINITY = KeyTable("an affinity", ["label", "operator", "value", "weight"], is_exact=True)
CONSTRAINTS_MAX = 64
TEXT_LENGTH_MAX = 256
WEIGHT_MAX = 100
WEIGHT_DEFAULT = 50
SLOTS_MAX = 1_000


@dataclass(slots=True)
class Placement:
    """What these extensions say; the defaults where they are absent."""

    constraints: tuple[Constraint, ...] = ()
    affinity: tuple[Affinity, ...] = ()
    slots: int = 1


def read_placement(context: Context, into: Placement, name: str, value: object, path: Path) -> Any:
    """Read one of them; returns its canonical form, None when it cannot be used."""
    match name:
        case "x-constraints":
            found = [_constraint(context, *one) for one in _entries(context, value, path, name)]
            into.constraints = tuple(one for one in found if one is not None)
            return [one.to_json() for one in into.constraints]
        case "x-affinity":
            liked = [_affinity(context, *one) for one in _entries(context, value, path, name)]
            into.affinity = tuple(one for one in liked if one is not None)
            return [one.to_json() for one in into.affinity]
        case _:
            into.slots = _slots(context, value, path)
            return into.slots


def _entries(context: Context, value: object, path: Path, name: str) -> list[tuple[dict[str, object], Path]]:
    if not isinstance(value, list):
        hint = "write [{label: gpu.memory, operator: '>=', value: 16}]"
        _unusable(context, path, f"`{name}` must be a list of objects", "expected a list", hint)
        return []
    items = cast("list[object]", value)
    if len(items) > CONSTRAINTS_MAX:
        message = f"`{name}` has {len(items):,} entries, {CONSTRAINTS_MAX} are allowed"
        _unusable(context, path, message, "too many")
        return []
    found: list[tuple[dict[str, object], Path]] = []
    for index, item in enumerate(items):
        if isinstance(item, dict):
            found.append((cast("dict[str, object]", item), (*path, index)))
        else:
            context.wrong_type((*path, index), f"an entry of `{name}`", "an object", item)
    return found


def _constraint(context: Context, value: dict[str, object], path: Path) -> Constraint | None:
    fields = _read(context, value, path, CONSTRAINT)
    return None if fields is None else Constraint(**fields)


def _affinity(context: Context, value: dict[str, object], path: Path) -> Affinity | None:
    fields = _read(context, value, path, AFFINITY)
    weight = value.get("weight")
    if weight is None:
        weight = WEIGHT_DEFAULT
    elif isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= abs(weight) <= WEIGHT_MAX:
        message = f"`weight` must be a whole number from -{WEIGHT_MAX} to {WEIGHT_MAX}, and not 0"
        hint = "more than 0: prefer such runtimes; less: avoid them"
        _unusable(context, (*path, "weight"), message, "not a weight", hint)
        return None
    return None if fields is None else Affinity(**fields, weight=weight)


def _read(context: Context, value: dict[str, object], path: Path, table: KeyTable) -> dict[str, Any] | None:
    """The parts that both have; None after a finding."""
    fields = read_fields(context.findings, value, path, table)
    label = operator = None
    if "label" in fields:
        label = _label(context, fields.get("label"), fields.path_of("label"))
    else:
        _unusable(context, path, f"{table.place} has no `label`", "no `label`", "name a label of runtimes")
    operator = _operator(context, fields.get("operator") or "=", fields.path_of("operator"))
    if label is None or operator is None:
        return None
    text = _value(context, fields.get("value"), operator, fields.path_of("value"))
    if text is None:
        return None
    extensions = {key: free_value(context, item, (*path, key)) for key, item in fields.extensions.items()}
    return {"label": label, "operator": operator, "value": text, "extensions": extensions}


def _label(context: Context, value: object, path: Path) -> str | None:
    name = usable_text(context, value, path, "a label")
    if name is None:
        return None
    if len(name) > TEXT_LENGTH_MAX:
        message = f"a label has {len(name):,} characters, {TEXT_LENGTH_MAX} are allowed"
        _unusable(context, path, message, "too long")
        return None
    if name.startswith(RESERVED) and name not in ATTRIBUTES:
        close = closest(name, ATTRIBUTES)
        hint = f"did you mean {shown(close)}?" if close else f"there are {shown_list(list(ATTRIBUTES))}"
        message = f"{shown(name)} is no attribute of a runtime, and {RESERVED} is reserved for these"
        _unusable(context, path, message, "not known", hint)
        return None
    return name


def _operator(context: Context, value: object, path: Path) -> str | None:
    if isinstance(value, str) and value in OPERATORS:
        return value
    if not isinstance(value, str):
        context.wrong_type(path, "`operator`", "a string", value)
        return None
    close = _MEANT.get(value.strip().lower()) or closest(value, OPERATORS)
    hint = f"did you mean {shown(close)}?" if close else f"allowed: {shown_list(list(OPERATORS))}"
    if value.startswith("distinct_"):
        hint = "phases are placed one by one, without regard to where others run"
    _unusable(context, path, f"there is no operator {shown(value)}", "not an operator", hint)
    return None


def _value(context: Context, value: object, operator: str, path: Path) -> str | None:
    """The value as text, lists of sets joined with commas; None after a finding."""
    if operator in _WITHOUT_VALUE:
        if value is None:
            return ""
        _unusable(context, path, f"`{operator}` takes no `value`", "not allowed", "remove it")
        return None
    if value is None:
        message = f"`{operator}` needs a `value`"
        _unusable(context, path, message, "no `value`", "to ask for the label alone: `operator: is_set`")
        return None
    if operator in _SETS:
        return _set(context, value, path)
    text = _text(context, value, path)
    if text is not None and len(text) > TEXT_LENGTH_MAX:
        message = f"`value` has {len(text):,} characters, {TEXT_LENGTH_MAX} are allowed"
        _unusable(context, path, message, "too long")
        return None
    return text


def _set(context: Context, value: object, path: Path) -> str | None:
    if isinstance(value, list):
        items = cast("list[object]", value)
        parts = [_text(context, item, (*path, index)) for index, item in enumerate(items)]
        if any(part is None for part in parts):
            return None
        names = [part.strip() for part in parts if part is not None]
        with_comma = next((name for name in names if "," in name), None)
        if with_comma is not None:
            message = f"{shown(with_comma)} holds a comma, which separates the members of a label's set"
            _unusable(context, path, message, "holds a comma")
            return None
    else:
        text = _text(context, value, path)
        if text is None:
            return None
        names = [part.strip() for part in text.split(",")]
    joined = ",".join(names)
    if not names or "" in names or len(joined) > TEXT_LENGTH_MAX:
        message = f"`value` must be a list of names, in at most {TEXT_LENGTH_MAX} characters"
        _unusable(context, path, message, "not usable", "write [a, b], or 'a,b'")
        return None
    return joined


def _text(context: Context, value: object, path: Path) -> str | None:
    if isinstance(value, str):
        text = substituted_text(context, value, path)
        if text is not None and "\0" in text:
            _unusable(context, path, "`value` holds a NUL character", "not allowed")
            return None
        return text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return context.document.places.written(path)  # 1.10 is a version, not the number 1.1
    context.wrong_type(path, "`value`", "a string", value)
    return None


def _slots(context: Context, value: object, path: Path) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= SLOTS_MAX:
        return value
    message = f"`x-slots` must be a whole number from 1 to {SLOTS_MAX:,}"
    hint = "what an attempt takes of the slots of its runtime; 1 unless given"
    context.findings.add(Finding(path, "PLT-1333", message, label="not a number of slots", hint=hint))
    return 1


def _unusable(context: Context, path: Path, message: str, label: str, hint: str | None = None) -> None:
    context.findings.add(Finding(path, "PLT-1331", message, label=label, hint=hint))
