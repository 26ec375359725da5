"""How far an attempt is, told to whoever watches: at most twice a second, and the newest at the end."""

import asyncio
from collections.abc import Callable

from planter_runtime.progress import Told

EVERY_SECONDS = 0.5


class Teller:
    """Passes on what an attempt tells; everything is called in the event loop."""

    def __init__(self, publish: Callable[[Told], None]) -> None:
        self._publish = publish
        self._newest: Told | None = None
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, told: Told) -> None:
        """The first at once; of those that come too soon after one the newest."""
        if self._timer is not None:
            self._newest = told
            return
        self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._due)
        self._publish(told)

    def close(self) -> None:
        """The attempt has ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._newest is not None:
            self._publish(self._newest)
            self._newest = None

    def _due(self) -> None:
        self._timer = None
        newest, self._newest = self._newest, None
        if newest is not None:
            self.tell(newest)
