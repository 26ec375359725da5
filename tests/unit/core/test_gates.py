"""Phases that wait for time or for people: the planner decides them itself, and offers them to nobody."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from planter.core import Session
from planter.core import effects as f
from planter.core import events as e
from planter.core import inputs as i
from planter.core.explain import explain, overview
from planter.core.gate import GateUnreadable, duration_ms, moment_ms, read_gate
from planter.core.placement import gaps
from planter.core.plan import Concurrency, FailureAction, Handler, TriggerRule
from planter.core.snapshot import decode, encode, restore, take
from planter.shell.journal import _chunks
from planter.shell.views import session_state
from planter_testkit.builders import World, approval, foreach, phase, plan, runtime, the_same_again, wait


def world_of(*phases: Any, runtimes: tuple[Any, ...] = ()) -> World:
    """A session of these phases, begun."""
    world = World(*runtimes)
    world.start(plan(*phases))
    return world


def approve(world: World, by: str | None = "alice", phase_id: str = "a", **fields: Any) -> None:
    """Somebody approves."""
    world.command("approve", phase_id, by=by, **fields)


def reject(world: World, by: str | None = "alice", phase_id: str = "a", **fields: Any) -> None:
    """Somebody rejects."""
    world.command("reject", phase_id, by=by, **fields)


def last(world: World, kind: type) -> Any:
    """The newest event of a type."""
    for _, _, events, _ in reversed(world.journal):
        for event in reversed(events):
            if isinstance(event, kind):
                return event
    raise AssertionError(f"there is no {kind.__name__}")


def refused(world: World) -> str:
    """Code of the newest refusal, which has to be in the newest commit."""
    (event,) = [one for one in world.journal[-1][2] if isinstance(one, e.InputRefused)]
    return event.code


def nothing_was_offered(world: World) -> bool:
    """Whether no runtime, and no open subject, was told of anything."""
    return not any(isinstance(one, f.PublishTarget) for one in world.effects)


# -- waiting for time --------------------------------------------------------------------------


def test_a_wait_is_complete_when_its_time_is_over_and_no_runtime_is_offered_it() -> None:
    world = world_of(wait("a"), wait("b", "a", span="1s"), runtimes=(runtime(executors=frozenset({"wait"})),))

    assert world.statuses() == {"a": "running", "b": "pending"}
    world.pass_time(9_999)
    assert world.statuses()["a"] == "running"
    world.pass_time(1)
    assert world.statuses() == {"a": "complete", "b": "running"}
    world.pass_time(1_000)

    assert world.session.status.value == "complete"
    assert nothing_was_offered(world)
    assert "PhaseTargeted" not in world.event_names()
    the_same_again(world)


def test_the_time_of_a_wait_is_fixed_in_the_journal_when_it_begins() -> None:
    world = world_of(wait("a"))
    started = last(world, e.WaitStarted)
    assert (started.due, started.fixed) == (world.now + 10_000, False)

    world.now += 4_000
    world.session = world.replayed()  # another planner takes over
    world.step()
    world.pass_time(5_999)
    assert world.statuses()["a"] == "running"
    world.pass_time(1)
    assert world.statuses()["a"] == "complete"


def test_a_planner_that_reads_the_journal_weeks_later_completes_what_was_due() -> None:
    world = world_of(wait("a", span="1h"))

    world.session = world.replayed()
    world.pass_time(3 * 7 * 24 * 3_600_000)

    assert world.session.status.value == "complete"


def test_a_wait_until_the_past_is_complete_at_once_and_so_is_what_follows() -> None:
    past = "1970-01-01T00:00:01+00:00"
    world = world_of(
        wait("a", until=past), wait("b", "a", until=past), phase("c", "b", when="true"), runtimes=(runtime(),)
    )
    world.settle()

    assert world.statuses() == {"a": "complete", "b": "complete", "c": "targeted"}


def test_a_wait_until_a_time_is_over_then_whatever_the_clock_does() -> None:
    world = world_of(wait("a", until="1970-01-01T01:00:00Z"), wait("b", span="1h"))
    assert last(world, e.WaitStarted).due == world.now + 3_600_000

    world.now -= 300_000  # another planner's clock is behind
    world.step()
    assert last(world, e.ClockSetBack).by == 300_000
    assert world.session.phases[0].gate is not None
    assert world.session.phases[0].gate.due == 3_600_000
    assert world.session.phases[1].gate is not None
    assert world.session.phases[1].gate.due == world.now + 3_600_000
    world.now = 3_599_999
    world.step()
    assert world.statuses()["a"] == "running"
    world.pass_time(1)

    assert world.statuses() == {"a": "complete", "b": "running"}
    the_same_again(world)


def test_a_pause_keeps_a_wait_from_beginning_and_not_from_ending() -> None:
    world = world_of(wait("a"), wait("b", "a"))
    world.command("pause")
    world.pass_time(10_000)
    assert world.statuses() == {"a": "complete", "b": "ready"}

    world.pass_time(60_000)
    world.command("resume")

    assert world.statuses()["b"] == "running"
    assert last(world, e.WaitStarted).due == world.now + 10_000
    the_same_again(world)


def test_a_cancelled_session_ends_at_once_while_it_waits() -> None:
    world = world_of(wait("a"), approval("b"))

    world.command("cancel")

    assert world.statuses() == {"a": "cancelled", "b": "cancelled"}
    assert world.session.status.value == "cancelled"
    assert world.session.next_due() is None


@pytest.mark.parametrize("gate", [wait("a"), approval("a")])
def test_a_gate_that_is_skipped_lets_others_go_on(gate: Any) -> None:
    world = world_of(gate, wait("b", "a"))

    world.command("skip", "a")

    assert world.statuses() == {"a": "skipped", "b": "running"}
    world.pass_time(10_000)
    assert world.session.status.value == "complete"
    the_same_again(world)


@pytest.mark.parametrize("gate", [wait("b", "a"), approval("b", "a")])
def test_a_gate_that_stands_begins_anew_when_it_or_what_it_needs_is_run_again(gate: Any) -> None:
    world = world_of(phase("a"), gate, runtimes=(runtime(),))
    world.complete("a")
    assert world.statuses()["b"] == "running"

    world.command("rerun", "b")
    assert world.session.phases[1].attempt == 2

    world.command("rerun", "a")
    assert world.statuses() == {"a": "targeted", "b": "pending"}
    world.complete("a")

    assert world.session.phases[1].attempt == 3
    the_same_again(world)


def test_schedule_to_close_ends_a_wait_that_is_longer() -> None:
    world = world_of(wait("a", schedule_to_close_ms=4_000))

    world.pass_time(4_000)

    assert world.statuses()["a"] == "failed"
    assert last(world, e.PhaseFailed).kind == "schedule_to_close_timeout"


def test_a_wait_that_was_over_before_its_timeout_is_complete_however_late_that_is_seen() -> None:
    world = world_of(wait("a", span="3s", schedule_to_close_ms=4_000))

    world.session = world.replayed()
    world.pass_time(600_000)

    assert world.statuses()["a"] == "complete"


def test_a_timeout_of_an_attempt_asks_again_as_often_as_the_phase_may_be_tried() -> None:
    world = world_of(approval("a", timeout_ms=60_000, max_attempts=2))

    world.pass_time(60_000)
    assert world.statuses()["a"] == "backing_off"
    world.pass_time((world.session.next_due() or 0) - world.now)
    assert (world.statuses()["a"], world.session.phases[0].attempt) == ("running", 2)
    world.pass_time(60_000)

    assert last(world, e.PhaseFailed).kind == "timeout"


def test_schedule_to_start_does_not_run_while_a_gate_stands() -> None:
    world = world_of(approval("a", schedule_to_start_ms=1_000))

    world.pass_time(600_000)

    assert world.statuses()["a"] == "running"


# -- waiting for people ------------------------------------------------------------------------


def test_an_approval_stands_until_it_is_given_and_the_journal_says_by_whom() -> None:
    world = world_of(approval("a"), wait("b", "a"))
    asked = last(world, e.ApprovalRequested)
    assert (asked.message, asked.needed, asked.expires) == ("a?", 1, None)
    assert world.statuses() == {"a": "running", "b": "pending"}
    assert world.session.phases[0].reason == "waiting for approval: a?"

    world.pass_time(3 * 7 * 24 * 3_600_000)
    approve(world, "alice", comment="looks good")

    given = last(world, e.PhaseApproved)
    assert (given.by, given.comment, given.attempt) == ("alice", "looks good", 1)
    assert world.statuses() == {"a": "complete", "b": "running"}
    assert world.session.phases[0].reason == "approved by alice"
    assert bytes(world.session.phases[0].result) == b'{"approvedBy":["alice"]}'
    assert nothing_was_offered(world)
    the_same_again(world)


def test_a_rejection_is_another_event_and_fails_the_phase_for_good() -> None:
    world = world_of(approval("a", max_attempts=5, failure=Handler(message=("no",))))

    reject(world, "bob", comment="not on a Friday")
    world.settle()

    assert last(world, e.PhaseRejected).by == "bob"
    failed = last(world, e.PhaseFailed)
    assert (failed.kind, failed.message) == ("rejected", "rejected by bob: not on a Friday")
    assert last(world, e.HandlerCalled).outcome == "failed"
    assert world.session.status.value == "failed"
    assert "PhaseApproved" not in world.event_names()


def test_retry_asks_anew_after_a_rejection() -> None:
    world = world_of(approval("a", asked={"needed": 2}))
    approve(world, "alice")
    reject(world, "bob")
    world.settle()

    world.command("retry", "a")
    assert (world.statuses()["a"], world.session.phases[0].attempt) == ("running", 2)
    approve(world, "alice")
    assert world.statuses()["a"] == "running"  # what was said the first time counts no more
    approve(world, "bob")

    assert world.session.status.value == "complete"
    the_same_again(world)


def test_of_two_questions_one_is_answered_alone() -> None:
    world = world_of(approval("a"), approval("b"))

    approve(world, phase_id="b")

    assert world.statuses() == {"a": "running", "b": "complete"}


def test_as_many_different_people_as_are_needed_have_to_approve() -> None:
    world = world_of(approval("a", asked={"needed": 2}))

    approve(world, "alice")
    assert world.session.phases[0].reason == "waiting for approval: a? (1 of 2 approved: alice)"
    approve(world, "alice", comment="again")
    assert [type(one).__name__ for one in world.journal[-1][2]] == ["InputRepeated"]
    assert world.statuses()["a"] == "running"
    approve(world, " alice ")
    assert world.statuses()["a"] == "running"
    approve(world, "bob")

    assert world.statuses()["a"] == "complete"
    assert world.event_names().count("PhaseApproved") == 2
    the_same_again(world)


def test_whoever_watches_is_told_of_each_answer() -> None:
    world = world_of(approval("a", asked={"needed": 2}))
    world.effects.clear()

    approve(world, "alice")

    assert f.PublishState(0) in world.effects


def test_somebody_who_has_approved_may_still_reject() -> None:
    world = world_of(approval("a", asked={"needed": 2}))

    approve(world, "alice")
    reject(world, "alice")

    assert world.statuses()["a"] == "failed"


@pytest.mark.parametrize(
    ("asked", "answer", "code"),
    [
        ({"approvers": ["alice", "bob"]}, {"by": "eve"}, "approval.not_approver"),
        ({}, {"by": None}, "approval.by"),
        ({}, {"by": "  "}, "approval.by"),
        ({}, {"by": "a\x1b[2J"}, "approval.by"),
        ({}, {"by": "alice", "plan_digest": "sha256:another"}, "plan.stale"),
        ({}, {"by": "alice", "comment": "x" * 5_000}, "approval.comment"),
        ({}, {"by": "alice", "data": msgspec.Raw(b"[1]")}, "approval.data"),
        ({}, {"by": "alice", "data": msgspec.Raw(b'{"approvedBy":"me"}')}, "approval.data"),
        ({}, {"by": "alice", "data": msgspec.Raw(b'{"x":"' + b"x" * 20_000 + b'"}')}, "approval.data"),
    ],
)
def test_an_answer_that_cannot_count_is_refused_with_the_reason(
    asked: dict[str, Any], answer: dict[str, Any], code: str
) -> None:
    world = world_of(approval("a", asked=asked))

    world.command("approve", "a", **answer)

    assert refused(world) == code
    assert world.statuses()["a"] == "running"


def test_an_answer_that_is_bound_to_the_plan_counts_for_that_plan() -> None:
    world = world_of(approval("a"))

    approve(world, plan_digest=world.session.plan_digest)

    assert last(world, e.PhaseApproved).plan_digest == world.session.plan_digest


def test_an_answer_before_the_question_is_refused() -> None:
    world = world_of(phase("x"), approval("a", "x"))

    approve(world)

    assert refused(world) == "approval.not_asked"


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_an_answer_after_the_end_is_refused_unless_it_was_given_before(verb: str) -> None:
    world = world_of(approval("a"), approval("b"))
    approve(world, "alice")

    world.command(verb, "a", by="bob")
    assert refused(world) == "approval.ended"
    world.command("approve", "a", by="alice")
    assert [type(one).__name__ for one in world.journal[-1][2]] == ["InputRepeated"]
    world.command("reject", "a", by="alice")

    assert refused(world) == "approval.ended"
    assert world.statuses()["a"] == "complete"


def test_an_answer_is_refused_after_the_session_was_cancelled() -> None:
    world = world_of(approval("a"))
    world.command("cancel")

    approve(world)

    assert refused(world) == "approval.ended"


@pytest.mark.parametrize(
    ("name", "code"), [("x", "approval.none"), ("nobody", "phase.unknown"), (None, "phase.missing")]
)
def test_what_asks_for_nothing_cannot_be_answered(name: str | None, code: str) -> None:
    world = world_of(wait("x"))

    world.command("approve", name, by="alice")

    assert refused(world) == code


def test_the_same_command_delivered_twice_counts_once() -> None:
    world = world_of(approval("a", asked={"needed": 2}))
    command = i.Command(sequence=77, verb="approve", phase_id="a", by="alice")

    world.step(command, command)
    world.step(command)

    assert world.event_names().count("PhaseApproved") == 1
    assert "InputRepeated" in world.event_names()


def test_the_data_of_the_answers_are_the_outputs_of_the_phase() -> None:
    world = world_of(approval("a", asked={"needed": 2}, outputs=("region", "size")))
    approve(world, "alice", data=msgspec.Raw(b'{"region":"eu","size":1}'))

    approve(world, "bob", data=msgspec.Raw(b'{"size":2}'))

    assert msgspec.json.decode(world.session.phases[0].result) == {
        "region": "eu",
        "size": 2,
        "approvedBy": ["alice", "bob"],
    }
    the_same_again(world)


def test_the_answer_that_would_complete_a_phase_without_its_outputs_is_refused() -> None:
    world = world_of(approval("a", outputs=("region",)))

    approve(world)
    assert refused(world) == "approval.outputs"
    approve(world, data=msgspec.Raw(b'{"region":"eu"}'))

    assert world.statuses()["a"] == "complete"


def test_other_phases_can_use_what_was_answered() -> None:
    run = msgspec.Raw(b'{"noop":{"where":"${{ phases.a.result.region }}"}}')
    follower = phase(
        "b", "a", run=run, templated=True, uses=("a",), when='"alice" in phases.a.result.approvedBy'
    )
    world = world_of(approval("a"), follower, runtimes=(runtime(),))

    approve(world, data=msgspec.Raw(b'{"region":"eu"}'))

    assert bytes(world.session.phases[1].run) == b'{"noop":{"where":"eu"}}'


def test_a_question_expires_and_the_phase_fails() -> None:
    world = world_of(approval("a", asked={"expires": "1m", "needed": 2}))
    approve(world, "alice")

    world.pass_time(60_000)
    world.settle()

    assert last(world, e.ApprovalExpired).outcome == "fail"
    failed = last(world, e.PhaseFailed)
    assert (failed.kind, failed.message) == ("expired", "the question expired with 1 of 2 approvals")
    approve(world, "bob")
    assert refused(world) == "approval.ended"
    the_same_again(world)


def test_a_question_that_expires_may_count_as_approved() -> None:
    world = world_of(approval("a", asked={"expires": "1m", "onExpiry": "approve"}))

    world.pass_time(60_000)

    assert world.statuses()["a"] == "complete"
    assert "PhaseApproved" not in world.event_names()
    assert bytes(world.session.phases[0].result) == b'{"approvedBy":[]}'
    the_same_again(world)


def test_an_expired_question_gives_no_outputs_that_nobody_has_given() -> None:
    asked = {"expires": "1m", "onExpiry": "approve"}
    world = world_of(approval("a", asked=asked, outputs=("region",), max_attempts=3))

    world.pass_time(60_000)

    assert (world.statuses()["a"], last(world, e.PhaseFailed).kind) == ("failed", "outputs")


def test_an_answer_that_lay_in_the_stream_while_no_planner_was_there_is_in_time() -> None:
    world = world_of(approval("a", asked={"expires": "1m"}))

    world.session = world.replayed()
    world.now += 3_600_000
    world.step()  # the planner is back: what was said meanwhile is yet to be read
    assert world.statuses()["a"] == "running"
    approve(world)

    assert world.statuses()["a"] == "complete"


# -- with everything else ----------------------------------------------------------------------


def test_no_runtime_can_report_on_a_gate() -> None:
    world = world_of(approval("a"), wait("b"), wait("c", "a"))

    for name in ("a", "b", "c"):
        world.step(i.ReportComplete(phase_id=name, sequence=world._number()))
        world.step(i.ReportComplete(phase_id=name, sequence=world._number(), fenced=True, attempt=1, fence=0))
        world.step(i.Acknowledge(phase_id=name, sequence=world._number(), accepted=True))
        world.step(i.ReportRunning(phase_id=name, sequence=world._number()))

    assert world.statuses() == {"a": "running", "b": "running", "c": "pending"}
    assert not {"PhaseAccepted", "PhaseStarted", "PhaseTargeted"} & set(world.event_names())


def test_a_gate_that_is_ready_in_a_paused_session_takes_no_report_either() -> None:
    world = world_of(wait("a"), approval("b", "a"))
    world.command("pause")
    world.pass_time(10_000)
    assert world.statuses()["b"] == "ready"
    approve(world, phase_id="b")
    assert refused(world) == "approval.not_asked"

    world.step(i.ReportComplete(phase_id="b", sequence=world._number()))

    assert world.statuses()["b"] == "ready"


def test_an_approval_counts_in_a_paused_session_and_what_follows_waits() -> None:
    world = world_of(approval("a"), wait("b", "a"))
    world.command("pause")

    approve(world)

    assert world.statuses() == {"a": "complete", "b": "ready"}


def test_a_session_that_fails_asks_nobody_any_more() -> None:
    world = world_of(phase("x"), approval("a"), approval("c", "a"), runtimes=(runtime(),))

    world.fail("x")

    assert world.session.status.value == "failed"
    assert world.statuses() == {"x": "failed", "a": "skipped", "c": "skipped"}
    world.command("retry", "x")
    assert world.statuses() == {"x": "targeted", "a": "running", "c": "pending"}
    the_same_again(world)


def test_a_session_that_fails_lets_its_work_end_before_it_stops_asking() -> None:
    world = world_of(phase("x"), phase("y"), approval("a"), runtimes=(runtime(),))

    world.fail("x")
    assert world.statuses()["a"] == "running"
    world.command("skip", "x")
    world.complete("y")

    assert world.statuses()["a"] == "running"


def test_a_question_about_cleaning_up_is_asked_in_a_session_that_fails() -> None:
    world = world_of(phase("x"), approval("a", "x", trigger=TriggerRule.ALL_FAILED), runtimes=(runtime(),))

    world.fail("x")
    world.settle()
    assert (world.statuses()["a"], world.session.status.value) == ("running", "running")
    approve(world)
    world.settle()

    assert world.session.status.value == "failed"
    assert world.statuses()["a"] == "complete"


def test_a_failure_that_aborts_ends_the_questions() -> None:
    world = world_of(approval("a", on_failure=FailureAction.ABORT), wait("b"))

    reject(world)

    assert world.statuses() == {"a": "failed", "b": "skipped"}
    assert world.session.status.value == "failed"


def test_a_rejection_that_continues_lets_others_go_on() -> None:
    world = world_of(approval("a", on_failure=FailureAction.CONTINUE), wait("b", "a"))

    reject(world)

    assert world.statuses() == {"a": "failed", "b": "running"}


def test_a_replan_keeps_a_question_that_is_unchanged_with_its_answers() -> None:
    gate = approval("a", asked={"needed": 2})
    world = world_of(gate, wait("b"))
    approve(world, "alice")
    before = world.session.plan_digest

    world.replan(plan(gate, wait("b"), wait("c", "a")))

    assert world.statuses() == {"a": "running", "b": "running", "c": "pending"}
    assert not world.session.offered
    world.command("approve", "a", by="bob", plan_digest=before)
    assert refused(world) == "plan.stale"
    approve(world, "bob")
    assert world.statuses()["a"] == "complete"
    world.pass_time(10_000)
    assert world.statuses()["b"] == "complete"
    the_same_again(world)


def test_a_replan_asks_anew_when_the_question_or_what_it_needs_has_changed() -> None:
    world = world_of(phase("x"), approval("a", "x"), wait("b"), runtimes=(runtime(),))
    world.complete("x")

    world.replan(plan(phase("x", description="other"), approval("a", "x"), wait("b", span="20s")))

    assert world.statuses() == {"x": "targeted", "a": "pending", "b": "running"}
    assert not world.session.stopping
    assert world.session.phases[2].attempt == 2
    world.complete("x")
    assert world.session.phases[1].attempt == 2
    the_same_again(world)


def test_a_gate_holds_only_the_key_that_it_names_itself() -> None:
    key = Concurrency("prod", 1)
    world = world_of(approval("a"), phase("x", concurrency=key), runtimes=(runtime(),))
    assert world.statuses()["x"] == "targeted"

    world = world_of(
        approval("a", concurrency=key), approval("b", concurrency=key), phase("x", concurrency=key)
    )
    assert world.statuses() == {"a": "running", "b": "ready", "x": "ready"}
    assert explain(world.session, world.fleet, 1, world.now).conditions[0].code == "concurrency.full"
    approve(world)

    assert world.statuses()["b"] == "running"
    the_same_again(world)


def test_a_gate_is_done_once_for_each_item_of_a_list() -> None:
    run = {"message": "${{ item }}?"}
    gate = approval("a", asked=run, templated=True, foreach=foreach(["eu", "us"], 1))
    world = world_of(gate, wait("b", "a"))
    world.settle()
    assert world.statuses() == {"a": "pending", "b": "pending", "a[0]": "running", "a[1]": "ready"}
    assert last(world, e.ApprovalRequested).message == "eu?"

    approve(world)
    assert refused(world) == "approval.items"
    approve(world, phase_id="a[0]")
    assert world.statuses()["a[1]"] == "running"
    approve(world, phase_id="a[1]")
    world.settle()

    assert world.statuses()["b"] == "running"
    assert msgspec.json.decode(world.session.phases[0].result) == [{"approvedBy": ["alice"]}] * 2
    the_same_again(world)


def test_a_wait_takes_its_time_from_another_phase() -> None:
    run = msgspec.Raw(b'{"wait":{"for":"${{ phases.x.result.pause }}"}}')
    gate = phase("a", "x", kind="wait", run=run, templated=True, uses=("x",))
    world = world_of(phase("x"), gate, runtimes=(runtime(),))
    world.complete("x", result=b'{"pause":"3s"}')
    assert last(world, e.WaitStarted).due == world.now + 3_000

    world = world_of(phase("x"), gate, runtimes=(runtime(),))
    world.complete("x", result=b'{"pause":"soon"}')

    assert last(world, e.PhaseFailed).kind == "expression"
    assert "wait.for" in last(world, e.PhaseFailed).message


def test_a_condition_leaves_a_question_out() -> None:
    world = world_of(approval("a", when="false"))
    world.settle()

    assert world.statuses()["a"] == "skipped"
    assert "ApprovalRequested" not in world.event_names()


def test_many_waits_begin_in_several_commits() -> None:
    world = World()
    world.step(i.StartPlan(sequence=1, plan=plan(*(wait(f"w{n}") for n in range(25)))), targets_max=10)
    assert list(world.statuses().values()).count("running") == 10

    while world.step(targets_max=10).more:
        pass

    assert list(world.statuses().values()).count("running") == 25


# -- told to people ----------------------------------------------------------------------------


def test_explain_says_what_is_asked_of_whom_since_when_and_what_would_end_it() -> None:
    asked = {"approvers": ["alice", "bob"], "needed": 2, "expires": "24h"}
    world = world_of(approval("a b", asked=asked, outputs=("region",)))
    begun = world.now
    world.pass_time(5_000)
    approve(world, "alice", "a b")

    found = explain(world.session, world.fleet, 0, world.now)

    (one,) = found.conditions
    assert (one.code, one.since, one.until) == ("approval.open", begun, begun + 24 * 3_600_000)
    assert "waiting for approval: a b? (1 of 2 approved: alice)" in one.text
    assert "alice, bob may answer, 2 must approve" in one.text
    assert "region" in one.text
    assert "`planter control test approve 'a b' --by NAME --data JSON`" in one.unblock
    assert found.since == begun
    assert [group.code for group in overview(world.session, world.fleet, world.now).groups] == ["approval"]


def test_the_state_says_what_is_waited_for() -> None:
    world = world_of(approval("a", asked={"approvers": ["alice"]}), wait("b"))

    asked, waits = session_state(world.session).phases

    assert asked.gate is not None
    assert (asked.gate.kind, asked.gate.open, asked.gate.message) == ("approval", True, "a?")
    assert asked.reason == "waiting for approval: a?"
    assert waits.gate is not None
    assert (waits.reason or "").startswith("waits until 1970-01-01T00:16:50")
    approve(world, comment="fine")
    done = session_state(world.session).phases[0]
    assert done.gate is not None
    assert [(one.by, one.answer, one.comment) for one in done.gate.answers] == [("alice", "approve", "fine")]
    assert not done.gate.open


def test_nobody_misses_a_runtime_for_a_gate() -> None:
    world = World(runtime(executors=frozenset()))

    assert [gap.phases for gap in gaps(world.fleet, [wait("a"), approval("b"), phase("c")], 20)] == [("c",)]


# -- what is stored ----------------------------------------------------------------------------


def test_a_snapshot_from_before_there_were_gates_is_read() -> None:
    world = world_of(phase("x"), phase("y", "x"), runtimes=(runtime(),))
    taken = take(world.session)
    assert taken is not None
    old = msgspec.structs.replace(taken, phases={k: v for k, v in taken.phases.items() if k != "gate"})

    session = Session("test")
    restore(session, decode(encode(old)), world.session.graph)

    assert [one.status for one in session.phases] == [one.status for one in world.session.phases]


# -- times -------------------------------------------------------------------------------------


def test_moments_are_read_as_the_calendar_has_them() -> None:
    draw = random.Random(7)
    for _ in range(2_000):
        zone = timedelta(minutes=draw.randint(-14 * 60, 14 * 60))
        moment = datetime(1971, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randint(0, 250_000_000_000))
        local = moment + zone
        sign = "+" if zone >= timedelta(0) else "-"
        minutes = abs(zone) // timedelta(minutes=1)
        text = f"{local:%Y-%m-%dT%H:%M:%S}{sign}{minutes // 60:02}:{minutes % 60:02}"
        assert moment_ms(text) == int(moment.timestamp()) * 1_000, text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-12-24",
        "2026-12-24T18:00:00",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-12-24T18:00:00+24:00",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00Z",
    ],
)
def test_what_is_no_moment_is_none(text: str) -> None:
    assert moment_ms(text) is None


@pytest.mark.parametrize(
    ("text", "found"), [("0s", 0), ("5", 5_000), ("3h", 10_800_000), ("soon", None), ("99999999h", None)]
)
def test_durations_are_read_as_manifests_write_them(text: str, found: int | None) -> None:
    assert duration_ms(text) == found


@pytest.mark.parametrize(
    "run",
    [
        b"{}",
        b'{"wait":{"for":5}}',
        b'{"approval":{}}',
        b"[]",
        b'{"approval":{"message":"a","needed":0}}',
        b'{"approval":{"message":"a","needed":3,"approvers":["x"]}}',
        b'{"approval":{"message":"a","approvers":["%s"]}}' % (b"x" * 201),
    ],
)
def test_what_says_nothing_is_unreadable(run: bytes) -> None:
    with pytest.raises(GateUnreadable):
        read_gate(msgspec.Raw(run))


@pytest.mark.parametrize("data", [b'{"k":1e999}', b'{"k":"\xff"}', b'{"k":' + b"[" * 150 + b"]" * 150 + b"}"])
def test_data_that_nobody_can_read_is_refused_and_the_question_stands(data: bytes) -> None:
    world = World(runtime())
    world.start(plan(approval("a")))
    approve(world, data=msgspec.Raw(data))

    assert world.statuses() == {"a": "running"}
    refused = [
        event.code for *_, events, _ in world.journal for event in events if isinstance(event, e.InputRefused)
    ]
    assert refused == ["approval.data"]


def test_data_that_comes_after_the_same_name_has_approved_is_refused_and_not_lost_in_silence() -> None:
    world = World(runtime())
    world.start(plan(approval("a", asked={"needed": 2})))
    approve(world, "alice")
    approve(world, "alice")
    approve(world, "alice", data=msgspec.Raw(b'{"region":"eu"}'))

    told = [event for *_, events, _ in world.journal for event in events]
    assert [event.code for event in told if isinstance(event, e.InputRefused)] == ["approval.answered"]
    assert world.statuses() == {"a": "running"}


def test_an_answer_and_what_follows_from_it_stand_in_one_record() -> None:
    name, comment = "person", "x" * 4_000
    answers = [
        one
        for number in range(150)
        for one in (
            e.PhaseRejected(phase_id=f"p{number}", attempt=1, by=name, comment=comment),
            e.PhaseFailed(phase_id=f"p{number}", attempt=1, message=comment, kind="rejected"),
        )
    ]
    chunks = _chunks(answers)

    assert len(chunks) > 1
    assert all(isinstance(chunk[-1], e.PhaseFailed) for chunk in chunks)


def test_what_is_told_of_a_question_is_bounded() -> None:
    names = [f"{number:03}{'ä' * 197}" for number in range(100)]
    world = World(runtime())
    world.start(plan(approval("a", asked={"needed": 100, "approvers": names})))
    for name in names[:99]:
        approve(world, name, comment="語" * 4_000)
    gate = session_state(world.session, 0).phases[0].gate

    assert gate is not None
    assert (len(gate.answers), gate.more_answers) == (20, 79)
    assert len(msgspec.json.encode(gate)) < 100_000


def test_whoever_is_to_be_told_of_a_question_is_told_once_for_each_time_it_is_asked() -> None:
    world = World(runtime())
    world.start(plan(approval("a", asked={"message": "go?", "notify": {"slack": "ops"}}), approval("b")))
    called = last(world, e.HandlerCalled)
    reject(world)
    world.command("retry", "a")
    again = last(world, e.HandlerCalled)

    assert (called.phase_id, called.outcome, called.message) == ("a", "asked", ("go?",))
    assert called.notify == {"slack": "ops"}
    assert (again.phase_id, again.number, again.attempt) == ("a", 2, 2)
    the_same_again(world)


def test_many_names_are_counted_where_the_reason_is_told() -> None:
    names = tuple(f"person-{number}" for number in range(20))
    world = World(runtime())
    world.start(plan(approval("a", asked={"needed": 20})))
    for name in names:
        approve(world, name)

    assert world.statuses() == {"a": "complete"}
    assert world.session.phases[0].reason is not None
    assert world.session.phases[0].reason.endswith("person-4 and 15 more")


def test_what_is_to_be_told_of_an_event_stands_in_its_record() -> None:
    events = [
        one
        for number in range(300)
        for one in (
            e.ApprovalRequested(phase_id=f"p{number}", attempt=1, message="x" * 4_000),
            e.HandlerCalled(phase_id=f"p{number}", revision=1, attempt=1, outcome="asked", message=("x",)),
        )
    ]
    chunks = _chunks(events)

    assert len(chunks) > 1
    assert all(isinstance(chunk[-1], e.HandlerCalled) for chunk in chunks)
    assert [one for chunk in chunks for one in chunk] == events
