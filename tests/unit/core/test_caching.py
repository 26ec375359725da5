"""Earlier results of the same content, driven without I/O."""

import json
from typing import Any

import msgspec
import pytest

from planter.core import effects as f
from planter.core import inputs as i
from planter.core.plan import Backoff, Cache, Handler, PhaseSpec
from planter_testkit.builders import World, foreach, phase, picture, plan, runtime

MADE = 500_000


def cached(
    name: str = "a", *needs: str, key: str | None = None, max_age_ms: int | None = None, **fields: Any
) -> PhaseSpec:
    return phase(name, *needs, cache=Cache(key=key, max_age_ms=max_age_ms), **fields)


def asked(world: World) -> list[tuple[str, str]]:
    return [(one.phase_id, one.key) for one in world.effects if isinstance(one, f.LookUp)]


def kept(world: World) -> list[tuple[str, str, bytes]]:
    found = [one for one in world.effects if isinstance(one, f.Remember)]
    return [(one.phase_id, one.key, bytes(one.result)) for one in found]  # pyright: ignore[reportArgumentType]


def answer(world: World, result: bytes | None = None, made: int = MADE, of: int = -1) -> None:
    """What the shell says to the newest question."""
    name, key = asked(world)[of]
    found = {} if result is None else {"result": msgspec.Raw(result), "source": "other/x", "made": made}
    world.step(i.LookedUp(phase_id=name, key=key, **found))


def key_of(spec: PhaseSpec, result: bytes = b"1") -> str:
    """The key of a phase that comes after ``first``."""
    world = World(runtime())
    world.start(plan(phase("first"), spec))
    world.complete("first", result=result)
    return asked(world)[-1][1]


def test_a_phase_is_not_run_when_there_is_an_earlier_result() -> None:
    world = World(runtime())
    world.start(plan(cached(success=Handler(message=("well",))), phase("b", "a")))

    before = world.open()
    answer(world, b'{"image":"x"}')
    world.complete("b")
    world.settle()

    state = world.session.phases[0]
    assert before == []
    assert (state.status, state.attempt, bytes(state.result)) == ("complete", 0, b'{"image":"x"}')
    assert state.reason == "the result of other/x was taken (x-cache)"
    assert world.event_names().count("HandlerCalled") == 1
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_without_one_it_is_run_and_its_result_kept_for_others() -> None:
    world = World(runtime())
    world.start(plan(cached()))

    answer(world)
    out = world.open()
    world.complete("a", result=b'"new"')

    assert out == ["a"]
    assert kept(world) == [("a", asked(world)[0][1], b'"new"')]


def test_a_result_that_is_too_old_is_none() -> None:
    world = World(runtime())
    world.start(plan(cached(max_age_ms=1_000)))

    answer(world, b"1", made=world.now - 1_001)
    world.complete("a")

    assert "PhaseReused" not in world.event_names()
    assert world.session.status == "complete"


def test_what_fails_is_not_kept() -> None:
    world = World(runtime())
    world.start(plan(cached()))
    answer(world)

    world.fail("a", retryable=False)

    assert kept(world) == []


def test_the_key_is_what_decides_about_the_result() -> None:
    run = msgspec.Raw(b'{"python":"m:f","with":{"n":"${{ phases.first.result }}"}}')
    other = msgspec.Raw(b'{"python":"m:g","with":{"n":"${{ phases.first.result }}"}}')
    this = {"kind": "python", "run": run, "templated": True, "uses": ("first",)}

    same = key_of(cached("a", "first", **this))

    assert key_of(cached("z", "first", **this, priority=3, max_attempts=4)) == same
    assert key_of(cached("a", "first", **this), b"2") != same
    assert key_of(cached("a", "first", **{**this, "run": other})) != same
    assert key_of(cached("a", "first", **this, labels={"os": "linux"})) != same
    by_key = key_of(cached("a", "first", key="size(phases.first.result)", **this), b"[1]")
    assert key_of(cached("a", "first", key="size(phases.first.result)", **this), b"[2]") == by_key
    assert key_of(cached("a", "first", key="size(phases.first.result)", **this), b"[1,2]") != by_key


def test_phases_that_are_chosen_by_labels_have_nothing_but_their_names() -> None:
    by_labels = {"kind": None, "run": msgspec.UNSET, "labels": {"do": "work"}}

    assert key_of(cached("a", "first", **by_labels)) != key_of(cached("b", "first", **by_labels))


def test_a_rerun_runs_it_again_and_keeps_the_new_result() -> None:
    world = World(runtime())
    world.start(plan(cached()))
    answer(world, b"1")

    world.command("rerun", "a")
    out = world.open()
    world.complete("a", result=b"2")

    assert (out, len(asked(world))) == (["a"], 1)
    assert [result for _, _, result in kept(world)] == [b"2"]


def test_a_second_attempt_does_not_ask_again() -> None:
    world = World(runtime())
    world.start(plan(cached(max_attempts=2, backoff=Backoff(initial_ms=0))))
    answer(world)

    world.fail("a")
    world.pass_time(10)

    assert (world.open(), len(asked(world))) == (["a"], 1)


@pytest.mark.parametrize("result", [b"1", None])
def test_an_answer_that_comes_while_the_session_is_paused_is_asked_for_again(result: bytes | None) -> None:
    world = World(runtime())
    world.start(plan(cached()))
    world.command("pause")

    answer(world, result)
    paused = world.statuses(), len(asked(world))
    world.command("resume")
    answer(world, result)
    world.run_out()

    assert paused == ({"a": "ready"}, 1)
    assert len(asked(world)) == 2
    assert world.session.status == "complete"


def test_whoever_reads_the_journal_asks_again() -> None:
    world = World(runtime())
    world.start(plan(cached(), phase("b")))

    world.session = world.replayed()
    world.step()
    answer(world, b"1")

    assert len(asked(world)) == 2
    assert world.statuses()["a"] == "complete"


def test_an_answer_to_another_question_is_none() -> None:
    world = World(runtime())
    world.start(plan(cached()))

    world.step(i.LookedUp(phase_id="a", key="0" * 64, result=msgspec.Raw(b"1"), source="x/y", made=MADE))
    world.step(i.LookedUp(phase_id="nobody", key="0" * 64))

    assert world.statuses() == {"a": "ready"}


def test_every_item_of_a_list_has_a_key_of_its_own() -> None:
    world = World(runtime())
    world.start(plan(cached("each", foreach=foreach(["x", "y", "x"]), kind=None, run=msgspec.UNSET)))

    names, keys = zip(*asked(world), strict=True)

    assert names == ("each[0]", "each[1]", "each[2]")
    assert len(set(keys)) == 3


def test_items_with_the_same_arguments_share_a_result() -> None:
    run = msgspec.Raw(b'{"noop":{"it":"${{ item }}"}}')
    world = World(runtime())
    world.start(plan(cached("each", foreach=foreach(["x", "y", "x"]), run=run, templated=True)))

    keys = [key for _, key in asked(world)]

    assert keys[0] == keys[2] != keys[1]


def test_a_key_without_a_value_fails_the_phase() -> None:
    world = World(runtime())
    world.start(plan(cached(key="phases.nobody.result")))

    assert world.statuses() == {"a": "failed"}


def test_a_replan_asks_again_for_what_waits() -> None:
    world = World(runtime())
    world.start(plan(phase("x"), cached()))

    world.replan(plan(cached(), phase("x"), phase("y")))
    answer(world, json.dumps("found").encode())

    assert len(asked(world)) == 2
    assert world.statuses()["a"] == "complete"


def test_nothing_is_looked_for_once_the_session_is_over() -> None:
    world = World(runtime())
    world.start(plan(cached()))
    before = len(world.session.looking)

    world.command("cancel")

    assert (before, world.session.looking, world.session.status) == (1, {}, "cancelled")
