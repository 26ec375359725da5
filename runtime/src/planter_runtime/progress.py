"""Heartbeats from inside of a child process: for ``python`` phases, and for any program that a phase runs.

When the phase has a heartbeat timeout, ``PLANTER_HEARTBEAT`` is the path of a named pipe; each line that is
written to it is a heartbeat: ``echo "row 7" > "$PLANTER_HEARTBEAT"``. ``PLANTER_DETAILS`` is what an earlier
attempt said last, as JSON. Standard library only: every ``python`` phase may import this.
"""

import json
import os
from typing import Any

PIPE = "PLANTER_HEARTBEAT"
DETAILS = "PLANTER_DETAILS"
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
    line = encoded(details) or b""
    path = os.environ.get(PIPE)
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # the runtime has ended: the work soon will
    try:
        os.write(fd, line + b"\n")
    except OSError:
        pass  # the pipe is full of heartbeats
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
