"""Requests: ``get_state``, ``diff``, ``explain``, ``plan.planner.info``. Any planner may answer each."""

from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from planter.core import Fleet
from planter.core.starts import purged_text
from planter.core.status import SessionStatus
from planter.shell.clock import Clock
from planter.shell.diffs import diff
from planter.shell.explanations import explanation_of_all, explanation_of_phase
from planter.shell.host import SessionHost
from planter.shell.journal import JournalBroken
from planter.shell.plans import graph_apart, plan_of
from planter.shell.views import session_state
from planter_protocol import explaining, messages, subjects
from planter_protocol.codec import SERVER_BYTES_MAX, decode, encode
from planter_protocol.errors import InvalidMessage, ProtocolError
from planter_protocol.services import Endpoint, error_headers

log = structlog.get_logger(__name__)

QUEUE = "planter"
"""One planner of all answers each request."""

_REFUSAL_START = b'{"error":'
_SERVICE_CODES = {
    "request.invalid": "400",
    "manifest.invalid": "400",
    "session.unknown": "404",
    "reply.too_large": "413",
    "planner.unavailable": "503",
}
"""Of refusals, for tools that know NATS services and not our codes; all others are 500."""


class Queries:
    """Answers requests."""

    def __init__(
        self,
        nc: Client,
        js: JetStreamContext,
        host: SessionHost,
        fleet: Fleet,
        info: Callable[[], messages.PlannerInfo],
    ) -> None:
        self._nc = nc
        self._js = js
        self._host = host
        self._fleet = fleet
        self._clock = Clock()
        self._info = info
        self.endpoints: list[Endpoint] = []
        """What is counted of each subject that is listened to."""

    async def start(self) -> None:
        """Listen."""
        for subject, handler in (
            (subjects.GET_STATE_WILDCARD, self._get_state),
            (subjects.DIFF_WILDCARD, self._diff),
            (subjects.EXPLAIN_WILDCARD, self._explain),
            (subjects.PLANNER_INFO, self._planner_info),
        ):
            endpoint = Endpoint(subject.rpartition(".")[2], subject, QUEUE)
            self.endpoints.append(endpoint)
            await self._nc.subscribe(subject, queue=QUEUE, cb=self._answering(endpoint, handler))

    def _answering(
        self, endpoint: Endpoint, handler: Callable[[Msg], Awaitable[bytes]]
    ) -> Callable[[Msg], Awaitable[None]]:
        async def on_request(message: Msg) -> None:
            if not message.reply:
                return
            since = perf_counter_ns()
            try:
                reply = await handler(message)
            except InvalidMessage as error:
                reply = _refusal("request.invalid", str(error))
            except JournalBroken as error:
                reply = _refusal("journal.broken", str(error))
            except ProtocolError as error:
                reply = _refusal("planner.unavailable", str(error))
            except Exception:
                log.exception("query.broken", subject=message.subject)
                reply = _refusal("planner.broken", "the planner failed on this request; its log says why")
            if len(reply) > SERVER_BYTES_MAX:
                reply = _refusal("reply.too_large", f"the answer has {len(reply):,} bytes")
            if not reply.startswith(_REFUSAL_START):
                await self._nc.publish(message.reply, reply)
                endpoint.count(since)
                return
            refused = decode(reply, messages.Refusal).error
            code = _SERVICE_CODES.get(refused.code, "500")
            await self._nc.publish(message.reply, reply, headers=error_headers(code, refused.text))
            endpoint.count(since, f"{code}:{refused.code}: {refused.text}")

        return on_request

    async def _get_state(self, message: Msg) -> bytes:
        parsed = subjects.parse_session(message.subject)
        if parsed is None:
            raise InvalidMessage("request", f"{message.subject} names no valid session id")
        asked = decode(message.data, messages.GetState) if message.data.strip() else messages.GetState()
        async with self._host.viewing(parsed.session) as session:
            if session is None:
                return _unknown(parsed.session)
            return encode(session_state(session, asked.offset))

    async def _diff(self, message: Msg) -> bytes:
        parsed = subjects.parse_session(message.subject)
        if parsed is None:
            raise InvalidMessage("request", f"{message.subject} names no valid session id")
        read = await plan_of(self._js, decode(message.data, messages.Start))
        if read.plan is None:
            return _refusal("manifest.invalid", read.text, read.problems)
        graph = await graph_apart(read.plan)
        async with self._host.viewing(parsed.session) as session:
            if session is not None and session.status is SessionStatus.PURGED:
                return _refusal("session.purged", purged_text(session))
            return encode(diff(session, parsed.session, graph, self._fleet))

    async def _explain(self, message: Msg) -> bytes:
        parsed = subjects.parse_session(message.subject)
        if parsed is None:
            raise InvalidMessage("request", f"{message.subject} names no valid session id")
        asked = decode(message.data, explaining.Explain) if message.data.strip() else explaining.Explain()
        async with self._host.viewing(parsed.session) as session:
            if session is None:
                return _unknown(parsed.session)
            now = self._clock.now_ms()
            if asked.phase_id is None:
                return encode(explanation_of_all(session, self._fleet, now))
            index = session.graph.index.get(asked.phase_id)
            if index is None:
                text = f"session {parsed.session} has no phase {asked.phase_id!r}"
                return _refusal("phase.unknown", text)
            return encode(explanation_of_phase(session, self._fleet, index, now))

    async def _planner_info(self, message: Msg) -> bytes:
        del message
        return encode(self._info())


def _unknown(session_id: str) -> bytes:
    return _refusal("session.unknown", f"session '{session_id}' is not known on this server")


def _refusal(code: str, text: str, problems: tuple[dict[str, Any], ...] = ()) -> bytes:
    return encode(messages.Refusal(error=messages.ErrorReply(code=code, text=text, problems=problems)))
