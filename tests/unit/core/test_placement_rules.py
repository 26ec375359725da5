"""Constraints, preferences and weights of slots: who gets a phase, and what is said when nobody does."""

import msgspec

from planter.core import inputs as i
from planter.core.explain import explain
from planter.core.fleet import Fleet, can_take, requirement
from planter.core.placement import gaps, sift
from planter.core.plan import Affinity, Constraint, PhaseSpec, PlacementRules
from planter_testkit.builders import World, fleet, foreach, phase, plan, runtime, the_same_again

BIG = PlacementRules(slots=3)


def labelled(name: str, slots: int = 10, **labels: str):
    return runtime(name, slots, labels=labels)


def rules(*constraints: Constraint, affinity: tuple[Affinity, ...] = (), slots: int = 1) -> PlacementRules:
    return PlacementRules(constraints, affinity, slots)


def wanting(name: str, given: PlacementRules, *needs: str, **fields: object) -> PhaseSpec:
    return phase(name, *needs, placement=given, **fields)


def where(world: World) -> dict[str, str | None]:
    """Who has what is open."""
    return {
        world.session.spec(index).id: state.runtime_id
        for index, state in enumerate(world.session.phases)
        if state.status.value in ("targeted", "running")
    }


def tiers(world: World, spec: PhaseSpec) -> list[list[str]]:
    return [[runtime.id for runtime in tier] for tier in world.fleet.tiers(requirement(spec))]


# -- constraints -------------------------------------------------------------------------------


def test_a_constraint_decides_who_gets_the_phase() -> None:
    world = World(labelled("small", memory="8"), labelled("large", memory="24"), labelled("none"))
    world.start(plan(wanting("a", rules(Constraint("memory", ">=", "16"))), phase("b"), phase("c")))

    assert where(world)["a"] == "large"


def test_the_label_that_matches_every_selector_fulfils_no_constraint() -> None:
    wanted = requirement(wanting("a", rules(Constraint("zone", "=", "eu"))))

    assert not can_take(runtime(), wanted)
    assert can_take(runtime(labels={"*": "*", "zone": "eu"}), wanted)


def test_a_runtime_cannot_name_itself_what_it_is_not() -> None:
    wanted = requirement(wanting("a", rules(Constraint("planter.host", "=", "h1"))))

    assert can_take(runtime("r1", host="h1"), wanted)
    assert not can_take(runtime("r1", host="h2", labels={"planter.host": "h1"}), wanted)
    assert not can_take(runtime("r1", labels={"planter.host": "h1"}), wanted)
    assert can_take(runtime("r1"), requirement(wanting("a", rules(Constraint("planter.runtime", "=", "r1")))))


def test_each_constraint_is_a_row_with_the_runtimes_that_it_removes() -> None:
    some = fleet(
        labelled("a", memory="8", zone="eu"), labelled("b", memory="24", zone="us"), labelled("c", zone="eu")
    )
    given = rules(Constraint("memory", ">=", "16"), Constraint("zone", "=", "eu"), slots=20)
    found = sift(some, requirement(wanting("p", given)))

    assert [(one.constraint, one.count, one.text) for one in found.removed] == [
        ("constraint", 2, "do not fulfil memory >= 16 (1 have no such label)"),
        ("constraint", 1, "do not fulfil zone = eu"),
    ]


def test_a_misspelt_label_is_told_from_a_wrong_value() -> None:
    (gap,) = gaps(
        fleet(labelled("a", memory="8")),
        [wanting("p", rules(Constraint("memry", ">=", "1")), kind="noop")],
        20,
    )

    assert gap.reason == (
        "no registered runtime matches: of 1 runtime, 1 do not fulfil memry >= 1 (they have no such label)"
    )


def test_a_phase_larger_than_any_runtime_is_a_gap_and_is_placed_once_a_larger_one_comes() -> None:
    world = World(runtime("r1", slots=2))
    world.start(plan(wanting("a", BIG), phase("b")))
    reason = "no registered runtime matches: of 1 runtime, 1 have fewer than 3 slots in all"

    assert [(gap.reason, gap.phases) for gap in gaps(world.fleet, world.session.graph.plan.phases, 20)] == [
        (reason, ("a",))
    ]
    assert where(world) == {"a": None, "b": "r1"}
    found = explain(world.session, world.fleet, 0, world.now)
    assert found.conditions[-1].code == "placement.no_match"
    assert found.conditions[-1].unblock == "a runtime with executor noop, at least 3 slots"

    world.fleet.put(runtime("r2", slots=3))
    world.step()
    world.settle()

    assert where(world)["a"] == "r2"


# -- preferences -------------------------------------------------------------------------------

NEAR = (Affinity("zone", "=", "eu", 60), Affinity("disk", "=", "ssd", 30), Affinity("old", "is_set", "", -10))


def test_the_runtime_that_is_liked_most_comes_before_the_one_with_most_room() -> None:
    world = World(
        labelled("roomy", slots=50),
        labelled("near", slots=1, zone="eu"),
        labelled("ssd", slots=5, disk="ssd"),
    )
    given = rules(affinity=NEAR)
    world.start(plan(*(wanting(name, given) for name in "abc")))

    assert where(world) == {"a": "near", "b": "ssd", "c": "ssd"}


def test_of_runtimes_that_are_liked_equally_the_one_with_most_room_is_taken() -> None:
    world = World(
        labelled("one", slots=2, zone="eu"), labelled("two", slots=3, zone="eu"), labelled("far", slots=9)
    )
    world.start(plan(*(wanting(name, rules(affinity=NEAR)) for name in "abc")))

    assert world.session.load == {"one": 1, "two": 2}


def test_a_full_runtime_is_never_waited_for_and_an_unliked_one_is_better_than_none() -> None:
    world = World(labelled("near", slots=1, zone="eu"), labelled("old", slots=1, old="yes"))
    world.start(plan(*(wanting(name, rules(affinity=NEAR)) for name in "ab")))

    assert where(world) == {"a": "near", "b": "old"}


def test_preferences_follow_a_runtime_that_changes() -> None:
    world = World(labelled("r1", slots=1), labelled("r2", slots=1))
    spec = wanting("a", rules(affinity=NEAR))
    assert tiers(world, spec) == [["r1", "r2"]]

    world.fleet.put(labelled("r2", slots=1, zone="eu", old="yes"))

    assert tiers(world, spec) == [["r2"], ["r1"]]
    assert tiers(world, phase("b")) == [["r1", "r2"]]


def test_what_is_preferred_is_explained_best_first_with_normalised_scores() -> None:
    world = World(labelled("full", slots=1, zone="eu"), labelled("old", slots=1, old="yes"))
    world.start(plan(*(wanting(name, rules(affinity=NEAR)) for name in "abc")))
    found = explain(world.session, world.fleet, 2, world.now).placement
    assert found is not None

    assert [(one.runtime_id, one.score) for one in found.preferred] == [("full", 0.6), ("old", -0.1)]


# -- weights of slots --------------------------------------------------------------------------


def test_an_attempt_takes_as_many_slots_as_it_says_until_it_ends() -> None:
    world = World(runtime("r1", slots=4))
    world.start(plan(wanting("a", BIG), wanting("b", BIG), phase("c", "a")))

    assert where(world) == {"a": "r1"}
    assert world.session.load == {"r1": 3}
    assert world.fleet.in_use("r1") == 3

    world.complete("a")

    assert world.session.load == {"r1": 4}
    assert set(where(world)) == {"b", "c"}

    world.run_out()
    assert world.session.load == {}


def test_why_a_large_phase_waits_is_said_in_slots() -> None:
    world = World(runtime("r1", slots=4))
    world.start(plan(wanting("a", BIG), wanting("b", BIG)))
    found = explain(world.session, world.fleet, 1, world.now)

    assert found.conditions[0].text == "it takes 3 slots, and no matching runtime (of 1) has so many free"
    assert found.placement is not None
    assert [one.text for one in found.placement.removed] == ["have fewer than 3 free slots"]
    assert found.placement.free == 0


def test_a_large_phase_leaves_room_for_a_small_one_and_the_rest_of_its_group_waits() -> None:
    world = World(runtime("r1", slots=4))
    world.start(plan(*(wanting(name, BIG) for name in "abc"), phase("d")))

    assert set(where(world)) == {"a", "d"}


def test_an_attempt_that_a_replan_stops_keeps_all_its_slots_until_it_has_stopped() -> None:
    world = World(runtime("r1", slots=4))
    world.start(plan(wanting("a", BIG)))
    stopping = world.echo("a")
    world.step(i.StartPlan(sequence=world._number(), plan=plan(wanting("b", BIG)), replan=True))

    assert world.session.load == {"r1": 3}
    assert where(world) == {}
    the_same_again(world)  # replayed, and from a snapshot

    world.step(i.ReportCancelled(**stopping))

    assert where(world) == {"b": "r1"}
    assert world.session.load == {"r1": 3}


def test_every_item_of_a_list_takes_the_slots_of_its_phase() -> None:
    world = World(runtime("r1", slots=7))
    world.start(plan(wanting("a", BIG, foreach=foreach([1, 2, 3]))))

    assert world.session.load == {"r1": 6}


# -- what is stored ----------------------------------------------------------------------------


def test_plans_of_before_are_read_and_plans_without_rules_are_written_as_before() -> None:
    old = b'{"id":"a","digest":"x","kind":"noop","run":{"noop":{}}}'
    read = msgspec.json.decode(old, type=PhaseSpec)

    assert (read.placement, read.slots, requirement(read)) == (None, 1, ((), "noop", (), None))
    assert msgspec.json.encode(read) == old


def test_rules_are_stored_with_the_plan() -> None:
    spec = wanting("a", rules(Constraint("m", ">=", "1"), affinity=NEAR, slots=2))

    assert msgspec.json.decode(msgspec.json.encode(spec), type=PhaseSpec).placement == spec.placement


def test_phases_that_ask_for_the_same_are_evaluated_once() -> None:
    found = Fleet()
    found.put(labelled("r1", memory="24"))
    given = [wanting(name, rules(Constraint("memory", ">=", "16"))) for name in "ab"]

    assert found.matching(requirement(given[0])) is found.matching(requirement(given[1]))


def test_reasons_are_looked_for_a_few_times_and_the_rest_is_counted() -> None:
    wants = [wanting(f"p{number}", rules(Constraint(f"l{number}", "is_set"))) for number in range(50)]
    found = gaps(fleet(runtime()), wants, 3)

    assert [len(gap.phases) for gap in found] == [1, 1, 1, 47]
    assert found[-1].reason == "for other reasons"
