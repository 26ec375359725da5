"""What child processes say besides output: lines that they write to named pipes.

A path and not a descriptor: it survives programs in between that close what they do not know, and a number
that was closed could be somebody else's file.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from planter_protocol.codec import free_json
from planter_protocol.errors import InvalidMessage
from planter_protocol.messages import DETAILS_BYTES_MAX
from planter_runtime.executors.executor import Beat, Execution, Tell
from planter_runtime.lines import LineSplitter
from planter_runtime.progress import PIPE, PROGRESS, told
from planter_runtime.pulse import Details

_TOLD = re.compile(r"\s*([0-9.eE+-]+)\s*(?:/\s*([0-9.eE+-]+))?(?:\s+(.*))?\s*", re.DOTALL)


class LinePipe:
    """A named pipe in a folder of its own; ``close`` removes it."""

    def __init__(self, variable: str, take: Callable[[list[str]], None]) -> None:
        self._take = take
        self._lines = LineSplitter()
        self.folder = Path(tempfile.mkdtemp(prefix="planter-pipe-"))
        try:
            self.path = self.folder / "pipe"
            os.mkfifo(self.path, 0o600)
            self.variable = variable
            self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            """To be read and closed by whoever runs the child."""
            try:
                self.writer = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
                """For the child to hold: while it lives, the pipe has no end. To be closed likewise."""
            except BaseException:
                os.close(self.reader)
                raise
        except BaseException:
            self.close()
            raise

    def share(self) -> None:
        """Let users write to it that are not ours, as those of a container are."""
        self.folder.chmod(0o711)
        self.path.chmod(0o622)

    async def consume(self, data: bytes) -> None:
        """Lines of the child, as many as came together."""
        lines = self._lines.feed(data)
        if lines:
            self._take(lines)

    def give_up(self) -> None:
        """There will be no child."""
        os.close(self.reader)
        os.close(self.writer)

    def close(self) -> None:
        """Nobody can write to it any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def pipes_of(execution: Execution) -> Generator[list[LinePipe]]:
    """The pipes of an attempt: one for progress, and one for heartbeats if any are due."""
    with ExitStack() as made:
        pipes = [progress_pipe(execution.tell)]
        made.callback(pipes[0].close)
        if execution.work.heartbeat_seconds is not None:
            try:
                pipes.append(heartbeat_pipe(execution.beat))
            except BaseException:
                pipes[0].give_up()
                raise
            made.callback(pipes[1].close)
        yield pipes


def heartbeat_pipe(beat: Beat) -> LinePipe:
    """Each line is a heartbeat, the newest that is not empty tells how far the work is."""

    def take(lines: list[str]) -> None:
        newest = next((line for line in reversed(lines) if line.strip()), None)
        beat(None if newest is None else _details(newest))

    return LinePipe(PIPE, take)


def progress_pipe(tell: Tell) -> LinePipe:
    """Of lines such as ``42/100 rows`` the newest counts; what is none is passed over."""

    def take(lines: list[str]) -> None:
        for line in reversed(lines):
            found = _TOLD.fullmatch(line)
            if found is None:
                continue
            try:
                tell(told(float(found[1]), None if found[2] is None else float(found[2]), found[3]))
            except ValueError:
                continue
            return

    return LinePipe(PROGRESS, take)


def _details(line: str) -> Details:
    """JSON as it is, anything else as a string: ``echo row 7`` is good enough. Too long ones are left out."""
    data = line.strip().encode()
    try:
        free_json(data, "details")
    except InvalidMessage:
        data = msgspec.json.encode(line.strip())
    return data if len(data) <= DETAILS_BYTES_MAX else None
