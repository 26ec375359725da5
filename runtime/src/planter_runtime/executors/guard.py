"""``python -I -S guard.py LIFE``: kills what a runtime has started when the runtime is gone, however it went.

Reads ``+<group>`` and ``-<group>`` lines from stdin, whose other end only the runtime has. At its end the
runtime has died, even by kill -9: every process group that was added and not removed gets SIGKILL, and so
does everything else whose environment bears a mark of that life (``strays``).

A process of its own, because the alternative (``PR_SET_PDEATHSIG`` between fork and exec) reaches no
grandchildren, and makes each start eight times slower: Python uses vfork only when nothing runs in between.
"""

import os
import signal
import sys
import time
from pathlib import Path

_QUIET_SCANS, _SCAN_SECONDS = 20, 0.05


def main() -> None:
    """Watch until stdin ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            continue
    _end_strays(f"PLANTER_CHILD={sys.argv[1]}.".encode())


def _end_strays(mark: bytes) -> None:
    """Until nothing bears the mark for a while: in the middle of exec a process has no environment."""
    quiet = 0
    while quiet < _QUIET_SCANS:
        found = [pid for pid in _processes() if _bears(pid, mark)]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        quiet = 0 if found else quiet + 1
        time.sleep(_SCAN_SECONDS)


def _processes() -> list[int]:
    try:
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    except OSError:
        return []


def _bears(pid: int, mark: bytes) -> bool:
    """False for a zombie, which has no environment any more."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(part.startswith(mark) for part in variables.split(b"\0"))


if __name__ == "__main__":
    main()
