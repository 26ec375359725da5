"""The decisions of a runtime: pure, so that every case is two lines."""

import msgspec
import pytest

from planter_protocol.messages import Failure, Target
from planter_runtime import attempts as module
from planter_runtime.attempts import AttemptKey, Attempts, PhaseKey
from planter_runtime.orders import Note, Order, SendAck, SendReport, Start, Stop
from planter_runtime.outcomes import Cancelled, Completed, Failed

NOW = 1_000
LATER = 2_000


def target(phase: str = "a", fence: int = 1, attempt: int = 1, session: str = "s", slots: int = 1) -> Target:
    return Target(
        phase_id=phase,
        reason="ready",
        session_id=session,
        attempt=attempt,
        fence=fence,
        dispatch_id=f"proof-{fence}",
        runtime_id="r1",
        slots=slots,
    )


def key(phase: str = "a", fence: int = 1, session: str = "s") -> AttemptKey:
    return AttemptKey(session, phase, fence)


def told(orders: list[Order]) -> list[str]:
    """Orders in short."""
    words = []
    for order in orders:
        match order:
            case SendAck(_, ack):
                answer = "queued" if ack.queued else "accepted" if ack.accepted else f"rejected: {ack.reason}"
                words.append(f"{ack.phase_id} {answer}")
            case SendReport(_, report):
                words.append(f"{report.phase_id} {report.status}")
            case Start(given):
                words.append(f"start {given.phase_id} {given.fence}")
            case Stop(given, reason):
                words.append(f"stop {given.phase_id} {given.fence}: {reason}")
            case Note(event):
                words.append(event)
    return words


def test_a_target_is_acknowledged_and_started_when_a_slot_is_free() -> None:
    attempts = Attempts("r1", slots=1)

    assert told(attempts.offer(target(), None, NOW)) == ["a accepted", "a running", "start a 1"]


def test_without_a_free_slot_it_is_queued_and_started_first_in_first_out() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("a"), None, NOW)

    assert told(attempts.offer(target("b"), None, NOW)) == ["b queued"]
    assert told(attempts.offer(target("c"), None, NOW)) == ["c queued"]
    assert told(attempts.finish(key("a"), Completed(), NOW)) == ["a complete", "b running", "start b 1"]
    assert told(attempts.finish(key("b"), Completed(), NOW)) == ["b complete", "c running", "start c 1"]


def test_an_attempt_takes_as_many_slots_as_its_target_says() -> None:
    attempts = Attempts("r1", slots=4)
    attempts.offer(target("a", slots=3), None, NOW)

    assert told(attempts.offer(target("b", slots=2), None, NOW)) == ["b queued"]
    assert told(attempts.offer(target("c"), None, NOW)) == ["c queued"]  # or b would never have its turn
    assert told(attempts.finish(key("a"), Completed(), LATER)) == [
        "a complete",
        "b running",
        "start b 1",
        "c running",
        "start c 1",
    ]
    assert told(attempts.offer(target("d", slots=2), None, LATER)) == ["d queued"]
    assert told(attempts.finish(key("c"), Completed(), LATER)) == ["c complete", "d running", "start d 1"]


def test_what_waits_and_is_cancelled_blocks_nobody() -> None:
    attempts = Attempts("r1", slots=4)
    attempts.offer(target("a", slots=3), None, NOW)
    attempts.offer(target("b", slots=4), None, NOW)
    attempts.offer(target("c"), None, NOW)

    assert told(attempts.cancel(PhaseKey("s", "b"), None, None, "no", NOW)) == [
        "b cancelled",
        "c running",
        "start c 1",
    ]


def test_an_attempt_that_takes_more_slots_than_there_are_is_rejected() -> None:
    attempts = Attempts("r1", slots=4)

    assert told(attempts.offer(target(slots=5), None, NOW)) == [
        "target.refused",
        "a rejected: too large: it takes 5 slots, and there are 4 here",
    ]
    assert told(attempts.offer(target("b", slots=4), None, NOW)) == ["b accepted", "b running", "start b 1"]


def test_every_answer_echoes_what_the_target_carried() -> None:
    attempts = Attempts("r1", slots=1)
    ack, running, _ = attempts.offer(target(fence=7, attempt=2), None, NOW)
    (final,) = attempts.finish(key(fence=7), Completed(msgspec.Raw(b'{"x":1}')), LATER)

    assert isinstance(ack, SendAck)
    assert isinstance(running, SendReport)
    assert isinstance(final, SendReport)
    for said in (ack.ack, running.report, final.report):
        assert (said.attempt, said.fence, said.dispatch_id, said.runtime_id) == (2, 7, "proof-7", "r1")
    assert final.report.result == msgspec.Raw(b'{"x":1}')
    assert (final.report.started, final.report.finished) == (
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:02.000Z",
    )


def test_a_failure_is_reported_as_it_is() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target(), None, NOW)
    failure = Failure(message="no", kind="exit", exit_code=3)
    (final,) = attempts.finish(key(), Failed(failure), LATER)

    assert isinstance(final, SendReport)
    assert (final.report.status, final.report.error) == ("failed", failure)


def test_work_that_cannot_be_executed_is_rejected_with_the_reason() -> None:
    attempts = Attempts("r1", slots=1)

    assert told(attempts.offer(target(), "no executor", NOW)) == ["target.refused", "a rejected: no executor"]
    assert attempts.held() == ()


def test_a_lower_fence_than_the_highest_seen_is_refused() -> None:
    attempts = Attempts("r1", slots=2)
    attempts.offer(target(fence=5), None, NOW)
    refusal = ["target.refused", "a rejected: stale: fence 5 is known here"]

    assert told(attempts.offer(target(fence=4), None, NOW)) == refusal
    attempts.finish(key(fence=5), Completed(), NOW)
    assert told(attempts.offer(target(fence=4), None, NOW)) == refusal


@pytest.mark.parametrize("other", [{"attempt": 2}, {"dispatch_id": "proof of another key"}])
@pytest.mark.parametrize("has_ended", [False, True])
def test_an_equal_fence_of_another_attempt_is_refused(other, has_ended) -> None:
    """A server that lost its newest messages gives their sequences anew, and fences are sequences."""
    attempts = Attempts("r1", slots=1)
    attempts.offer(target(fence=5), None, NOW)
    if has_ended:
        attempts.finish(key(fence=5), Completed(), NOW)

    orders = attempts.offer(msgspec.structs.replace(target(fence=5), **other), None, NOW)

    assert told(orders) == ["target.refused", "a rejected: stale: fence 5 is known here"]
    answered = [order.ack for order in orders if isinstance(order, SendAck)]
    assert {field: getattr(answered[0], field) for field in other} == other


def test_an_equal_fence_gets_what_is_known_again_and_is_not_executed_twice() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("a"), None, NOW)
    attempts.offer(target("b"), None, NOW)

    assert told(attempts.offer(target("a"), None, NOW)) == ["a accepted", "a running"]
    assert told(attempts.offer(target("b"), None, NOW)) == ["b queued"]
    attempts.finish(key("a"), Completed(), NOW)
    assert told(attempts.offer(target("a"), None, NOW)) == ["a complete"]


def test_a_rejection_is_repeated_too() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target(), "no handler", NOW)

    assert told(attempts.offer(target(), None, NOW)) == ["a rejected: no handler"]


def test_a_higher_fence_stops_the_older_attempt_and_starts_only_after_its_end() -> None:
    attempts = Attempts("r1", slots=2)
    attempts.offer(target(fence=1), None, NOW)

    orders = attempts.offer(target(fence=2, attempt=2), None, NOW)
    assert told(orders) == ["attempt.superseded", "stop a 1: superseded", "a queued"]
    # The older one says nothing: its fence is stale, the planner would refuse it.
    assert told(attempts.finish(key(fence=1), Cancelled("superseded"), NOW)) == ["a running", "start a 2"]


def test_a_higher_fence_replaces_an_attempt_that_still_waits() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("x"), None, NOW)
    attempts.offer(target("a", fence=1), None, NOW)

    assert told(attempts.offer(target("a", fence=2), None, NOW)) == ["attempt.superseded", "a queued"]
    assert told(attempts.finish(key("x"), Completed(), NOW)) == ["x complete", "a running", "start a 2"]


def test_three_fences_in_a_row_leave_only_the_last_one() -> None:
    attempts = Attempts("r1", slots=3)
    for fence in (1, 2, 3):
        orders = attempts.offer(target(fence=fence), None, NOW)

    assert told(orders) == ["attempt.superseded", "a queued"]
    assert told(attempts.finish(key(fence=1), Completed(), NOW)) == ["a running", "start a 3"]
    assert told(attempts.finish(key(fence=3), Completed(), NOW)) == ["a complete"]
    assert attempts.idle


def test_an_attempt_that_cannot_be_killed_keeps_its_slot_and_blocks_its_replacement() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("a", fence=1), None, NOW)

    assert told(attempts.finish(key(), Cancelled("late"), NOW, released=False)) == ["a cancelled"]
    assert attempts.held() == ()
    assert attempts.idle
    assert told(attempts.offer(target("b"), None, NOW)) == ["b queued"]
    assert told(attempts.offer(target("a", fence=2), None, NOW)) == ["attempt.superseded", "a queued"]
    assert told(attempts.release(key(), NOW)) == ["a running", "start a 2"]


def test_cancelling_a_running_attempt_stops_it_once() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target(), None, NOW)

    assert told(attempts.cancel(PhaseKey("s", "a"), 1, None, "unwanted", NOW)) == ["stop a 1: unwanted"]
    assert told(attempts.cancel(PhaseKey("s", "a"), None, 1, "unwanted", NOW)) == []
    assert told(attempts.finish(key(), Cancelled("unwanted"), NOW)) == ["a cancelled"]


def test_cancelling_a_queued_attempt_reports_it_at_once() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("x"), None, NOW)
    attempts.offer(target("a"), None, NOW)

    assert told(attempts.cancel(PhaseKey("s", "a"), None, None, "unwanted", NOW)) == ["a cancelled"]
    assert told(attempts.finish(key("x"), Completed(), NOW)) == ["x complete"]
    assert told(attempts.offer(target("a"), None, NOW)) == ["a cancelled"]


@pytest.mark.parametrize(("attempt", "fence"), [(2, None), (None, 2), (1, 2)])
def test_cancelling_another_attempt_than_the_held_one_is_ignored(attempt, fence) -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target(fence=1, attempt=1), None, NOW)

    assert told(attempts.cancel(PhaseKey("s", "a"), attempt, fence, "unwanted", NOW)) == ["control.ignored"]


def test_draining_gives_back_what_waits_and_takes_nothing_new() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("a"), None, NOW)
    attempts.offer(target("b"), None, NOW)

    assert told(attempts.drain()) == ["b rejected: draining"]
    assert told(attempts.offer(target("c"), None, NOW)) == ["target.refused", "c rejected: draining"]
    assert not attempts.idle
    assert told(attempts.finish(key("a"), Completed(), NOW)) == ["a complete"]
    assert attempts.idle


def test_stopping_all_stops_what_runs() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("a"), None, NOW)
    attempts.offer(target("b"), None, NOW)

    assert told(attempts.stop_all("shutdown")) == ["stop a 1: shutdown", "b cancelled"]


def test_a_full_runtime_rejects(monkeypatch) -> None:
    monkeypatch.setattr(module, "HELD_MAX", 2)
    attempts = Attempts("r1", slots=1)
    for phase in ("a", "b"):
        attempts.offer(target(phase), None, NOW)

    assert told(attempts.offer(target("c"), None, NOW))[-1] == "c rejected: full: 2 attempts are held here"


def test_old_fences_are_forgotten_beyond_the_limit(monkeypatch) -> None:
    monkeypatch.setattr(module, "FENCES_REMEMBERED_MAX", 2)
    attempts = Attempts("r1", slots=1)
    for phase in ("a", "b", "c"):
        attempts.offer(target(phase), None, NOW)
        attempts.finish(key(phase), Completed(), NOW)

    assert told(attempts.offer(target("c"), None, NOW)) == ["c complete"]
    assert told(attempts.offer(target("b"), None, NOW)) == ["b complete"]
    assert told(attempts.offer(target("a"), None, NOW))[-1] == "start a 1"


def test_old_results_are_dropped_before_their_fences(monkeypatch) -> None:
    monkeypatch.setattr(module, "REPORTS_REMEMBERED_BYTES_MAX", 4_000)
    attempts = Attempts("r1", slots=1)
    for phase in ("a", "b", "c"):
        attempts.offer(target(phase), None, NOW)
        attempts.finish(key(phase), Completed(msgspec.Raw(b'"%s"' % (b"x" * 1_000))), NOW)

    refusal = "a rejected: stale: fence 1 has ended here, and its report is not kept any more"
    assert told(attempts.offer(target("a"), None, NOW)) == ["target.refused", refusal]
    assert told(attempts.offer(target("c"), None, NOW)) == ["c complete"]


def test_sessions_do_not_meet() -> None:
    attempts = Attempts("r1", slots=2)
    attempts.offer(target(session="s", fence=9), None, NOW)

    assert told(attempts.offer(target(session="t", fence=1), None, NOW))[-1] == "start a 1"
    assert [(held.session_id, held.fence) for held in attempts.held()] == [("s", 9), ("t", 1)]


# -- heartbeats ------------------------------------------------------------------------------


def test_a_heartbeat_of_running_work_is_told_with_its_fence_and_details() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target(fence=7), None, NOW)
    (order,) = attempts.heartbeat(key(fence=7), msgspec.Raw(b'{"row":7}'))

    assert isinstance(order, SendReport)
    assert (order.report.status, order.report.fence, order.report.dispatch_id) == ("heartbeat", 7, "proof-7")
    assert bytes(order.report.details) == b'{"row":7}'


def test_what_does_not_run_gives_no_heartbeat() -> None:
    attempts = Attempts("r1", slots=1)
    attempts.offer(target("a"), None, NOW)
    attempts.offer(target("b"), None, NOW)
    queued = attempts.heartbeat(key("b"), msgspec.UNSET)
    attempts.cancel(PhaseKey("s", "a"), None, None, "enough", NOW)
    stopping = attempts.heartbeat(key("a"), msgspec.UNSET)
    attempts.finish(key("a"), Cancelled("enough"), LATER)

    assert (queued, stopping, attempts.heartbeat(key("a"), msgspec.UNSET)) == ([], [], [])
