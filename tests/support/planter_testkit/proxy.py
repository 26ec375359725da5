"""A TCP proxy that can become a black hole: connections stay open, and nothing comes through any more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards connections to a port; those that are open at the time can be swallowed."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        #: Connections that were accepted so far.
        self.accepted = 0
        self._target_port = target_port
        self._open: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_closed = False

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def swallow(self) -> None:
        """From now on nobody reads from the connections that are open, and nothing is written to them."""
        for flows in self._open:
            flows.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        self.accepted += 1
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        self._writers.add(back)
        if self._is_closed:
            self.close()
            return
        flows = asyncio.Event()
        flows.set()
        self._open.add(flows)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._forward(source, target, flows))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, flows: asyncio.Event
    ) -> None:
        try:
            while flows.is_set():
                data = await source.read(64 * 1024)
                if not flows.is_set():
                    break
                if not data:
                    target.close()
                    return
                target.write(data)
                await target.drain()
        except OSError:
            target.close()
            return
        source._transport.pause_reading()  # type: ignore[attr-defined]  # so that the peer's buffers fill up
        await asyncio.Event().wait()

    def close(self) -> None:
        """End every connection."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def running_proxy(target_port: int) -> AsyncGenerator[Proxy]:
    """A proxy on a free port of 127.0.0.1."""
    proxy = Proxy(target_port)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.close()
        await asyncio.sleep(0)  # aborted connections end in the loop's next turn
