"""One child process: started so that it ends with us, watched, and ended within a bounded time."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from planter.local.lifeline import Guard, kernel_lifeline

_POLL_SECONDS = 0.02
_KILL_SECONDS = 5.0
_LOG_BYTES_MAX = 8 * 1024 * 1024
_TAIL_BYTES = 16 * 1024


class Child:
    """A running child process.

    It has a process group of its own, so that Ctrl-C on the terminal reaches the parent alone and the parent
    ends its children in the right order.
    """

    def __init__(  # noqa: PLR0913 (six, as our rules allow)
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        guarded: bool = False,
    ) -> None:
        """Start the process.

        Args:
            name: what messages call it.
            argv: program and arguments.
            log: where its output goes; None lets it write to our stderr.
            env: its environment; None inherits ours.
            pass_fds: descriptors that it keeps open.
            guarded: use a guard process even where the kernel could do it (for tests).
        """
        self.name = name
        self.log = log
        lifeline = None if guarded else kernel_lifeline()
        output = _open_log(log) if log else None
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output if output is not None else 2,
                stderr=output if output is not None else None,
                env=dict(env) if env is not None else None,
                pass_fds=pass_fds,
                start_new_session=True,
                preexec_fn=lifeline,  # noqa: PLW1509 (it calls one prepared system call; see lifeline.py)
            )
        finally:
            if output is not None:
                os.close(output)
        self._guard = None if lifeline else Guard(self._process.pid)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """Its exit status (negative: the signal that ended it), None while it runs."""
        return self._process.poll()

    def ended_by(self) -> str:
        """How it ended, in words."""
        status = self.exit_status()
        if status is None:
            return "is running"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def tail(self, lines: int = 10) -> tuple[str, ...]:
        """The last lines of its log."""
        return tail_of(self.log, lines) if self.log else ()

    async def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status, or None when it still runs after ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while (status := self.exit_status()) is None:
            if deadline is not None and loop.time() >= deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
        return status

    async def stop(self, grace: float = _KILL_SECONDS) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds; also when this coroutine is cancelled."""
        try:
            if self.exit_status() is None:
                self._process.terminate()
                await self.wait(grace)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, and collect what is left of it."""
        if self.exit_status() is None:
            self._process.kill()
        self._process.wait()
        if self._guard:
            self._guard.release()
            self._guard = None


def tail_of(path: Path, lines: int = 10) -> tuple[str, ...]:
    """The last lines of a file, () when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line.rstrip() for line in text.splitlines()[-lines:])


def _open_log(path: Path) -> int:
    """A descriptor that appends to the log; a large log of earlier runs is put aside first."""
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
