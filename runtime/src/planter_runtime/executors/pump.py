"""Reading what the work of an attempt writes to a pipe, to its end or a little longer than the work."""

import os
from collections.abc import Awaitable, Callable

import anyio

LAST_WORDS_SECONDS = 0.5
"""After the child has ended, a pipe that stays open and silent for this long is closed."""
LAST_WORDS_SECONDS_MAX = 5.0
READ_BYTES = 64 * 1024

Consumer = Callable[[bytes], Awaitable[None]]


class Pump:
    """Reads a pipe to its end. It goes on while the child is being ended, so that last words are not lost."""

    def __init__(self, fd: int, consume: Consumer) -> None:
        self._fd = fd
        self._consume = consume
        self._scope = anyio.CancelScope(shield=True)
        self._waiting: anyio.CancelScope | None = None
        self._child_has_ended = False
        os.set_blocking(fd, False)

    async def run(self) -> None:
        with self._scope:
            while True:
                try:
                    data = os.read(self._fd, READ_BYTES)
                except BlockingIOError:
                    if not await self._readable():
                        return
                    continue
                except OSError:
                    return
                if not data:
                    return
                await self._consume(data)

    async def _readable(self) -> bool:
        """False when nothing is to be expected any more."""
        last_words = self._child_has_ended
        with anyio.CancelScope() as self._waiting:
            if last_words:
                self._waiting.deadline = anyio.current_time() + LAST_WORDS_SECONDS
            await anyio.wait_readable(self._fd)
            return True
        return not last_words

    def child_has_ended(self) -> None:
        """From now on a silent pipe is at its end: a grandchild may hold it open for ever."""
        self._child_has_ended = True
        self._scope.deadline = anyio.current_time() + LAST_WORDS_SECONDS_MAX
        if self._waiting is not None:
            self._waiting.cancel()

    def close(self) -> None:
        """Close the pipe; a grandchild that writes on gets SIGPIPE."""
        os.close(self._fd)
