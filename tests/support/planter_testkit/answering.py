"""An HTTP server on 127.0.0.1 that answers with the very bytes that a test wants."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[str, bytes], bytes]
"""From the head and the body of the request to everything that is sent back."""
READ_SECONDS = 10.0


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A response with its length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """Keeps what it was sent; an answer of no bytes leaves the connection open until the client closes it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._connections: set[asyncio.Task[None]] = set()
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.hung_up = asyncio.Event()
        self.url = ""

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What asyncio calls."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def left_alone(self) -> None:
        """Wait until the clients have closed every connection; TimeoutError when one keeps its own."""
        ends = await asyncio.gather(*self._connections, return_exceptions=True)
        for late in (end for end in ends if isinstance(end, TimeoutError)):
            raise late  # any other one is of a client that went before it had said all

    async def ended(self) -> None:
        """All connections are closed."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), READ_SECONDS)).decode()
            length = next(
                (line for line in head.lower().split("\r\n") if line.startswith("content-length")), "0"
            )
            body = await reader.readexactly(int(length.rpartition(":")[2]))
            self.heads.append(head)
            self.bodies.append(body)
            sent = self._answer(head, body)
            writer.write(sent)
            if not sent and not await asyncio.wait_for(reader.read(), READ_SECONDS):
                self.hung_up.set()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def answering(answer: Answer) -> AsyncGenerator[Server]:
    """A server that gives these answers."""
    server = Server(answer)
    listening = await asyncio.start_server(server.on_connection, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server
        await server.ended()
