"""Trigger rules, conditions, arguments, outputs and limits, driven without I/O."""

import json

import msgspec
import pytest

from planter.core.conditions import Ended, Verdict, verdict
from planter.core.plan import Concurrency, FailureAction, TriggerRule
from planter_testkit.builders import World, phase, picture, plan, runtime

RUN, WAIT, SKIP = Verdict.RUN, Verdict.WAIT, Verdict.SKIP
ALL_GOOD, GOOD_AND_BAD, GOOD_AND_SKIPPED = Ended(2), Ended(1, 1), Ended(1, 0, 1)
ALL_BAD, ALL_SKIPPED, NONE_YET = Ended(0, 2), Ended(0, 0, 2), Ended(open=2)
GOOD_AND_OPEN, BAD_AND_OPEN, SKIPPED_AND_OPEN = Ended(1, open=1), Ended(0, 1, open=1), Ended(0, 0, 1, 1)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        # the nine cases below, in their order
        ("all_success", [RUN, SKIP, SKIP, SKIP, SKIP, WAIT, WAIT, SKIP, SKIP]),
        ("all_failed", [SKIP, SKIP, SKIP, RUN, SKIP, WAIT, SKIP, WAIT, SKIP]),
        ("all_done", [RUN, RUN, RUN, RUN, RUN, WAIT, WAIT, WAIT, WAIT]),
        ("all_done_min_one_success", [RUN, RUN, RUN, SKIP, SKIP, WAIT, WAIT, WAIT, WAIT]),
        ("all_skipped", [SKIP, SKIP, SKIP, SKIP, RUN, WAIT, SKIP, SKIP, WAIT]),
        ("one_failed", [SKIP, RUN, SKIP, RUN, SKIP, WAIT, WAIT, RUN, WAIT]),
        ("one_success", [RUN, RUN, RUN, SKIP, SKIP, WAIT, RUN, WAIT, WAIT]),
        ("one_done", [RUN, RUN, RUN, RUN, SKIP, WAIT, RUN, RUN, WAIT]),
        ("none_failed", [RUN, SKIP, RUN, SKIP, RUN, WAIT, WAIT, SKIP, WAIT]),
        ("none_failed_min_one_success", [RUN, SKIP, RUN, SKIP, SKIP, WAIT, WAIT, SKIP, WAIT]),
        ("none_skipped", [RUN, RUN, SKIP, RUN, SKIP, WAIT, WAIT, WAIT, SKIP]),
        ("always", [RUN, RUN, RUN, RUN, RUN, RUN, RUN, RUN, RUN]),
    ],
)
def test_a_rule_says_what_airflow_says_as_early_as_it_can_be_known(rule: str, says: list[Verdict]) -> None:
    cases = [
        ALL_GOOD,
        GOOD_AND_BAD,
        GOOD_AND_SKIPPED,
        ALL_BAD,
        ALL_SKIPPED,
        NONE_YET,
        GOOD_AND_OPEN,
        BAD_AND_OPEN,
        SKIPPED_AND_OPEN,
    ]

    assert [verdict(TriggerRule(rule), ended) for ended in cases] == says


def test_what_cleans_up_runs_in_a_session_that_fails_and_the_session_fails_all_the_same() -> None:
    world = World(runtime())
    world.start(
        plan(
            phase("build"),
            phase("test", "build"),
            phase("publish", "test"),
            phase("tell", "build", "test", trigger=TriggerRule.ONE_FAILED),
            phase("clean", "publish", trigger=TriggerRule.ALL_DONE),
        )
    )

    world.complete("build")
    world.fail("test")
    after_failure = world.open()
    world.complete("tell")
    world.settle()
    after_telling = world.open()
    world.complete("clean")

    assert (after_failure, after_telling) == (["tell"], ["clean"])
    assert world.statuses() == {
        "build": "complete",
        "test": "failed",
        "publish": "skipped",
        "tell": "complete",
        "clean": "complete",
    }
    assert (world.session.status, world.session.reason) == ("failed", "phase test failed")
    assert picture(world.replayed()) == picture(world.session)


def test_nothing_that_is_for_failures_runs_when_all_is_well() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("tell", "a", trigger=TriggerRule.ONE_FAILED)))

    world.complete("a")

    assert world.statuses() == {"a": "complete", "tell": "skipped"}
    assert world.session.status == "complete"


def test_a_false_condition_leaves_out_the_phase_and_what_needs_it_but_not_the_join() -> None:
    world = World(runtime())
    big = 'phases["count"].result.lines > 100'
    world.start(
        plan(
            phase("count"),
            phase("split", "count", when=big, uses=("count",)),
            phase("work", "split"),
            phase("whole", "count", when=f"!({big})", uses=("count",)),
            phase("join", "work", "whole", trigger=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS),
        )
    )

    world.complete("count", result=b'{"lines": 7}')
    then = world.open()
    world.complete("whole")
    world.complete("join")

    assert then == ["whole"]
    assert world.statuses()["split"] == world.statuses()["work"] == "skipped"
    assert world.session.phases[1].reason == f"x-when is false: {big}"
    assert world.session.phases[2].reason == "it needs split, which was skipped"
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_a_condition_without_a_value_fails_its_phase_and_says_why() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a", when="phases.a.result.missing", uses=("a",))))

    world.complete("a", result=b"{}")

    assert world.statuses()["b"] == "failed"
    assert "missing" in str(world.session.phases[1].reason)
    assert world.session.status == "failed"


def test_a_phase_gets_what_an_earlier_one_has_returned_and_the_journal_has_it() -> None:
    world = World(runtime())
    run = json.dumps({"exec": ["deploy", "${{ phases.build.result.image }}"], "with": {"n": "${{ 1 + 1 }}"}})
    world.start(
        plan(
            phase("build"),
            phase("deploy", "build", run=msgspec.Raw(run.encode()), templated=True, uses=("build",)),
        )
    )

    world.complete("build", result=b'{"image": "app:7"}')

    filled = {"exec": ["deploy", "app:7"], "with": {"n": 2}}
    assert msgspec.json.decode(world.session.phases[1].run) == filled
    assert msgspec.json.decode(world.replayed().phases[1].run) == filled


def test_arguments_that_have_grown_too_large_fail_the_phase() -> None:
    world = World(runtime())
    run = msgspec.Raw(b'{"noop":{},"with":{"a":"${{ phases.a.result }}","b":"${{ phases.a.result }}"}}')
    world.start(plan(phase("a"), phase("b", "a", run=run, templated=True, uses=("a",))))

    world.complete("a", result=json.dumps("x" * 40_000).encode())

    assert "the limit is 65,536" in str(world.session.phases[1].reason)


def test_a_result_without_a_promised_output_is_a_failed_attempt() -> None:
    world = World(runtime())
    world.start(plan(phase("a", outputs=("image", "digest"))))

    world.complete("a", result=b'{"image": 1}')

    assert world.session.phases[0].reason == "its result lacks digest (x-outputs)"
    assert world.session.status == "failed"


def test_phases_with_one_key_share_a_limit_and_others_do_not_wait_for_them() -> None:
    world = World(runtime(slots=10))
    limit = Concurrency(key="database", max=2)
    names = [f"m{n}" for n in range(4)]
    world.start(plan(*(phase(name, concurrency=limit) for name in names), phase("free")))

    at_first = world.open()
    world.complete("m0")
    then = world.open()

    assert at_first == ["m0", "m1", "free"]
    assert then == ["m1", "m2", "free"]
    assert picture(world.replayed()) == picture(world.session)


def test_a_failed_phase_that_is_retried_lets_its_conditions_be_asked_again() -> None:
    world = World(runtime())
    world.start(
        plan(
            phase("a", on_failure=FailureAction.RAISE),
            phase("b", "a", when='phases.a.status == "complete"', uses=("a",)),
        )
    )
    world.fail("a")
    ended = world.session.status

    world.command("retry")
    world.complete("a")
    world.complete("b")

    assert (ended, world.session.status) == ("failed", "complete")


def test_a_cancelled_session_asks_no_conditions_any_more() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a", trigger=TriggerRule.ALWAYS, when="true")))

    world.command("cancel")
    world.pass_time(60_000)

    assert world.session.status == "cancelled"


def test_what_a_failing_session_put_off_is_asked_again_when_the_failed_phase_is_skipped() -> None:
    world = World(runtime())
    world.start(
        plan(
            phase("fails"),
            phase("works"),
            phase("long"),
            phase("asked", "works", when="true"),
            phase("left", "works", when="false"),
            phase("after", "left"),
        )
    )
    world.fail("fails")
    world.complete("works")
    put_off = world.statuses()["asked"]

    world.command("skip", "fails")
    then = world.statuses()
    world.complete("asked", "long")

    assert put_off == "pending"
    assert (then["asked"], then["left"], then["after"]) == ("targeted", "skipped", "skipped")
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_an_on_use_need_is_asked_for_once_all_others_have_ended_however() -> None:
    world = World(runtime())
    world.start(
        plan(
            phase("branch", when="false"),
            phase("base", on_use=True),
            phase("join", "branch", "base", trigger=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS),
        )
    )

    asked_for = world.open()
    world.complete("base")
    world.complete("join")

    assert asked_for == ["base"]
    assert world.statuses() == {"branch": "skipped", "base": "complete", "join": "complete"}
    assert world.session.status == "complete"


def test_an_on_use_need_sleeps_while_another_need_is_still_open() -> None:
    world = World(runtime())
    rule = TriggerRule.ALL_DONE
    world.start(plan(phase("work"), phase("base", on_use=True), phase("join", "work", "base", trigger=rule)))

    at_first = world.open()
    world.complete("work")

    assert (at_first, world.open()) == (["work"], ["base"])


def test_an_open_offer_in_a_failing_session_is_taken_back_once_a_runtime_matches() -> None:
    world = World()
    world.start(plan(phase("work"), phase("tell", "work", trigger=TriggerRule.ONE_FAILED)))
    world.fail("work", retryable=False)
    world.settle()
    offered = sorted(world.session.offered)

    world.fleet.put(runtime())
    world.step()

    assert (offered, world.session.failing) == ([1], "phase work failed")
    assert [state.runtime_id for state in world.session.phases] == [None, "r1"]


def test_an_on_use_phase_whose_need_was_left_out_while_it_slept_is_left_out_once_asked_for() -> None:
    world = World(runtime())
    rule = TriggerRule.ALL_DONE
    world.start(
        plan(
            phase("gate", when="false"),
            phase("base", "gate", on_use=True),
            phase("work"),
            phase("last", "work", "base", trigger=rule),
        )
    )

    world.run_out()

    assert world.statuses() == {"gate": "skipped", "base": "skipped", "work": "complete", "last": "complete"}
    assert world.session.status == "complete"
