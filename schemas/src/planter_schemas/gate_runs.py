"""Reading ``x-run: {wait: ...}`` and ``{approval: ...}``: what the planner decides itself."""

from datetime import UTC, datetime
from typing import Any, cast

from planter_schemas.durations import format_duration
from planter_schemas.findings import Finding
from planter_schemas.manifest import GATE_KINDS
from planter_schemas.notify import read_notify
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import Fields, KeyTable, read_fields
from planter_schemas.values import (
    Context,
    choice,
    duration_ms,
    given_values,
    object_of,
    string,
    string_list,
    usable_text,
)

WAIT = KeyTable(
    "wait",
    ["for", "until"],
    elsewhere={
        "duration": "write `for`",
        "timeout": "how long to wait for other phases is `waitFor.timeout`",
        "phases": "what a phase waits for stands in `waitFor`",
    },
)
APPROVAL = KeyTable(
    "approval",
    ["message", "approvers", "needed", "expires", "onExpiry", "notify"],
    elsewhere={"timeout": "write `expires`", "outputs": "write `x-outputs` beside `x-run`"},
)
ON_EXPIRY = ("fail", "approve")
APPROVERS_MAX = 100
NAME_LENGTH_MAX = 200
_SETTINGS = ("with", "env", "timeout", "cwd", "venv", "secrets", "limits", "isolation", "artifacts")
_EXTENSIONS = ("x-cache", "x-capabilities", "x-constraints", "x-affinity", "x-slots")
_EXPRESSION = "${{"
_YEARS = range(1970, 9_999)


def read_gate(context: Context, kind: str, value: object, path: Path) -> dict[str, Any] | None:
    """The canonical form, with what was given only; None after a finding.

    Strings that hold expressions are not looked into: the planner does, once they are filled in.
    """
    source = object_of(context, value, path, f"`{kind}`")
    if source is None:
        return None
    table = WAIT if kind == "wait" else APPROVAL
    fields = read_fields(context.findings, source, path, table)
    found = given_values(context, fields, table, _wait_value if kind == "wait" else _approval_value)
    if kind == "wait":
        if len(found) != 1:
            _unusable(context, path, "`wait` needs `for` or `until`, and not both", "for: 10m")
            return None
    elif "message" not in fields:
        _unusable(
            context, path, "`approval` has no `message`", "say what is asked: message: Deploy to production?"
        )
        return None
    else:
        _check_approvers(context, fields, found)
    return None if any(item is None for item in found.values()) else found | fields.extensions


def check_settings(context: Context, kind: str, fields: Fields) -> None:
    """Settings of ``x-run`` that a phase without a runtime has no use for."""
    for name in _SETTINGS:
        if name in fields:
            _refuse(context, fields.path_of(name), f"`x-run.{name}`", kind)


def check_gate(context: Context, run: object, places: dict[str, Path], *, heartbeat: bool) -> None:
    """Extensions beside ``x-run`` that a phase without a runtime has no use for."""
    kind = next((kind for kind in GATE_KINDS if getattr(run, kind, None) is not None), None)
    if kind is None:
        return
    for name in _EXTENSIONS:
        if name in places:
            _refuse(context, places[name], f"`{name}`", kind)
    if heartbeat:
        _refuse(context, places["x-timeout"], "`x-timeout.heartbeat`", kind)
    if kind == "wait" and "x-outputs" in places:
        _refuse(context, places["x-outputs"], "`x-outputs`", kind)


def _refuse(context: Context, path: Path, what: str, kind: str) -> None:
    message = f"{what} means nothing for `{kind}`: the planner does it itself, and nothing runs"
    context.findings.add(
        Finding(path, "PLT-1323", message, label="no use here", hint="leave it out", at_key=True)
    )


def _unusable(context: Context, path: Path, message: str, hint: str) -> None:
    context.findings.add(Finding(path, "PLT-1322", message, label="not usable", hint=hint))


def _wait_value(context: Context, name: str, value: object, path: Path) -> str | None:
    if isinstance(value, str) and _EXPRESSION in value:
        return value
    if name == "for":
        milliseconds = duration_ms(context, value, path, "`wait.for`")
        return None if milliseconds is None else format_duration(milliseconds)
    text = string(context, value, path, "`wait.until`")
    if text is None:
        return None
    moment = _moment(text)
    if moment is None:
        message = f"`wait.until` is no time with its zone: {shown(text)}"
        _unusable(context, path, message, "such as 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00")
    return moment


def _moment(text: str) -> str | None:
    """In UTC, so that two spellings of one moment have one digest; milliseconds only if there are any."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None or found.year not in _YEARS:
            return None
        found = found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if found.year not in _YEARS:
        return None
    precision = "milliseconds" if found.microsecond >= 1_000 else "seconds"
    return found.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _approval_value(context: Context, name: str, value: object, path: Path) -> object:
    match name:
        case "message":
            return usable_text(context, value, path, "`approval.message`")
        case "approvers":
            return _approvers(context, value, path)
        case "needed":
            return _needed(context, value, path)
        case "onExpiry":
            return choice(context, value, path, "`approval.onExpiry`", ON_EXPIRY)
        case "notify":
            return _addressees(context, value, path)
        case _:
            if isinstance(value, str) and _EXPRESSION in value:
                return value
            milliseconds = duration_ms(context, value, path, "`approval.expires`")
            if milliseconds == 0:
                _unusable(context, path, "`approval.expires` must be more than 0", "leave it out for never")
                return None
            return None if milliseconds is None else format_duration(milliseconds)


def _addressees(context: Context, value: object, path: Path) -> dict[str, str] | None:
    """Where a planner writes to is looked at when a manifest comes, so nothing may change it later."""
    found = read_notify(context, value, path)
    for channel, address in (found or {}).items():
        if _EXPRESSION in address:
            message = "an address of `approval.notify` cannot be computed"
            _unusable(context, (*path, channel), message, "write the address, or the name of a channel")
    return found


def _approvers(context: Context, value: object, path: Path) -> list[str] | None:
    names = string_list(context, value, path, "`approval.approvers`")
    if names is None:
        return None
    if not names or len(names) > APPROVERS_MAX or len(set(names)) < len(names):
        message = f"`approval.approvers` must be 1 to {APPROVERS_MAX} different names"
        _unusable(context, path, message, "leave it out when anybody may answer")
        return None
    if any(not name.strip() or name.strip() != name for name in names):
        _unusable(
            context, path, "`approval.approvers` holds a name that is empty or padded", "write [alice, bob]"
        )
        return None
    if any(len(name) > NAME_LENGTH_MAX or not name.isprintable() for name in names):
        message = (
            f"`approval.approvers` holds a name that is not printable, or above {NAME_LENGTH_MAX} characters"
        )
        _unusable(context, path, message, "write [alice, bob]")
        return None
    return list(names)


def _needed(context: Context, value: object, path: Path) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= APPROVERS_MAX:
        return value
    message = f"`approval.needed` must be a whole number from 1 to {APPROVERS_MAX}"
    _unusable(context, path, message, "it counts the people who have to approve")
    return None


def _check_approvers(context: Context, fields: Fields, found: dict[str, Any]) -> None:
    """More approvals than people cannot come; what happens at an expiry needs one."""
    needed, names = found.get("needed"), cast("list[str] | None", found.get("approvers"))
    if needed is not None and names is not None and needed > len(names):
        message = f"`approval.needed` is {needed}, and there are {len(names)} approvers"
        _unusable(context, fields.path_of("needed"), message, "it could never be complete")
    if "onExpiry" in fields and "expires" not in fields:
        message = "`approval.onExpiry` is given, and the question never expires"
        _unusable(context, fields.path_of("onExpiry"), message, "give `expires`, or leave it out")
