"""uvicorn inside our own process: no signals, no clock of its own."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from socket import socket

import anyio
import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 2
_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 128


class Server(uvicorn.Server):
    """Serves one socket until it is told to stop, and sleeps while nobody asks."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,  # uvicorn's is brought up to date by its clock; the guard sets one
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                backlog=_BACKLOG,
            )
        )
        self._stop = asyncio.Event()

    async def run_on(self, listener: socket) -> None:
        """Serve until ``stop``; requests under way get a moment to end."""
        with anyio.CancelScope(shield=True):
            await self._serve([listener])

    def stop(self) -> None:
        """End."""
        self.should_exit = True
        self._stop.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """The planner takes the signals."""
        yield

    async def main_loop(self) -> None:
        """Wait: uvicorn itself would look ten times a second whether it is to end."""
        self.server_state.default_headers = self.config.encoded_headers
        await self._stop.wait()
