"""Processes that have left the group of their attempt (``setsid``), found by what they inherited, and ended.

Orphans of our children become ours (``PR_SET_CHILD_SUBREAPER``, prctl(2), Linux), and a mark in their
environment says of which attempt they are. One that clears its environment as well is not found before the
runtime ends; only a process namespace holds that one (see docs/executors.md).
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import anyio
import structlog

log = structlog.get_logger(__name__)

MARK = "PLANTER_CHILD"
"""Environment variable: which life of which runtime, and which of its children."""
_SET_CHILD_SUBREAPER = 36
_ROUNDS_MAX = 200
_ROUND_SECONDS = 0.005
_UNSURE_ROUNDS_MAX = 10
"""Rounds in which one is waited for whose environment is empty."""


def adopt_orphans() -> None:
    """Ask the system to give us the orphans of our children, and theirs. Not on other systems than Linux."""
    try:
        import ctypes  # noqa: PLC0415  (only a runtime that starts processes needs it)

        if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            log.warning("strays.not_adopted", errno=ctypes.get_errno())
    except (OSError, AttributeError, ImportError) as error:
        log.info("strays.not_adopted", error=str(error))


async def end_strays(mark: str) -> int:
    """Kill every adopted process with the mark, and what these leave to us; how many there were."""
    killed: set[int] = set()
    unsure_rounds = 0
    for _ in range(_ROUNDS_MAX):
        marks = {pid: mark if pid in killed else mark_of(pid) for pid in _children()}
        found = {pid for pid, its in marks.items() if its == mark}
        unsure_rounds += not found
        if not found and ("" not in marks.values() or unsure_rounds > _UNSURE_ROUNDS_MAX):
            break
        _end(found)
        killed |= found
        await anyio.sleep(_ROUND_SECONDS)
    return len(killed)


def _end(pids: Iterable[int]) -> None:
    """Kill and reap; one that has not died yet is met again in the next round."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)


def mark_of(pid: int) -> str | None:
    """The mark in the environment that a process was started with; None without one, and for a zombie.

    Empty: the process has no environment now, as it is in the middle of exec, or has cleared it.
    """
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes()
        if not variables:
            is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            return None if is_zombie else ""
    except OSError:
        return None
    prefix = f"{MARK}=".encode()
    found = next((part for part in variables.split(b"\0") if part.startswith(prefix)), None)
    return None if found is None else found[len(prefix) :].decode(errors="replace")


def _children() -> Iterator[int]:
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            yield from map(int, path.read_text().split())
