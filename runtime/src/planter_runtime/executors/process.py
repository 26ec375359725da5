"""Child processes: a session of their own, a clean environment, and nothing left of them afterwards.

When the runtime is gone, even by kill -9, its guard kills the groups of all children (``guard``). What has
left its group (``setsid``) is found by its environment (``strays``).
"""

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio
import msgspec
import structlog

from planter_protocol.messages import Failure
from planter_protocol.names import random_token
from planter_runtime import progress
from planter_runtime.executors import guard, strays
from planter_runtime.executors.command import Command, TooMuchOutput, absent, forbidden, refused
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.isolation import isolated
from planter_runtime.executors.limits import limited
from planter_runtime.executors.pipes import pipes_of
from planter_runtime.executors.pump import Consumer, Pump
from planter_runtime.outcomes import Completed, Failed, Outcome, cut
from planter_runtime.phase_log import PhaseLog
from planter_runtime.work import Limits, Work

log = structlog.get_logger(__name__)

TERM_SECONDS = 2.0
"""From SIGTERM to SIGKILL."""
DEATH_SECONDS_MAX = 5.0
"""From SIGKILL to the end of a process; most take a millisecond."""
OUTPUT_BYTES_MAX = 256 * 1024 * 1024
"""Of one attempt, unless ``limits.output`` says otherwise: what runs wild must not fill the server's disk."""

_SIGNALLED = 128

INHERITED = (
    "PATH HOME LANG LC_ALL LC_CTYPE TZ TMPDIR USER LOGNAME SHELL VIRTUAL_ENV".split()  # noqa: SIM905
)
_TEMPORARY = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_POLL_SECONDS = 0.02


class ProcessGroups:
    """The process groups that run now, known to a guard that ends them if we cannot."""

    def __init__(self, *, owns_children: bool = False) -> None:
        """``owns_children``: every child of this process is a phase's, or adopted from one, or our guard."""
        self._owns_children = owns_children
        self._groups: set[int] = set()
        self._guard: subprocess.Popen[bytes] | None = None
        self._life = random_token(12)
        self._started = 0

    def new_mark(self) -> str:
        """What the next child bears in its environment, so that whatever it starts is known as its own.

        The guard is there before the child is: if we are killed in between, it finds the child by its mark.
        """
        if self._started == 0:
            strays.adopt_orphans()
        if self._guard is None:
            self._start_guard()
        self._started += 1
        return f"{self._life}.{self._started}"

    def is_adopted(self, pid: int) -> bool | None:
        """Whether a child is an orphan of a phase; False: somebody waits for it; None: nobody knows."""
        if pid in self._groups or (self._guard is not None and pid == self._guard.pid):
            return False
        return True if self._owns_children else None

    def add(self, group: int) -> None:
        """A group was started."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """A group has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def kill_all(self) -> None:
        """SIGKILL to every group."""
        for group in self._groups:
            _signal_group(group, signal.SIGKILL)

    def close(self) -> None:
        """End every group, and the guard."""
        self.kill_all()
        self._groups.clear()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def _start_guard(self) -> None:
        """At the first child: a runtime that only has handlers needs none."""
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, self._life],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                # It outlives us, even if we are ourselves a phase of a runtime that ends what bears our mark.
                env={name: text for name, text in os.environ.items() if name != strays.MARK},
            )
        except OSError as error:
            log.warning("guard.absent", error=str(error))
            return
        assert self._guard.stdin is not None
        os.set_blocking(self._guard.stdin.fileno(), False)
        self._tell("".join(f"+{group}\n" for group in self._groups))

    def _tell(self, text: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        try:
            self._guard.stdin.write(text.encode())
        except BlockingIOError:
            pass  # it does not read; the phases must not wait for that
        except OSError:  # somebody ended it: the next child gets a new one, which learns of all groups
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None


def environment(work: Work, source: Mapping[str, str]) -> dict[str, str]:
    """Everything that a child sees: a few variables of the runtime, who it is, and what the phase gives.

    The folder of an interpreter is in front of ``PATH``, so that ``python`` means the one of the phase's
    virtual environment, or the runtime's own.
    """
    found = {name: source[name] for name in INHERITED if name in source}
    python = Path(sys.executable)
    if work.venv is not None:
        python = interpreter(work.venv)
        found["VIRTUAL_ENV"] = str(work.venv)
    found["PATH"] = os.pathsep.join([str(python.parent), found.get("PATH", os.defpath)])
    return {**found, **identity(work), **(work.run.env if work.run else {})}


def interpreter(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / "bin" / "python"


def identity(work: Work) -> dict[str, str]:
    """Which attempt it is, and how far an earlier one said that it was."""
    target = work.target
    found = {
        "PLANTER_SESSION": target.session_id,
        "PLANTER_PHASE": target.phase_id,
        "PLANTER_ATTEMPT": str(target.attempt),
        "PLANTER_FENCE": str(target.fence),
    }
    if target.details is not msgspec.UNSET:
        found[progress.DETAILS] = bytes(target.details).decode()
    return found


async def run_child(
    command: Command,
    execution: Execution,
    groups: ProcessGroups,
    extra: Mapping[int, Consumer] | None = None,
) -> int:
    """As ``run_process``, for an attempt: with a pipe for progress, and one for heartbeats if any are due."""
    readers = dict(extra or {})
    with ExitStack() as stack:
        try:
            pipes = stack.enter_context(pipes_of(execution))
        except BaseException:
            _close(*readers, *command.hand_over)
            raise
        for pipe in pipes:
            readers[pipe.reader] = pipe.consume
            command = msgspec.structs.replace(
                command,
                environment={**command.environment, pipe.variable: str(pipe.path)},
                hand_over=(*command.hand_over, pipe.writer),
                writable=(*command.writable, pipe.folder),
            )
        return await run_process(command, execution.log, groups, readers)


async def run_process(
    command: Command, output: PhaseLog, groups: ProcessGroups, extra: Mapping[int, Consumer] | None = None
) -> int:
    """Run a child to its end, its output to the log; returns its status, negative for a signal.

    ``extra`` are further pipes to read, by descriptor; they are closed here, whatever happens. Cancelled, it
    sends SIGTERM to the whole group and SIGKILL ``TERM_SECONDS`` later. Whatever is left of the group
    afterwards is killed, so is what has left it.

    Raises:
        CannotStart: the program or the folder is missing, or the system refuses.
        TooMuchOutput: it was ended because it wrote more than it may.
    """
    extra = extra or {}
    try:
        mark = groups.new_mark()
        command = msgspec.structs.replace(command, environment={**command.environment, strays.MARK: mark})
        _check_folder(command.folder)
        child = _Child(_popen(limited(isolated(command))), groups, is_wrapped=command.isolation != "none")
    except BaseException:
        _close(*extra)
        raise
    finally:
        _close(*command.hand_over)
    stdout, stderr = child.pipes
    ending = anyio.CancelScope()
    meter = OutputMeter(command.limits.output or OUTPUT_BYTES_MAX, ending)
    pumps = [
        Pump(stdout, _to_log(output, "stdout", meter)),
        Pump(stderr, _to_log(output, "stderr", meter)),
        *(Pump(fd, consume) for fd, consume in extra.items()),
    ]
    status = -signal.SIGKILL.value
    try:
        async with anyio.create_task_group() as tasks:
            for pump in pumps:
                tasks.start_soon(pump.run)
            try:
                with ending:
                    await child.ended()
                if ending.cancelled_caught:
                    await child.terminate()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await child.terminate()
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    status = await child.bury()
                    for pump in pumps:
                        pump.child_has_ended()
                    await strays.end_strays(mark, child.session, groups.is_adopted)
    finally:
        for pump in pumps:
            pump.close()
    if ending.cancelled_caught:
        raise TooMuchOutput(too_much_output(meter))
    return status


def unwrapped(status: int) -> int:
    """A status as a program tells it that has run another one: 128 and more is a signal."""
    return _SIGNALLED - status if status > _SIGNALLED else status


def outcome_of(status: int, program: str, limits: Limits) -> Outcome:
    """What the exit status of a program means; negative for a signal."""
    if status == 0:
        return Completed()
    if (broken := limits.broken_by(unwrapped(status))) is not None:  # of itself, or of what a shell has run
        return Failed(Failure(message=cut(f"{program} {broken}"), kind="limit"))
    if status > 0:
        message = f"{program} exited with code {status}"
        return Failed(Failure(message=cut(message), kind="exit", exit_code=status))
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return Failed(Failure(message=cut(f"{program} was ended by {name}"), kind="signal", signal=name))


class _Child:
    """A started process that leads its own group."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", groups: ProcessGroups, *, is_wrapped: bool
    ) -> None:
        self._process = process
        self._groups = groups
        self._is_wrapped = is_wrapped
        self.session = process.pid
        """Of the process and all that it starts and that does not leave it."""
        groups.add(process.pid)
        self.pipes = self._own_pipes()
        try:
            self._handle = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # not Linux, or too old
            self._handle = None

    def _own_pipes(self) -> tuple[int, int]:
        assert self._process.stdout
        assert self._process.stderr
        with self._process.stdout as stdout, self._process.stderr as stderr:
            try:
                first = os.dup(stdout.fileno())
                try:
                    return first, os.dup(stderr.fileno())
                except OSError:
                    os.close(first)
                    raise
            except OSError as error:
                _signal_group(self._process.pid, signal.SIGKILL)
                self._groups.remove(self._process.pid)
                self._process.wait()
                raise refused(f"its output cannot be read: {error}", retryable=True) from None

    async def ended(self) -> None:
        """Wait for the leader's end, without reaping it: its id, and so the group's, stays ours."""
        if self._handle is None:
            while self._process.poll() is None:  # noqa: ASYNC110  (nothing tells us here)
                await anyio.sleep(_POLL_SECONDS)
        elif not select.select([self._handle], [], [], 0)[0]:
            await anyio.wait_readable(self._handle)

    async def terminate(self) -> None:
        """SIGTERM to the group; returns when the leader has ended or ``TERM_SECONDS`` are over.

        What only isolates the program is left out: it ends with the program, and at once with a signal.
        """
        if self._is_wrapped:
            for pid in _members(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        else:
            _signal_group(self._process.pid, signal.SIGTERM)
        with anyio.move_on_after(TERM_SECONDS):
            await self.ended()

    async def bury(self) -> int:
        """SIGKILL to what is left of the group; the leader's status, once it has died of that.

        One in the kernel (a file system that does not answer) dies later: nobody is made to wait for it.
        """
        _signal_group(self._process.pid, signal.SIGKILL)
        with anyio.move_on_after(DEATH_SECONDS_MAX) as scope:
            await self.ended()
        self._groups.remove(self._process.pid)
        if self._handle is not None:
            os.close(self._handle)
        if scope.cancelled_caught:
            log.warning("child.unkillable", pid=self._process.pid, seconds=DEATH_SECONDS_MAX)
            threading.Thread(target=self._process.wait, daemon=True).start()
            return -signal.SIGKILL.value
        return self._process.wait()


def _check_folder(folder: Path) -> None:
    remedy = "correct `cwd`, or make it in an earlier phase"
    try:
        is_there = folder.is_dir()
    except OSError as error:
        raise refused(f"the folder {str(folder)!r} cannot be entered: {error.strerror}: {remedy}") from None
    if not is_there:
        raise refused(f"the folder {str(folder)!r} does not exist: {remedy}")


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class OutputMeter:
    """Counts the output of a child; ends it when there is too much."""

    def __init__(self, bytes_max: int, ending: anyio.CancelScope) -> None:
        self.bytes_max = bytes_max
        self._left = bytes_max
        self._ending = ending

    def take(self, data: bytes) -> bytes:
        """As much of it as the log may have."""
        taken = data[: max(0, self._left)]
        self._left -= len(data)
        if self._left < 0:
            self._ending.cancel()
        return taken


def too_much_output(meter: OutputMeter) -> Failed:
    """That it was ended because of what it wrote."""
    message = f"it wrote more than {meter.bytes_max:,} bytes of output (limits.output), and was ended"
    return Failed(Failure(message=message, kind="limit", retryable=False))


def _to_log(log: PhaseLog, stream: str, meter: OutputMeter) -> Consumer:
    async def consume(data: bytes) -> None:
        taken = meter.take(data)
        if taken:
            log.write("stderr" if stream == "stderr" else "stdout", taken)
            await log.room()

    return consume


def _popen(command: Command) -> "subprocess.Popen[bytes]":
    program = command.argv[0]
    try:
        return subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.folder,
            env=command.environment,
            pass_fds=command.pass_fds + command.hand_over,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise absent(program) from None
    except PermissionError:
        raise forbidden(program) from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        if isinstance(error, OSError) and error.errno == errno.E2BIG:
            message = f"command {program!r} gets too many bytes of arguments and environment: use a file"
            raise refused(message) from None
        temporary = isinstance(error, OSError) and error.errno in _TEMPORARY
        raise refused(f"command {program!r} cannot be started: {error}", retryable=temporary) from None


def _members(group: int) -> Iterator[int]:
    """The processes of a group, without its leader."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != group:
            with contextlib.suppress(OSError, ValueError):
                if int((path / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                    yield int(path.name)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone, or none of it is ours
        os.killpg(group, number)
