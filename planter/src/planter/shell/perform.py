"""Carrying out effects: core words become wire words. Nothing here decides.

Targets and states are plain publishes: a lost one is repaired by the offer's timer, or read by ``get_state``.
"""

import asyncio
from collections.abc import Sequence
from typing import assert_never

import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from planter.core import effects as f
from planter.core.plan import PhaseSpec
from planter.core.session import Session
from planter.core.status import PHASE_OPEN
from planter.shell.artifacts import remove_artifacts
from planter.shell.failpoints import passing
from planter.shell.gates import gate_of, reason_of
from planter.shell.keys import DispatchKey
from planter.shell.outbox import Outbox
from planter.shell.results import Results
from planter_protocol import assets, messages, subjects
from planter_protocol.codec import encode, timestamp
from planter_protocol.errors import ProtocolError
from planter_protocol.matching import LabelConstraint
from planter_protocol.names import is_token
from planter_protocol.sending import publish

log = structlog.get_logger(__name__)

_TARGETS_BYTES_MAX = 256 * 1024
_PORTION = 500
"""Effects that are carried out before others get a turn: about ten milliseconds."""


def _constraints(spec: PhaseSpec) -> tuple[LabelConstraint, ...]:
    """For an open offer: whoever takes it has to see for himself whether he may."""
    return tuple(
        LabelConstraint(label=one.label, operator=one.operator, value=one.value)
        for one in (spec.placement.constraints if spec.placement is not None else ())
    )


class Performer:
    """Publishes what a decision ordered."""

    def __init__(
        self, nc: Client, key: DispatchKey, planner_id: str, outbox: Outbox, results: Results
    ) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=5)
        self._outbox = outbox
        self._results = results
        self._key = key
        self._planner_id = planner_id

    async def perform(
        self, session: Session, effects: Sequence[f.AnyEffect], now: int, *, is_alone: bool = False
    ) -> None:
        """Carry out the effects of a step that is in the journal; ``is_alone``: no other is under way."""
        addressed: dict[str, list[bytes]] = {}
        states: list[int] = []
        passing("effects.begin")
        for number, effect in enumerate(effects, start=1):
            if number % _PORTION == 0:
                await asyncio.sleep(0)  # publishing alone gives nobody else a turn
            match effect:
                case f.PublishTarget():
                    await self._target(session, effect, addressed)
                case f.PublishState():
                    states.append(effect.phase)
                case f.CancelAttempt():
                    await self._cancel(session, effect)
                case f.PassOn():
                    self._outbox.put(session.id, effect.called, now)
                case f.LookUp():
                    self._results.look_up(session.id, effect)
                case f.Remember():
                    await self._results.remember(session.id, effect, now)
                case f.RemoveHistory():
                    await self._remove_history(session)
                case f.Ignore():
                    log.info("input.ignored", session=session.id, phase=effect.phase_id, reason=effect.reason)
                case _:
                    assert_never(effect)
        passing("effects.between")
        for runtime_id, targets in addressed.items():
            await self._send(runtime_id, targets, now=is_alone)
        if addressed and not is_alone:
            await asyncio.sleep(0)  # the connection writes them now, not after all that follows
        await self._send_states(session, states, now)
        passing("effects.done")

    async def _send_states(self, session: Session, indices: Sequence[int], now: int) -> None:
        """After the targets: work does not wait for those who watch."""
        subject = subjects.state(session.id)
        for number, index in enumerate(indices, start=1):
            if number % _PORTION == 0:
                await asyncio.sleep(0)
            await publish(self._nc, subject, self._state(session, index, now))

    async def _target(
        self, session: Session, effect: f.PublishTarget, addressed: dict[str, list[bytes]]
    ) -> None:
        phase = session.phases[effect.phase]
        if phase.status not in PHASE_OPEN or phase.stands:
            return
        spec = session.spec(effect.phase)
        target = messages.Target(
            phase_id=spec.id,
            reason=effect.reason,
            session_id=session.id,
            attempt=phase.attempt,
            fence=phase.fence,
            runtime_id=phase.runtime_id,
            instance=phase.instance,
            description=spec.description,
            labels=spec.labels,
            run=spec.run if phase.run is msgspec.UNSET else phase.run,
            timeout_ms=spec.timeout_ms,
            heartbeat_ms=spec.heartbeat_ms,
            details=phase.details,
            item=spec.item,
            index=None if spec.item is msgspec.UNSET else spec.number,
            slots=spec.slots,
            constraints=_constraints(spec) if phase.instance is None else (),
            dispatch_id=self._key.sign(session.id, spec.id, phase.attempt, phase.fence)
            if phase.instance is not None
            else None,  # an open offer is seen by everybody, so it carries no proof
        )
        if phase.instance is None:
            await publish(self._nc, subjects.target(session.id), encode(target))
        else:
            addressed.setdefault(str(phase.runtime_id), []).append(encode(target))

    async def _send(self, runtime_id: str, targets: list[bytes], *, now: bool) -> None:
        """Targets for one runtime, as many in a message as fit."""
        subject = subjects.runtime_target(runtime_id)
        portion: list[bytes] = []
        size = 0
        for target in targets:
            if portion and size + len(target) > _TARGETS_BYTES_MAX:
                await publish(self._nc, subject, b'{"targets":[' + b",".join(portion) + b"]}")
                portion, size = [], 0
            portion.append(target)
            size += len(target) + 1
        await publish(self._nc, subject, b'{"targets":[' + b",".join(portion) + b"]}", now=now)

    def _state(self, session: Session, index: int, now: int) -> bytes:
        phase = session.phases[index]
        return encode(
            messages.State(
                phase_id=session.spec(index).id,
                status=phase.status,
                updated=timestamp(phase.updated or now),
                attempt=phase.attempt or None,
                runtime_id=phase.runtime_id,
                reason=reason_of(phase),
                by=self._planner_id,
                gate=gate_of(phase),
            )
        )

    async def _cancel(self, session: Session, effect: f.CancelAttempt) -> None:
        if not is_token(effect.runtime_id):
            return  # who has taken an open offer may have any name, and then hears nothing of us
        message = messages.RuntimeControl(
            command="cancel",
            session_id=session.id,
            phase_id=effect.phase_id,
            attempt=effect.attempt,
            fence=effect.fence,
            reason=effect.reason,
        )
        await self._nc.publish(subjects.runtime_control(effect.runtime_id), encode(message))

    async def _remove_history(self, session: Session) -> None:
        """Of the journal, what is before the record that purged the session; of all else, everything."""
        bucket = assets.SESSIONS_BUCKET
        try:
            subject = subjects.journal(session.id)
            await self._js.purge_stream(assets.JOURNAL, seq=session.tombstone, subject=subject)
            await self._js.purge_stream(assets.LOGS, subject=subjects.log(session.id))
            notifications = subjects.notification(session.id, "*", "*")
            await self._js.purge_stream(assets.NOTIFICATIONS, subject=notifications)
            await remove_artifacts(self._nc, self._js, session.id)
            snapshot = assets.snapshot_subject(session.id, "*")
            await self._js.purge_stream(f"KV_{assets.SNAPSHOTS_BUCKET}", subject=snapshot)
            # The listing comes last: as long as the session is in it, the next sweep tries again.
            await self._js.purge_stream(f"KV_{bucket}", subject=f"$KV.{bucket}.{session.id}")
        except (TimeoutError, NatsError, ProtocolError) as error:
            log.info("retention.unfinished", session=session.id, error=str(error) or type(error).__name__)
