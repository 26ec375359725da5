"""What handlers want said and sent: into the session's log and the stream of notifications, then noted.

It happens beside the steps: no phase waits for it, only the end of the session does. It may be done again, by
another planner too: a log line carries an id, and a notification has a subject of its own, which takes one.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from planter.core.events import HandlerCalled
from planter.core.inputs import PassedOn
from planter.shell.failpoints import passing
from planter_protocol import headers, messages, subjects
from planter_protocol.codec import encode, timestamp
from planter_protocol.confirming import Confirmed

log = structlog.get_logger(__name__)

WORKERS = 8
GIVE_UP_SECONDS = 60.0
"""A stream that refuses for so long while the journal works is not what it should be."""
_CONFIRM_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
_PAUSE_SECONDS_MAX = 5.0
_WRONG_LAST_SEQUENCE = 10071

CHANNELS = ("email", "hook", "other")
"""Of the subjects: mail, HTTP, and what no planner can send by itself."""
_OUTCOMES: dict[str, Literal["complete", "asked"]] = {"complete": "complete", "asked": "asked"}
_CHANNEL_OF = {"email": "email", "slack": "hook", "webhook": "hook"}

_Job = tuple[str, HandlerCalled, int]


class Outbox:
    """Stores what is to be said and sent; answers each with ``PassedOn``."""

    def __init__(self, nc: Client, tell: Callable[[str, PassedOn], None]) -> None:
        self._confirmed = Confirmed(nc)
        self._tell = tell
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        #: Those that are on their way, by session and number.
        self._known: set[tuple[str, int]] = set()

    def put(self, session_id: str, called: HandlerCalled, now: int) -> None:
        """Pass it on, soon; ``now`` is when it is said, in milliseconds since 1970."""
        key = (session_id, called.number)
        if key not in self._known:
            self._known.add(key)
            self._jobs.put_nowait((session_id, called, now))

    def start(self, tasks: TaskGroup) -> None:
        """Work in the given task group until it is cancelled."""
        for _ in range(WORKERS):
            tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            session_id, called, now = await self._jobs.get()
            try:
                await self._pass_on(session_id, called, now)
            except Exception:
                log.exception("handler.broken", session=session_id, phase=called.phase_id)
            finally:
                self._known.discard((session_id, called.number))
            self._tell(session_id, PassedOn(phase_id=called.phase_id, number=called.number))

    async def _pass_on(self, session_id: str, called: HandlerCalled, now: int) -> None:
        for subject, data, header in _stored(session_id, called, now):
            passing("handler.store")
            problem = await self._store(subject, data, header)
            if problem is not None:
                log.error(
                    "handler.lost",
                    session=session_id,
                    phase=called.phase_id,
                    attempt=called.attempt,
                    subject=subject,
                    error=problem,
                    remedy="planter doctor says what is wrong with the stream",
                )
                with suppress(TimeoutError, NatsError):
                    await self._publish(*_loss(session_id, called, now, problem))
        passing("handler.stored")

    async def _publish(self, subject: str, data: bytes, header: dict[str, str]) -> None:
        await self._confirmed.publish(subject, data, timeout=_CONFIRM_SECONDS, headers=header)

    async def _store(self, subject: str, data: bytes, header: dict[str, str]) -> str | None:
        """Store it, or say why that was given up."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GIVE_UP_SECONDS
        pause = _PAUSE_SECONDS
        while True:
            try:
                await self._publish(subject, data, header)
            except (TimeoutError, NatsError) as error:
                if isinstance(error, APIError) and error.err_code == _WRONG_LAST_SEQUENCE:
                    return None  # it is there already
                if loop.time() >= until:
                    return str(error) or type(error).__name__
            else:
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)


def _stored(session_id: str, called: HandlerCalled, now: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Subject, payload and headers of all that is to be stored."""
    name = (
        f"{session_id}/{called.revision}/{called.phase_id}/{called.attempt}/{called.outcome}/{called.number}"
    )
    if called.message or called.labels:
        line = messages.Log(
            level="error" if called.outcome == "failed" else "info",
            message="\n".join(called.message) or f"phase {called.phase_id}: {called.outcome}",
            timestamp=timestamp(now),
            phase_id=called.phase_id,
            attempt=called.attempt,
            stream="planner",
            labels=called.labels,
        )
        yield subjects.log(session_id), encode(line), {headers.MSG_ID: f"handler/{_token(name)}"}
    for channel, address in called.notify.items():
        token = _token(f"{name}/{channel}")
        notification = messages.Notification(
            id=token,
            channel=channel,
            address=address,
            session_id=session_id,
            revision=called.revision,
            phase_id=called.phase_id,
            attempt=called.attempt,
            outcome=_OUTCOMES.get(called.outcome, "failed"),
            at=timestamp(now),
            reason=called.reason,
            message=called.message,
            labels=called.labels,
        )
        subject = subjects.notification(session_id, _CHANNEL_OF.get(channel, "other"), token)
        yield subject, encode(notification), {headers.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}


def _loss(
    session_id: str, called: HandlerCalled, now: int, problem: str
) -> tuple[str, bytes, dict[str, str]]:
    """What the session's log should at least say, when something could not be stored."""
    line = messages.Log(
        level="error",
        message=f"what the handler wants said or sent could not be stored: {problem}",
        timestamp=timestamp(now),
        phase_id=called.phase_id,
        attempt=called.attempt,
        stream="planner",
    )
    return subjects.log(session_id), encode(line), {}


def _token(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
