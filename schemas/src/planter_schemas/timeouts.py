"""Reading ``x-timeout``: one duration, or the four timeouts by name."""

from dataclasses import dataclass, field
from typing import Any, cast

from planter_schemas.durations import format_duration
from planter_schemas.findings import Finding
from planter_schemas.problems import Path, shown
from planter_schemas.runs import positive_duration_ms
from planter_schemas.spelling import KeyTable, read_fields
from planter_schemas.values import Context, free_value

TIMEOUTS = ("scheduleToStart", "startToClose", "scheduleToClose", "heartbeat")
TIMEOUT = KeyTable(
    "x-timeout",
    TIMEOUTS,
    elsewhere={
        "timeout": "write `startToClose` for one attempt, `scheduleToClose` for all of them",
        "waitFor": "how long to wait for other phases is `waitFor.timeout`",
    },
)
_WITHIN = (
    ("heartbeat", "startToClose"),
    ("startToClose", "scheduleToClose"),
    ("scheduleToStart", "scheduleToClose"),
    ("heartbeat", "scheduleToClose"),
)
"""A timeout that is longer than the other one never runs out: the other is always first."""


@dataclass(slots=True)
class Timeouts:
    """Milliseconds by canonical name, and where each stands."""

    milliseconds: dict[str, int] = field(default_factory=dict[str, int])
    paths: dict[str, Path] = field(default_factory=dict[str, Path])
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    """``x-`` keys beside the timeouts."""

    def to_json(self) -> Any:
        """The canonical form: a duration when there is only ``startToClose``; None when there is nothing."""
        given = {
            name: format_duration(self.milliseconds[name]) for name in TIMEOUTS if name in self.milliseconds
        }
        if not self.extensions and set(given) == {"startToClose"}:
            return given["startToClose"]
        return {**given, **self.extensions} or None


def read_timeouts(context: Context, value: object, path: Path) -> Timeouts:
    """The timeouts of ``x-timeout``; what cannot be used is a finding and left out."""
    result = Timeouts()
    if not isinstance(value, dict):
        _keep(result, "startToClose", positive_duration_ms(context, value, path, "`x-timeout`"), path)
        return result
    fields = read_fields(context.findings, cast("dict[str, object]", value), path, TIMEOUT)
    result.extensions = {
        key: free_value(context, item, (*path, key)) for key, item in fields.extensions.items()
    }
    for name in TIMEOUTS:
        if name in fields:
            place = fields.path_of(name)
            what = f"`x-timeout.{name}`"
            _keep(result, name, positive_duration_ms(context, fields.get(name), place, what), place)
    return result


def _keep(result: Timeouts, name: str, milliseconds: int | None, path: Path) -> None:
    if milliseconds is not None:
        result.milliseconds[name] = milliseconds
        result.paths[name] = path


def check_order(context: Context, timeouts: Timeouts) -> None:
    """Warn of each timeout that can never run out, once, with the one that always runs out before it."""
    warned: set[str] = set()
    for name, other in _WITHIN:
        mine, limit = timeouts.milliseconds.get(name), timeouts.milliseconds.get(other)
        if mine is None or limit is None or mine <= limit or name in warned:
            continue
        warned.add(name)
        times = f"{format_duration(mine)}, longer than {shown(other)}, {format_duration(limit)}"
        context.findings.add(
            Finding(
                timeouts.paths[name],
                "PLT-1309",
                f"{shown(name)} is {times}",
                label="never runs out",
                hint=f"leave it out, or make it shorter than {shown(other)}",
                severity="warning",
                related=timeouts.paths[other],
                related_text=f"{shown(other)} stands at",
            )
        )
