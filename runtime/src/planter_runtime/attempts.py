"""Which targets are taken, in which order they run, and what is said about them.

Pure: inputs in, orders out. No I/O, no clock (``now`` is an argument, milliseconds since 1970), no tasks.

An attempt is known by session, phase and fence, and is executed at most once here: a lower fence than the
highest seen is refused, an equal one gets the known answer again, a higher one replaces what runs. Another
attempt with an equal fence is refused: fences are sequences, and a server that lost its newest messages gives
theirs anew. At any moment at most one attempt of a phase is executed; its replacement waits until it has
really ended.
"""

from collections import OrderedDict, deque
from enum import Enum, auto
from typing import NamedTuple, assert_never

import msgspec

from planter_protocol.codec import timestamp
from planter_protocol.messages import Ack, Failure, Held, Report, Target
from planter_runtime.orders import Note, NoteEvent, Order, SendAck, SendReport, Start, Stop
from planter_runtime.outcomes import Cancelled, Completed, Failed, Outcome

FENCES_REMEMBERED_MAX = 50_000
"""Phases whose last fence is remembered after their attempt has ended."""
REPORTS_REMEMBERED_BYTES_MAX = 32 * 1024 * 1024
"""Results kept for repeated targets; older ones are in the input stream anyway, for they were confirmed."""
HELD_MAX = 4_096
"""Attempts taken at a time, running or not; a heartbeat names them all in one message."""
_REPORT_BYTES = 512

DRAINING = "draining"


class PhaseKey(NamedTuple):
    """A phase of a session."""

    session: str
    phase: str


class AttemptKey(NamedTuple):
    """One attempt, for ever."""

    session: str
    phase: str
    fence: int


class _Stage(Enum):
    QUEUED = auto()
    RUNNING = auto()
    STOPPING = auto()
    LINGERING = auto()  # reported, but it cannot be killed and still has its slot


class _Attempt:
    __slots__ = ("slots", "stage", "started", "superseded", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.slots = _slots(target)
        self.stage = _Stage.QUEUED
        self.started: int | None = None
        self.superseded = False


class _Ended(NamedTuple):
    fence: int
    attempt: int
    dispatch_id: str | None
    said: SendReport | SendAck | None
    size: int


def attempt_key(target: Target) -> AttemptKey:
    """The attempt that the target asks for."""
    return AttemptKey(target.session_id, target.phase_id, target.fence)


def _slots(target: Target) -> int:
    return max(1, target.slots)


class Attempts:
    """All attempts of one runtime."""

    def __init__(self, runtime_id: str, slots: int) -> None:
        self._runtime_id = runtime_id
        self._slots = slots
        self._in_use = 0
        self._draining = False
        self._held: dict[AttemptKey, _Attempt] = {}
        #: Held attempts of each phase, oldest first: only the first may run.
        self._of_phase: dict[PhaseKey, list[AttemptKey]] = {}
        self._queue: deque[AttemptKey] = deque()
        self._ended: OrderedDict[PhaseKey, _Ended] = OrderedDict()
        self._ended_bytes = 0

    # -- what is the case ------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether no new target is taken any more."""
        return self._draining

    @property
    def idle(self) -> bool:
        """Whether no attempt waits for its end to be reported."""
        return all(attempt.stage is _Stage.LINGERING for attempt in self._held.values())

    def held(self) -> tuple[Held, ...]:
        """The attempts that are taken and not reported yet, as a heartbeat names them."""
        return tuple(
            Held(session_id=key.session, phase_id=key.phase, attempt=attempt.target.attempt, fence=key.fence)
            for key, attempt in self._held.items()
            if attempt.stage is not _Stage.LINGERING
        )

    # -- inputs ----------------------------------------------------------------------------------

    def offer(self, target: Target, unfit: str | None, now: int) -> list[Order]:
        """A target came; ``unfit`` says why this runtime cannot execute it, if so."""
        phase = PhaseKey(target.session_id, target.phase_id)
        highest = self._highest(phase)
        if highest is not None and (target.fence < highest or self._is_other(phase, target)):
            # Said aloud: after a power failure a journal may give fences out again that are in use here.
            reason = f"stale: fence {highest} is known here"
            answer = self._ack(target, accepted=False, reason=reason)
            return [self._note("target.refused", target, reason), answer]
        if highest is not None and target.fence == highest:
            return self._repeat(phase, target)
        orders = self._supersede(phase)
        refusal = DRAINING if self._draining else unfit
        if refusal is None and _slots(target) > self._slots:
            refusal = f"too large: it takes {_slots(target)} slots, and there are {self._slots} here"
        if refusal is None and len(self._held) >= HELD_MAX:
            refusal = f"full: {HELD_MAX:,} attempts are held here"
        if refusal is not None:
            answer = self._ack(target, accepted=False, reason=refusal)
            self._remember(target, answer)
            note = self._note("target.refused", target, refusal)
            # What it replaced may have been in the way of others.
            return [*orders, note, answer, *self._start_next(now)]
        key = attempt_key(target)
        attempt = self._held[key] = _Attempt(target)
        of_phase = self._of_phase.setdefault(phase, [])
        of_phase.append(key)
        if len(of_phase) == 1:
            self._queue.append(key)
        started = self._start_next(now)
        orders.append(self._ack(target, accepted=True, queued=attempt.stage is _Stage.QUEUED))
        return orders + started

    def finish(self, key: AttemptKey, outcome: Outcome, now: int, *, released: bool = True) -> list[Order]:
        """The execution has ended; with ``released`` False it goes on holding its slot until ``release``."""
        attempt = self._held.get(key)
        if attempt is None or attempt.stage is _Stage.LINGERING:
            return []
        told = SendReport(key.session, self._final(attempt, outcome, now))
        self._remember(attempt.target, told)
        orders: list[Order] = [] if attempt.superseded else [told]
        attempt.stage = _Stage.LINGERING
        return orders + self.release(key, now) if released else orders

    def heartbeat(self, key: AttemptKey, details: msgspec.Raw | msgspec.UnsetType) -> list[Order]:
        """The work says that it goes on; from an attempt that is to end, nobody wants to know."""
        attempt = self._held.get(key)
        if attempt is None or attempt.stage is not _Stage.RUNNING:
            return []
        report = msgspec.structs.replace(self._report(attempt), status="heartbeat", details=details)
        return [SendReport(key.session, report)]

    def release(self, key: AttemptKey, now: int) -> list[Order]:
        """Nothing of the attempt runs any more: its slot is free."""
        if key not in self._held:
            return []
        self._in_use -= self._held[key].slots
        self._let_go(key)
        return self._start_next(now)

    def cancel(
        self, wanted: PhaseKey, attempt_number: int | None, fence: int | None, reason: str, now: int
    ) -> list[Order]:
        """A planner wants an attempt no more; None matches any attempt number or fence."""
        keys = [
            key
            for key, attempt in self._held.items()
            if (key.session, key.phase) == wanted
            and attempt.stage is not _Stage.LINGERING
            and fence in (None, key.fence)
            and attempt_number in (None, attempt.target.attempt)
        ]
        if not keys:
            reason = "no such attempt is held here"
            return [Note("control.ignored", wanted.session, wanted.phase, attempt_number, fence, reason)]
        orders = [order for key in keys for order in self._end(key, reason)]
        return orders + self._start_next(now)  # one that waited may have been in the way of smaller ones

    def drain(self) -> list[Order]:
        """Take nothing more, and give back what has not been started."""
        self._draining = True
        orders: list[Order] = []
        for key, attempt in list(self._held.items()):
            if attempt.stage is _Stage.QUEUED:
                answer = self._ack(attempt.target, accepted=False, reason=DRAINING)
                self._let_go(key)
                self._remember(attempt.target, answer)
                orders.append(answer)
        return orders

    def stop_all(self, reason: str) -> list[Order]:
        """End everything that runs."""
        return [order for key in list(self._held) for order in self._end(key, reason)]

    # -- how -------------------------------------------------------------------------------------

    def _highest(self, phase: PhaseKey) -> int | None:
        ended = self._ended.get(phase)
        fences = [key.fence for key in self._of_phase.get(phase, ())]
        if ended is not None:
            fences.append(ended.fence)
        return max(fences, default=None)

    def _is_other(self, phase: PhaseKey, target: Target) -> bool:
        """Whether the fence is known here from another attempt."""
        held = self._held.get(attempt_key(target))
        known = held.target if held is not None else self._ended.get(phase)
        if known is None or known.fence != target.fence:
            return False
        return (known.attempt, known.dispatch_id) != (target.attempt, target.dispatch_id)

    def _repeat(self, phase: PhaseKey, target: Target) -> list[Order]:
        attempt = self._held.get(attempt_key(target))
        if attempt is not None and attempt.stage is not _Stage.LINGERING:
            orders: list[Order] = [
                self._ack(attempt.target, accepted=True, queued=attempt.stage is _Stage.QUEUED)
            ]
            return orders if attempt.started is None else [*orders, self._running(attempt)]
        ended = self._ended.get(phase)
        if ended is None or ended.said is None:
            # Its report was confirmed. A planner that asks all the same has lost it, and has to target anew.
            reason = f"stale: fence {target.fence} has ended here, and its report is not kept any more"
            return [
                self._note("target.refused", target, reason),
                self._ack(target, accepted=False, reason=reason),
            ]
        self._ended.move_to_end(phase)
        return [ended.said]

    def _supersede(self, phase: PhaseKey) -> list[Order]:
        """Silence every older attempt of the phase: the planner would not believe its report."""
        orders: list[Order] = []
        for key in list(self._of_phase.get(phase, ())):
            attempt = self._held[key]
            if attempt.superseded:
                continue
            attempt.superseded = True
            orders.append(self._note("attempt.superseded", attempt.target, "a newer one was targeted here"))
            match attempt.stage:
                case _Stage.QUEUED:
                    self._let_go(key)
                case _Stage.RUNNING:
                    attempt.stage = _Stage.STOPPING
                    orders.append(Stop(attempt.target, "superseded"))
                case _Stage.STOPPING | _Stage.LINGERING:
                    pass
                case _:
                    assert_never(attempt.stage)
        return orders

    def _end(self, key: AttemptKey, reason: str) -> list[Order]:
        attempt = self._held[key]
        match attempt.stage:
            case _Stage.QUEUED:
                self._let_go(key)
                told = SendReport(key.session, self._final(attempt, Cancelled(reason), None))
                self._remember(attempt.target, told)
                return [told]
            case _Stage.RUNNING:
                attempt.stage = _Stage.STOPPING
                return [Stop(attempt.target, reason)]
            case _Stage.STOPPING | _Stage.LINGERING:
                return []
            case _:
                assert_never(attempt.stage)

    def _let_go(self, key: AttemptKey) -> None:
        """The attempt is held no more (its entry in the queue is skipped later); its replacement may run."""
        del self._held[key]
        phase = PhaseKey(key.session, key.phase)
        of_phase = self._of_phase[phase]
        was_first = of_phase[0] == key
        of_phase.remove(key)
        if not of_phase:
            del self._of_phase[phase]
        elif was_first:
            self._queue.appendleft(of_phase[0])

    def _start_next(self, now: int) -> list[Order]:
        orders: list[Order] = []
        while self._queue and self._in_use < self._slots:
            attempt = self._held.get(self._queue[0])
            if attempt is None or attempt.stage is not _Stage.QUEUED:
                self._queue.popleft()
                continue
            if self._in_use + attempt.slots > self._slots:
                break  # smaller ones do not overtake it, or it might never run
            self._queue.popleft()
            attempt.stage = _Stage.RUNNING
            attempt.started = now
            self._in_use += attempt.slots
            orders += [self._running(attempt), Start(attempt.target)]
        return orders

    def _remember(self, target: Target, said: SendReport | SendAck) -> None:
        phase = PhaseKey(target.session_id, target.phase_id)
        old = self._ended.get(phase)
        if old is not None and old.fence > target.fence:
            return
        size = _REPORT_BYTES
        if isinstance(said, SendReport) and said.report.result is not msgspec.UNSET:
            size += len(bytes(said.report.result))
        self._ended[phase] = _Ended(target.fence, target.attempt, target.dispatch_id, said, size)
        self._ended.move_to_end(phase)
        self._ended_bytes += size - (old.size if old else 0)
        while len(self._ended) > FENCES_REMEMBERED_MAX:
            self._ended_bytes -= self._ended.popitem(last=False)[1].size
        if self._ended_bytes > REPORTS_REMEMBERED_BYTES_MAX:
            self._drop_old_reports()

    def _drop_old_reports(self) -> None:
        """Half of the kept results go, oldest first; the fences stay."""
        for phase, ended in self._ended.items():
            if self._ended_bytes <= REPORTS_REMEMBERED_BYTES_MAX // 2:
                return
            if ended.said is not None:
                self._ended[phase] = ended._replace(said=None, size=0)
                self._ended_bytes -= ended.size

    # -- what is said ----------------------------------------------------------------------------

    def _ack(
        self, target: Target, *, accepted: bool, queued: bool = False, reason: str | None = None
    ) -> SendAck:
        ack = Ack(
            phase_id=target.phase_id,
            accepted=accepted,
            queued=queued,
            reason=reason,
            runtime_id=self._runtime_id,
            attempt=target.attempt,
            fence=target.fence,
            dispatch_id=target.dispatch_id,
        )
        return SendAck(target.session_id, ack)

    def _report(self, attempt: _Attempt) -> Report:
        target = attempt.target
        return Report(
            phase_id=target.phase_id,
            status="running",
            attempt=target.attempt,
            fence=target.fence,
            dispatch_id=target.dispatch_id,
            runtime_id=self._runtime_id,
            started=None if attempt.started is None else timestamp(attempt.started),
        )

    def _running(self, attempt: _Attempt) -> SendReport:
        return SendReport(attempt.target.session_id, self._report(attempt))

    def _final(self, attempt: _Attempt, outcome: Outcome, now: int | None) -> Report:
        report = self._report(attempt)
        finished = None if now is None else timestamp(now)
        match outcome:
            case Completed(result):
                return msgspec.structs.replace(report, status="complete", result=result, finished=finished)
            case Failed(failure):
                return msgspec.structs.replace(report, status="failed", error=failure, finished=finished)
            case Cancelled(message):
                failure = Failure(message=message, kind="cancelled")
                return msgspec.structs.replace(report, status="cancelled", error=failure, finished=finished)
            case _:
                assert_never(outcome)

    @staticmethod
    def _note(event: NoteEvent, target: Target, reason: str) -> Note:
        return Note(event, target.session_id, target.phase_id, target.attempt, target.fence, reason)
