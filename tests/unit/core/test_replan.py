"""Another plan for a session that runs: what stays, what stops, what runs again; and plans that are stale."""

import pytest

from planter.core import effects as f
from planter.core import inputs as i
from planter.core.evolve import CANCEL_MS
from planter.core.plan import Backoff, Concurrency, FailureAction, TriggerRule
from planter_testkit.builders import World, diamond, phase, picture, plan, runtime


def state_of(world: World, name: str):
    return world.session.phases[world.session.graph.index[name]]


def identity(world: World, name: str):
    state = state_of(world, name)
    return state.status, state.attempt, state.fence, state.runtime_id, state.instance, state.started


def cancelled(world: World) -> list[tuple[str, int, int]]:
    return [(e.phase_id, e.attempt, e.fence) for e in world.effects if isinstance(e, f.CancelAttempt)]


def stop_reported(world: World, name: str, kind=i.ReportCancelled, **fields):
    one = world.session.stopping[name]
    return world.step(
        kind(
            phase_id=name,
            fenced=one.instance is not None,
            attempt=one.attempt,
            fence=one.fence,
            runtime_id=one.runtime_id,
            sequence=world._number(),
            **fields,
        )
    )


def test_unchanged_work_that_runs_keeps_its_attempt_its_fence_and_its_runtime() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b"), phase("c", "b")))
    world.running("b")
    before = identity(world, "b")

    world.replan(plan(phase("b"), phase("new"), phase("c", "b")))
    after = identity(world, "b")
    world.complete("b", "new")
    world.complete("c")

    assert before == after
    assert world.statuses()["b"] == "complete"
    assert world.session.revision == 2
    assert picture(world.replayed()) == picture(world.session)


def test_a_removed_phase_that_runs_is_cancelled_and_the_session_waits_for_it() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b")))
    attempt, fence = state_of(world, "b").attempt, state_of(world, "b").fence

    world.replan(plan(phase("a")))
    world.complete("a")
    waiting = world.session.status, dict(world.session.load)
    stop_reported(world, "b")

    assert cancelled(world) == [("b", attempt, fence)]
    assert waiting == ("running", {"r1": 1})
    assert (world.session.status, world.session.load) == ("complete", {})
    assert picture(world.replayed()) == picture(world.session)


def test_a_changed_phase_that_runs_is_not_targeted_again_before_its_attempt_has_stopped() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a")))
    world.running("a")

    world.replan(plan(phase("a", digest="edited"), phase("b", "a")))
    blocked = world.statuses(), world.open()
    stop_reported(world, "a")
    again = identity(world, "a")[:2]
    world.run_out()

    assert blocked == ({"a": "pending", "b": "pending"}, [])
    assert again == ("targeted", 2)
    assert world.statuses() == {"a": "complete", "b": "complete"}


def test_what_a_stopped_attempt_reports_does_not_count_even_when_it_completed() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.replan(plan(phase("a", digest="edited")))

    decision = stop_reported(world, "a", i.ReportComplete)

    assert [type(event).__name__ for event in decision.events] == ["AttemptStopped", "PhaseTargeted"]
    assert world.statuses() == {"a": "targeted"}


def test_the_wait_for_a_stop_is_bounded_and_the_report_that_comes_later_is_stale() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b")))
    late = i.ReportComplete(**world.echo("a"))
    world.replan(plan(phase("a", digest="edited"), phase("b")))

    world.pass_time(CANCEL_MS - 1)
    before = world.open()
    world.pass_time(1)
    after = world.open()
    decision = world.step(late)

    assert (before, after) == (["b"], ["a", "b"])
    assert decision.events == ()
    assert world.statuses()["a"] == "targeted"


def test_only_the_attempt_that_is_to_stop_can_say_that_it_has_stopped() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=2, backoff=Backoff(initial_ms=0))))
    earlier = i.ReportComplete(**world.echo("a"))
    world.fail("a")
    world.pass_time(1)
    world.replan(plan(phase("a", digest="edited")))

    world.step(earlier)
    world.step(i.ReportComplete(phase_id="a", sequence=world._number()))

    assert list(world.session.stopping) == ["a"]
    assert world.open() == []


def test_a_runtime_that_is_lost_while_it_should_stop_has_stopped() -> None:
    world = World(runtime("r1", slots=1), runtime("r2", slots=1))
    world.start(plan(phase("a")))
    name = state_of(world, "a").runtime_id
    world.replan(plan(phase("a", digest="edited")))

    world.step(i.RuntimeLost(runtime_id=str(name), instance=f"{name}-1", reason="killed"))

    assert world.session.stopping == {}
    assert world.statuses() == {"a": "targeted"}


@pytest.mark.parametrize("accepted", [False, True])
def test_an_open_offer_is_taken_back_at_once_unless_somebody_took_it(accepted: bool) -> None:
    world = World()
    world.start(plan(phase("a", kind=None)))
    if accepted:
        world.step(i.Acknowledge(phase_id="a", accepted=True))

    world.replan(plan(phase("b", kind=None)))

    assert list(world.session.stopping) == (["a"] if accepted else [])
    assert world.statuses() == {"b": "targeted"}


def test_a_bare_runtime_ends_its_attempt_by_its_own_report() -> None:
    world = World()
    world.start(plan(phase("a", kind=None)))
    world.step(i.Acknowledge(phase_id="a", accepted=True))
    world.replan(plan(phase("a", kind=None, digest="edited")))

    world.step(i.ReportComplete(phase_id="a"))

    assert (world.statuses(), world.session.stopping) == ({"a": "targeted"}, {})


def test_dependents_of_a_changed_phase_run_again_and_those_that_run_are_cancelled() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a"), phase("c", "b"), phase("other")))
    world.complete("a")
    world.complete("b")

    world.replan(plan(phase("a", digest="edited"), phase("b", "a"), phase("c", "b"), phase("other")))

    assert list(world.session.stopping) == ["c"]
    assert world.open() == ["a", "other"]
    assert world.statuses()["b"] == "pending"


def test_a_replan_mends_a_session_that_is_about_to_fail() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a"), phase("slow")))
    world.fail("a")
    world.replan(plan(phase("a", digest="mended"), phase("b", "a"), phase("slow")))

    world.run_out()

    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_a_failure_that_lets_others_go_on_is_left_alone() -> None:
    world = World(runtime())
    tolerant = phase("a", on_failure=FailureAction.CONTINUE)
    world.start(plan(tolerant, phase("b", "a")))
    world.fail("a")
    before = identity(world, "b")

    world.replan(plan(tolerant, phase("b", "a"), phase("new")))

    assert world.statuses()["a"] == "failed"
    assert identity(world, "b") == before


def test_what_waits_keeps_its_place_its_retry_and_its_clock() -> None:
    backing = phase("a", max_attempts=2, backoff=Backoff(initial_ms=60_000, jitter=0.0))
    world = World(runtime())
    world.start(plan(backing, phase("b", "a", wait_timeout_ms=90_000), phase("c")))
    world.fail("a")
    since = state_of(world, "b").since
    world.pass_time(1_000)

    world.replan(plan(phase("c", digest="edited"), phase("b", "a", wait_timeout_ms=90_000), backing))
    world.pass_time(59_000)

    assert state_of(world, "b").since == since
    assert identity(world, "a")[:2] == ("targeted", 2)
    world.fail("a")
    assert world.statuses()["a"] == "failed"  # the budget is that of before


def test_heartbeats_are_still_those_of_their_phase() -> None:
    world = World(runtime("r1"), runtime("r2", slots=1))
    world.start(plan(phase("x"), phase("beats", heartbeat_ms=10_000), phase("refused")))
    world.running("beats")
    world.pass_time(9_000)
    world.step(i.ReportHeartbeat(**world.echo("beats")))

    world.replan(plan(phase("beats", heartbeat_ms=10_000), phase("refused")))
    for _ in range(20):
        world.pass_time(1_000)

    assert world.statuses()["beats"] == "running"


def test_a_paused_session_stays_paused_under_another_plan() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.command("pause")

    world.replan(plan(phase("a"), phase("b")))
    paused = world.session.status, world.open()
    world.command("resume")

    assert paused == ("paused", ["a"])
    assert world.open() == ["a", "b"]


def test_a_cancelled_session_takes_no_other_plan() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.command("cancel")

    (refused,) = world.replan(plan(phase("b"))).events

    assert refused.code == "session.busy"
    assert "being cancelled" in refused.text


def test_a_cancel_waits_for_what_a_replan_stops() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b")))
    world.replan(plan(phase("b", digest="edited")))

    world.command("cancel")
    waiting = world.session.status
    stop_reported(world, "a")
    stop_reported(world, "b")

    assert (waiting, world.session.status) == ("running", "cancelled")


def test_a_second_replan_before_the_first_has_settled_still_waits_for_the_same_attempt() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    first = world.session.phases[0].fence
    world.replan(plan(phase("b")))

    world.replan(plan(phase("a", digest="edited")))
    stopping = {name: one.fence for name, one in world.session.stopping.items()}
    blocked = world.open()

    assert stopping["a"] == first
    assert "a" not in blocked


def test_without_the_flag_the_refusal_stays_and_names_it() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))

    (refused,) = world.start(plan(phase("b"))).events

    assert refused.code == "session.busy"
    assert "planter apply --replan" in refused.text


def test_the_same_plan_again_changes_nothing_with_the_flag_either() -> None:
    world = World(runtime())
    world.start(diamond())

    decision = world.replan(diamond())

    assert [type(event).__name__ for event in decision.events] == ["InputRepeated"]


def test_offers_that_were_to_be_said_again_in_the_same_step_do_not_reach_other_phases() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b")))
    world.step(i.Acknowledge(**world.echo("b"), accepted=True))
    unheard = i.Unheard(phase_id="b", fence=state_of(world, "b").fence)
    start = i.StartPlan(sequence=99, plan=plan(phase("b"), digest="shorter"), replan=True)

    decision = world.step(unheard, start)

    offers = [effect for effect in decision.effects if isinstance(effect, f.PublishTarget)]
    assert all(effect.phase < len(world.session.phases) for effect in offers)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"expect_digest": "other"}, "what was reviewed is other"),
        ({"expect_revision": 7}, "made for revision 7 of session test, which is at revision 1"),
    ],
)
def test_a_stale_plan_is_refused_in_the_decision(fields, says: str) -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.run_out()

    (refused,) = world.start(plan(phase("b")), **fields).events

    assert refused.code == "plan.stale"
    assert says in refused.text
    assert world.session.revision == 1


def test_what_was_reviewed_is_applied() -> None:
    world = World(runtime())
    first, second = plan(phase("a"), digest="one"), plan(phase("b"), digest="two")

    world.start(first, expect_digest="one", expect_revision=0)
    world.run_out()
    world.start(second, expect_digest="two", expect_revision=1)

    assert (world.session.revision, world.open()) == (2, ["b"])


def test_of_two_that_reviewed_the_same_revision_only_the_first_is_applied() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    two, three = plan(phase("b"), digest="two"), plan(phase("c"), digest="three")

    decision = world.step(
        i.StartPlan(sequence=91, plan=two, replan=True, expect_revision=1),
        i.StartPlan(sequence=92, plan=three, replan=True, expect_revision=1),
    )

    assert [e.code for e in decision.events if type(e).__name__ == "InputRefused"] == ["plan.stale"]
    assert world.session.plan_digest == "two"


def test_a_dry_run_says_what_would_happen_and_starts_nothing() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a")))

    (refused,) = world.start(plan(phase("a", digest="edited"), phase("b", "a")), dry_run=True).events

    assert refused.code == "start.dry_run"
    assert "0 to add, 1 to change, 0 to remove, 1 to run again; nothing was started" in refused.text
    assert (world.session.revision, world.session.plan_digest) == (1, world.replayed().plan_digest)


def test_a_phase_whose_old_attempt_has_stopped_is_left_out_when_its_new_need_was() -> None:
    world = World(runtime())
    never = {"trigger": TriggerRule.ONE_FAILED}
    world.start(plan(phase("gate", **never), phase("work"), phase("other")))
    world.running("work")
    world.replan(plan(phase("gate", **never), phase("work", "gate"), phase("other")))

    stop_reported(world, "work")
    world.complete("other")

    assert world.statuses() == {"gate": "skipped", "work": "skipped", "other": "complete"}
    assert world.session.status == "complete"


def test_an_attempt_that_is_to_stop_counts_against_its_limit_until_it_has() -> None:
    world = World(runtime())
    one_at_a_time = {"concurrency": Concurrency(key="database")}
    world.start(plan(phase("old", **one_at_a_time)))
    world.running("old")

    world.replan(plan(phase("new", **one_at_a_time)))
    before, restored = world.open(), world.replayed().at_work
    stop_reported(world, "old")

    assert (before, restored) == ([], {"database": 1})
    assert world.open() == ["new"]
