"""SIGINT and SIGTERM while a command's coroutine runs."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from planter.cli.exits import Interrupted, debugging

T = TypeVar("T")


class Signals:
    """SIGINT and SIGTERM while a coroutine runs: the taker gets them, else the coroutine is cancelled."""

    def __init__(self) -> None:
        self.seen: int | None = None
        self.taker: Callable[[int], None] | None = None
        """Called with the signal's number; set it to end in an orderly way, None to be cancelled."""
        self._task: asyncio.Task[Any] | None = None

    def install(self, task: asyncio.Task[Any]) -> None:
        """Take the signals of this process from now on."""
        self._task = task
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)

    def remove(self) -> None:
        """Leave the signals to Python again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        first = self.seen is None
        self.seen = number
        if self.taker is not None and first:
            self.taker(number)
        elif self._task is not None:
            self._task.cancel()


def _on_loose_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Errors that nobody waits for (of generators that end after their connection) are for debugging only."""
    if debugging():
        loop.default_exception_handler(context)


def run_with_signals(main: Callable[[Signals], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine; a signal that it does not take itself raises ``Interrupted``."""

    async def run() -> T:
        signals = Signals()
        task = asyncio.current_task()
        assert task is not None
        signals.install(task)
        asyncio.get_running_loop().set_exception_handler(_on_loose_error)
        try:
            return await main(signals)
        except asyncio.CancelledError:
            if signals.seen is None:
                raise
            raise Interrupted(signals.seen) from None
        finally:
            signals.remove()

    return asyncio.run(run())
