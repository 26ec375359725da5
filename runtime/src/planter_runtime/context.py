"""What a handler knows about its attempt."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

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
    ) -> None:
        self.session = session
        self.phase = phase
        self.attempt = attempt
        self.fence = fence
        self.labels = labels
        self.deadline = deadline
        self.cancelled = cancelled
        self._write = write
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


class _ToPhaseLog(logging.Handler):
    def __init__(self, write: Callable[[str, str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record), record.levelname.lower())
