"""What a plan would do, phase by phase; and that it is what is done."""

import random

import pytest

from planter.core.differences import Action, Change, difference
from planter.core.graph import graph_of
from planter.core.plan import Plan
from planter.core.session import Session
from planter.core.status import PHASE_OPEN, SESSION_ACTIVE
from planter_testkit.builders import World, phase, plan, runtime
from planter_testkit.histories import edited, play


def told(session: Session | None, wanted: Plan) -> dict[str, tuple[str, ...]]:
    return {
        change.phase_id: tuple(change.actions) for change in difference(session, graph_of(wanted)).changes
    }


def of(session: Session, wanted: Plan, name: str) -> Change:
    return next(c for c in difference(session, graph_of(wanted)).changes if c.phase_id == name)


def test_without_a_session_everything_is_added() -> None:
    assert told(None, plan(phase("a"))) == {"a": ("add",)}


def test_an_ended_session_runs_what_changed_what_follows_and_what_is_not_done() -> None:
    world = World(runtime())
    world.start(plan(phase("a"), phase("b", "a"), phase("bad"), phase("gone"), phase("done")))
    world.complete("a", "gone", "done")
    world.complete("b")
    world.fail("bad")
    wanted = plan(phase("a", digest="edited"), phase("b", "a"), phase("bad"), phase("done"), phase("new"))

    assert told(world.session, wanted) == {
        "a": ("update", "rerun"),
        "b": ("rerun",),
        "bad": ("rerun",),
        "done": ("keep",),
        "new": ("add",),
        "gone": ("drop",),
    }
    b, bad = of(world.session, wanted, "b"), of(world.session, wanted, "bad")
    assert (b.cause, b.root, b.root_cause) == ("depends", "a", "changed")
    assert (bad.cause, bad.root) == ("failed", None)


def test_a_running_session_says_what_is_kept_cancelled_dropped_and_updated() -> None:
    world = World(runtime())
    world.start(plan(phase("done"), phase("runs"), phase("edited"), phase("gone"), phase("later", "runs")))
    world.complete("done")
    wanted = plan(
        phase("done"), phase("runs"), phase("edited", digest="x"), phase("later", "runs", digest="y")
    )

    found = difference(world.session, graph_of(wanted))

    assert found.live
    assert told(world.session, wanted) == {
        "done": ("keep",),
        "runs": ("keep",),
        "edited": ("cancel", "update", "rerun"),
        "later": ("update",),
        "gone": ("cancel", "drop"),
    }
    assert found.counts[Action.CANCEL] == 2


def test_what_a_session_executes_already_is_no_difference() -> None:
    world = World(runtime())
    wanted = plan(phase("a", on_failure="continue"), phase("b"))
    world.start(wanted)

    assert difference(world.session, graph_of(wanted)).is_empty


def test_a_phase_with_a_new_name_and_the_same_content_is_hinted_at_on_both_sides() -> None:
    world = World(runtime())
    world.start(plan(phase("old"), phase("other", max_attempts=2)))
    world.run_out()
    wanted = plan(phase("new"), phase("different", max_attempts=3))

    assert of(world.session, wanted, "new").renamed == "old"
    assert of(world.session, wanted, "old").renamed == "new"
    assert of(world.session, wanted, "different").renamed is None


@pytest.mark.parametrize("seed", range(60))
def test_what_is_told_is_what_is_done(seed: int) -> None:
    world = play(seed)
    session = world.session
    wanted = edited(random.Random(seed), session.graph.manifest)
    before = dict(zip(session.graph.index, session.phases, strict=True))
    open_before = {name: (p.attempt, p.fence) for name, p in before.items() if p.status in PHASE_OPEN}
    found = difference(session, graph_of(wanted))
    live, was_stopping = session.status in SESSION_ACTIVE, set(session.stopping)
    changes = {change.phase_id: change.actions for change in found.changes}

    decision = world.replan(wanted)

    if not any(type(event).__name__ == "PlanApplied" for event in decision.events):
        return  # it was refused, or is the same
    after = dict(zip(session.graph.index, session.phases, strict=True))
    assert found.live == live
    cancels = {name for name, actions in changes.items() if Action.CANCEL in actions}
    assert {name.partition("[")[0] for name in set(session.stopping) - was_stopping} == cancels
    for name, actions in changes.items():
        assert (name in after) == (Action.DROP not in actions)
        if actions == (Action.KEEP,) and name in open_before:
            assert (after[name].attempt, after[name].fence) == open_before[name]
        elif actions == (Action.KEEP,) and before[name].satisfies:
            assert after[name].status is before[name].status
