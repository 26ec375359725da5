"""Reading ``x-run: {limits: ...}``: what a program may use of the machine."""

from typing import Any

from planter_schemas.durations import parse_duration
from planter_schemas.findings import Finding
from planter_schemas.manifest import RunLimits
from planter_schemas.problems import Path, shown
from planter_schemas.sizes import parse_size
from planter_schemas.spelling import KeyTable, read_fields
from planter_schemas.values import Context, object_of

LIMITS = KeyTable("limits", ["memory", "cpu", "openFiles", "fileSize", "output"])
OPEN_FILES_MIN = 16
"""With less, no program gets to its first line."""
_SIZES = {"memory": "memory", "fileSize": "file_size", "output": "output"}


def read_limits(context: Context, value: object, path: Path) -> RunLimits | None:
    """The limits in bytes, seconds and numbers; None after a finding."""
    source = object_of(context, value, path, "`limits`")
    if source is None:
        return None
    fields = read_fields(context.findings, source, path, LIMITS)
    found: dict[str, Any] = {}
    for name, attribute in _SIZES.items():
        if name in fields:
            size = parse_size(fields.get(name))
            if not size:
                _unusable(context, fields.path_of(name), name, fields.get(name), "a size such as 512MiB")
            found[attribute] = size
    if "cpu" in fields:
        milliseconds = parse_duration(fields.get("cpu"))
        if not milliseconds:
            _unusable(context, fields.path_of("cpu"), "cpu", fields.get("cpu"), "a duration such as 30s")
        found["cpu_seconds"] = None if milliseconds is None else -(-milliseconds // 1000)
    if "openFiles" in fields:
        number = fields.get("openFiles")
        if not isinstance(number, int) or isinstance(number, bool) or number < OPEN_FILES_MIN:
            wanted = f"a number from {OPEN_FILES_MIN} on"
            _unusable(context, fields.path_of("openFiles"), "openFiles", number, wanted)
            number = None
        found["open_files"] = number
    return (
        None if any(not item for item in found.values()) else RunLimits(**found, extensions=fields.extensions)
    )


def _unusable(context: Context, path: Path, name: str, value: object, wanted: str) -> None:
    text = shown(str(value)) if isinstance(value, (str, int, float)) else "something else"
    message = f"`limits.{name}` must be {wanted}, found {text}"
    context.findings.add(
        Finding(path, "PLT-1319", message, label="not a limit", hint="leave it out for none")
    )
