"""Phases that are done once for each item of a list, driven without I/O."""

import json

import msgspec
import pytest

from planter.core import effects as f
from planter.core.foreach import ITEMS_MAX
from planter.core.plan import Backoff, FailureAction, Handler, PhaseSpec, Plan, TriggerRule
from planter_testkit.builders import World, foreach, phase, plan, runtime, the_same_again

EACH = {"run": msgspec.Raw(b'{"noop":{"it":"${{ item }}","at":"${{ index }}"}}'), "templated": True}


def resize(
    *needs: str, items: object = "phases.list.result.files", parallel: int | None = None, **fields
) -> PhaseSpec:
    uses = ("list",) if isinstance(items, str) else ()
    return phase("resize", *needs, foreach=foreach(items, parallel), uses=uses, **{**EACH, **fields})


def fan(**fields) -> Plan:
    """list, then resize for each of its files, then publish."""
    return plan(phase("list"), resize("list", **fields), phase("publish", "resize"))


def listed(world: World, *files: object) -> None:
    world.complete("list", result=json.dumps({"files": files}).encode())


def result_of(world: World, name: str) -> object:
    result = world.session.phases[world.session.graph.index[name]].result
    return None if result is msgspec.UNSET else json.loads(bytes(result))


def test_every_item_is_a_phase_of_its_own_and_the_whole_gathers_their_results() -> None:
    world = World(runtime())
    world.start(fan())

    listed(world, "a.png", "b.png")
    out = world.open()
    runs = [json.loads(bytes(world.session.phases[n].run)) for n in world.session.graph.items[1]]
    the_same_again(world)
    world.complete("resize[1]", result=b'"small b"')
    before = world.statuses()["resize"]
    world.complete("resize[0]", result=b'"small a"')
    after = world.open()
    world.complete("publish")

    assert out == ["resize[0]", "resize[1]"]
    assert runs == [{"noop": {"it": "a.png", "at": 0}}, {"noop": {"it": "b.png", "at": 1}}]
    assert (before, after) == ("pending", ["publish"])
    assert result_of(world, "resize") == ["small a", "small b"]
    assert world.session.status == "complete"
    the_same_again(world)


def test_a_list_in_the_manifest_needs_no_expression_and_an_empty_one_is_complete_at_once() -> None:
    world = World(runtime())
    world.start(plan(resize(items=[{"size": 1}, {"size": 2}]), phase("none", foreach=foreach([]))))

    out = world.open()
    none = world.statuses()["none"], result_of(world, "none")
    world.run_out()

    assert (out, none) == (["resize[0]", "resize[1]"], ("complete", []))
    assert world.session.status == "complete"


def test_no_more_items_are_out_than_the_phase_allows() -> None:
    world = World(runtime(slots=100))
    world.start(plan(resize(items=list(range(10)), parallel=3), phase("other")))

    most = 0
    while out := [name for name in world.open() if name.startswith("resize")]:
        most = max(most, len(out))
        world.complete(out[0])
    world.complete("other")

    assert (most, world.session.status) == (3, "complete")


def test_all_items_are_tried_and_the_whole_fails_when_one_of_them_has() -> None:
    world = World(runtime())
    world.start(fan(failure=Handler(message=("resizing failed",)), success=Handler(message=("well",))))
    listed(world, "a", "b", "c")

    world.fail("resize[1]", retryable=False)
    going_on = world.open()
    world.complete("resize[0]", "resize[2]")
    world.settle()

    assert going_on == ["resize[0]", "resize[2]"]
    assert world.statuses()["resize"] == "failed"
    assert world.statuses()["publish"] == "skipped"
    assert (world.session.status, world.session.reason) == ("failed", "phase resize failed")
    called = [effect.called for effect in world.effects if isinstance(effect, f.PassOn)]
    assert [(one.phase_id, one.outcome, one.reason) for one in called] == [
        ("resize", "failed", "1 of 3 items failed: resize[1]")
    ]
    the_same_again(world)


def test_items_have_the_retries_of_the_phase() -> None:
    world = World(runtime())
    world.start(plan(resize(items=["a"], max_attempts=2, backoff=Backoff(initial_ms=10))))

    world.fail("resize[0]")
    world.pass_time(1_000)
    world.complete("resize[0]")

    assert world.session.phases[1].attempt == 2
    assert world.session.status == "complete"


def test_a_retry_runs_the_failed_items_alone_and_the_rest_keep_their_results() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")
    world.complete("resize[0]", result=b'"small a"')
    world.fail("resize[1]", retryable=False)
    world.settle()

    world.command("retry", "resize")
    out = world.open()
    the_same_again(world)
    world.complete("resize[1]", result=b'"small b"')
    world.complete("publish")

    assert out == ["resize[1]"]
    assert result_of(world, "resize") == ["small a", "small b"]
    assert world.session.status == "complete"


def test_an_item_can_be_retried_or_skipped_by_its_own_name() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b", "c")
    world.complete("resize[0]")
    world.fail("resize[1]", retryable=False)
    world.fail("resize[2]", retryable=False)
    world.settle()

    world.command("retry", "resize[1]")
    retried = world.open()
    world.complete("resize[1]", result=b"1")
    world.settle()
    still_failed = world.statuses()["resize"], world.session.reason
    world.command("skip", "resize[2]")
    world.complete("publish")

    assert retried == ["resize[1]"]
    assert still_failed == ("failed", "phase resize failed")
    assert result_of(world, "resize") == [None, 1, None]
    assert world.session.status == "complete"
    the_same_again(world)


@pytest.mark.parametrize("again", [["a"], ["x", "y", "z"], ["b", "a"], []])
def test_a_rerun_of_what_makes_the_list_gives_other_items(again: list[str]) -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")
    world.run_out()

    world.command("rerun", "list")
    listed(world, *again)
    items = [name for name in world.open() if name.startswith("resize")]
    runs = [
        json.loads(bytes(world.session.phases[world.session.graph.index[n]].run))["noop"]["it"] for n in items
    ]
    world.complete(*items, result=b"1") if items else None
    the_same_again(world)
    world.run_out()

    assert runs == again
    assert result_of(world, "resize") == [1] * len(again)
    assert world.session.status == "complete"
    the_same_again(world)


def test_a_rerun_from_one_item_leaves_the_others_alone() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")
    world.run_out()

    world.command("rerun", "resize[1]")
    out = world.open()
    world.complete("resize[1]")

    assert (out, world.open()) == (["resize[1]"], ["publish"])


def test_a_replan_that_leaves_the_phase_alone_leaves_its_items_alone() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")
    world.complete("resize[0]", result=b"1")
    fence = world.session.phases[world.session.graph.index["resize[1]"]].fence

    world.replan(plan(phase("new"), phase("list"), resize("list"), phase("publish", "resize")))
    the_same_again(world)
    world.complete("resize[1]", "new", result=b"2")

    assert world.session.phases[world.session.graph.index["resize[1]"]].fence == fence
    assert (result_of(world, "resize"), world.open()) == ([1, 2], ["publish"])


def test_a_replan_that_changes_the_phase_stops_its_items_and_expands_it_anew() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")
    world.complete("resize[0]")

    world.replan(fan(priority=3))
    stopping, out = list(world.session.stopping), world.open()
    world.pass_time(60_000)

    assert (stopping, out) == (["resize[1]"], ["resize[0]"])
    assert world.open() == ["resize[0]", "resize[1]"]
    the_same_again(world)


def test_a_session_that_is_over_keeps_what_its_items_have_done() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")
    world.complete("resize[0]", "resize[1]", result=b"1")
    world.complete("publish")

    world.start(plan(phase("list"), resize("list"), phase("publish", "resize", priority=1)))

    assert world.open() == ["publish"]
    assert result_of(world, "resize") == [1, 1]
    the_same_again(world)


def test_a_phase_cannot_be_skipped_while_its_items_run_and_takes_them_along_when_none_does() -> None:
    world = World(runtime(slots=1))
    world.start(plan(resize(items=["a", "b"], max_attempts=2, backoff=Backoff(initial_ms=10_000))))

    world.command("skip", "resize")
    refused = world.event_names().count("InputRefused")
    world.fail("resize[0]")
    world.fail("resize[1]")
    world.command("skip", "resize")

    assert refused == 1
    assert world.statuses() == {"resize": "skipped", "resize[0]": "skipped", "resize[1]": "skipped"}
    assert world.session.status == "complete"


def test_the_wait_for_needs_is_over_when_the_items_run() -> None:
    world = World(runtime())
    world.start(fan(wait_timeout_ms=5_000))
    listed(world, "a")

    world.pass_time(60_000)

    assert world.statuses()["resize"] == "pending"


def test_items_that_clean_up_run_in_a_failing_session() -> None:
    world = World(runtime())
    world.start(plan(phase("work"), resize("work", items=["a", "b"], trigger=TriggerRule.ALL_DONE)))

    world.fail("work", retryable=False)
    world.settle()
    out = world.open()
    world.complete("resize[0]", "resize[1]")
    world.settle()

    assert out == ["resize[0]", "resize[1]"]
    assert (world.statuses()["resize"], world.session.status) == ("complete", "failed")


def test_items_of_a_phase_that_others_go_on_without_stop_nothing() -> None:
    world = World(runtime())
    world.start(fan(on_failure=FailureAction.CONTINUE))
    listed(world, "a")

    world.fail("resize[0]", retryable=False)

    assert world.open() == ["publish"]


def test_a_cancelled_session_cancels_the_items() -> None:
    world = World(runtime())
    world.start(fan())
    listed(world, "a", "b")

    world.command("cancel")
    world.pass_time(60_000)

    assert set(world.statuses().values()) == {"complete", "cancelled"}
    assert world.session.status == "cancelled"


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (b'{"files": 3}', "x-foreach is no list but 3"),
        (b'{"else": []}', "Key not found"),
        (json.dumps({"files": [0] * (ITEMS_MAX + 1)}).encode(), "the limit is 10,000 items"),
        (json.dumps({"files": ["x" * 300_000]}).encode(), "262,144 bytes"),
    ],
)
def test_what_is_no_usable_list_fails_the_phase_and_says_why(result: bytes, says: str) -> None:
    world = World(runtime())
    world.start(fan())

    world.complete("list", result=result)

    assert world.statuses()["resize"] == "failed"
    assert says in str(world.session.phases[1].reason)


@pytest.mark.parametrize("used", [True, False])
def test_results_that_are_too_large_together_are_left_out_unless_somebody_uses_them(used: bool) -> None:
    uses = {"uses": ("resize",), "when": "size(phases.resize.result) == 2"} if used else {}
    world = World(runtime())
    world.start(plan(resize(items=["a", "b"]), phase("publish", "resize", **uses)))

    world.complete("resize[0]", "resize[1]", result=json.dumps("x" * 40_000).encode())

    if used:
        assert world.statuses()["resize"] == "failed"
        assert "hand" in str(world.session.phases[0].reason) or "reference" in str(
            world.session.phases[0].reason
        )
    else:
        assert (world.open(), result_of(world, "resize")) == (["publish"], None)


def test_a_thousand_fans_in_one_session_take_their_time_only_once() -> None:
    world = World(runtime(slots=100_000))
    world.start(plan(*(phase(f"p{n}", foreach=foreach([1, 2, 3]), **EACH) for n in range(1_000))))

    world.settle()
    world.run_out()

    assert world.session.status == "complete"
    assert len(world.session.phases) == 4_000


def test_results_that_were_left_out_are_missing_and_not_null_for_a_later_plan() -> None:
    each, large = resize(items=[1, 2]), json.dumps("x" * 40_000).encode()
    world = World(runtime())
    world.start(plan(each))
    world.complete("resize[0]", result=large)
    world.complete("resize[1]", result=large)
    filled = {"run": msgspec.Raw(b'{"noop":{"all":"${{ phases.resize.result }}"}}'), "templated": True}
    when = 'phases.resize.status == "complete" && !has(phases.resize.result)'

    world.start(
        plan(
            each,
            phase("all", "resize", uses=("resize",), on_failure=FailureAction.CONTINUE, **filled),
            phase("other", "resize", uses=("resize",), when=when),
        )
    )
    world.complete("other")

    assert result_of(world, "resize") is None
    reader = world.session.phases[world.session.graph.index["all"]]
    assert reader.status == "failed"
    assert str(reader.reason).startswith('phases.resize.result: Key not found in map: "result"')
    assert str(reader.reason).endswith("(the results of resize were too large to be kept)")


def test_an_item_of_a_phase_that_never_got_its_list_does_not_run_before_what_the_phase_needs() -> None:
    world = World(runtime())
    world.start(fan(wait_timeout_ms=2_000))
    listed(world, "a")
    world.complete("resize[0]")
    world.complete("publish")
    world.command("rerun", "list")
    world.running("list")
    world.pass_time(2_000)

    failed = world.session.phases[1].status
    world.command("rerun", "resize[0]")
    before = world.open()
    listed(world, "b")

    assert failed == "failed"
    assert before == ["list"]
    assert world.open() == ["resize[0]"]
    the_same_again(world)
