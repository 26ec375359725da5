"""Chapter "NATS Interface": what monitors see, and what they can ask."""

import json

import pytest
from kit import RFC3339, Session, phase, session

RAISING = {"action": "raise", "spec": {"message": ["no"]}}


@pytest.mark.clause("N1.5", "N2.3")
async def test_the_server_says_every_final_status_in_the_words_of_the_protocol(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",), onFailure=RAISING)])

    await pmp.run("a")
    await pmp.said("a", "complete")
    await pmp.target("b")
    await pmp.work("b", "failed")
    await pmp.said("b", "failed")


@pytest.mark.clause("N1.5", "N2.3")
async def test_the_server_says_that_a_phase_runs(pmp: Session) -> None:
    await pmp.start([phase("a")])
    await pmp.target("a")

    await pmp.ack("a")
    await pmp.report("a", "running")

    await pmp.said("a", "running")


@pytest.mark.clause("N2.3")
async def test_state_messages_have_a_phase_a_status_and_a_time(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])

    await pmp.run("a", "b")
    await pmp.said("b", "complete")

    for state in pmp.states:
        assert state["phaseId"] in ("a", "b")
        assert state["status"].replace("_", "").isalpha()
        assert state["status"].islower(), state
        assert RFC3339.fullmatch(state["updated"]), state


@pytest.mark.clause("N2.3", "C3")
async def test_the_states_of_a_phase_come_in_order(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])

    await pmp.run("a", "b")
    await pmp.said("b", "complete")

    said = [(state["phaseId"], state["status"]) for state in pmp.states]
    assert said.index(("a", "complete")) < said.index(("b", "complete"))
    assert [status for name, status in said if name == "a"][-1] == "complete"


@pytest.mark.clause("N1.4")
async def test_a_start_is_a_lifecycle_event(pmp: Session) -> None:
    await pmp.start([phase("a")])
    await pmp.target("a")

    await pmp.until(lambda: pmp.events, "an event after a start")


@pytest.mark.clause("N1.4")
async def test_a_failure_is_a_lifecycle_event(pmp: Session) -> None:
    await pmp.start([phase("a", onFailure=RAISING)])
    await pmp.target("a")
    count = len(pmp.events)

    await pmp.work("a", "failed")

    await pmp.until(
        lambda: any("fail" in json.dumps(e).lower() for e in pmp.events[count:]), "an event of it"
    )


@pytest.mark.clause("N1.6", "G3")
async def test_get_state_names_every_phase_with_its_status(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",)), phase("c", ("b",))])
    await pmp.run("a")
    await pmp.target("b")

    states = await pmp.reached(lambda states: states.get("a") == "complete", "a is complete")

    assert set(states) == {"a", "b", "c"}
    assert "complete" not in (states["b"], states["c"])


@pytest.mark.clause("N1.6")
async def test_get_state_of_a_session_that_nobody_started_is_answered(pmp: Session) -> None:
    reply = await pmp.ask("get_state")

    assert "phases" not in reply or reply["phases"] == []


@pytest.mark.clause("G2", "N1.7")
async def test_diff_tells_what_a_manifest_would_change_and_changes_nothing(pmp: Session) -> None:
    manifest = [phase("a"), phase("b", ("a",))]
    await pmp.start(manifest)
    await pmp.target("a")

    same = await pmp.ask("diff", {"manifest": manifest})
    more = await pmp.ask("diff", {"manifest": [*manifest, phase("brand-new")]})
    less = await pmp.ask("diff", {"manifest": manifest[:1]})
    await pmp.run("a", "b")

    assert "brand-new" not in json.dumps(same)
    assert "brand-new" in json.dumps(more)
    assert less not in (same, more)
    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("G2", "N1.7")
async def test_diff_sees_that_a_phase_is_another_one(pmp: Session) -> None:
    await pmp.start([phase("a")])
    await pmp.target("a")

    same = await pmp.ask("diff", {"manifest": [phase("a")]})
    changed = await pmp.ask("diff", {"manifest": [phase("a", retry={"maxAttempts": 9})]})

    assert {k: v for k, v in changed.items() if "igest" not in k} != {
        k: v for k, v in same.items() if "igest" not in k
    }


@pytest.mark.clause("T3", "N1.1")
async def test_sessions_do_not_touch_each_other(pmp: Session, url: str) -> None:
    async with session(url) as other:
        await other.start([phase("a"), phase("z", ("a",))])
        await other.run("a", "z")
        await other.status("z", "complete")
        await pmp.start([phase("a"), phase("b", ("a",))])
        await pmp.target("a")
        states = await pmp.reached(lambda states: "a" in states, "a")
        others = await other.reached(lambda states: "z" in states, "z")

    assert states["a"] != "complete"
    assert others == {"a": "complete", "z": "complete"}
    assert pmp.targeted == ["a"]
