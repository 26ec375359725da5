"""Handlers as an outbox in the journal: called with a phase's end, passed on before the session's."""

from typing import Any

import pytest

from planter.core import effects as f
from planter.core import inputs as i
from planter.core.handlers import PAIRS_MAX, TEXT_MAX, VALUE_MAX
from planter.core.plan import Backoff, FailureAction, Handler
from planter_testkit.builders import World, phase, picture, plan, runtime

TELL = Handler(message=("told",), labels={"team": "x"}, notify={"email": "a@example.com"})


def world_of(**fields: Any) -> World:
    """One phase ``a`` whose work is out."""
    world = World(runtime())
    world.start(plan(phase("a", **fields)))
    return world


def ordered(world: World) -> list[tuple[str, int, str]]:
    """Phase, attempt and outcome of all that was ordered to be passed on."""
    calls = [effect.called for effect in world.effects if isinstance(effect, f.PassOn)]
    return [(called.phase_id, called.attempt, called.outcome) for called in calls]


def test_a_handler_is_called_once_after_all_attempts() -> None:
    world = world_of(max_attempts=2, backoff=Backoff(initial_ms=0), failure=TELL, success=TELL)

    world.fail("a", "first")
    world.pass_time(1)
    world.fail("a", "second")
    world.settle()

    assert ordered(world) == [("a", 2, "failed")]
    (called,) = [effect.called for effect in world.effects if isinstance(effect, f.PassOn)]
    assert (called.reason, called.message, called.labels, called.notify, called.revision) == (
        "second",
        ("told",),
        {"team": "x"},
        {"email": "a@example.com"},
        1,
    )


def test_the_session_ends_only_once_all_is_passed_on() -> None:
    world = World(runtime())
    world.start(plan(phase("a", success=TELL), phase("b", success=TELL)))
    world.complete("a", "b")

    world.step(i.PassedOn(phase_id="a", number=1))
    before = world.session.status
    world.step(i.PassedOn(phase_id="b", number=2))

    assert (before, world.session.status) == ("running", "complete")


def test_no_phase_waits_for_what_is_to_be_passed_on() -> None:
    world = World(runtime())
    world.start(plan(phase("a", success=TELL), phase("b", "a")))

    world.complete("a")

    assert world.open() == ["b"]


def test_it_is_ordered_once_and_again_by_whoever_reads_the_journal_anew() -> None:
    world = world_of(success=TELL)
    world.complete("a")
    world.step()
    world.pass_time(60_000)
    once = ordered(world)

    world.session = world.replayed()
    world.step()
    world.settle()

    assert (once, ordered(world)) == ([("a", 1, "complete")], [("a", 1, "complete")] * 2)
    assert world.session.status == "complete"
    assert picture(world.replayed()) == picture(world.session)


def test_what_is_passed_on_twice_is_noted_once() -> None:
    world = world_of(success=TELL)
    world.complete("a")

    again = i.PassedOn(phase_id="a", number=1)
    world.step(again, again)
    world.step(again)

    assert world.event_names().count("HandlerPassedOn") == 1


@pytest.mark.parametrize("handler", [None, Handler()])
def test_a_handler_that_says_nothing_costs_nothing(handler: Handler | None) -> None:
    world = world_of(success=handler)

    decision = world.complete("a")

    assert [type(event).__name__ for event in decision.events] == ["PhaseCompleted", "SessionEnded"]


def test_a_phase_that_is_cancelled_or_skipped_calls_no_handler() -> None:
    world = World(runtime())
    told = {"success": TELL, "failure": TELL}
    world.start(plan(phase("a", **told), phase("b", "a", **told)))

    world.command("skip", "b")
    world.command("cancel")
    world.pass_time(60_000)

    assert ordered(world) == []
    assert world.session.status == "cancelled"


def test_a_phase_whose_last_attempt_is_cut_off_by_the_failing_session_calls_its_handler() -> None:
    world = World(runtime())
    world.start(
        plan(phase("a", max_attempts=3, backoff=Backoff(initial_ms=60_000), failure=TELL), phase("b"))
    )
    world.fail("a")

    world.fail("b")
    world.settle()

    assert ordered(world) == [("a", 1, "failed")]
    assert world.session.status == "failed"


def test_a_phase_that_runs_again_calls_its_handler_again() -> None:
    world = world_of(success=TELL)
    world.complete("a")
    world.settle()

    world.command("rerun", "a")
    world.complete("a")
    world.settle()

    assert ordered(world) == [("a", 1, "complete"), ("a", 2, "complete")]


def test_a_handler_of_a_phase_that_others_go_on_without_is_called_too() -> None:
    world = world_of(on_failure=FailureAction.CONTINUE, failure=TELL)

    world.fail("a")
    world.settle()

    assert (ordered(world), world.session.status) == ([("a", 1, "failed")], "complete")


def test_what_is_passed_on_is_bounded() -> None:
    many = {f"k{n}": "v" * 10_000 for n in range(1_000)}
    world = world_of(failure=Handler(message=("m" * 10**6, "never"), labels=many, notify=many))

    world.fail("a", "r" * 10**6)

    (called,) = [effect.called for effect in world.effects if isinstance(effect, f.PassOn)]
    assert sum(map(len, called.message)) <= TEXT_MAX + 3
    assert len(str(called.reason)) <= TEXT_MAX + 3
    for pairs in (called.labels, called.notify):
        assert len(pairs) == PAIRS_MAX
        assert max(map(len, pairs.values())) <= VALUE_MAX + 3


def test_a_phase_that_fails_twice_without_an_attempt_in_between_is_told_twice() -> None:
    world = World(runtime())
    world.start(plan(phase("a", when="phases.a.result", failure=TELL)))
    world.settle()

    world.command("retry")
    world.settle()

    assert ordered(world) == [("a", 0, "failed")] * 2
    assert [effect.called.number for effect in world.effects if isinstance(effect, f.PassOn)] == [1, 2]
    assert world.event_names().count("HandlerPassedOn") == 2
