"""The four answers of a runtime to an offer, and what follows from each (docs/scheduling.md)."""

from typing import Any

import pytest

from planter.core import inputs as i
from planter_testkit.builders import World, phase, picture, plan, runtime


def world_of(*runtimes: Any, **fields: Any) -> World:
    """One phase ``a``, targeted."""
    world = World(*runtimes)
    world.start(plan(phase("a", **fields)))
    return world


def answer(world: World, *, accepted: bool = False, **fields: Any) -> None:
    """The runtime that has the offer answers."""
    world.step(i.Acknowledge(**world.echo("a"), accepted=accepted, **fields))


def holder(world: World) -> str | None:
    """Who was offered the phase last; None while nobody is asked."""
    state = world.session.phases[0]
    return state.runtime_id if state.status == "targeted" else None


def asked(world: World, seconds: int) -> list[int]:
    """The seconds in which the phase is offered, when each offer gets a no at once."""
    found = []
    for second in range(1, seconds + 1):
        world.pass_time(1_000)
        if world.open():
            found.append(second)
            answer(world, reason="no")
    return found


def test_an_accepted_phase_stays_with_its_runtime() -> None:
    world = world_of(runtime("r1"), runtime("r2"))
    first = holder(world)

    answer(world, accepted=True)
    world.pass_time(3_600_000)

    assert (holder(world), world.session.phases[0].accepted) == (first, True)


def test_a_queued_phase_is_accepted_but_its_time_to_the_start_goes_on() -> None:
    world = world_of(runtime(), schedule_to_start_ms=10_000)

    world.pass_time(6_000)
    answer(world, accepted=True, queued=True)
    before = (world.statuses()["a"], world.session.phases[0].reason)
    world.pass_time(3_999)
    still = world.statuses()["a"]
    world.pass_time(1)

    assert before == ("targeted", "queued by the runtime")
    assert (still, world.statuses()["a"]) == ("targeted", "failed")


def test_a_rejected_phase_is_offered_to_another_runtime_in_the_same_step() -> None:
    world = world_of(runtime("r1"), runtime("r2", slots=1), max_attempts=1)

    answer(world, reason="no GPU")

    assert (holder(world), world.session.phases[0].attempt) == ("r2", 1)


def test_when_all_reject_the_pauses_grow_up_to_a_minute() -> None:
    world = world_of(runtime())

    answer(world, reason="no")

    assert asked(world, 300) == [1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_two_runtimes_that_reject_are_each_asked_at_their_own_pace() -> None:
    world = world_of(runtime("r1"), runtime("r2"))

    offers = []
    for _ in range(600):
        while (who := holder(world)) is not None:
            offers.append((world.now, who))
            answer(world, reason="no")
        world.pass_time(100)

    assert len(offers) == 2 * 6
    assert offers[:2] == [(1_000_000, "r1"), (1_000_000, "r2")]


def test_the_status_says_who_rejected_it_why_and_for_how_long_nobody_is_asked() -> None:
    world = world_of(runtime())

    answer(world, reason="no GPU")
    answered = world.session.phases[0]

    assert (answered.status, answered.attempt) == ("ready", 0)
    assert answered.reason == "rejected by runtime r1: no GPU; not asked again for 1 s"


def test_a_runtime_that_takes_a_phase_after_all_starts_with_a_short_pause_again() -> None:
    world = world_of(runtime())
    for _ in range(4):
        answer(world, reason="no")
        world.pass_time(60_000)

    answer(world, accepted=True)
    answer(world, reason="draining")

    assert str(world.session.phases[0].reason).endswith("not asked again for 1 s")


@pytest.mark.parametrize(
    ("fields", "pause"),
    [
        ({"retry_after_ms": 30_000}, 30_000),
        ({"queued": True}, 5_000),
        ({"queued": True, "retry_after_ms": 7_000}, 7_000),
        ({"retry_after_ms": 0}, 5_000),
        ({"retry_after_ms": -9}, 1_000),
        ({"retry_after_ms": 1}, 1_000),
        ({"retry_after_ms": 10**15}, 3_600_000),
    ],
)
def test_a_deferred_phase_is_offered_to_nobody_before_its_time(fields: dict[str, Any], pause: int) -> None:
    world = world_of(runtime("r1"), runtime("r2"), max_attempts=1)

    answer(world, reason="warming up", **fields)
    deferred = (world.statuses()["a"], holder(world))
    world.pass_time(pause - 1)
    before = holder(world)
    world.pass_time(1)

    assert (deferred, before) == (("ready", None), None)
    assert holder(world) is not None
    assert world.session.phases[0].attempt == 1
    assert picture(world.replayed()) == picture(world.session)


def test_a_deferral_costs_no_retry() -> None:
    world = world_of(runtime(), max_attempts=1)
    for _ in range(20):
        answer(world, retry_after_ms=1_000)
        world.pass_time(60_000)

    world.complete("a")

    assert (world.session.phases[0].attempt, world.session.status) == (1, "complete")


def test_a_runtime_that_always_defers_for_a_moment_is_asked_ever_more_rarely() -> None:
    world = world_of(runtime())
    offers = 0
    for _ in range(600):
        while world.open():
            offers += 1
            answer(world, retry_after_ms=1)
        world.pass_time(100)

    assert offers == 6


def test_deferred_phases_wait_while_the_slots_serve_others() -> None:
    world = World(runtime(slots=1))
    world.start(plan(phase("a", priority=5), phase("b")))

    answer(world, retry_after_ms=10_000)
    meanwhile = world.open()
    world.complete("b")
    world.pass_time(10_000)

    assert (meanwhile, world.open()) == (["b"], ["a"])


def test_the_time_to_the_start_goes_on_while_a_phase_is_deferred() -> None:
    world = world_of(runtime(), schedule_to_start_ms=10_000)

    world.pass_time(4_000)
    answer(world, retry_after_ms=3_600_000)
    world.pass_time(5_999)
    before = world.statuses()["a"]
    world.pass_time(1)

    assert (before, world.statuses()["a"]) == ("ready", "failed")
    assert "deferred by runtime r1" in str(world.session.phases[0].reason)


def test_a_planner_that_takes_over_keeps_a_deferral() -> None:
    world = world_of(runtime())
    answer(world, retry_after_ms=30_000)

    world.session = world.replayed()
    world.pass_time(29_999)
    before = world.open()
    world.pass_time(1)

    assert (before, world.open()) == ([], ["a"])


def test_a_deferral_outlives_a_pause_and_a_reset_of_other_phases() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", max_attempts=1)))
    world.step(i.Acknowledge(**world.echo("a"), accepted=False, retry_after_ms=60_000))
    world.complete("b")
    world.command("pause")
    world.pass_time(1_000)
    world.command("resume")
    world.command("rerun", "b")
    again = world.open()
    world.pass_time(58_999)
    before = world.statuses()["a"]
    world.pass_time(1)

    assert (again, before) == (["b"], "ready")
    assert world.statuses()["a"] == "targeted"


def test_a_deferred_phase_of_a_failing_session_is_skipped() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b")))
    world.step(i.Acknowledge(**world.echo("a"), accepted=False, retry_after_ms=60_000))

    world.fail("b")

    assert world.statuses() == {"a": "skipped", "b": "failed"}


def test_a_no_after_the_work_has_begun_changes_nothing() -> None:
    world = world_of(runtime("r1"), runtime("r2"))
    world.running("a")
    first = world.session.phases[0].runtime_id

    answer(world, reason="late")

    assert (world.statuses()["a"], world.session.phases[0].runtime_id) == ("running", first)


def test_a_runtime_that_was_asked_again_for_what_it_had_begun_and_says_no_has_lost_it() -> None:
    world = world_of(runtime())
    world.running("a")
    fence = world.session.phases[0].fence

    world.step(i.Unheard(phase_id="a", fence=fence))
    answer(world, reason="stale: fence 99 is known here")
    state = world.session.phases[0]

    assert (state.status, state.attempt, state.fence > fence) == ("targeted", 2, True)
    assert (state.losses, state.budget_from) == (1, 1)
    assert picture(world.replayed()) == picture(world.session)


def test_an_open_offer_that_one_bare_runtime_declines_stays_open_for_the_others() -> None:
    world = World()
    world.start(plan(phase("a")))

    decision = world.step(i.Acknowledge(phase_id="a", accepted=False, queued=True))
    world.step(i.ReportComplete(phase_id="a"))

    assert (decision.events, world.session.status) == ((), "complete")
