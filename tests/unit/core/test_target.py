"""A session that goes up to a target phase, and further later: only what is missing runs."""

from typing import Any

import pytest

from planter.compile.target import up_to
from planter.core.plan import Plan
from planter.core.session import Session
from planter.core.snapshot import decode, encode, restore, take
from planter_testkit.builders import World, phase, picture, plan, runtime


def chain(**changed: Any) -> Plan:
    """a, then b, then c; and lone. Keyword arguments change the fields of phase a."""
    return plan(phase("a", **changed), phase("b", "a"), phase("c", "b"), phase("lone"))


def start(world: World, given: Plan, target: str | None = None) -> list[str]:
    """Apply it and run all that is open; the phases that ran, in order."""
    chosen = given if target is None else up_to(given, target)
    assert chosen is not None
    world.start(chosen)
    ran: list[str] = []
    while world.open():
        names = world.open()
        ran += names
        world.complete(*names)
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)
    assert world.replayed().aside == world.session.aside
    return ran


def test_up_to_a_phase_and_then_the_rest() -> None:
    world = World(runtime())

    first = start(world, chain(), "b")
    state = world.session.graph.plan.target, world.statuses()
    second = start(world, chain())

    assert first == ["a", "b"]
    assert state == ("b", {"a": "complete", "b": "complete"})
    assert sorted(second) == ["c", "lone"]
    assert (world.session.revision, world.session.graph.plan.target) == (2, None)


def test_up_to_one_phase_after_the_other() -> None:
    world = World(runtime())

    assert [start(world, chain(), name) for name in ("a", "b", "lone", "c")] == [
        ["a"],
        ["b"],
        ["lone"],
        ["c"],
    ]
    assert start(world, chain()) == []


def test_all_then_a_part_then_all_runs_nothing_again() -> None:
    world = World(runtime())
    start(world, chain())

    again = [start(world, chain(), "a"), start(world, chain(), "lone"), start(world, chain())]

    assert again == [[], [], []]
    assert world.statuses() == dict.fromkeys(("a", "b", "c", "lone"), "complete")
    assert world.session.aside == {}


def test_what_was_left_out_runs_again_when_a_phase_that_it_needs_did_so() -> None:
    world = World(runtime())
    start(world, chain())

    part = start(world, chain(priority=1), "a")
    rest = start(world, chain(priority=1))

    assert (part, rest) == (["a"], ["b", "c"])


def test_what_was_left_out_runs_again_when_it_has_changed() -> None:
    world = World(runtime())
    start(world, chain())
    start(world, chain(), "a")
    other = plan(phase("a"), phase("b", "a"), phase("c", "b", priority=3), phase("lone"))

    assert start(world, other) == ["c"]


def test_a_rerun_of_the_part_makes_what_follows_from_it_run_again() -> None:
    world = World(runtime())
    start(world, chain())
    start(world, chain(), "a")

    world.command("rerun", "a")
    world.complete("a")

    assert start(world, chain()) == ["b", "c"]


def test_a_part_of_a_part_remembers_what_either_left_out() -> None:
    world = World(runtime())
    start(world, chain())
    start(world, chain(), "b")
    start(world, chain(), "a")

    assert set(world.session.aside) == {"b", "c", "lone"}
    assert start(world, chain()) == []


def test_attempts_of_what_was_left_out_are_numbered_on() -> None:
    world = World(runtime())
    start(world, chain())
    start(world, chain(), "a")
    other = plan(phase("a"), phase("b", "a", priority=3))
    start(world, other)

    assert [state.attempt for state in world.session.phases] == [1, 2]


@pytest.mark.parametrize("target", ["a", "lone"])
def test_a_snapshot_has_what_was_left_out(target: str) -> None:
    world = World(runtime())
    start(world, chain())
    start(world, chain(), target)
    taken = take(world.session)
    assert taken is not None
    found = Session("test")
    restore(found, decode(encode(taken)), world.session.graph)
    world.session = found

    assert start(world, chain()) == []
