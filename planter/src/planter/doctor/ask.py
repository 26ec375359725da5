"""Questions over one connection that always have an answer: bytes, or the reason why there are none.

nats-py reports a permission violation apart from the request that caused it, which then just times out.
Here the two are brought together, so that a forbidden question costs a round trip and not its deadline.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter.doctor.facts import Absence
from planter_protocol.connection import connect

ANSWER_SECONDS = 2.0
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_NO_RESPONDERS = "503"


class Asker:
    """A connection with one inbox for all answers."""

    def __init__(self) -> None:
        self._nc: Client | None = None
        self._inbox = ""
        self._waiting: dict[str, tuple[str, asyncio.Queue[Msg | Absence]]] = {}
        self._numbers = 0
        self.denied_subscriptions: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, *, wait: float = 2.0) -> AsyncGenerator["Asker"]:
        """An asker with a connection of its own.

        Raises:
            ServerUnreachable: no server answers within ``wait`` seconds.
        """
        asker = cls()
        nc = await connect(url, role="doctor", wait=wait, on_error=asker.on_error)
        try:
            await asker.listen(nc)
            yield asker
        finally:
            await nc.close()

    @property
    def nc(self) -> Client:
        """The connection."""
        assert self._nc is not None
        return self._nc

    @property
    def inbox_denied(self) -> bool:
        """Whether this user may not subscribe to inboxes."""
        return f"{self._inbox}.*".lower() in self.denied_subscriptions

    async def listen(self, nc: Client) -> None:
        """Subscribe to the inbox."""
        self._nc = nc
        self._inbox = nc.new_inbox()
        await nc.subscribe(f"{self._inbox}.*", cb=self._on_message)
        await nc.flush()

    def on_error(self, error: Exception) -> None:
        """Give a permission violation to those who wait for its subject."""
        found = _VIOLATION.search(str(error))
        if found is None:
            return
        subject = found[2].lower()  # nats-py has put the server's text in lower case
        if found[1].lower() == "subscription":
            self.denied_subscriptions.add(subject)
        for asked, answers in self._waiting.values():
            if asked.lower() == subject:
                answers.put_nowait(Absence.DENIED)

    async def ask(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Msg | Absence:
        """The first answer."""
        async with self._asking(subject, data, headers) as answers:
            try:
                async with asyncio.timeout(timeout):
                    return await answers.get()
            except TimeoutError:
                return Absence.SILENT

    async def ask_json(self, subject: str) -> dict[str, Any] | Absence:
        """The first answer as an object; an ``error`` in it is the caller's business."""
        answer = await self.ask(subject)
        return answer if isinstance(answer, Absence) else _object(answer.data)

    async def ask_all(self, subject: str, data: bytes = b"", *, quiet: float = 0.2) -> list[Msg] | Absence:
        """The answers of everybody who is asked, until none has come for ``quiet`` seconds."""
        found: list[Msg] = []
        async with self._asking(subject, data) as answers:
            try:
                while True:
                    async with asyncio.timeout(quiet if found else ANSWER_SECONDS):
                        answer = await answers.get()
                    if isinstance(answer, Absence):
                        return found or answer
                    found.append(answer)
            except TimeoutError:
                return found or Absence.SILENT

    @asynccontextmanager
    async def _asking(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[asyncio.Queue[Msg | Absence]]:
        """Publish a question; its answers, or the reason why there are none, come into the queue."""
        self._numbers += 1
        token = str(self._numbers)
        answers: asyncio.Queue[Msg | Absence] = asyncio.Queue()
        self._waiting[token] = (subject, answers)
        try:
            if self.inbox_denied:
                answers.put_nowait(Absence.DENIED)
            else:
                own = dict(headers) if headers else None
                await self.nc.publish(subject, data, reply=f"{self._inbox}.{token}", headers=own)
            yield answers
        finally:
            del self._waiting[token]

    async def _on_message(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None:
            return
        unserved = not message.data and (message.headers or {}).get("Status") == _NO_RESPONDERS
        waiting[1].put_nowait(Absence.UNSERVED if unserved else message)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
