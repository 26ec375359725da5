"""Notices a connection that is dead without saying so, and makes a new one.

nats-py can lose its read loop, or have a full write buffer towards a host that is gone, and still say that it
is connected. So the server is asked now and then: that nobody listens to the question is an answer as well.
"""

import asyncio

import anyio
import structlog
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, NoRespondersError

from planter_protocol import subjects

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 2.0
_ANSWER_SECONDS = 2.5
_LATE_SECONDS = 1.0
"""Who waits this much longer than it meant to has stood still itself: that says nothing about the server."""
_MISSES_MAX = 2
_PAUSE_SECONDS_MAX = 64.0
"""When new connections do not help (say, the question is not allowed), they are made more and more seldom."""


class ConnectionWatch:
    """Asks the server every two seconds; two questions without an answer mean that the connection is dead.

    The longest time from the loss to the new connection is ``_PAUSE_SECONDS + 2 * _ANSWER_SECONDS``, 7 s.
    """

    def __init__(self, nc: Client, planner_id: str) -> None:
        self._nc = nc
        self._subject = subjects.planner_echo(planner_id)
        #: The question that is out. Cancelling may not end it (a full write buffer): nobody waits for that.
        self._asking: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Ask until cancelled, or until the connection is closed for good."""
        misses, pause = 0, _PAUSE_SECONDS
        while not self._nc.is_closed:
            if misses == 0:
                await anyio.sleep(pause)
            if not self._nc.is_connected:  # nats-py knows, and is about to reconnect
                misses = 0
                await anyio.sleep(_PAUSE_SECONDS)
                continue
            if await self._is_answered():
                misses, pause = 0, _PAUSE_SECONDS
                continue
            misses += 1
            log.warning("connection.silent", times=misses)
            if misses >= _MISSES_MAX:
                log.error("connection.blind", remedy="reconnecting")
                misses, pause = 0, min(2 * pause, _PAUSE_SECONDS_MAX)
                cut(self._nc)
                await self._nc.force_reconnect()

    async def _is_answered(self) -> bool:
        begun = anyio.current_time()
        self._asking = asyncio.get_running_loop().create_task(self._ask())
        done, _ = await asyncio.wait({self._asking}, timeout=_ANSWER_SECONDS)
        if done:
            return self._asking.result()
        self._asking.cancel()
        return anyio.current_time() - begun > _ANSWER_SECONDS + _LATE_SECONDS

    async def _ask(self) -> bool:
        try:
            await self._nc.request(self._subject, timeout=_ANSWER_SECONDS)
        except (NoRespondersError, ConnectionClosedError):
            return True
        except Exception as error:
            log.debug("connection.unanswered", error=str(error) or type(error).__name__)
            return False
        return True


def cut(nc: Client) -> None:
    """Drop the connection's socket with whatever waits to be written.

    Closing it in order would first write what nobody reads: nats-py 2.16 waits for that for as long as TCP
    tries, a quarter of an hour. It has no call for this, hence the reach into it.
    """
    writer = getattr(getattr(nc, "_transport", None), "_io_writer", None)
    if isinstance(writer, asyncio.StreamWriter):
        writer.transport.abort()
