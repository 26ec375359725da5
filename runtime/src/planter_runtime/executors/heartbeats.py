"""Heartbeats of child processes: lines that they write to a named pipe.

A path and not a descriptor: it survives programs in between that close what they do not know, and a number
that was closed could be somebody else's file.
"""

import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from planter_protocol.messages import DETAILS_BYTES_MAX
from planter_runtime.executors.executor import Beat
from planter_runtime.lines import LineSplitter
from planter_runtime.progress import PIPE
from planter_runtime.pulse import Details


class HeartbeatPipe:
    """A named pipe in a folder of its own; ``close`` removes it."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._lines = LineSplitter()
        self._folder = Path(tempfile.mkdtemp(prefix="planter-heartbeat-"))
        try:
            path = self._folder / "pipe"
            os.mkfifo(path, 0o600)
            self.variables = {PIPE: str(path)}
            self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            """To be read and closed by whoever runs the child."""
            self.writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            """For the child to hold: while it lives, the pipe has no end."""
        except BaseException:
            self.close()
            raise

    async def consume(self, data: bytes) -> None:
        """Lines of the child: each is a heartbeat, the newest that is not empty tells how far it is."""
        lines = self._lines.feed(data)
        if not lines:
            return
        told = next((line for line in reversed(lines) if line.strip()), None)
        self._beat(None if told is None else _details(told))

    def close(self) -> None:
        """Nobody can write to it any more."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _details(line: str) -> Details:
    """JSON as it is, anything else as a string: ``echo row 7`` is good enough. Too long ones are left out."""
    data = line.strip().encode()
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        data = msgspec.json.encode(line.strip())
    return data if len(data) <= DETAILS_BYTES_MAX else None
