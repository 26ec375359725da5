"""From messages of the input stream to inputs of the core: where wire words become core words."""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from planter.core import inputs as i
from planter.core.texts import SHORT_MAX, cut, cut_if_any
from planter.shell.addresses import refused_addresses
from planter.shell.intake import Delivery
from planter.shell.keys import DispatchKey
from planter.shell.plans import graph_apart, plan_of
from planter_protocol import codec, messages
from planter_protocol.codec import free_json
from planter_protocol.errors import InvalidMessage, ProtocolError

log = structlog.get_logger(__name__)

RESULT_BYTES_MAX = 64 * 1024
_YEARS = range(1970, 9_999)
_TIME_LENGTH_MAX = 64


class Forged(InvalidMessage):
    """A dispatch id that no planner made."""

    def __init__(self, phase_id: str) -> None:
        super().__init__("report", f"the dispatch id for phase {phase_id!r} was not made by a planner")


class InputReader:
    """Decodes deliveries; checks dispatch ids."""

    def __init__(
        self,
        js: JetStreamContext,
        key: DispatchKey,
        *,
        unfenced: bool,
        notify_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._js = js
        self._notify_hosts = notify_hosts
        self._key = key
        self._unfenced = unfenced

    async def read(self, session_id: str, verb: str, delivery: Delivery) -> list[i.AnyInput]:
        """The inputs in a delivery.

        Raises:
            InvalidMessage: it is not what its subject says; nothing of it may be used.
        """
        match verb:
            case "start":
                return [await self._start(delivery)]
            case "control":
                control = codec.decode(delivery.data, messages.Control)
                return [
                    i.Command(
                        sequence=delivery.sequence,
                        verb=control.command,
                        phase_id=control.phase_id,
                        reason=cut_if_any(control.reason),
                        by=control.by,
                        comment=control.comment,
                        plan_digest=cut_if_any(control.plan_digest, SHORT_MAX),
                        data=_copied(control.data),
                    )
                ]
            case "ack":
                acks = codec.decode(delivery.data, messages.Acks)
                return [self._ack(session_id, delivery.sequence, ack) for ack in acks.each()]
            case "report":
                reports = codec.decode(delivery.data, messages.Reports)
                return [self._report(session_id, delivery.sequence, report) for report in reports.each()]
            case _:
                raise InvalidMessage("input", f"unknown verb {verb!r}")

    async def _start(self, delivery: Delivery) -> i.StartPlan | i.Refuse:
        start = codec.decode(delivery.data, messages.Start)
        try:
            read = await plan_of(self._js, start)
        except InvalidMessage as error:
            return i.Refuse(sequence=delivery.sequence, code="manifest.missing", text=str(error))
        except (ProtocolError, NatsError, TimeoutError):
            raise  # the server's trouble, not the manifest's: try again
        except Exception:
            log.exception("manifest.broken", subject=delivery.subject, sequence=delivery.sequence)
            text = "the planner failed on this manifest; its log says why"
            return i.Refuse(sequence=delivery.sequence, code="planner.broken", text=text)
        if read.plan is None:
            return i.Refuse(
                sequence=delivery.sequence, code="manifest.invalid", text=read.text, problems=read.problems
            )
        problem = refused_addresses(read.plan, self._notify_hosts)
        if problem is not None:
            return i.Refuse(sequence=delivery.sequence, code="manifest.invalid", text=problem)
        graph = await graph_apart(read.plan)
        return i.StartPlan(
            sequence=delivery.sequence,
            plan=read.plan,
            graph=graph,
            replan=start.replan,
            dry_run=start.dry_run,
            expect_digest=start.expect_digest,
            expect_revision=start.expect_revision,
        )

    def _fenced(self, session_id: str, echo: messages.Ack | messages.Report) -> bool:
        if not echo.phase_id:
            raise InvalidMessage(type(echo).__name__, "phaseId is missing")
        if echo.dispatch_id is None:
            if not self._unfenced:
                raise InvalidMessage(
                    type(echo).__name__, "it has no dispatchId, and this planner asks for one"
                )
            return False
        attempt, fence = echo.attempt or 0, echo.fence or 0
        if not self._key.check(echo.dispatch_id, session_id, echo.phase_id, attempt, fence):
            raise Forged(echo.phase_id)
        return True

    def _ack(self, session_id: str, sequence: int, ack: messages.Ack) -> i.Acknowledge:
        return i.Acknowledge(
            sequence=sequence,
            phase_id=ack.phase_id,
            fenced=self._fenced(session_id, ack),
            attempt=ack.attempt or 0,
            fence=ack.fence or 0,
            runtime_id=cut_if_any(ack.runtime_id, SHORT_MAX),
            accepted=ack.accepted,
            queued=ack.queued,
            retry_after_ms=ack.retry_after_ms,
            reason=cut_if_any(ack.reason),
        )

    def _report(self, session_id: str, sequence: int, report: messages.Report) -> i.AnyInput:
        fenced = self._fenced(session_id, report)
        attempt, fence = report.attempt or 0, report.fence or 0
        common = (report.phase_id, fenced, attempt, fence, cut_if_any(report.runtime_id, SHORT_MAX))
        match report.status:
            case "running":
                return i.ReportRunning(*common, sequence=sequence, started=_ms(report.started))
            case "complete":
                try:
                    result = checked(report.result, RESULT_BYTES_MAX, "the result has")
                except InvalidMessage as error:
                    # Told again it would be the same, and others have reported in the same message.
                    text = f"it is complete, and its result cannot be used: {error.reason}"
                    return i.ReportFailed(
                        *common, sequence=sequence, message=text, kind="result", retryable=False
                    )
                return i.ReportComplete(
                    *common,
                    sequence=sequence,
                    result=result,
                    started=_ms(report.started),
                    finished=_ms(report.finished),
                )
            case "failed":
                failure = report.error or messages.Failure(message="failed, its runtime did not say why")
                return i.ReportFailed(
                    *common,
                    sequence=sequence,
                    message=cut(failure.message),
                    kind=cut_if_any(failure.kind, SHORT_MAX),
                    retryable=failure.retryable,
                )
            case "cancelled":
                message = cut(report.error.message) if report.error else None
                return i.ReportCancelled(*common, sequence=sequence, message=message)
            case "heartbeat":
                try:
                    details = checked(report.details, messages.DETAILS_BYTES_MAX, "the details have")
                except InvalidMessage as error:
                    log.info("details.unusable", session=session_id, phase=report.phase_id, error=str(error))
                    details = msgspec.UNSET  # it goes on, whatever else it says
                return i.ReportHeartbeat(
                    *common, sequence=sequence, started=_ms(report.started), details=details
                )


def _copied(given: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | msgspec.UnsetType:
    """A copy, for the decoded view would keep the whole message alive; null says nothing."""
    return msgspec.UNSET if given is msgspec.UNSET or bytes(given) == b"null" else msgspec.Raw(bytes(given))


def checked(
    given: msgspec.Raw | msgspec.UnsetType, bytes_max: int, what: str
) -> msgspec.Raw | msgspec.UnsetType:
    """JSON that a stranger has made, copied; raises ``InvalidMessage`` when it is too large or unreadable."""
    if given is msgspec.UNSET:
        return given
    data = bytes(given)  # a copy: the decoded view would keep the whole message alive
    if len(data) > bytes_max:
        raise InvalidMessage("Report", f"{what} {len(data):,} bytes, the limit is {bytes_max:,}")
    free_json(data, "Report")
    return msgspec.Raw(data)


def _ms(time: str | None) -> int | None:
    """RFC 3339 to milliseconds; None when absent or not a time (it is only for people)."""
    return None if time is None or len(time) > _TIME_LENGTH_MAX else _read_time(time)


@lru_cache(maxsize=256)  # the attempts that a message reports began and ended at about the same times
def _read_time(time: str) -> int | None:
    try:
        found = datetime.fromisoformat(time).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return int(found.timestamp() * 1000) if found.year in _YEARS else None
