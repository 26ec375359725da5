"""Chapter "Phase Specification Schema": handlers, retry, waiting limits, instance modes."""

import pytest
from kit import QUICK_RETRY, RFC3339, Session, phase, spelled

FINAL = ("complete", "failed", "skipped", "cancelled")


def handler(action: str, message: str = "it failed") -> dict[str, object]:
    """A handler with an action."""
    return {"action": action, "spec": {"message": [message]}}


@pytest.mark.clause("S7", "S9", "C3")
async def test_after_raise_nothing_that_waits_is_started(pmp: Session, spelling: str) -> None:
    manifest = [phase("a", onFailure=handler("raise")), phase("b", ("a",)), phase("c", ("b",))]
    await pmp.start(spelled(manifest, spelling))
    await pmp.target("a")

    await pmp.work("a", "failed")
    await pmp.status("a", "failed")

    assert pmp.targeted == ["a"]


@pytest.mark.clause("S7", "S9", "C3")
async def test_after_continue_what_waits_goes_on(pmp: Session, spelling: str) -> None:
    manifest = [phase("a", onFailure=handler("continue")), phase("b", ("a",))]
    await pmp.start(spelled(manifest, spelling))
    await pmp.target("a")

    await pmp.work("a", "failed")
    await pmp.run("b")
    states = await pmp.reached(lambda states: states.get("b") == "complete", "b is complete")

    assert states["a"] == "failed"


@pytest.mark.clause("S7", "S10", "N1.3")
async def test_what_a_failure_has_to_say_is_in_the_log(pmp: Session) -> None:
    await pmp.start([phase("a", onFailure=handler("raise", "mind the gap"))])
    await pmp.target("a")

    await pmp.work("a", "failed")
    entry = await pmp.until(
        lambda: next((log for log in pmp.logs if "mind the gap" in str(log.get("message"))), None),
        "the handler's message on .log",
    )

    assert isinstance(entry["level"], str)
    assert RFC3339.fullmatch(entry["timestamp"])


@pytest.mark.clause("S8", "S10", "N1.3")
async def test_what_a_success_has_to_say_is_in_the_log(pmp: Session) -> None:
    await pmp.start([phase("a", onSuccess={"spec": {"message": ["well done"]}})])

    await pmp.run("a")

    await pmp.until(
        lambda: [log for log in pmp.logs if "well done" in str(log.get("message"))], "its message"
    )


@pytest.mark.clause("S6")
async def test_a_failed_attempt_is_made_again(pmp: Session, spelling: str) -> None:
    manifest = [phase("a", retry={"maxAttempts": 3}, **{"x-retry": QUICK_RETRY}), phase("b", ("a",))]
    await pmp.start(spelled(manifest, spelling))

    for attempt in (1, 2):
        await pmp.target("a", attempt)
        await pmp.work("a", "failed")
    await pmp.target("a", 3)
    await pmp.work("a")
    await pmp.run("b")
    await pmp.status("b", "complete")

    assert pmp.targeted == ["a", "a", "a", "b"]


@pytest.mark.clause("S6", "C3")
async def test_after_the_last_attempt_the_phase_has_failed(pmp: Session) -> None:
    manifest = [phase("a", retry={"maxAttempts": 2}, **{"x-retry": QUICK_RETRY}), phase("b", ("a",))]
    await pmp.start(manifest)

    for attempt in (1, 2):
        await pmp.target("a", attempt)
        await pmp.work("a", "failed")
    await pmp.status("a", "failed")

    assert pmp.targeted == ["a", "a"]


@pytest.mark.clause("S6", "N2.3")
async def test_two_failures_within_one_second_are_two(pmp: Session) -> None:
    """The document's times have whole seconds, so two attempts may be reported in the same words."""
    await pmp.start([phase("a", retry={"maxAttempts": 2}, **{"x-retry": QUICK_RETRY})])

    for attempt in (1, 2):
        await pmp.target("a", attempt)
        failed = {"phaseId": "a", "status": "failed", "updated": "2025-07-19T20:00:00Z"}
        await pmp.say("state", failed)

    await pmp.status("a", "failed")
    assert pmp.targeted == ["a", "a"]


@pytest.mark.clause("S6")
async def test_without_retry_there_is_one_attempt(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("x"), phase("y", ("x",))])
    await pmp.target("a")

    await pmp.work("a", "failed")
    await pmp.status("a", "failed")

    assert pmp.targeted.count("a") == 1


@pytest.mark.clause("S5")
async def test_a_phase_that_waits_too_long_fails(pmp: Session) -> None:
    late = phase("late")
    late["spec"]["waitFor"] = {"phases": ["a"], "timeout": "200ms"}
    await pmp.start([phase("a"), late])
    await pmp.target("a")

    await pmp.status("late", "failed")

    assert pmp.targeted == ["a"]


@pytest.mark.clause("S5")
async def test_the_limit_of_waiting_is_not_waited_out(pmp: Session) -> None:
    next_phase = phase("next")
    next_phase["spec"]["waitFor"] = {"phases": ["a"], "timeout": "1h"}
    await pmp.start([phase("a"), next_phase])

    await pmp.run("a", "next")


@pytest.mark.clause("S4")
async def test_on_use_is_not_started_unless_something_uses_it(pmp: Session, spelling: str) -> None:
    manifest = [phase("lazy", instanceMode="onUse"), phase("a"), phase("b", ("a",))]
    await pmp.start(spelled(manifest, spelling))

    await pmp.run("a", "b")
    await pmp.status("b", "complete")

    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("S4", "C3")
async def test_on_use_is_started_when_what_waits_for_it_is_otherwise_ready(pmp: Session) -> None:
    manifest = [phase("lazy", instanceMode="onUse"), phase("a"), phase("b", ("a", "lazy"))]
    await pmp.start(manifest)

    await pmp.target("a")
    before = list(pmp.targeted)
    await pmp.run("a", "lazy", "b")
    await pmp.status("b", "complete")

    assert before == ["a"]
    assert pmp.targeted == ["a", "lazy", "b"]
