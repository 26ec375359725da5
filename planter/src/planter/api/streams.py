"""Server-sent events: what is stored already, then live, resumable at any message.

The id of an event is the sequence of its message in the stream, so ``Last-Event-ID`` names exactly what comes
next. Nothing waits in a queue here: the reader is as slow as its connection, and reads the stream itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from planter.api.planner_side import PlannerSide, commit_item, log_item
from planter.api.problems import Problem
from planter_protocol.client import ends_session
from planter_protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

KEEP_ALIVE_SECONDS = 15.0
RETRY_MS = 2_000
_LAST_LOGS_SECONDS = 0.5
"""Logs of the last phase may be stored a moment after the session's end."""
_MEDIA_TYPE = "text/event-stream"
_SEQUENCE_MAX = 2**63 - 1

Emit = Callable[[bytes], Awaitable[None]]
Produce = Callable[[Emit, TaskGroup], Awaitable[None]]


class EventStream(Response):
    """A response that lasts: ended by its producer, by the client, or by our own end."""

    media_type = _MEDIA_TYPE

    def __init__(self, produce: Produce, stopping: anyio.Event) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._produce = produce
        self._stopping = stopping
        self._sending = anyio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        del scope
        gone = anyio.Event()

        async def emit(frame: bytes) -> None:
            async with self._sending:
                await send({"type": "http.response.body", "body": frame, "more_body": True})

        async def keep_alive() -> None:
            while True:
                await anyio.sleep(KEEP_ALIVE_SECONDS)
                await emit(b": keep-alive\n\n")

        async def disconnected() -> None:
            message: Message = {"type": ""}
            while message["type"] != "http.disconnect":
                message = await receive()
            gone.set()

        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async with anyio.create_task_group() as tasks:

            async def until(event: Callable[[], Awaitable[object]]) -> None:
                await event()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until, disconnected)
            tasks.start_soon(until, self._stopping.wait)
            tasks.start_soon(keep_alive)
            await emit(b"retry: %d\n\n" % RETRY_MS)
            await self._produced(emit, tasks)
            tasks.cancel_scope.cancel()
        if not gone.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _produced(self, emit: Emit, tasks: TaskGroup) -> None:
        try:
            await self._produce(emit, tasks)
        except (ProtocolError, OSError, TimeoutError) as error:
            # The client comes back after RETRY_MS with the id of what it had last.
            log.info("http.stream_cut", error=str(error) or type(error).__name__)


def wants_events(request: Request) -> bool:
    """Whether the caller prefers server-sent events to a page of JSON."""
    wanted: dict[str, float] = {}
    for part in request.headers.get("accept", "").split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            wanted[kind] = float(quality)
        except ValueError:
            wanted[kind] = 0.0
    events = wanted.get(_MEDIA_TYPE, 0.0)
    return events > 0 and events >= wanted.get("application/json", 0.0)


def resumed_after(request: Request, after: int) -> int:
    """The sequence that the caller has: ``Last-Event-ID`` counts more than ``after``.

    Raises:
        Problem: the header is not an id of ours.
    """
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return after
    if not given.isascii() or not given.isdecimal() or int(given) > _SEQUENCE_MAX:
        raise Problem("request.malformed", "Last-Event-ID is not an id of this stream: ids are numbers")
    return int(given)


def frame(event: str, sequence: int, document: Any) -> bytes:
    """One event. JSON has no line ends, so it is one line of data."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (sequence, event.encode(), msgspec.json.encode(document))


def reset_frame(reason: Mapping[str, Any]) -> bytes:
    """What the client has is not of this stream: forget it, everything comes again (the empty id)."""
    return b"id\nevent: reset\ndata: %s\n\n" % msgspec.json.encode(reason)


def commit_events(side: PlannerSide, session: str, after: int, last: int) -> Produce:
    """A session's commits after the sequence, until the session has ended."""

    async def produce(emit: Emit, tasks: TaskGroup) -> None:
        del tasks
        seen = after
        if after > last:
            await emit(reset_frame({"reason": "this id is newer than the journal", "after": after}))
            seen = 0
        looked = False
        async with aclosing(side.client.tail_journal(session, after=seen)) as batches:
            async for batch in batches:
                ended = False
                for stored in batch:
                    item = commit_item(stored)
                    ended = ends_session(item, ended=ended)
                    seen = stored.sequence
                    await emit(frame("commit", seen, item))
                if ended:
                    return
                if not batch and not looked:
                    looked = True
                    if await side.is_over(session, seen):
                        return

    return produce


def log_events(
    side: PlannerSide, session: str, after: int, last: int, wanted: Callable[[Any], bool]
) -> Produce:
    """A session's log messages after the sequence, until the session has ended and its last ones are told."""

    async def produce(emit: Emit, tasks: TaskGroup) -> None:
        seen = after
        if after > last:
            await emit(reset_frame({"reason": "this id is newer than the log", "after": after}))
            seen = 0
        woken = asyncio.Event()
        over = False

        async def end() -> None:
            nonlocal over
            await side.until_over(session)
            await anyio.sleep(_LAST_LOGS_SECONDS)
            over = True
            woken.set()

        tasks.start_soon(end)
        async with aclosing(side.client.tail_log(session, after=seen, woken=woken)) as batches:
            async for batch in batches:
                for stored in batch:
                    item = log_item(stored)
                    if item is not None and wanted(item):
                        await emit(frame("log", stored.sequence, item))
                if over and not batch:
                    return

    return produce
