"""Chapter "Scheduling Semantics": targets and acks, and who decides about progress."""

import pytest
from kit import Session, phase, session


@pytest.mark.clause("D3", "D6", "D7", "N1.9")
async def test_an_accepted_target_runs_and_completes(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])
    await pmp.target("a")

    await pmp.ack("a", accepted=True, queued=False)
    await pmp.report("a", "running")
    await pmp.status("a", "running")
    await pmp.report("a", "complete")

    await pmp.target("b")


@pytest.mark.clause("D7", "D8", "N1.9")
async def test_a_queued_target_is_not_running_and_completes_later(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",)), phase("x"), phase("y", ("x",))])
    await pmp.target("a")

    await pmp.ack("a", accepted=True, queued=True)
    await pmp.run("x")
    await pmp.target("y")
    states = await pmp.reached(lambda states: states.get("x") == "complete", "x is complete")
    before = list(pmp.targeted)
    await pmp.work("a")
    await pmp.target("b")

    assert states["a"] not in ("running", "complete", "failed")
    assert "b" not in before


@pytest.mark.clause("D6", "D9", "N1.9")
async def test_a_rejected_target_neither_runs_nor_fails_and_another_runtime_may_take_it(
    pmp: Session, url: str
) -> None:
    await pmp.start([phase("a"), phase("b", ("a",)), phase("x"), phase("y", ("x",))])
    await pmp.target("a")

    await pmp.ack("a", accepted=False, reason="no room here")
    await pmp.run("x")
    await pmp.target("y")
    states = await pmp.reached(lambda states: states.get("x") == "complete", "x is complete")
    before = list(pmp.targeted)
    async with session(url) as other:
        other.name = pmp.name
        await other.work("a")
        await pmp.target("b")
        other.name = "nobody"

    assert states["a"] not in ("running", "complete", "failed", "skipped", "cancelled")
    assert "b" not in before


@pytest.mark.clause("D7", "C3")
async def test_an_ack_alone_completes_nothing(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",)), phase("x"), phase("y", ("x",))])
    await pmp.target("a")

    await pmp.ack("a")
    await pmp.run("x")
    await pmp.target("y")

    assert "b" not in pmp.targeted


@pytest.mark.clause("D1")
async def test_planner_directed_a_runtime_follows_targets_and_says_only_how_it_went(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",)), phase("c", ("b",))])

    for name in ("a", "b", "c"):
        await pmp.target(name)
        await pmp.report(name, "complete")

    await pmp.status("c", "complete")


@pytest.mark.clause("D2", "N1.5")
async def test_runtime_directed_a_runtime_advances_by_itself_and_only_publishes_states(pmp: Session) -> None:
    names = [f"p{number}" for number in range(30)]
    needs = dict(zip(names[1:], names, strict=False))
    await pmp.start([phase(name, (needs[name],) if name in needs else ()) for name in names])
    await pmp.target("p0")  # the session is known; from here on nothing of the server is looked at

    for name in names:
        await pmp.report(name, "running")
        await pmp.report(name, "complete")

    await pmp.reached(lambda states: all(states.get(name) == "complete" for name in names), "all complete")


@pytest.mark.clause("D2", "D3")
async def test_runtime_directed_a_failure_is_believed(pmp: Session) -> None:
    raising = {"action": "raise", "spec": {"message": ["no"]}}
    await pmp.start([phase("a"), phase("b", ("a",), onFailure=raising), phase("c", ("b",))])
    await pmp.target("a")

    for name, status in (("a", "complete"), ("b", "running"), ("b", "failed")):
        await pmp.report(name, status)
    await pmp.status("b", "failed")

    assert "c" not in pmp.targeted


@pytest.mark.clause("D3", "D9")
async def test_what_makes_no_sense_is_ignored(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])
    await pmp.target("a")

    await pmp.ack("unknown")
    await pmp.report("unknown", "complete")
    for verb in ("ack", "state", "control"):
        for data in (b"", b"{", b"[]", b'{"phaseId": 7}', b'{"command": "explode"}'):
            await pmp.say(verb, data)
    await pmp.report("a", "flying")
    await pmp.run("a", "b")

    await pmp.status("b", "complete")
    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("C3", "T3")
async def test_a_phase_that_is_complete_stays_so(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])
    await pmp.run("a")
    await pmp.target("b")

    await pmp.report("a", "failed")
    await pmp.run("b")
    states = await pmp.reached(lambda states: states.get("b") == "complete", "b is complete")

    assert states["a"] == "complete"
