"""Chapter "NATS Interface": pause, resume, cancel."""

import pytest
from kit import Session, phase

MANIFEST = [phase("a"), phase("b", ("a",))]


async def paused(pmp: Session) -> None:
    """Wait until the server has taken the command in, if its replies say so; else one round trip."""
    await pmp.until_session("paused")


@pytest.mark.clause("N2.2")
async def test_a_paused_session_targets_nothing_until_it_is_resumed(pmp: Session) -> None:
    await pmp.start(MANIFEST)
    await pmp.target("a")

    await pmp.control("pause")
    await paused(pmp)
    await pmp.work("a")
    await pmp.status("a", "complete")
    before = list(pmp.targeted)
    await pmp.control("resume")
    await pmp.run("b")

    assert before == ["a"], "a paused session finishes what runs, and starts nothing"
    assert await pmp.status("b", "complete") == "complete"


@pytest.mark.clause("N2.2")
async def test_pause_and_resume_may_be_said_twice(pmp: Session) -> None:
    await pmp.start(MANIFEST)
    await pmp.target("a")

    await pmp.control("pause")
    await pmp.control("pause")
    await paused(pmp)
    await pmp.control("resume")
    await pmp.control("resume")
    await pmp.run("a", "b")
    await pmp.status("b", "complete")

    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("N2.2")
async def test_resume_of_a_session_that_is_not_paused_changes_nothing(pmp: Session) -> None:
    await pmp.start(MANIFEST)
    await pmp.target("a")

    await pmp.control("resume")
    await pmp.run("a", "b")
    await pmp.status("b", "complete")

    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("N2.2")
async def test_a_cancelled_session_starts_nothing_more(pmp: Session) -> None:
    await pmp.start(MANIFEST)
    await pmp.target("a")
    await pmp.ack("a")
    await pmp.report("a", "running")
    await pmp.status("a", "running")

    await pmp.control("cancel")
    await pmp.control("cancel")
    await pmp.report("a", "complete")
    await pmp.reached(
        lambda states: all(
            states.get(name) not in ("pending", "ready", "targeted", "running") for name in "ab"
        ),
        "nothing is open any more",
    )

    assert pmp.targeted == ["a"]


@pytest.mark.clause("N2.2")
async def test_a_paused_session_can_be_cancelled_and_stays_so(pmp: Session) -> None:
    await pmp.start(MANIFEST)
    await pmp.target("a")

    await pmp.control("pause")
    await pmp.control("cancel")
    await pmp.control("resume")
    await pmp.reached(
        lambda states: all(
            states.get(name) not in ("pending", "ready", "targeted", "running") for name in "ab"
        ),
        "nothing is open any more",
    )
    await pmp.report("a", "complete")
    states = await pmp.reached(bool, "anything")

    assert pmp.targeted == ["a"]
    assert states["b"] not in ("complete", "running")
