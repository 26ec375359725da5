"""What takes notifications in tests: a real mail server and a real HTTP server, on 127.0.0.1."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

READ_SECONDS = 5.0


class MailReceiver:
    """Takes mails; may be slow or refuse."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        #: Seconds before a mail is taken.
        self.delay = 0.0
        #: An answer instead of taking it, such as ``451 later``.
        self.answer: str | None = None
        self.begun = 0
        self.port = 0
        self.news = asyncio.Event()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """What aiosmtpd calls."""
        self.begun += 1
        self.news.set()
        await asyncio.sleep(self.delay)
        if self.answer is not None:
            return self.answer
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=default))  # type: ignore[arg-type]
        self.envelopes.append(envelope)
        self.news.set()
        return "250 taken"


@asynccontextmanager
async def mail_receiver() -> AsyncGenerator[MailReceiver]:
    """A mail server."""
    receiver = MailReceiver()
    loop = asyncio.get_running_loop()
    connections: list[SMTP] = []

    def connected() -> SMTP:
        connections.append(SMTP(receiver, hostname="127.0.0.1", loop=loop))
        return connections[-1]

    server = await loop.create_server(connected, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for connection in connections:
            if connection.transport is not None:
                connection.transport.close()
        working = [connection._handler_coroutine for connection in connections]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await asyncio.sleep(0)


Answer = Callable[[int], str]
"""From the number of the request, from 1, to ``<status> <reason>`` and further header lines."""


class HookReceiver:
    """Takes POSTs, written by hand so that it can be as odd as a test needs."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.delay = 0.0
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.port = 0
        self.working: set[asyncio.Task[Any]] = set()

    def url(self, path: str = "/hook/T0P-S3CRET") -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, then close."""
        task = asyncio.current_task()
        assert task is not None
        self.working.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self.working.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(fields.get("content-length", "0")))
            self.requests.append((first, fields, json.loads(body)))
            answer = self.answer(len(self.requests))
            await asyncio.sleep(self.delay)
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())
            await writer.drain()


@asynccontextmanager
async def hook_receiver(answer: Answer = lambda _: "200 OK", port: int = 0) -> AsyncGenerator[HookReceiver]:
    """An HTTP server."""
    receiver = HookReceiver(answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        working = list(receiver.working)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await asyncio.sleep(0)
