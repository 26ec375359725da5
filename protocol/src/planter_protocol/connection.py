"""Connecting to NATS with the settings that long-lived processes need.

nats-py's defaults give up after 60 attempts and print a traceback for each failed one.
"""

import asyncio
import socket
from collections.abc import Callable

from nats.aio.client import Client
from nats.errors import Error as NatsError

from planter_protocol.errors import ServerUnreachable
from planter_protocol.inline import InlineClient

DEFAULT_URL = "nats://127.0.0.1:4222"
CONNECT_SECONDS = 5.0
PENDING_BYTES_MAX = 64 * 1024 * 1024
"""Bytes that may wait for a slow or absent server before publishing blocks."""


async def connect(  # noqa: PLR0913  (each callback is a fact of the connection that somebody needs)
    url: str = DEFAULT_URL,
    *,
    role: str = "client",
    wait: float = CONNECT_SECONDS,
    on_error: Callable[[Exception], None] | None = None,
    on_closed: Callable[[], None] | None = None,
    on_reconnected: Callable[[], None] | None = None,
) -> Client:
    """A connection that reconnects for ever and never raises in a callback.

    Args:
        url: ``nats://host:port``; several, divided by commas, are tried in turn.
        role: shown by the server, for example ``planner`` or ``runtime build-7``.
        wait: seconds to find a server before giving up.
        on_error: called with every asynchronous error of the connection.
        on_closed: called when the connection is closed for good; a daemon must end then.
        on_reconnected: called after each reconnection.

    Raises:
        ServerUnreachable: no server answered in time, or it refused the connection.
    """

    seen: list[Exception] = []

    async def error_cb(error: Exception) -> None:
        seen[:] = [error]
        if on_error:
            on_error(error)

    async def closed_cb() -> None:
        if on_closed:
            on_closed()

    async def reconnected_cb() -> None:
        if on_reconnected:
            on_reconnected()

    await _wait_for_port(url, wait)
    client = InlineClient()
    try:
        async with asyncio.timeout(max(wait, 2.0)):
            await client.connect(
                servers=[part.strip() for part in url.split(",")],
                name=f"planter {role}@{socket.gethostname()}",
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,  # pyright: ignore[reportArgumentType]: a float works, and 1 s is long
                connect_timeout=2,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=PENDING_BYTES_MAX,
                error_cb=error_cb,
                closed_cb=closed_cb,
                reconnected_cb=reconnected_cb,
            )
    except (OSError, NatsError, TimeoutError) as error:
        cause = seen[0] if seen else error  # a refused login is retried by nats-py until our time is over
        raise ServerUnreachable(url, str(cause) or type(cause).__name__) from cause
    return client


async def _wait_for_port(url: str, wait: float) -> None:
    """Return when any of the addresses takes a TCP connection; nats-py itself would retry without end."""
    deadline = asyncio.get_running_loop().time() + wait
    while not await _answers(url):
        if asyncio.get_running_loop().time() >= deadline:
            raise ServerUnreachable(url, "connection refused")
        await asyncio.sleep(0.05)


async def _answers(url: str) -> bool:
    for part in url.split(","):
        address = part.strip().rpartition("//")[2].rpartition("@")[2]
        host, _, port = address.partition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port or 4222)), 2)
        except (TimeoutError, OSError, ValueError):
            continue
        writer.close()
        return True
    return False
