"""Publishing that is confirmed by a stream: retried with the same message id until it is."""

import anyio
import structlog

from planter_protocol import headers
from planter_protocol.confirming import Confirmed

log = structlog.get_logger(__name__)

PUBLISH_SECONDS = 2.0
BACKOFF_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
CONCURRENT_MAX = 64
_TRIES_A_WARNING = 10


class Publisher:
    """Confirmed publishes, at most ``CONCURRENT_MAX`` at the same time."""

    def __init__(self, confirmed: Confirmed, prefix: str) -> None:
        """Message ids are ``prefix-<n>``: the prefix must be unique to this process and publisher."""
        self._confirmed = confirmed
        self._prefix = prefix
        self._count = 0
        # Without its turn of the loop: who has a place writes at once.
        self._places = anyio.Semaphore(CONCURRENT_MAX, fast_acquire=True)

    async def confirmed(self, subject: str, data: bytes) -> None:
        """Return when a stream has stored the message; keeps trying across reconnections, for ever."""
        message_id = self.next_id()
        tries = 0
        while (problem := await self.try_once(subject, data, message_id)) is not None:
            if tries % _TRIES_A_WARNING == 0:
                log.warning("publish.unconfirmed", subject=subject, tries=tries + 1, problem=problem)
            await anyio.sleep(BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)])
            tries += 1

    async def confirmed_within(self, subject: str, data: bytes, seconds: float) -> bool:
        """As ``confirmed``, but give up after ``seconds``; False when given up. Tries once at least."""
        message_id = self.next_id()
        deadline = anyio.current_time() + seconds
        tries = 0
        while (problem := await self.try_once(subject, data, message_id)) is not None:
            delay = BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]
            if anyio.current_time() + delay >= deadline:
                log.warning("publish.given_up", subject=subject, tries=tries + 1, problem=problem)
                return False
            await anyio.sleep(delay)
            tries += 1
        return True

    def next_id(self) -> str:
        """A message id that was not used before."""
        self._count += 1
        return f"{self._prefix}-{self._count}"

    async def try_once(self, subject: str, data: bytes, message_id: str) -> str | None:
        """None when confirmed, otherwise the problem; never raises but for cancellation."""
        async with self._places:
            try:
                await self._confirmed.publish(
                    subject, data, timeout=PUBLISH_SECONDS, headers={headers.MSG_ID: message_id}
                )
            except Exception as error:
                return f"{type(error).__name__}: {error}".rstrip(": ")
        return None
