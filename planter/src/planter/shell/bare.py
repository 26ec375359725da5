"""Runtimes that know only the Phase Manifest Protocol: they report by publishing ``.state``.

While a session offers phases openly (or waits for external ones), its ``.state`` subject is listened to, and
what a runtime says there is stored as a report, so that it is as durable as any other input.
"""

import hashlib

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from planter.core.session import Session
from planter.core.status import SESSION_TERMINAL
from planter_protocol import headers, messages, subjects
from planter_protocol.codec import decode, encode
from planter_protocol.errors import InvalidMessage

log = structlog.get_logger(__name__)

_REPORTED = ("running", "complete", "failed")


class BareListener:
    """Listens to the ``.state`` of the sessions that need it."""

    def __init__(self, nc: Client, js: JetStreamContext) -> None:
        self._nc = nc
        self._js = js
        self._subscriptions: dict[str, Subscription] = {}
        self._sessions: dict[str, Session] = {}
        """Those that are listened to."""

    async def follow(self, session: Session) -> None:
        """Begin or end listening, as the session needs; called before its targets are published."""
        wanted = session.status not in SESSION_TERMINAL and (
            bool(session.offered)
            or any(one.instance is None for one in session.stopping.values())
            or any(name not in session.known for name in session.graph.waiters)
        )
        listening = session.id in self._subscriptions
        if wanted and not listening:
            subject = subjects.state(session.id)
            self._subscriptions[session.id] = await self._nc.subscribe(subject, cb=self._on_state)
        elif listening and not wanted:
            await self._subscriptions.pop(session.id).unsubscribe()
            self._sessions.pop(session.id, None)
        if wanted:
            self._sessions[session.id] = session

    async def _on_state(self, message: Msg) -> None:
        parsed = subjects.parse_session(message.subject)
        try:
            state = decode(message.data, messages.State)
        except InvalidMessage as error:
            log.info("state.unreadable", subject=message.subject, error=str(error))
            return
        if parsed is None or state.by is not None or state.status not in _REPORTED:
            return  # a planner's own message
        report = messages.Report(
            phase_id=state.phase_id,
            status=state.status,  # type: ignore[arg-type]  # checked above
            runtime_id=state.runtime_id,
            error=messages.Failure(message=state.reason or "reported as failed")
            if state.status == "failed"
            else None,
        )
        # Several planners may hear the same message: the stream keeps one. Two attempts may be reported in
        # the same words within a second, the finest time that the protocol's examples know: both count.
        meant = f"{message.subject}/{self._attempt(parsed.session, state.phase_id)}/"
        digest = hashlib.sha256(meant.encode() + message.data).hexdigest()[:32]
        try:
            await self._js.publish(
                subjects.report(parsed.session),
                encode(report),
                timeout=5,
                headers={headers.MSG_ID: f"bare/{digest}"},
            )
        except (TimeoutError, NatsError) as error:
            log.warning("state.not_stored", subject=message.subject, error=str(error) or type(error).__name__)

    def _attempt(self, session_id: str, phase_id: str) -> int:
        """The number of the phase's attempt; 0 for a phase that the plan does not have."""
        session = self._sessions.get(session_id)
        index = session.graph.index.get(phase_id) if session is not None else None
        return session.phases[index].attempt if session is not None and index is not None else 0
