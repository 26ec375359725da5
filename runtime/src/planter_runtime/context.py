"""What a handler knows about its attempt."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from planter_runtime.progress import Told, encoded, told

if TYPE_CHECKING:
    import anyio


class PhaseContext:
    """One attempt, as its handler sees it. The attributes are to be read, not to be set.

    Attributes:
        session: id of the session.
        phase: id of the phase.
        attempt: number of the attempt, from 1.
        fence: grows with every attempt of the session. Together with session and phase it is the idempotency
            key for effects outside of Planter.
        labels: of the phase's selector.
        deadline: when the attempt is stopped, in UTC; None without a timeout.
        details: what an earlier attempt said last with ``heartbeat``; None when there is nothing.
        item: of a phase with ``x-foreach``, the item that this is about; None otherwise.
        index: its place in the list, from 0; None otherwise.
        cancelled: set when the attempt is to end. An async handler is cancelled as well.
        logger: a standard logger whose records are lines in the phase's log.
    """

    def __init__(  # noqa: PLR0913  (made in one place; each is a fact of the attempt)
        self,
        *,
        session: str,
        phase: str,
        attempt: int,
        fence: int,
        labels: Mapping[str, str],
        deadline: datetime | None,
        cancelled: "anyio.Event",
        write: Callable[[str, str], None],
        beat: Callable[[bytes | None], None],
        tell: Callable[[Told], None],
        keep: Callable[[str, "bytes | str | PathLike[str]"], None],
        details: Any = None,
        item: Any = None,
        index: int | None = None,
    ) -> None:
        self.session = session
        self.phase = phase
        self.attempt = attempt
        self.fence = fence
        self.labels = labels
        self.deadline = deadline
        self.cancelled = cancelled
        self.details = details
        self.item = item
        self.index = index
        self._write = write
        self._beat = beat
        self._tell = tell
        self._keep = keep
        # Not from getLogger, which would keep one for every phase for ever.
        self.logger = logging.Logger(f"planter.{session}.{phase}")  # noqa: LOG001
        self.logger.addHandler(_ToPhaseLog(write))

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt is to end: for handlers in threads to ask, which nobody can stop."""
        return self.cancelled.is_set()

    def log(self, text: str, level: str = "info") -> None:
        """Write one or more lines to the phase's log; from any thread."""
        self._write(text, level)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell people who watch how far the work is; from any thread, as often as is convenient.

        It is no heartbeat, and no other attempt hears of it.

        Args:
            done: from 0 on, of whatever is counted.
            total: all of it; None when nobody knows.
            message: what is counted, or what is going on; its first 200 characters.

        Raises:
            ValueError: a number is negative or not finite.
        """
        self._tell(told(done, total, message))

    def artifact(self, name: str, source: "bytes | str | PathLike[str]") -> None:
        """Keep a file; from any thread, and whether the handler is async or not.

        It is stored when the handler has ended, with a failure too; not after a timeout or cancellation.
        A file is opened now and read then: it may be removed meanwhile, but not changed.

        Args:
            name: a relative path such as ``reports/summary.html``; a second one takes the place of the first.
            source: the content itself, or the path of a file.

        Raises:
            ValueError: the name is not usable, it is no file, or there is more than an attempt may keep.
            OSError: the file cannot be opened.
        """
        self._keep(name, source)

    def heartbeat(self, details: Any = None) -> None:
        """Say that the work goes on, and how far it is; from any thread, as often as is convenient.

        A phase with a heartbeat timeout (``x-timeout: {heartbeat: 30s}``) has to, at least that often; in any
        other phase nothing happens. Few of many are sent: one every third of the timeout.

        Args:
            details: JSON of at most 4,000 bytes; the next attempt finds the newest in ``details``.

        Raises:
            TypeError: ``details`` is not JSON.
            ValueError: it is too large, or has numbers that JSON does not know.
        """
        self._beat(encoded(details))


class _ToPhaseLog(logging.Handler):
    def __init__(self, write: Callable[[str, str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record), record.levelname.lower())
