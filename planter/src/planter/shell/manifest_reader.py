"""The process that reads one large manifest.

On stdin the target phase as a line of JSON, then the manifest; on stdout the ``Reading`` as JSON.

What it needs while it works, some seconds and several times the plan's memory, never becomes the planner's;
and should a manifest be too much for the machine, it ends this process and not the planner.
"""

import gc
import os
import sys

import msgspec

from planter.compile.target import read_plain


def main() -> None:
    """Read, compile, answer."""
    gc.disable()  # nothing that is made here is garbage before the end
    target = msgspec.json.decode(sys.stdin.buffer.readline(), type=str | None)
    data = sys.stdin.buffer.read()
    plan = read_plain(data, target)
    if plan is not None:
        answer = msgspec.json.encode({"plan": plan})
    else:
        from planter.shell.plans import read_manifest  # noqa: PLC0415  (what a plain manifest does not need)

        answer = msgspec.json.encode(read_manifest(data, target))
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # to take a hundred thousand phases apart again takes longer than to write them


if __name__ == "__main__":
    main()
