"""The runtime's shell: targets and control in, orders of ``Attempts`` carried out. It decides nothing."""

import asyncio
import math
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Literal, assert_never

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.aio.msg import Msg

import planter_runtime
from planter_protocol import messages, services, subjects
from planter_protocol.codec import MESSAGE_BYTES_MAX, decode, encode, free_json
from planter_protocol.confirming import Confirmed
from planter_protocol.errors import InvalidMessage
from planter_protocol.inline import subscribe_inline
from planter_protocol.names import is_token, random_token
from planter_runtime.artifacts import Artifacts
from planter_runtime.attempts import AttemptKey, Attempts, PhaseKey, attempt_key
from planter_runtime.errors import RunUnusable
from planter_runtime.executors import Execution, executors_for
from planter_runtime.executors.noop import noop_outcome
from planter_runtime.executors.process import ProcessGroups
from planter_runtime.orders import Note, Order, SendAck, SendReport, Start, Stop
from planter_runtime.outbox import Outbox
from planter_runtime.outcomes import Cancelled, Completed, Outcome, cut, failed, with_last_line
from planter_runtime.phase_log import PhaseLog
from planter_runtime.progress import Told
from planter_runtime.publishing import Publisher
from planter_runtime.pulse import Details, Pulse
from planter_runtime.sdk import Handler
from planter_runtime.secrets import Mask
from planter_runtime.settings import Settings
from planter_runtime.storing import Store, ValuesMissing
from planter_runtime.telling import Teller
from planter_runtime.work import HANDLER, Work, read_work

log = structlog.get_logger(__name__)

STOPPING_SECONDS_MAX = 9.0
"""From the order to stop to the report: SIGTERM, SIGKILL, the rest of the log."""
FLUSH_SECONDS = 3
_BLIND_TIMES_MAX = 2


class _Running:
    """An attempt that is being executed."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.stop_reason: str | None = None
        self.closes_at = math.inf
        self.pulse: Pulse | None = None

    def begin(self, work: Work, now: float) -> None:
        """The clocks of the attempt start."""
        if work.timeout_seconds is not None:
            self.closes_at = now + work.timeout_seconds
        if work.heartbeat_seconds is not None:
            self.pulse = Pulse(work.heartbeat_seconds, now)
        self.set_deadline()

    def set_deadline(self) -> None:
        """The attempt is ended by whichever clock runs out first."""
        silent_at = math.inf if self.pulse is None else self.pulse.runs_out
        self.scope.deadline = min(self.closes_at, silent_at)


class Agent:
    """One runtime on one connection; ``tasks`` holds everything that it runs."""

    def __init__(
        self,
        settings: Settings,
        handlers: Sequence[Handler],
        nc: Client,
        tasks: TaskGroup,
        groups: ProcessGroups,
    ) -> None:
        self.settings = settings
        self.instance = random_token(12)
        self._nc = nc
        self._tasks = tasks
        self._handlers = tuple(handlers)
        self._executors = executors_for(settings, handlers, groups)
        self._attempts = Attempts(settings.runtime_id, settings.slots)
        self._running: dict[AttemptKey, _Running] = {}
        self._state: Literal["ready", "draining", "gone"] = "ready"
        self._beat_now = anyio.Event()
        self._ended = anyio.Event()
        name = settings.runtime_id
        self._targets = services.Endpoint("target", subjects.runtime_target(name))
        self._controls = services.Endpoint("control", subjects.runtime_control(name))
        self._service = services.Service(
            nc,
            name=services.RUNTIME,
            service_id=name,
            description="Takes targets, executes phases, reports",
            version=planter_runtime.__version__,
            endpoints=(self._targets, self._controls),
            metadata=self._facts,
        )
        confirmed = Confirmed(nc)
        self._outbox = Outbox(Publisher(confirmed, f"{settings.runtime_id}.{self.instance}.r"), tasks)
        self._store = Store(nc, confirmed, settings.runtime_id)
        self._log_publisher = Publisher(confirmed, f"{settings.runtime_id}.{self.instance}.l")

    async def start(self) -> None:
        """Listen, then register: a planner that hears of us may send targets at once."""
        name = self.settings.runtime_id
        await subscribe_inline(self._nc, subjects.runtime_target(name), self._on_targets)
        await subscribe_inline(self._nc, subjects.runtime_control(name), self._on_control)
        await subscribe_inline(self._nc, subjects.RUNTIME_DISCOVER, self._on_discover)
        await self._service.start()
        await self._nc.flush()
        self._tasks.start_soon(self._beat)
        self._tasks.start_soon(self._watch)

    def beat_now(self) -> None:
        """Send a heartbeat without waiting for its time."""
        self._beat_now.set()

    async def drain(self) -> bool:
        """Take nothing more, let what runs end, tell everything. False when reports stayed unconfirmed."""
        self._state = "draining"
        self._perform(self._attempts.drain())
        self.beat_now()
        log.info("runtime.draining", running=len(self._running), seconds=self.settings.drain_seconds)
        with anyio.move_on_after(self.settings.drain_seconds):
            await self._idle()
        if not self._attempts.idle:
            log.warning("runtime.stopping", running=len(self._running))
            self._perform(self._attempts.stop_all("the runtime is shutting down"))
            with anyio.move_on_after(STOPPING_SECONDS_MAX):
                await self._idle()
        confirmed = False
        with anyio.move_on_after(max(STOPPING_SECONDS_MAX, self.settings.drain_seconds)):
            await self._outbox.drained()
            confirmed = True
        self._state = "gone"
        await self._heartbeat()
        return confirmed

    # -- messages --------------------------------------------------------------------------------

    def _on_targets(self, message: Msg) -> None:
        since = perf_counter_ns()
        try:
            targets = decode(message.data, messages.Targets).targets
        except InvalidMessage as error:
            log.warning("target.unreadable", error=str(error))
            self._targets.count(since, str(error))
            return
        now = now_ms()
        for target in targets:
            if problem := self._problem(target):
                log.warning(
                    "target.ignored", session=target.session_id, phase=target.phase_id, reason=problem
                )
            else:
                self._perform(self._attempts.offer(target, self._unfit(target), now))
        self._targets.count(since)

    def _on_control(self, message: Msg) -> None:
        since = perf_counter_ns()
        try:
            control = decode(message.data, messages.RuntimeControl)
        except InvalidMessage as error:
            log.warning("control.unreadable", error=str(error))
            self._controls.count(since, str(error))
            return
        match control.command:
            case "cancel":
                phase = PhaseKey(control.session_id or "", control.phase_id or "")
                reason = control.reason or "cancelled"
                self._perform(self._attempts.cancel(phase, control.attempt, control.fence, reason, now_ms()))
            case "drain":
                self.on_drain()
            case _:
                assert_never(control.command)
        self._controls.count(since)

    def on_drain(self) -> None:
        """A planner asks for a drain; whoever serves the agent may replace this."""
        self._state = "draining"
        self._perform(self._attempts.drain())
        self.beat_now()

    def _on_discover(self, _: Msg) -> None:
        self.beat_now()

    def _problem(self, target: messages.Target) -> str | None:
        """Why a target cannot even be answered."""
        if not is_token(target.session_id) or not target.phase_id:
            return "it names no session or no phase"
        if target.runtime_id not in (None, self.settings.runtime_id):
            return f"it is addressed to runtime {target.runtime_id}"
        if target.instance not in (None, self.instance):
            return "it is addressed to an earlier life of this runtime"
        return None

    def _unfit(self, target: messages.Target) -> str | None:
        """Why this runtime cannot execute the target; None when it can."""
        try:
            work = read_work(target, self.settings.workdir)
            executor = self._executors.get(work.kind)
            if executor is None:
                return f"no executor for {work.kind} here, only for {', '.join(self._kinds) or 'handlers'}"
            return executor.unfit(work)
        except RunUnusable as error:
            return str(error)
        except Exception as error:  # without an answer the planner would ask for ever
            log.exception("target.broken", session=target.session_id, phase=target.phase_id)
            return cut(f"the runtime's own fault: {type(error).__name__}: {error}")

    # -- orders ----------------------------------------------------------------------------------

    def _perform(self, orders: Sequence[Order]) -> None:
        waiting = deque(orders)
        while waiting:
            order = waiting.popleft()
            match order:
                case SendAck(session, ack):
                    self._outbox.ack(session, ack)
                case SendReport(session, report):
                    self._outbox.report(session, report)
                case Start(target):
                    waiting.extend(self._start(target))
                case Stop(target, reason):
                    running = self._running.get(attempt_key(target))
                    if running is not None:
                        running.stop_reason = reason
                        running.scope.cancel()
                case Note():
                    log.info(
                        order.event,
                        session=order.session,
                        phase=order.phase,
                        attempt=order.attempt,
                        fence=order.fence,
                        reason=order.reason,
                    )
                case _:
                    assert_never(order)

    def _start(self, target: messages.Target) -> list[Order]:
        work = read_work(target, self.settings.workdir)
        key = attempt_key(target)
        if work.kind == "noop":  # no task, no log: a thousand of them are one message
            return self._attempts.finish(key, noop_outcome(work), now_ms())
        self._running[key] = _Running()
        self._tasks.start_soon(self._execute, key, work)
        return []

    async def _execute(self, key: AttemptKey, work: Work) -> None:
        output = PhaseLog(self._log_publisher, work.target, self.settings.runtime_id, self._tasks)
        running = self._running[key]
        mask = output.mask

        def publish(told: Told) -> None:
            self._tasks.start_soon(self._tell, work.target, told, mask)

        teller = Teller(publish)
        execution = Execution(
            work,
            output,
            lambda told: self._beat_of(key, running, mask.details(_usable(told))),
            teller.tell,
            Artifacts(self.settings.artifacts_max, self.settings.artifact_bytes_max),
        )
        outcome = mask.outcome(await self._outcome(running, execution))
        if running.pulse is not None and running.pulse.unsent and not isinstance(outcome, Completed):
            self._send_beat(key, running)  # the next attempt goes on from there
        teller.close()
        execution.artifacts.close()
        await output.close()
        log.debug("attempt.ended", session=key.session, phase=key.phase, outcome=type(outcome).__name__)
        del self._running[key]
        leftover = execution.leftover
        self._perform(self._attempts.finish(key, outcome, now_ms(), released=leftover is None))
        self._ended.set()
        self._ended = anyio.Event()
        if leftover is not None:
            log.warning("attempt.unstoppable", session=key.session, phase=key.phase)
            await leftover.wait()
            self._perform(self._attempts.release(key, now_ms()))

    async def _tell(self, target: messages.Target, told: Told, mask: Mask) -> None:
        """Say how far the work is, to whoever listens."""
        done, total, text = told
        progress = messages.Progress(
            phase_id=target.phase_id,
            attempt=target.attempt,
            done=done,
            total=total,
            message=None if text is None else mask.text(text),
            runtime_id=self.settings.runtime_id,
        )
        try:
            await self._nc.publish(subjects.progress(target.session_id), encode(progress))
        except Exception as error:
            log.debug("progress.lost", error=str(error) or type(error).__name__)

    async def _outcome(self, running: _Running, execution: Execution) -> Outcome:
        work = execution.work
        if running.scope.cancel_called:
            return Cancelled(running.stop_reason or "cancelled")
        running.begin(work, anyio.current_time())
        with running.scope:
            try:
                execution.work = await self._store.with_values(work)
                outcome = await self._executors[work.kind].execute(execution)
                return await self._store.kept(execution, outcome)
            except ValuesMissing as error:
                return error.failure
            except Exception as error:
                log.exception("executor.broken", kind=work.kind)
                return failed(f"the runtime's own fault: {type(error).__name__}: {error}", "exception")
        if running.stop_reason is not None:
            return Cancelled(running.stop_reason)
        if running.scope.deadline < running.closes_at:
            late = failed(f"no heartbeat for {work.target.heartbeat_ms:,} ms", "heartbeat_timeout")
        else:
            late = failed(f"timed out after {work.target.timeout_ms:,} ms", "timeout")
        return with_last_line(late, execution.log.last_error_line)

    def _beat_of(self, key: AttemptKey, running: _Running, details: Details) -> None:
        """The work of an attempt says that it goes on."""
        if running.pulse is None or self._running.get(key) is not running:
            return
        delay = running.pulse.beat(details, anyio.current_time())
        running.set_deadline()
        if delay is not None:
            asyncio.get_running_loop().call_later(delay, self._send_beat, key, running)

    def _send_beat(self, key: AttemptKey, running: _Running) -> None:
        if running.pulse is not None and self._running.get(key) is running:
            data = running.pulse.take(anyio.current_time())
            details = msgspec.UNSET if data is None else msgspec.Raw(data)
            self._perform(self._attempts.heartbeat(key, details))

    async def _idle(self) -> None:
        while not self._attempts.idle:
            await self._ended.wait()

    # -- heartbeats ------------------------------------------------------------------------------

    @property
    def _kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in self._executors if kind != HANDLER)

    async def _beat(self) -> None:
        while True:
            self._beat_now = anyio.Event()
            await self._heartbeat()
            with anyio.move_on_after(self.settings.lease_seconds / 3):
                await self._beat_now.wait()

    async def _heartbeat(self) -> None:
        if not self._nc.is_connected:
            return  # on_reconnected sends one; a pile of old ones helps nobody
        try:
            await self._nc.publish(subjects.runtime_heartbeat(self.settings.runtime_id), self._description())
        except Exception as error:
            log.warning("heartbeat.failed", error=f"{type(error).__name__}: {error}")

    def _description(self) -> bytes:
        settings = self.settings
        held = self._attempts.held()
        count = len(held)
        while True:
            beat = messages.Heartbeat(
                runtime_id=settings.runtime_id,
                instance=self.instance,
                slots=settings.slots,
                labels=settings.labels,
                handlers=tuple(dict(handler.labels) for handler in self._handlers),
                executors=self._kinds,
                capabilities=settings.capabilities,
                state=self._state,
                held=held,
                held_all=len(held) == count,
                lease_ms=int(settings.lease_seconds * 1000),
                version=planter_runtime.__version__,
                host=socket.gethostname(),
                pid=os.getpid(),
            )
            data = encode(beat)
            if len(data) < MESSAGE_BYTES_MAX or not held:
                return data
            held = held[: len(held) // 2]  # the oldest are the ones that run

    def _facts(self) -> dict[str, str]:
        """What services tools show of this runtime."""
        settings = self.settings
        return {
            "id": settings.runtime_id,
            "instance": self.instance,
            "host": socket.gethostname(),
            "state": self._state,
            "slots": str(settings.slots),
            "running": str(len(self._running)),
            "labels": services.pairs(settings.labels),
            "handlers": "; ".join(services.pairs(handler.labels) for handler in self._handlers),
            "executors": ",".join(self._kinds),
            "capabilities": ",".join(settings.capabilities),
        }

    async def _watch(self) -> None:
        """Reconnect when the server does not answer: nats-py can be blind and say that it is connected."""
        blind = 0
        while True:
            await anyio.sleep(self.settings.lease_seconds / 3)
            if not self._nc.is_connected:
                blind = 0
                continue
            try:
                await self._nc.flush(FLUSH_SECONDS)
            except Exception as error:
                blind += 1
                log.warning("connection.silent", times=blind, error=type(error).__name__)
            else:
                blind = 0
            if blind >= _BLIND_TIMES_MAX:
                log.error("connection.blind", remedy="reconnecting")
                blind = 0
                await self._nc.force_reconnect()


def _usable(details: Details) -> Details:
    """None for details that no planner could read: the work goes on all the same."""
    if details is None:
        return None
    try:
        free_json(details, "details")
    except InvalidMessage as error:
        log.info("details.unusable", reason=error.reason)
        return None
    return details


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
