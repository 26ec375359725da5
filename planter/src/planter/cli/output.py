"""What every command writes with: data to stdout, all else to stderr; durations and symbols."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Output(StrEnum):
    """How a stream is written."""

    TEXT = "text"
    JSON = "json"
    NDJSON = "ndjson"


class Listing(StrEnum):
    """How a document is written."""

    TEXT = "text"
    JSON = "json"


class Streamed(StrEnum):
    """How an endless stream is written."""

    TEXT = "text"
    NDJSON = "ndjson"


SYMBOLS = {
    "pending": ("·", "."),
    "ready": ("○", "o"),
    "targeted": ("◇", ">"),
    "running": ("▶", "*"),
    "backing_off": ("↻", "~"),
    "complete": ("✓", "+"),
    "failed": ("✗", "x"),
    "skipped": ("-", "-"),
    "cancelled": ("⊘", "!"),
    "paused": ("⏸", "="),
    "waiting": ("⏸", "="),
    "approved": ("✓", "+"),
    "rejected": ("✗", "x"),
    "expired": ("✗", "x"),
}
STYLES = {
    "running": "cyan",
    "targeted": "cyan",
    "ready": "cyan",
    "backing_off": "yellow",
    "paused": "yellow",
    "complete": "green",
    "failed": "bold red",
    "skipped": "dim",
    "cancelled": "magenta",
    "pending": "dim",
}

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def data(text: str) -> None:
    """One line (or more) of data on stdout."""
    sys.stdout.write(text + "\n")


def data_json(document: Any) -> None:
    """A document as indented JSON on stdout; messages become what they are on the wire."""
    data(json.dumps(builtins(document), indent=2, ensure_ascii=False))


def data_line(document: Any) -> None:
    """A document as one line of JSON on stdout, at once."""
    import msgspec  # noqa: PLC0415

    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


def builtins(document: Any) -> Any:
    """Dicts and lists of any message, as it is on the wire."""
    import msgspec  # noqa: PLC0415

    return msgspec.json.decode(msgspec.json.encode(document))


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def console(*, stderr: bool = False) -> "Console":
    """A rich console that never wraps or truncates what is piped."""
    from rich.console import Console  # noqa: PLC0415

    stream = sys.stderr if stderr else sys.stdout
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=bool(os.environ.get("NO_COLOR")) or None,
        force_terminal=live,
        width=None if live else 10_000,
        soft_wrap=not live,
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns on stdout; the status words are coloured on a terminal."""
    from rich.text import Text  # noqa: PLC0415

    lines = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    target = console()
    for number, line in enumerate(lines):
        text = Text()
        for column, cell in enumerate(line):
            last = column == len(line) - 1
            style = "bold" if number == 0 else STYLES.get(cell, "")
            text.append(cell if last else cell.ljust(widths[column] + 2), style)
        target.print(text, soft_wrap=True)


def symbol(status: str) -> str:
    """The sign of a status, in ASCII where the terminal's encoding has no other."""
    unicode, ascii_ = SYMBOLS.get(status, SYMBOLS["pending"])
    encoding = (sys.stderr.encoding or "ascii").lower()
    return unicode if encoding.startswith("utf") else ascii_


def counted(number: int, noun: str) -> str:
    """``1 phase``, ``2 phases``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A duration for people: ``0.42s``, ``12.3s``, ``4m05s``, ``1h02m``, ``3d04h``."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02d}h"


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``1h30m``, ``500ms`` or a plain number of seconds."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise typer.BadParameter(f"{text!r} is not a duration: write 90s, 10m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def milliseconds(time: str) -> int:
    """An RFC 3339 time as milliseconds since 1970."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def ago(time: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, ``-`` when there is none."""
    if time is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(time)).total_seconds()
    return f"{duration(seconds) if seconds >= 10 else f'{max(0, int(seconds))}s'} ago"


def local_time(time: str | None) -> str:
    """An RFC 3339 time in the zone of the machine."""
    if time is None:
        return "-"
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def one_line(text: str, length: int = 120) -> str:
    """The text on one line, cut when it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."
