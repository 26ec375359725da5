"""A process to start, and why it is not started or not let go on."""

import os
import shutil
from pathlib import Path

import msgspec

from planter_runtime.outcomes import Failed, failed
from planter_runtime.work import NO_LIMITS, Isolation, Limits


class Command(msgspec.Struct, frozen=True):
    """A process to start."""

    argv: tuple[str, ...]
    folder: Path
    environment: dict[str, str]
    writable: tuple[Path, ...]
    """Isolated, it may write into these folders and nowhere else."""
    pass_fds: tuple[int, ...] = ()
    hand_over: tuple[int, ...] = ()
    """Like ``pass_fds``, and closed on our side as soon as the child has them."""
    limits: Limits = NO_LIMITS
    isolation: Isolation = "none"


class NotDone(Exception):
    """The process was not started, or not let go on; ``failure`` says why."""

    def __init__(self, failure: Failed) -> None:
        self.failure = failure
        super().__init__(failure.failure.message)


class CannotStart(NotDone):
    """The program or the folder is missing, or the system refuses."""


class TooMuchOutput(NotDone):
    """It wrote more than its limit, and was ended."""


def refused(message: str, *, retryable: bool = False) -> CannotStart:
    """That it cannot be started, to be raised."""
    return CannotStart(failed(message, "refused", retryable=retryable))


def absent(program: str) -> CannotStart:
    """There is no such program."""
    return refused(f"command {program!r} was not found: install it, or correct `PATH` or the name")


def forbidden(program: str) -> CannotStart:
    """It is there, and is no program."""
    return refused(f"command {program!r} may not be executed: check its permissions (chmod +x)")


def is_there(path: Path) -> bool:
    """Whether it exists, as far as we may see; a name that is too long does not."""
    try:
        return path.exists()
    except OSError:
        return False


def check_program(command: Command) -> None:
    """What starting it would say, for one that another program is going to start.

    Raises:
        CannotStart: it is not there, or may not be executed.
    """
    program = command.argv[0]
    if os.sep in program:
        path = command.folder / program
        if not is_there(path):
            raise absent(program)
        if not path.is_file() or not os.access(path, os.X_OK):
            raise forbidden(program)
    elif shutil.which(program, path=command.environment.get("PATH", os.defpath)) is None:
        raise absent(program)
