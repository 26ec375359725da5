"""Children that end with their parent, also when the parent is killed with ``kill -9``.

On Linux the kernel does it (PR_SET_PDEATHSIG). Elsewhere a small guard process holds the read end of a pipe
whose write end only the parent has: end of file means the parent is gone.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_GUARD = """
import os, signal, sys, time
sys.stdin.buffer.read()
pid = int(sys.argv[1])
for number in (signal.SIGTERM, signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        break
    time.sleep(5)
"""


def kernel_lifeline() -> Callable[[], None] | None:
    """What a forked child calls before exec, or None where the kernel offers no such thing.

    The kernel binds it to the *thread* that forks: start children from a thread that lives as long as the
    process, which means the main thread.
    """
    if not sys.platform.startswith("linux"):
        return None
    # Prepared before the fork: loading a library in a forked child of a process with threads may deadlock.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died between fork and prctl, nobody will tell us any more
            os._exit(1)

    return die_with_parent


class Guard:
    """A process that ends ``pid`` once this process is gone."""

    def __init__(self, pid: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C on the terminal must not end it first
        )

    def release(self) -> None:
        """End the guard; call it once the guarded process has ended, before its id can be used again."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
