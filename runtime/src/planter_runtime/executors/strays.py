"""Processes that have left the group of their attempt (``setsid``), found by what they inherited, and ended.

Orphans of our children become ours (``PR_SET_CHILD_SUBREAPER``, prctl(2), Linux), and a mark in their
environment says of which attempt they are. One that clears its environment as well is not found before the
runtime ends; only a process namespace holds that one (see docs/executors.md).
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
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


async def end_strays(mark: str, session: int, is_adopted: Callable[[int], bool | None]) -> int:
    """Kill every adopted process with the mark, and what these leave to us; how many were killed.

    What has died is reaped, but nothing that somebody waits for: a zombie bears no mark.

    Args:
        mark: of the attempt.
        session: of the attempt's first process, which has been reaped.
        is_adopted: whether a child of this process is an orphan; None: nobody knows.
    """
    killed: set[int] = set()
    unsure_rounds = 0
    for _ in range(_ROUNDS_MAX):
        dead, living, is_unsure = 0, set[int](), False
        for pid in _children():
            its = _session_of_zombie(pid)
            if its is not None:
                adopted = is_adopted(pid)
                is_ours = its == session or pid in killed if adopted is None else adopted
                dead += is_ours and _reap(pid)
            elif pid in killed or (bears := mark_of(pid)) == mark:
                living.add(pid)
            else:
                is_unsure = is_unsure or bears == ""
        is_quiet = not dead and not living
        unsure_rounds += is_quiet
        if is_quiet and (not is_unsure or unsure_rounds > _UNSURE_ROUNDS_MAX):
            break
        killed |= {pid for pid in living if _kill(pid)}
        await anyio.sleep(_ROUND_SECONDS)
    return len(killed)


def _kill(pid: int) -> bool:
    """Whether it was there; dead, it is met again in the next round."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _reap(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return False


def _session_of_zombie(pid: int) -> int | None:
    """None for what lives, or is gone."""
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return int(session) if state in "ZX" else None


def mark_of(pid: int) -> str | None:
    """The mark in the environment that a process was started with; None without one, and for a zombie.

    Empty: the process has no environment now, as it is in the middle of exec, or has cleared it.
    """
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    if not variables:
        return None if _session_of_zombie(pid) is not None else ""
    prefix = f"{MARK}=".encode()
    found = next((part for part in variables.split(b"\0") if part.startswith(prefix)), None)
    return None if found is None else found[len(prefix) :].decode(errors="replace")


def _children() -> Iterator[int]:
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            yield from map(int, path.read_text().split())
