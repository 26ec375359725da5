"""Phases with items that are reset, retried, skipped or left out after their list was known."""

import json

import msgspec
import pytest

from planter.core import inputs as i
from planter.core.conditions import EVALUATED_MAX
from planter.core.plan import Backoff, FailureAction, PhaseSpec, TriggerRule
from planter_testkit.builders import World, foreach, phase, plan, runtime, the_same_again

FILES = "phases.list.result.files"


def each(*needs: str, items: object = FILES, parallel: int | None = None, **fields) -> PhaseSpec:
    uses = ("list",) if isinstance(items, str) else ()
    return phase("each", *needs, foreach=foreach(items, parallel), uses=uses, **fields)


def listed(world: World, *files: object) -> None:
    world.complete("list", result=json.dumps({"files": files}).encode())


def expanded_once(*others: PhaseSpec, **fields) -> World:
    """The list had two files, and all is done."""
    world = World(runtime())
    world.start(plan(phase("list"), each("list", on_failure=FailureAction.CONTINUE, **fields), *others))
    listed(world, "a", "b")
    world.run_out()
    assert world.session.status == "complete"
    return world


def test_items_do_not_wait_for_a_phase_whose_new_list_is_no_list() -> None:
    world = expanded_once(phase("after", "each"))

    world.command("rerun", "list")
    world.complete("list", result=b"1")
    world.run_out()

    assert world.statuses() == {
        "list": "complete",
        "each": "failed",
        "after": "complete",
        "each[0]": "skipped",
        "each[1]": "skipped",
    }
    assert world.session.status == "complete"
    the_same_again(world)


def test_items_do_not_wait_for_a_phase_whose_condition_is_false_this_time() -> None:
    world = expanded_once(when="size(phases.list.result.files) > 1")

    world.command("rerun", "list")
    listed(world, "a")

    assert set(world.statuses().values()) == {"complete", "skipped"}
    assert world.session.status == "complete"


@pytest.fixture(name="failed")
def failed_fixture() -> World:
    """The list was asked for again, and is no list."""
    world = expanded_once()
    world.command("rerun", "list")
    world.complete("list", result=b"1")
    world.settle()
    return world


def test_such_a_phase_and_all_of_its_items_run_when_it_is_retried(failed: World) -> None:
    failed.command("rerun", "list")
    listed(failed, "x", "y", "z")

    assert failed.open() == ["each[0]", "each[1]", "each[2]"]


def test_an_item_that_never_ran_can_be_skipped_and_its_phase_still_ends(failed: World) -> None:
    failed.command("skip", "each[0]")
    failed.settle()
    the_same_again(failed)

    assert failed.statuses()["each"] == "failed"
    assert failed.session.status == "complete"


def test_an_item_that_was_skipped_before_the_list_was_known_leaves_the_list_to_be_asked_for() -> None:
    world = expanded_once()
    world.command("rerun", "list")
    world.command("skip", "each[0]")
    world.command("cancel")
    world.pass_time(60_000)

    world.command("retry")
    listed(world, "x", "y")

    assert world.open() == ["each[1]"]
    world.run_out()
    assert world.session.status == "complete"
    the_same_again(world)


def test_items_of_an_on_use_phase_that_nobody_uses_any_more_end_with_it() -> None:
    world = World(runtime())
    user = phase("user", "each", "slow")
    world.start(plan(each(items=["a"], on_use=True), phase("slow"), user))
    world.run_out()
    assert world.session.status == "complete"

    world.command("rerun", "slow")
    world.command("rerun", "each")
    world.command("skip", "user")
    world.run_out()

    assert world.session.status == "complete"


def test_a_long_list_is_worked_on_in_portions_and_its_source_read_once_in_each() -> None:
    world = World(runtime(slots=100_000))
    run = {"run": msgspec.Raw(b'{"noop":{"of":"${{ phases.list.result.name }}"}}'), "templated": True}
    world.start(plan(phase("list"), each("list", **run), phase("after", "each")))
    count = EVALUATED_MAX * 2 + 10

    decision = world.complete("list", result=json.dumps({"name": "x", "files": [*range(count)]}).encode())
    first = len(world.open())
    the_same_again(world)
    world.settle()
    second = len(world.open())
    world.run_out()

    assert decision.more
    assert (first, second) == (EVALUATED_MAX - 1, count)
    assert world.session.status == "complete"


def test_what_cleans_up_after_a_failure_may_have_a_long_list() -> None:
    world = World(runtime(slots=100_000))
    items = [*range(EVALUATED_MAX * 2)]
    world.start(plan(phase("work"), each("work", items=items, trigger=TriggerRule.ALL_DONE)))

    world.fail("work", retryable=False)
    world.settle()
    out = len(world.open())
    world.run_out()
    world.settle()

    assert out == EVALUATED_MAX * 2
    assert (world.statuses()["each"], world.session.status) == ("complete", "failed")


def test_a_rerun_of_what_makes_the_list_asks_for_it_again_although_the_items_are_on_their_way() -> None:
    world = World(runtime())
    world.start(plan(phase("list"), each("list", max_attempts=2, backoff=Backoff(initial_ms=60_000))))
    listed(world, "a", "b")
    world.complete("each[0]")
    world.fail("each[1]")

    world.command("rerun", "list")
    out = world.open()
    listed(world, "x", "y", "z")
    after = world.open()
    world.run_out()

    assert (out, after) == (["list"], ["each[0]", "each[1]", "each[2]"])
    assert world.session.status == "complete"
    the_same_again(world)


def test_a_rerun_asks_again_for_the_arguments_of_a_phase_that_waits_for_a_slot() -> None:
    world = World(runtime(slots=1))
    run = {"run": msgspec.Raw(b'{"noop":{"of":"${{ phases.list.result }}"}}'), "templated": True}
    busy = phase("busy", "list", priority=1)
    world.start(plan(phase("list"), busy, phase("user", "list", uses=("list",), **run)))
    world.complete("list", result=b'"old"')
    world.complete("busy")
    world.command("pause")
    assert world.open() == ["user"]
    world.step(i.Acknowledge(**world.echo("user"), accepted=False))
    ready = world.statuses()["user"]

    world.command("rerun", "list")
    world.command("resume")
    world.complete("list", result=b'"new"')
    world.complete("busy")
    world.pass_time(10_000)

    assert (ready, world.open()) == ("ready", ["user"])
    assert json.loads(bytes(world.session.phases[2].run)) == {"noop": {"of": "new"}}


def test_a_rerun_asks_for_the_list_again_although_one_of_its_items_still_waits() -> None:
    world = World(runtime())
    fails = {"max_attempts": 2, "backoff": Backoff(initial_ms=300_000)}
    world.start(plan(phase("list"), each("list", **fails)))
    listed(world, "a", "b")
    world.replan(plan(phase("list"), each("list", priority=1, **fails)))
    one = world.session.stopping["each[0]"]
    echo = {"attempt": one.attempt, "fence": one.fence, "runtime_id": one.runtime_id, "fenced": True}
    world.step(i.ReportCancelled(phase_id="each[0]", sequence=world._number(), **echo))
    world.fail("each[0]")
    before = world.statuses()

    world.command("rerun", "list")
    listed(world, "x", "y")
    world.pass_time(60_000)

    assert (before["each[0]"], before["each[1]"]) == ("backing_off", "pending")
    items = [bytes(world.session.spec(n).item) for n in world.session.graph.items[1]]
    assert (world.open(), items) == (["each[0]", "each[1]"], [b'"x"', b'"y"'])
