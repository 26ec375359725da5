"""Why a phase is not running: each reason, since when, and what would end it."""

import random

import msgspec
import pytest

from planter.core import effects as f
from planter.core import inputs as i
from planter.core.explain import Condition, Explanation, explain, overview
from planter.core.fleet import Fleet, can_take, requirement
from planter.core.placement import no_match, sift
from planter.core.plan import Backoff, Cache, Concurrency, TriggerRule
from planter_testkit.builders import World, foreach, phase, plan, runtime
from planter_testkit.histories import play, random_rules


def why(world: World, name: str) -> Explanation:
    return explain(world.session, world.fleet, world.session.graph.index[name], world.now)


def only(world: World, name: str) -> Condition:
    (condition,) = why(world, name).conditions
    return condition


def codes(world: World, name: str) -> list[str]:
    return [condition.code for condition in why(world, name).conditions]


def test_every_unmet_need_is_named_with_its_status_and_since_when() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b"), phase("c", "a", "b", external=("dns",))))
    world.pass_time(5_000)
    world.running("a")

    first, second, outside = why(world, "c").conditions

    assert (first.code, first.phase_id, first.since) == ("need.unmet", "a", world.now)
    assert first.text == "waits for a, which is running"
    assert (second.phase_id, second.since) == ("b", world.now - 5_000)
    assert (outside.code, outside.phase_id) == ("external.unmet", "dns")
    assert "plan.session.test.state" in outside.unblock


def test_a_need_that_failed_says_how_to_go_on() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a"), phase("slow")))
    world.fail("a")

    failing, need = why(world, "b").conditions

    assert (failing.code, failing.text) == (
        "session.failing",
        "session test starts nothing more: phase a failed",
    )
    assert need.unblock == "`planter control test retry a`, or skip it"


def test_an_on_use_phase_that_nothing_needs() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("lazy", on_use=True)))

    assert only(world, "lazy").code == "on_use.not_demanded"


def test_a_pause_with_its_time_and_the_command_that_ends_it() -> None:
    world = World(runtime(slots=1))
    world.start(plan(phase("a"), phase("b", "a")))
    world.pass_time(100)
    world.command("pause")
    world.complete("a")

    condition = only(world, "b")

    assert (condition.code, condition.since, condition.unblock) == (
        "session.paused",
        world.now,
        "`planter control test resume`",
    )


def test_a_backing_off_phase_says_until_when() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=2, backoff=Backoff(initial_ms=60_000, jitter=0.0))))
    world.fail("a", "no luck")

    condition = only(world, "a")

    assert (condition.code, condition.until) == ("backing_off", world.now + 60_000)
    assert "no luck" in condition.text


def test_a_phase_that_waits_for_a_slot_names_how_many_runtimes_are_busy() -> None:
    world = World(runtime("r1", slots=1), runtime("r2", slots=1, executors=frozenset({"shell"})))
    world.start(plan(phase("a"), phase("b")))

    found = why(world, "b")

    assert codes(world, "b") == ["placement.no_slot"]
    assert found.placement is not None
    assert (found.placement.considered, found.placement.free) == (2, 0)
    assert [(r.constraint, r.count) for r in found.placement.removed] == [("executor", 1), ("slots", 1)]


def test_a_limit_a_deferral_and_a_rule_are_named() -> None:
    world = World(runtime())
    limit = Concurrency(key="database")
    world.start(
        plan(
            phase("a", concurrency=limit),
            phase("b", concurrency=limit),
            phase("c"),
            phase("d", "a", "c", trigger=TriggerRule.ALL_DONE),
        )
    )
    world.step(i.Acknowledge(**world.echo("c"), accepted=False, queued=True, retry_after_ms=60_000))

    assert only(world, "b").code == "concurrency.full"
    assert "x-concurrency" in only(world, "b").text
    assert (only(world, "c").code, only(world, "c").until) == ("placement.deferred", world.now + 60_000)
    assert [one.code for one in why(world, "d").conditions] == ["trigger.open", "need.unmet", "need.unmet"]


def test_a_phase_that_every_free_runtime_rejected_says_until_when() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.step(i.Acknowledge(**world.echo("a"), accepted=False, reason="full"))

    condition = only(world, "a")

    assert (condition.code, condition.until) == ("placement.rejected", world.now + 1_000)
    assert "full" in condition.text


def test_a_phase_that_no_runtime_matches_says_what_each_constraint_removed() -> None:
    fleet = [
        runtime("drains", takes_new=False),
        runtime("poor"),
        runtime("far", capabilities=frozenset({"gpu"}), labels={"zone": "us"}),
        runtime("other", capabilities=frozenset({"gpu"}), executors=frozenset({"shell"})),
    ]
    world = World(*fleet)
    world.start(plan(phase("a", capabilities=("gpu",), labels={"zone": "eu"})))

    found = why(world, "a")

    assert codes(world, "a") == ["offered.openly", "placement.no_match"]
    assert found.placement is not None
    removed = [(r.constraint, r.count) for r in found.placement.removed]
    assert removed == [("draining", 1), ("capabilities", 1), ("executor", 1), ("labels", 1)]
    assert found.conditions[1].unblock == "a runtime with executor noop, labels zone=eu, capabilities gpu"


def test_a_phase_without_executor_needs_a_handler_and_says_so() -> None:
    world = World(runtime("r1", handlers=({"do": "other"},), labels={}))
    world.start(plan(phase("a", kind=None, labels={"do": "work"})))

    found = why(world, "a")

    assert found.placement is not None
    assert [(r.constraint, r.count) for r in found.placement.removed] == [("handler", 1)]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda w: None, "runtime.silent"),
        (
            lambda w: w.step(i.Acknowledge(**w.echo("a"), accepted=True, queued=True)),
            "runtime.queued",
        ),
        (lambda w: w.step(i.Acknowledge(**w.echo("a"), accepted=True)), "runtime.starting"),
    ],
)
def test_a_targeted_phase_says_what_its_runtime_has_answered(act, code: str) -> None:
    world = World(runtime())
    world.start(plan(phase("a")))

    act(world)

    assert only(world, "a").code == code


def test_a_phase_whose_earlier_attempt_has_to_stop_says_until_when() -> None:
    world = World(runtime())
    world.start(plan(phase("a")))
    world.replan(plan(phase("a", digest="edited")))

    condition = only(world, "a")

    assert (condition.code, condition.until) == ("attempt.stopping", world.now + 30_000)


def test_a_cancelled_session_is_the_reason() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a")))
    world.running("a")
    world.command("cancel")
    open_now = why(world, "a").text
    world.step(i.ReportCancelled(**world.echo("a")))

    assert open_now == "phase a is running: attempt 1 on r1"
    assert why(world, "b").text == "phase b is cancelled: cancelled on request"


def test_what_is_done_or_fails_says_that() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b"), phase("c")))
    world.complete("a")
    world.command("skip", "c")
    world.fail("b", "boom")

    assert why(world, "a").text == "phase a is complete: attempt 1 on r1"
    assert why(world, "b").text == "phase b is failed: boom"
    assert why(world, "b").conditions == ()


def test_all_waiting_phases_are_grouped_by_what_they_wait_for_in_the_end() -> None:
    world = World(runtime(slots=1))
    chain = [phase("c0"), *(phase(f"c{n}", f"c{n - 1}") for n in range(1, 30))]
    world.start(plan(*chain, phase("ready"), phase("lazy", on_use=True), phase("out", external=("dns",))))
    world.running("c0")

    found = overview(world.session, world.fleet, world.now)
    groups = {group.code: (group.count, group.phases[0]) for group in found.groups}

    assert groups == {
        "need": (29, "c1"),
        "ready": (1, "ready"),
        "on_use": (1, "lazy"),
        "external": (1, "out"),
    }
    assert found.groups[0].text == "wait for c0, which is running, directly or through others"
    assert (found.waiting, found.more, len(found.groups[0].phases)) == (32, 0, 10)


def test_many_groups_and_many_conditions_are_cut_and_counted() -> None:
    world = World(runtime())
    outside = tuple(f"x{n}" for n in range(70))
    world.start(
        plan(phase("many", external=outside), *(phase(f"p{n}", external=(f"y{n}",)) for n in range(60)))
    )

    one, all_ = why(world, "many"), overview(world.session, world.fleet, world.now)

    assert (len(one.conditions), one.more) == (50, 20)
    assert (len(all_.groups), all_.more, all_.waiting) == (50, 11, 61)


@pytest.mark.parametrize("seed", range(60))
def test_every_phase_of_every_history_has_an_explanation_and_waiting_ones_a_reason(seed: int) -> None:
    world = play(seed)
    world.settle()
    for name, status in world.statuses().items():
        found = why(world, name)
        assert found.text
        if status in ("pending", "ready", "targeted", "backing_off"):
            assert found.conditions, (name, found)
    overview(world.session, world.fleet, world.now)


@pytest.mark.parametrize("seed", range(40))
def test_the_constraints_leave_exactly_the_runtimes_that_match(seed: int) -> None:
    draw = random.Random(seed)
    pairs = [{"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}, {}, {"*": "*"}]
    fleet = Fleet()
    for n in range(8):
        fleet.put(
            runtime(
                f"r{n}",
                takes_new=draw.random() < 0.8,
                labels=draw.choice(pairs),
                handlers=tuple(draw.sample(pairs, draw.randint(0, 2))),
                executors=frozenset(draw.sample(["noop", "shell"], draw.randint(0, 2))),
                capabilities=frozenset(draw.sample(["gpu", "net"], draw.randint(0, 2))),
                slots=draw.choice([1, 2, 4]),
                host=draw.choice(["", "h1", "h2"]),
            )
        )
    for _ in range(40):
        wanted = requirement(
            phase(
                "p",
                labels=draw.choice(pairs[:5]),
                kind=draw.choice(["noop", "shell", None]),
                capabilities=tuple(draw.sample(["gpu", "net"], draw.randint(0, 2))),
                placement=draw.choice([None, random_rules(draw)]),
            )
        )
        found = sift(fleet, wanted)
        assert found.left == tuple(r for r in fleet.runtimes.values() if can_take(r, wanted))
        assert found.considered == len(found.left) + sum(one.count for one in found.removed)
        if not found.left:
            assert no_match(fleet, wanted).startswith("no registered runtime matches: of 8 runtimes, ")


def test_that_no_runtime_matches_is_an_event_once_until_one_does() -> None:
    world = World(runtime("r1", executors=frozenset({"shell"})))
    world.start(plan(phase("a", max_attempts=3, backoff=Backoff(initial_ms=0)), phase("b")))
    world.pass_time(60_000)
    world.step(i.Acknowledge(phase_id="a", accepted=True))
    world.step(i.ReportFailed(phase_id="a", message="broken"))
    world.pass_time(1)

    events = [event for _, _, events, _ in world.journal for event in events]
    unmatched = [event for event in events if type(event).__name__ == "PhaseUnmatched"]

    assert [event.phase_id for event in unmatched] == ["a", "b"]
    assert unmatched[0].reason == "no registered runtime matches: of 1 runtime, 1 have no executor noop"


def test_a_second_episode_is_another_event() -> None:
    world = World()
    world.start(plan(phase("a")))
    world.fleet.put(runtime("r1"))
    world.step()
    world.fleet.remove("r1")
    world.step(i.RuntimeLost(runtime_id="r1", instance="r1-1", reason="gone"))

    assert world.event_names().count("PhaseUnmatched") == 2


def test_a_phase_whose_items_run_says_how_many_have_ended_and_an_item_why_it_waits() -> None:
    world = World(runtime(slots=2))
    world.start(plan(phase("list"), phase("each", "list", foreach=foreach(["a", "b", "c"], parallel=2))))

    before = only(world, "each")
    world.complete("list")
    world.complete("each[1]")
    total, first, second = why(world, "each").conditions
    grouped = {group.code: group.phases for group in overview(world.session, world.fleet, world.now).groups}

    assert (before.code, before.phase_id) == ("need.unmet", "list")
    assert (total.code, total.text) == ("items.open", "1 of its 3 items have ended (x-foreach)")
    assert [first.phase_id, second.phase_id] == ["each[0]", "each[2]"]
    assert grouped["items"] == ("each",)
    assert "`planter explain test 'each[0]'`" in str(total.unblock)


def test_an_item_that_waits_for_others_of_its_list_says_so() -> None:
    world = World(runtime())
    world.start(plan(phase("each", foreach=foreach(["a", "b"], parallel=1))))

    found = only(world, "each[1]")

    assert (found.code, found.text) == ("concurrency.full", "1 of 1 items of each are out (parallel)")
    assert found.unblock == "one of them ends, or a higher `x-foreach.parallel`"


def test_a_result_that_was_taken_is_no_attempt() -> None:
    world = World(runtime())
    world.start(plan(phase("a", cache=Cache())))
    key = next(one.key for one in world.effects if isinstance(one, f.LookUp))
    world.step(i.LookedUp(phase_id="a", key=key, result=msgspec.Raw(b"1"), source="other/a", made=1))

    assert why(world, "a").text == "phase a is complete: the result of other/a was taken (x-cache)"
