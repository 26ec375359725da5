"""``python -I -S guard.py``: kills what a runtime has started when the runtime is gone, however it went.

Reads ``+<group>`` and ``-<group>`` lines from stdin, whose other end only the runtime has. At its end the
runtime has died, even by kill -9: every process group that was added and not removed gets SIGKILL.

A process of its own, because the alternative (``PR_SET_PDEATHSIG`` between fork and exec) reaches no
grandchildren, and makes each start eight times slower: Python uses vfork only when nothing runs in between.
"""

import os
import signal
import sys


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


if __name__ == "__main__":
    main()
