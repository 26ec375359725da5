"""The pure core, driven without I/O: inputs in, events and statuses out."""

import pytest

from planter.core import effects as f
from planter.core import inputs as i
from planter.core.plan import Backoff, FailureAction, Handler
from planter.core.session import Session
from planter_testkit.builders import World, diamond, phase, picture, plan, runtime


def test_a_diamond_runs_in_dependency_order_and_in_parallel_where_the_graph_allows() -> None:
    world = World(runtime())

    world.start(diamond())
    first = world.open()
    world.complete("a")
    second = world.open()
    world.complete("b")
    third = world.open()
    world.complete("c")
    fourth = world.open()
    world.complete("d")

    assert (first, second, third, fourth) == (["a"], ["b", "c"], ["c"], ["d"])
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_slots_limit_what_is_targeted_and_a_freed_slot_is_used_at_once() -> None:
    world = World(runtime(slots=2))

    world.start(plan(*(phase(name) for name in "abcde")))
    before = world.open()
    world.complete("a")

    assert (before, world.open()) == (["a", "b"], ["b", "c"])


def test_two_runtimes_share_the_work_by_free_slots() -> None:
    world = World(runtime("small", slots=1), runtime("large", slots=3))

    world.start(plan(*(phase(name) for name in "abcd")))

    assert world.session.load == {"small": 1, "large": 3}


def test_priority_goes_first_when_slots_are_scarce() -> None:
    world = World(runtime(slots=1))

    world.start(plan(phase("low"), phase("high", priority=5)))

    assert world.open() == ["high"]


def test_a_failed_attempt_backs_off_and_the_second_one_succeeds() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=3, backoff=Backoff(initial_ms=1_000, jitter=0.0))))

    world.fail("a", "no luck")
    backing_off = world.statuses()["a"]
    world.pass_time(999)
    still = world.statuses()["a"]
    world.pass_time(1)
    world.complete("a")

    assert (backing_off, still) == ("backing_off", "backing_off")
    assert (world.session.phases[0].attempt, world.session.status) == (2, "complete")


def test_the_retry_budget_ends_in_failure_with_the_last_message() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=2, backoff=Backoff(initial_ms=0))))

    world.fail("a", "first")
    world.pass_time(1)
    world.fail("a", "second")

    assert (world.session.phases[0].status, world.session.phases[0].reason) == ("failed", "second")
    assert (world.session.status, world.session.reason) == ("failed", "phase a failed")


def test_a_permanent_failure_is_not_retried() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=5)))

    world.fail("a", retryable=False)

    assert world.session.status == "failed"


def test_raise_stops_new_work_but_lets_running_work_end() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b"), phase("c", "b"), phase("d", "a")))

    world.fail("a")
    while_running = dict(world.statuses(), session=world.session.status)
    world.complete("b")

    assert while_running == {
        "a": "failed",
        "b": "targeted",
        "c": "pending",
        "d": "pending",
        "session": "running",
    }
    assert world.statuses() == {"a": "failed", "b": "complete", "c": "skipped", "d": "skipped"}
    assert world.session.status == "failed"


def test_continue_lets_dependents_run_as_if_the_phase_had_completed() -> None:
    world = World(runtime())
    handler = Handler(message=("going on with defaults",))
    world.start(plan(phase("a", on_failure=FailureAction.CONTINUE, failure=handler), phase("b", "a")))

    world.fail("a")
    world.complete("b")
    world.settle()

    assert world.statuses() == {"a": "failed", "b": "complete"}
    assert world.session.status == "complete"
    (called,) = [effect.called for effect in world.effects if isinstance(effect, f.PassOn)]
    assert (called.outcome, called.message) == ("failed", ("going on with defaults",))


def test_what_a_phase_has_to_say_is_said_before_the_session_ends() -> None:
    world = World(runtime())
    world.start(plan(phase("a", success=Handler(message=("all is well",)))))

    first = world.complete("a")
    still_running = world.session.status
    second = world.step(*world.stored())

    assert [type(effect).__name__ for effect in first.effects] == ["PassOn", "PublishState"]
    assert (still_running, world.session.status) == ("running", "complete")
    assert [type(event).__name__ for event in second.events] == ["HandlerPassedOn", "SessionEnded"]


def test_abort_also_asks_runtimes_to_stop() -> None:
    world = World(runtime())
    world.start(plan(phase("a", on_failure=FailureAction.ABORT), phase("b")))

    world.fail("a")

    assert [effect.phase_id for effect in world.effects if isinstance(effect, f.CancelAttempt)] == ["b"]


def test_pause_targets_nothing_new_and_resume_goes_on() -> None:
    world = World(runtime())
    world.start(diamond())

    world.command("pause")
    world.complete("a")
    paused = (world.session.status, world.open(), world.statuses()["b"])
    world.command("resume")

    assert paused == ("paused", [], "ready")
    assert world.open() == ["b", "c"]


def test_cancel_stops_what_runs_and_closes_the_rest() -> None:
    world = World(runtime())
    world.start(diamond())
    world.complete("a")
    world.running("b")

    world.command("cancel")
    cancels = [effect.phase_id for effect in world.effects if isinstance(effect, f.CancelAttempt)]
    world.step(i.ReportCancelled(**world.echo("b")))
    world.step(i.ReportCancelled(**world.echo("c")))

    assert cancels == ["b", "c"]
    assert world.statuses() == {"a": "complete", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
    assert world.session.status == "cancelled"


def test_a_completion_that_crosses_a_cancel_counts_as_completion() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a")))

    world.command("cancel")
    world.complete("a")

    assert (world.statuses(), world.session.status) == ({"a": "complete", "b": "cancelled"}, "cancelled")


def test_cancel_ends_even_when_no_runtime_confirms() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))

    world.command("cancel")
    world.pass_time(30_000)

    assert world.session.status == "cancelled"


def test_cancel_works_while_paused() -> None:
    world = World(runtime(slots=0))
    world.start(plan(phase("a")))
    world.command("pause")

    world.command("cancel")

    assert world.session.status == "cancelled"


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_command_given_twice_acts_once_and_is_still_answered(verb: str) -> None:
    world = World(runtime())
    world.start(diamond())

    world.command(verb)
    again = world.command(verb)

    assert [type(event).__name__ for event in again.events] == ["InputRepeated"]


def test_a_redelivered_command_does_nothing() -> None:
    world = World(runtime())
    world.start(diamond())
    pause = i.Command(sequence=77, verb="pause")
    world.step(pause)
    world.command("resume")

    again = world.step(pause)

    assert (again.events, world.session.status) == ((), "running")


def test_commands_for_an_ended_session_are_refused_with_the_reason() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.run_out()

    (refused,) = world.command("pause").events

    assert (refused.code, refused.text) == ("session.ended", "session test is complete: nothing to pause")


def test_retry_runs_a_failed_phase_again_and_what_was_skipped_because_of_it() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a"), phase("c")))
    world.complete("c")
    world.fail("a")

    world.command("retry")
    world.run_out()

    assert world.statuses() == {"a": "complete", "b": "complete", "c": "complete"}
    assert (world.session.status, world.session.phases[0].attempt) == ("complete", 2)
    assert world.session.phases[2].attempt == 1
    assert picture(world.replayed()) == picture(world.session)


def test_skip_lets_dependents_go_on_and_reopens_a_failed_session() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a")))
    world.fail("a")

    world.command("skip", "a")
    world.run_out()

    assert world.statuses() == {"a": "skipped", "b": "complete"}
    assert world.session.status == "complete"


def test_rerun_runs_the_phase_and_all_that_follows() -> None:
    world = World(runtime())
    world.start(diamond())
    world.run_out()

    world.command("rerun", "b")
    open_now = world.open()
    world.run_out()

    assert (open_now, world.session.status) == (["b"], "complete")
    assert [state.attempt for state in world.session.phases] == [1, 2, 1, 2]


def test_a_stale_report_changes_nothing() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=2, backoff=Backoff(initial_ms=0))))
    stale = i.ReportComplete(**world.echo("a"))
    world.fail("a")
    world.pass_time(1)

    decision = world.step(stale)

    assert (decision.events, world.statuses()["a"]) == ((), "targeted")
    assert "stale" in decision.effects[0].reason


def test_a_report_without_fence_for_an_addressed_attempt_changes_nothing() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))

    decision = world.step(i.ReportComplete(phase_id="a"))

    assert (decision.events, world.statuses()["a"]) == ((), "targeted")


def test_without_a_matching_runtime_the_phase_is_offered_openly_and_a_bare_runtime_completes_it() -> None:
    world = World()
    world.start(plan(phase("a", kind=None), phase("b", "a", kind=None)))

    offered = (world.open(), world.session.phases[0].instance)
    world.step(i.Acknowledge(phase_id="a", accepted=True, queued=True))
    world.step(i.ReportRunning(phase_id="a"))
    world.step(i.ReportComplete(phase_id="a"))
    world.step(i.ReportComplete(phase_id="b"))

    assert offered == (["a"], None)
    assert world.session.status == "complete"


def test_a_runtime_that_advances_by_itself_is_believed_before_its_next_phase_was_offered() -> None:
    world = World()
    world.start(plan(phase("a", kind=None), phase("b", "a", kind=None), phase("c", "b", kind=None)))

    world.step(
        i.ReportComplete(phase_id="a"),
        i.ReportRunning(phase_id="b"),
        i.ReportComplete(phase_id="c"),  # too early: b is not complete
        i.ReportComplete(phase_id="b"),
    )

    assert world.statuses() == {"a": "complete", "b": "complete", "c": "targeted"}
    assert [state.attempt for state in world.session.phases] == [1, 1, 1]
    assert picture(world.replayed()) == picture(world.session)


def test_what_a_registered_runtime_is_to_get_is_not_taken_from_reports_without_a_fence() -> None:
    world = World(runtime(slots=1))
    world.start(plan(phase("a"), phase("b")))

    world.step(i.ReportComplete(phase_id="b"))

    assert world.statuses() == {"a": "targeted", "b": "ready"}


def test_a_paused_session_does_not_believe_that_a_runtime_has_gone_on() -> None:
    world = World()
    world.start(plan(phase("a", kind=None), phase("b", "a", kind=None)))
    world.command("pause")

    world.step(i.ReportComplete(phase_id="a"), i.ReportComplete(phase_id="b"))

    assert world.statuses() == {"a": "complete", "b": "ready"}


def test_a_start_that_comes_with_a_plan_of_no_phases_is_no_conflict() -> None:
    world = World()

    empty = i.StartPlan(sequence=101, plan=plan(digest="empty"))
    world.step(empty, i.StartPlan(sequence=102, plan=plan(phase("a", kind=None))))

    assert (world.session.revision, world.open()) == (2, ["a"])
    assert "InputRefused" not in world.event_names()
    assert picture(world.replayed()) == picture(world.session)


def test_an_open_offer_moves_to_a_registered_runtime_that_appears() -> None:
    world = World()
    world.start(plan(phase("a")))
    open_fence = world.session.phases[0].fence

    world.fleet.put(runtime())
    world.step()

    state = world.session.phases[0]
    assert (state.runtime_id, state.attempt) == ("r1", 1)
    assert state.fence > open_fence


def test_an_offer_that_nobody_takes_is_said_again_ever_more_rarely() -> None:
    world = World()
    world.start(plan(phase("a")))

    said = []
    for _ in range(60):
        decision = world.pass_time(1_000)
        said.append(any(isinstance(effect, f.PublishTarget) for effect in decision.effects))

    assert [second + 1 for second, again in enumerate(said) if again] == [5, 10, 20, 40]


def test_a_lost_runtime_costs_a_higher_fence_but_no_retry() -> None:
    world = World(runtime("r1"))
    world.start(plan(phase("a")))
    world.running("a")
    fence = world.session.phases[0].fence

    world.fleet.remove("r1")
    world.fleet.put(runtime("r2"))
    world.step(i.RuntimeLost(runtime_id="r1", instance="r1-1", reason="its lease ran out"))
    state = world.session.phases[0]
    after_loss = (state.runtime_id, state.attempt, state.fence > fence)
    world.complete("a")

    assert after_loss == ("r2", 2, True)
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_a_phase_that_loses_runtime_after_runtime_fails() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))

    for _ in range(5):
        world.step(i.RuntimeLost(runtime_id="r1", instance="r1-1", reason="killed"))

    assert (world.statuses()["a"], world.session.status) == ("failed", "failed")


def test_a_rejected_target_goes_to_another_runtime() -> None:
    world = World(runtime("r1"), runtime("r2", slots=1))
    world.start(plan(phase("a")))

    world.step(i.Acknowledge(**world.echo("a"), accepted=False, reason="draining"))

    state = world.session.phases[0]
    assert (state.runtime_id, state.attempt) == ("r2", 1)


def test_a_target_that_every_runtime_rejects_is_offered_again_later() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))

    world.step(i.Acknowledge(**world.echo("a"), accepted=False, reason="no"))
    held_back = world.statuses()["a"]
    world.pass_time(6_000)

    assert (held_back, world.statuses()["a"]) == ("ready", "targeted")


def test_a_wait_timeout_fails_a_phase_that_still_waits() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a", wait_timeout_ms=300)))

    world.pass_time(300)

    assert world.statuses()["b"] == "failed"
    assert world.session.phases[1].reason == "waited longer than 300 ms for a"


def test_a_pause_does_not_let_waits_run_out() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a", wait_timeout_ms=300)))

    world.command("pause")
    world.pass_time(5_000)
    world.command("resume")
    world.pass_time(200)
    world.complete("a")
    world.complete("b")

    assert world.session.status == "complete"


def test_an_external_phase_is_waited_for_until_the_session_knows_it() -> None:
    world = World(runtime())
    world.start(plan(phase("a", external=("preflight",))))

    waiting = world.statuses()["a"]
    world.step(i.ReportComplete(phase_id="preflight"))
    world.complete("a")

    assert (waiting, world.session.status) == ("pending", "complete")


def test_an_on_use_phase_is_instantiated_only_when_something_needs_it() -> None:
    world = World(runtime())
    lazy = phase("lazy", on_use=True)
    world.start(plan(phase("a"), lazy, phase("b", "a", "lazy")))

    at_start = world.open()
    world.complete("a")
    demanded = world.open()
    world.complete("lazy")
    world.complete("b")

    assert (at_start, demanded) == (["a"], ["lazy"])
    assert world.session.status == "complete"


def test_a_chain_of_on_use_phases_wakes_up_together() -> None:
    world = World(runtime())
    world.start(plan(phase("x", on_use=True), phase("y", "x", on_use=True), phase("z", "y")))

    world.run_out()

    assert world.statuses() == {"x": "complete", "y": "complete", "z": "complete"}


def test_an_on_use_phase_that_nothing_used_is_skipped_at_the_end() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("lazy", on_use=True)))

    world.run_out()

    assert (world.statuses(), world.session.status) == ({"a": "complete", "lazy": "skipped"}, "complete")


def test_the_same_plan_again_while_it_runs_changes_nothing_and_another_is_refused() -> None:
    world = World(runtime())
    world.start(diamond())

    same = world.start(diamond())
    other = world.start(plan(phase("z")))

    assert [type(event).__name__ for event in same.events] == ["InputRepeated"]
    assert other.events[0].code == "session.busy"


def test_a_new_revision_runs_only_what_changed_and_what_follows() -> None:
    world = World(runtime())
    world.start(diamond())
    world.run_out()

    world.start(plan(phase("a"), phase("b", "a", digest="edited"), phase("c", "a"), phase("d", "b", "c")))
    open_now = world.open()
    world.run_out()

    assert (open_now, world.session.status, world.session.revision) == (["b"], "complete", 2)
    assert [state.attempt for state in world.session.phases] == [1, 2, 1, 2]
    assert picture(world.replayed()) == picture(world.session)


def test_an_empty_plan_is_complete_at_once() -> None:
    world = World()

    world.start(plan())

    assert world.session.status == "complete"


def test_wide_plans_are_targeted_in_portions() -> None:
    world = World(runtime(slots=10_000))

    first = world.step(
        i.StartPlan(sequence=1, plan=plan(*(phase(str(n)) for n in range(25)))), targets_max=10
    )
    second = world.step(targets_max=10)
    third = world.step(targets_max=10)

    assert [first.more, second.more, third.more] == [True, True, False]
    assert len(world.open()) == 25


def test_every_kind_of_history_replays_to_the_same_state() -> None:
    world = World(runtime(slots=2))
    world.start(plan(*(phase(name, max_attempts=2, backoff=Backoff(initial_ms=10)) for name in "abcdef")))
    world.fail("a")
    world.command("pause")
    world.pass_time(20)
    world.command("resume")
    world.complete(*world.open())
    world.step(i.RuntimeLost(runtime_id="r1", instance="r1-1", reason="gone"))
    world.pass_time(20)
    world.command("skip", "f")
    world.run_out()

    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_a_fresh_session_is_pending_and_commands_for_it_are_refused() -> None:
    world = World()

    (refused,) = world.command("cancel").events

    assert refused.code == "session.unknown"
    assert Session("x").status == "pending"


def test_a_reset_need_that_is_on_use_is_demanded_again_by_who_was_ready_already() -> None:
    lazy = phase("lazy", on_use=True, on_failure=FailureAction.CONTINUE)
    world = World(runtime())
    world.start(plan(lazy, phase("user", "lazy")))
    failed = i.ReportFailed(**world.echo("lazy"), message="it broke", retryable=False)

    world.step(failed, i.Command(sequence=world._number(), verb="retry"))

    assert world.statuses() == {"lazy": "targeted", "user": "pending"}


def test_an_attempt_that_was_reported_before_it_was_offered_is_never_the_second_in_one_commit() -> None:
    world = World(runtime())
    world.start(
        plan(phase("a"), phase("b", "a", kind="exotic", max_attempts=2, backoff=Backoff(initial_ms=0)))
    )

    report = i.ReportFailed(
        phase_id="b", fenced=False, attempt=0, fence=0, runtime_id=None, sequence=900, message="x"
    )
    world.step(i.ReportComplete(**world.echo("a")), report)
    world.settle()

    fences = [
        sequence for sequence, _, events, _ in world.journal for e in events if "Targeted" in type(e).__name__
    ]
    assert len(fences) == 3
    assert fences == sorted(set(fences))
