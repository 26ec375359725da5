"""Chapters "Scheduling Semantics" and "Compliance": the order of phases."""

import pytest
from kit import Session, phase, spelled


@pytest.mark.clause("S5", "D4", "C3")
async def test_a_phase_is_not_targeted_before_what_it_waits_for_is_complete(
    pmp: Session, spelling: str
) -> None:
    manifest = [phase("a"), phase("b", ("a",)), phase("x"), phase("y", ("x",))]
    await pmp.start(spelled(manifest, spelling))
    await pmp.target("a")

    await pmp.run("x")
    await pmp.target("y")  # the barrier: had b been ready, its target would be there
    before = list(pmp.targeted)
    await pmp.run("a", "b")

    assert "b" not in before


@pytest.mark.clause("S5", "C3")
async def test_running_is_not_complete(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])
    await pmp.target("a")

    await pmp.ack("a")
    await pmp.report("a", "running")
    await pmp.status("a", "running")

    assert pmp.targeted == ["a"]


@pytest.mark.clause("D4", "C3")
async def test_a_diamond_joins_after_both_sides(pmp: Session) -> None:
    sides = [phase("left", ("top",)), phase("right", ("top",))]
    await pmp.start([phase("top"), *sides, phase("bottom", ("left", "right"))])

    await pmp.run("top")
    await pmp.target("right")
    await pmp.run("left")
    await pmp.status("left", "complete")
    before = list(pmp.targeted)
    await pmp.run("right", "bottom")
    await pmp.status("bottom", "complete")

    assert "bottom" not in before
    assert sorted(pmp.targeted) == ["bottom", "left", "right", "top"]


@pytest.mark.clause("D4", "D5")
async def test_phases_that_wait_for_nothing_are_targeted_without_each_other(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b"), phase("c")])

    for name in ("a", "b", "c"):
        await pmp.target(name)


@pytest.mark.clause("D4", "S5")
async def test_what_is_waited_for_may_stand_later_in_the_manifest(pmp: Session) -> None:
    await pmp.start([phase("last", ("first",)), phase("first")])

    await pmp.run("first", "last")

    assert pmp.targeted == ["first", "last"]


@pytest.mark.clause("D5", "N1.8")
async def test_a_target_names_its_phase_and_the_reason(pmp: Session) -> None:
    await pmp.start([phase("a")])

    target = await pmp.target("a")

    assert target["phaseId"] == "a"
    assert isinstance(target["reason"], str)
    assert target["reason"]


@pytest.mark.clause("T1", "C3")
async def test_a_chain_runs_in_order_each_phase_once(pmp: Session) -> None:
    names = [f"p{number}" for number in range(20)]
    needs = dict(zip(names[1:], names, strict=False))
    await pmp.start([phase(name, (needs[name],) if name in needs else ()) for name in reversed(names)])

    await pmp.run(*names)
    await pmp.status(names[-1], "complete")

    assert pmp.targeted == names
