"""Exit statuses, and the one place that turns an exception into a message and a status."""

import os
import sys
from collections.abc import Callable, Coroutine
from enum import IntEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from planter.cli.signals import Signals

P = ParamSpec("P")
T = TypeVar("T")


class Exit(IntEnum):
    """What the exit status of every command means."""

    OK = 0
    NO = 1
    """It ran, and the answer is no: a session failed, for example."""
    USAGE = 2
    INVALID = 3
    """A manifest or a settings file is not valid."""
    UNREACHABLE = 4
    """No NATS server, no JetStream or no planner answers; trying again may help."""
    REFUSED = 5
    NOT_FOUND = 6
    TIMED_OUT = 124
    INTERRUPTED = 130
    TERMINATED = 143


class Explained(NamedTuple):
    """What a person is told about an error, and the status for the shell."""

    text: str
    remedy: str | None
    status: int


class Interrupted(BaseException):
    """SIGINT or SIGTERM ended the command."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


_debug = False


def set_debug(*, on: bool) -> None:
    """Show Python tracebacks (``--debug``)."""
    global _debug  # noqa: PLW0603 (one flag of the process, set once before a command runs)
    _debug = on


def debugging() -> bool:
    """Whether Python tracebacks are wanted."""
    return _debug


def explain(error: BaseException) -> Explained:
    """Message, remedy and exit status of anything that can end a command."""
    for table in (_own_error, _protocol_error):
        found = table(error)
        if found is not None:
            return found
    if isinstance(error, OSError) and error.strerror and error.filename:
        return Explained(f"{error.filename}: {error.strerror}", None, Exit.NO)
    kind = type(error).__name__
    return Explained(
        f"unexpected {kind}: {error}", "run again with --debug to see where it comes from", Exit.NO
    )


def fail(error: BaseException) -> NoReturn:
    """Tell what went wrong on stderr and end with its status."""
    if _debug:
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    explained = explain(error)
    print_error(explained.text, explained.remedy)
    raise typer.Exit(explained.status)


def print_error(text: str, remedy: str | None = None) -> None:
    """``error: ...`` and, below it, ``help: ...`` on stderr."""
    red, cyan, off = ("\033[1;31m", "\033[1;36m", "\033[0m") if _colored() else ("", "", "")
    sys.stderr.write(f"{red}error{off}: {text}\n")
    if remedy:
        sys.stderr.write(f"  {cyan}help{off}: {remedy}\n")
    sys.stderr.flush()


def guarded(command: Callable[P, int | None]) -> Callable[P, None]:
    """A command whose exceptions become messages and whose return value is the exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(*args, **kwargs)
        except (typer.Exit, typer.BadParameter, SystemExit):
            raise
        except Interrupted as interruption:
            raise typer.Exit(128 + interruption.number) from None
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output has gone (`planter events x | head`): nothing is wrong, nothing to say.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.OK) from None
        except Exception as error:
            fail(error)
        if status:
            raise typer.Exit(int(status))

    return run


def run_async(main: "Callable[[Signals], Coroutine[Any, Any, T]]") -> T:
    """Run a command's coroutine; a signal that it does not take itself raises ``Interrupted``."""
    from planter.cli.signals import run_with_signals  # noqa: PLC0415 (asyncio takes 50 ms, and help needs none)

    return run_with_signals(main)


def _own_error(error: BaseException) -> Explained | None:
    from planter import errors  # noqa: PLC0415
    from planter.settings import ConfigInvalid  # noqa: PLC0415

    if isinstance(error, ConfigInvalid):
        return Explained(str(error), error.remedy, Exit.INVALID)
    if not isinstance(error, errors.PlanterError):
        return None
    match error:
        case errors.DataFolderInUse():
            status = Exit.REFUSED
        case errors.ServerMissing() | errors.ServerTooOld() | errors.ServerFailed():
            status = Exit.UNREACHABLE
        case errors.TimedOut():
            status = Exit.TIMED_OUT
        case _:
            status = Exit.NO
    return Explained(str(error), error.remedy, status)


def _protocol_error(error: BaseException) -> Explained | None:
    if "planter_protocol" not in sys.modules:  # nothing has spoken to a server, so it cannot be one of these
        return None
    from planter_protocol import errors  # noqa: PLC0415
    from planter_protocol.names import InvalidName  # noqa: PLC0415

    text = str(error)
    match error:
        case errors.ServerUnreachable():
            remedy = (
                "`planter dev` starts everything on this machine, `planter run FILE --local` for one run; "
                "--nats URL names another server"
            )
            return Explained(text, remedy, Exit.UNREACHABLE)
        case errors.JetStreamUnavailable() | errors.PlannerUnavailable():
            return Explained(text, None, Exit.UNREACHABLE)
        case errors.SessionNotFound():
            return Explained(text, "`planter sessions` lists what there is", Exit.NOT_FOUND)
        case errors.RequestRefused():
            return Explained(f"{text} ({error.code})", None, _refusal_status(error.code))
        case InvalidName():
            return Explained(text, None, Exit.USAGE)
        case errors.MessageTooLarge():
            return Explained(text, None, Exit.REFUSED)
        case errors.ObjectNotFound():
            return Explained(text, None, Exit.NOT_FOUND)
        case errors.ProtocolError():
            return Explained(text, None, Exit.NO)
        case _:
            return None


def _refusal_status(code: str) -> Exit:
    if code.startswith("manifest."):
        return Exit.INVALID
    return Exit.NOT_FOUND if code.endswith(".unknown") else Exit.REFUSED


def _colored() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not plain
