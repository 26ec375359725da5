"""Limits of the system for a program: set by a shell that becomes the program.

Between fork and exec Python may do nothing but what its own C code does (``preexec_fn`` costs vfork, and is
not safe beside threads), and set from outside a moment later they would not hold for what it started by then.
"""

import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from planter_runtime.work import Limits

if TYPE_CHECKING:
    from planter_runtime.executors.process import Command

_BLOCK = 512
"""Bytes, of ``ulimit -f`` (POSIX)."""
_KIB = 1024


def limited(command: "Command") -> "Command":
    """The command that sets the limits of this one and then becomes it; the same one without any."""
    script = _script(command.limits)
    if not script or not _is_there(command):
        return command  # what is not there is found out by starting it
    argv = ("/bin/sh", "-c", f'{script}exec "$@"', command.argv[0], *command.argv)
    return msgspec.structs.replace(command, argv=argv)


def _script(limits: Limits) -> str:
    wanted: list[str] = []
    if limits.memory is not None:
        wanted.append(f"ulimit -v {-(-limits.memory // _KIB)}")
    if limits.cpu is not None:  # the soft one sends SIGXCPU, which says why; the hard one kills
        wanted += [f"ulimit -S -t {limits.cpu}", f"ulimit -H -t {limits.cpu + 1}"]
    if limits.open_files is not None:
        wanted.append(f"ulimit -n {limits.open_files}")
    if limits.file_size is not None:
        wanted.append(f"ulimit -f {-(-limits.file_size // _BLOCK)}")
    return "".join(f"{line} || exit 125; " for line in wanted)


def _is_there(command: "Command") -> bool:
    program = command.argv[0]
    if os.sep in program:
        return os.access(command.folder / program, os.X_OK)
    return shutil.which(program, path=command.environment.get("PATH", os.defpath)) is not None
