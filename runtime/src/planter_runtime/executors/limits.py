"""Limits of the system for a program: set by a shell that becomes the program.

Between fork and exec Python may do nothing but what its own C code does (``preexec_fn`` costs vfork, and is
not safe beside threads), and set from outside a moment later they would not hold for what it started by then.
"""

import msgspec

from planter_runtime.executors.command import Command, check_program
from planter_runtime.work import Limits

_BLOCK = 512
"""Bytes, of ``ulimit -f`` (POSIX)."""
_KIB = 1024


def limited(command: Command) -> Command:
    """The command that sets the limits of this one and then becomes it; the same one without any.

    Raises:
        CannotStart: the program is not there, or may not be executed.
    """
    script = _script(command.limits)
    if not script:
        return command
    check_program(command)
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
