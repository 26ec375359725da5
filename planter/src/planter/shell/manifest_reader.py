"""The process that reads one large manifest: its bytes on stdin, the ``Reading`` as JSON on stdout.

What it needs while it works, some seconds and several times the plan's memory, never becomes the planner's;
and should a manifest be too much for the machine, it ends this process and not the planner.
"""

import gc
import sys

import msgspec

from planter.shell.plans import read_manifest


def main() -> None:
    """Read, compile, answer."""
    gc.disable()  # nothing that is made here is garbage before the end
    sys.stdout.buffer.write(msgspec.json.encode(read_manifest(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
