"""Heartbeats, progress and artifacts from a child process: for ``python`` phases, and any program of a phase.

When the phase has a heartbeat timeout, ``PLANTER_HEARTBEAT`` is the path of a named pipe; each line that is
written to it is a heartbeat: ``echo "row 7" > "$PLANTER_HEARTBEAT"``. ``PLANTER_DETAILS`` is what an earlier
attempt said last, as JSON. ``PLANTER_PROGRESS`` is the path of another pipe, for lines that people see while
they watch: ``echo "42/100 rows" > "$PLANTER_PROGRESS"``. Files in the folder ``PLANTER_ARTIFACTS`` are kept
when the process has ended: ``cp report.html "$PLANTER_ARTIFACTS"``. Standard library only: every ``python``
phase may import this.
"""

import json
import math
import os
from typing import Any

PIPE = "PLANTER_HEARTBEAT"
DETAILS = "PLANTER_DETAILS"
PROGRESS = "PLANTER_PROGRESS"
ARTIFACTS = "PLANTER_ARTIFACTS"
MESSAGE_LENGTH_MAX = 200
Told = tuple[float, float | None, str | None]
"""How much is done, of how much, and a few words."""
DETAILS_BYTES_MAX = 4_000
"""The protocol's limit, and less than what one write to a pipe carries as a whole (4,096 on Linux)."""


def heartbeat(details: Any = None) -> None:
    """Say that the work goes on, and how far it is; call it as often as is convenient.

    Nothing happens outside of a phase with a heartbeat timeout (``x-timeout: {heartbeat: 30s}``).

    Args:
        details: JSON of at most 4,000 bytes; the next attempt gets the newest, see ``last_details``.

    Raises:
        TypeError: ``details`` is not JSON.
        ValueError: it is too large, or has numbers that JSON does not know.
    """
    _write(PIPE, encoded(details) or b"")


def report_progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Tell people who watch how far the work is; call it as often as is convenient.

    Nothing happens outside of a phase. It is no heartbeat, and no other attempt hears of it.

    Args:
        done: from 0 on, of whatever is counted.
        total: all of it; None when nobody knows.
        message: what is counted, or what is going on; its first 200 characters.

    Raises:
        ValueError: a number is negative or not finite.
    """
    done, total, message = told(done, total, message)
    of_total = "" if total is None else f"/{total!r}"
    _write(PROGRESS, f"{done!r}{of_total} {message or ''}".replace("\n", " ").encode())


def keep_artifact(name: str, source: "bytes | str | os.PathLike[str]") -> None:
    """Keep a file of this phase; it is stored when the process has ended, however that was.

    Nothing happens outside of a phase.

    Args:
        name: a relative path such as ``reports/summary.html``; a second one takes the place of the first.
        source: the content itself, or the path of a file, which is copied now.

    Raises:
        ValueError: the name is not usable.
        TypeError: the source is neither.
        OSError: the file cannot be copied.
    """
    if isinstance(source, int):  # the system would take it for a descriptor
        raise TypeError("an artifact is bytes or the path of a file, not a number")
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is no relative path that an artifact can have as its name")
    folder = os.environ.get(ARTIFACTS)
    if not folder:
        return
    path = os.path.join(folder, *parts)  # noqa: PTH118  (pathlib takes 10 ms that only we would need)
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if isinstance(source, bytes):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(source)
        return
    import shutil  # noqa: PLC0415  (likewise)

    shutil.copyfile(source, path)


def told(done: float, total: float | None, message: str | None) -> Told:
    """The same, checked.

    Raises:
        ValueError: a number is negative or not finite.
    """
    for number in (done, total):
        if number is not None and not (math.isfinite(number) and number >= 0):
            raise ValueError(f"progress is counted from 0 on, not {number!r}")
    text = None if message is None else " ".join(str(message).split())[:MESSAGE_LENGTH_MAX]
    # A name of a file may be no UTF-8.
    return done, total or None, text.encode("utf-8", "replace").decode() if text else None


def _write(variable: str, line: bytes) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # the runtime has ended: the work soon will
    try:
        os.write(fd, line + b"\n")
    except OSError:
        pass  # the pipe is full
    finally:
        os.close(fd)


def last_details() -> Any:
    """What an earlier attempt of this phase said last with ``heartbeat``; None when there is nothing."""
    text = os.environ.get(DETAILS)
    return None if text is None else json.loads(text)


def encoded(details: Any) -> bytes | None:
    """The details as JSON; None for none.

    Raises:
        TypeError: they are not JSON.
        ValueError: they are too large, or have numbers that JSON does not know.
    """
    if details is None:
        return None
    data = json.dumps(details, allow_nan=False).encode()
    if len(data) > DETAILS_BYTES_MAX:
        raise ValueError(f"details have {len(data):,} bytes as JSON, the limit is {DETAILS_BYTES_MAX:,}")
    return data
