"""Stored records stay readable: the journal's JSON, byte by byte."""

import msgspec
import pytest

from planter.core import events as e
from planter.core.status import SessionStatus
from planter_testkit.builders import phase, plan

PLAN = b'{"digest":"d","phases":[{"id":"a","digest":"x","kind":"noop","run":{"noop":{}}}]}'
STORED = [
    (e.PhaseTargeted(phase_id="a", attempt=1, runtime_id="r", instance="i"),
     b'{"type":"PhaseTargeted","phaseId":"a","attempt":1,"runtimeId":"r","instance":"i"}'),
    (e.PhaseCompleted(phase_id="a", attempt=1, started=1, finished=2),
     b'{"type":"PhaseCompleted","phaseId":"a","attempt":1,"started":1,"finished":2}'),
    (e.PhaseProgressed(phase_id="a", attempt=1, details=msgspec.Raw(b'{"row":7}')),
     b'{"type":"PhaseProgressed","phaseId":"a","attempt":1,"details":{"row":7}}'),
    (e.AttemptFailed(phase_id="a", attempt=1, message="m", kind="exit", retry_at=5),
     b'{"type":"AttemptFailed","phaseId":"a","attempt":1,"message":"m","kind":"exit","retryAt":5}'),
    (e.SessionEnded(status=SessionStatus.COMPLETE), b'{"type":"SessionEnded","status":"complete"}'),
    (e.PhasesReset(phase_ids=("a", "b"), reason="retry"),
     b'{"type":"PhasesReset","phaseIds":["a","b"],"reason":"retry"}'),
    (e.PlanApplied(revision=1, digest="d", plan=plan(phase("a", digest="x"), digest="d")),
     b'{"type":"PlanApplied","revision":1,"digest":"d","plan":' + PLAN + b"}"),
    (e.PlanApplied(revision=2, digest="d", plan_ref="sha256:x", replan=True),
     b'{"type":"PlanApplied","revision":2,"digest":"d","planRef":"sha256:x","replan":true}'),
    (e.AttemptStopped(phase_id="a", attempt=1, reason="r"),
     b'{"type":"AttemptStopped","phaseId":"a","attempt":1,"reason":"r"}'),
    (e.WaitStarted(phase_id="a", attempt=1, due=5),
     b'{"type":"WaitStarted","phaseId":"a","attempt":1,"due":5}'),
    (e.WaitStarted(phase_id="a", attempt=1, due=5, fixed=True),
     b'{"type":"WaitStarted","phaseId":"a","attempt":1,"due":5,"fixed":true}'),
    (e.ApprovalRequested(phase_id="a", attempt=1, message="m"),
     b'{"type":"ApprovalRequested","phaseId":"a","attempt":1,"message":"m"}'),
    (e.ApprovalRequested(phase_id="a", attempt=1, message="m", approvers=("x", "y"), needed=2),
     b'{"type":"ApprovalRequested","phaseId":"a","attempt":1,"message":"m","approvers":["x","y"],"needed":2}'),
    (e.ApprovalRequested(phase_id="a", attempt=1, message="m", expires=9, on_expiry="approve"),
     b'{"type":"ApprovalRequested","phaseId":"a","attempt":1,"message":"m","expires":9,"onExpiry":"approve"}'),
    (e.PhaseApproved(phase_id="a", attempt=1, by="x", comment="c", plan_digest="d"),
     b'{"type":"PhaseApproved","phaseId":"a","attempt":1,"by":"x","comment":"c","planDigest":"d"}'),
    (e.PhaseApproved(phase_id="a", attempt=1, by="x", data=msgspec.Raw(b'{"k":1}')),
     b'{"type":"PhaseApproved","phaseId":"a","attempt":1,"by":"x","data":{"k":1}}'),
    (e.PhaseRejected(phase_id="a", attempt=1, by="x"),
     b'{"type":"PhaseRejected","phaseId":"a","attempt":1,"by":"x"}'),
    (e.ApprovalExpired(phase_id="a", attempt=1, outcome="fail"),
     b'{"type":"ApprovalExpired","phaseId":"a","attempt":1,"outcome":"fail"}'),
    (e.PhaseUnmatched(phase_id="a", reason="r"),
     b'{"type":"PhaseUnmatched","phaseId":"a","reason":"r"}'),
]  # fmt: skip


@pytest.mark.parametrize(("event", "data"), STORED, ids=lambda value: type(value).__name__)
def test_events_are_written_and_read_as_they_are_stored(event: e.AnyEvent, data: bytes) -> None:
    read = msgspec.json.decode(data, type=e.AnyEvent)

    assert msgspec.json.encode(event) == data
    assert msgspec.json.encode(read) == data


def test_every_event_class_belongs_to_the_closed_union() -> None:
    classes = {kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, e.Event)}

    assert set(e.AnyEvent.__args__) == classes - {e.Event, e.PhaseEvent}
