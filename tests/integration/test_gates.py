"""Waits and approvals over the wire: asked, answered by the command line, by HTTP and by any NATS client."""

import asyncio
import getpass
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from planter_protocol import PlanClient, RequestRefused
from planter_protocol.messages import Control, State
from planter_testkit.commands import DEADLINE_SECONDS, ended, started
from planter_testkit.http import running_api
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import Planner, answering, running_planner


def phase(name, run, *needs, **fields):
    """One phase of a manifest."""
    return {"kind": "Phase", "id": name, "spec": {"waitFor": {"phases": list(needs)}, "x-run": run, **fields}}


def asks(name, *needs, **asked):
    """One that needs an approval."""
    return phase(name, {"approval": {"message": f"{name}?", **asked}}, *needs)


async def reached(client, session, holds):
    """The state of the session, once it is as wanted."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            state = await client.get_state(session)
            if holds(state):
                return state
            await asyncio.sleep(0.01)


def stands(name):
    """Whether the phase waits."""
    return lambda state: any(p.phase_id == name and p.gate and p.gate.open for p in state.phases)


def is_over(state):
    """Whether the session has ended."""
    return state.status in ("complete", "failed", "cancelled")


@asynccontextmanager
async def site(folder):
    """A server, a planner and a client; no runtime."""
    async with (
        running_nats_server(folder) as server,
        running_planner(server.url, folder),
        PlanClient.connected(server.url) as client,
    ):
        yield client, server.url


async def planter(url, *arguments):
    """A command of the command line."""
    return await ended(await started(*arguments, "--nats", url))


async def test_the_command_line_shows_what_is_asked_and_answers_it(tmp_path):
    manifest = [
        asks("deploy", approvers=["ann", getpass.getuser()], needed=2),
        phase("rest", {"wait": {"for": "1ms"}}, "deploy"),
    ]
    async with site(tmp_path) as (client, url):
        await client.submit(manifest, session="s")
        await reached(client, "s", stands("deploy"))
        status = await planter(url, "status", "s")
        why = await planter(url, "explain", "s", "deploy")
        stranger = await planter(url, "control", "s", "approve", "deploy", "--by", "eve")
        stale = await planter(url, "control", "s", "approve", "deploy", "--plan-digest", "sha256:0")
        first = await planter(url, "control", "s", "approve", "deploy", "--comment", "fine with me")
        again = await planter(url, "control", "s", "approve", "deploy")
        second = await planter(
            url, "control", "s", "approve", "deploy", "--by", "ann", "--data", '{"region": "eu"}'
        )
        late = await planter(url, "control", "s", "reject", "deploy", "--by", "ann")
        state = await reached(client, "s", is_over)
        journal = await planter(url, "events", "s")

    assert "waiting for approval: deploy?" in status.out
    assert "planter control s approve deploy" in status.err
    assert f"ann, {getpass.getuser()} may answer, 2 must approve" in why.out
    assert "ends it: `planter control s approve deploy --by NAME`, or" in why.out
    assert (stranger.status, stale.status, late.status) == (5, 5, 5)
    assert "not among those who may answer" in stranger.err
    assert "look again" in stale.err
    assert "too late" in late.err
    assert (first.status, again.status, second.status) == (0, 0, 0)
    assert "is so already" in again.out
    assert state.status == "complete"
    assert json.loads(bytes(state.phases[0].result)) == {
        "region": "eu",
        "approvedBy": [getpass.getuser(), "ann"],
    }
    assert [one.by for one in state.phases[0].gate.answers] == [getpass.getuser(), "ann"]
    assert f"PhaseApproved deploy  attempt=1 by={getpass.getuser()}" in journal.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pause", "--by", "ann"), "only approve and reject"),
        (("approve",), "needs a phase"),
        (("approve", "a", "--data", "[1]"), "no JSON object"),
    ],
)
async def test_options_that_mean_nothing_are_refused(arguments, complaint):
    done = await ended(await started("control", "s", *arguments, "--nats", "nats://127.0.0.1:1"))

    assert done.status == 2
    assert complaint in " ".join(done.err.replace("│", " ").split())


async def test_approvals_are_answered_over_http(tmp_path):
    async with running_api(tmp_path) as api:
        manifest = json.dumps([asks("a"), asks("b")])
        headers = {"content-type": "application/json"}
        await api.http.post("/plan?session=s", content=manifest, headers=headers)
        async with PlanClient.connected(api.server.url) as client:
            await reached(client, "s", stands("a"))

        async def control(**body):
            return await api.http.post("/api/sessions/s/control", json=body)

        nobody = await control(command="approve", phaseId="a")
        given = await control(command="approve", phaseId="a", by="ann", comment="ok", data={"x": 1})
        rejected = await control(command="reject", phaseId="b", by="bob", comment="not today")
        state = await api.until("s", "failed")

    assert (nobody.status_code, nobody.json()["code"]) == (422, "approval.by")
    assert given.json()["events"] == ["PhaseApproved", "PhaseCompleted"]
    assert rejected.json()["events"][:2] == ["PhaseRejected", "PhaseFailed"]
    a, b = state["phases"]
    assert (a["status"], a["result"]) == ("complete", {"x": 1, "approvedBy": ["ann"]})
    assert (b["status"], b["reason"]) == ("failed", "rejected by bob: not today")
    assert b["gate"]["answers"][0]["comment"] == "not today"


async def test_waits_and_answers_outlive_every_planner(tmp_path):
    until = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    manifest = [
        asks("a", needed=2),
        phase("b", {"wait": {"for": "3s"}}),
        phase("c", {"wait": {"until": until}}),
    ]
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        first = Planner(server.url, tmp_path, "first")
        try:
            await answering(client, first)
            await client.submit(manifest, session="s")
            await reached(client, "s", stands("a"))
            await client.send_control_confirmed("s", Control(command="approve", phase_id="a", by="ann"))
        finally:
            first.kill()
        sent = await client.send_control("s", Control(command="approve", phase_id="a", by="bob"))
        async with running_planner(server.url, tmp_path):
            state = await reached(client, "s", is_over)
            commits = [commit async for commit in client.watch("s")]

    assert sent
    assert state.status == "complete"
    times = {
        (event["type"], event["phaseId"]): (commit.at, event)
        for commit in commits
        for event in commit.events
        if "phaseId" in event
    }
    for name in ("b", "c"):
        due = times["WaitStarted", name][1]["due"]
        done = datetime.fromisoformat(times["PhaseCompleted", name][0]).timestamp() * 1_000
        assert due <= round(done) < due + 20_000
    assert [e["by"] for c in commits for e in c.events if e["type"] == "PhaseApproved"] == ["ann", "bob"]


async def test_whoever_watches_the_states_sees_the_question(tmp_path):
    async with site(tmp_path) as (client, _):
        states = []

        async def note(message):
            states.append(msgspec.json.decode(message.data, type=State))

        await client.nc.subscribe("plan.session.s.state", cb=note)
        await client.nc.flush()
        await client.submit([asks("a", needed=2, approvers=["ann", "bob"])], session="s")
        await reached(client, "s", stands("a"))
        await client.send_control_confirmed("s", Control(command="approve", phase_id="a", by="ann"))
        with pytest.raises(RequestRefused, match="not among"):
            await client.send_control_confirmed("s", Control(command="reject", phase_id="a", by="eve"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(states) < 2:
                await asyncio.sleep(0.01)

    assert [one.status for one in states] == ["running", "running"]
    assert states[0].reason == "waiting for approval: a? (0 of 2 approved)"
    assert states[0].gate.open
    assert states[0].gate.approvers == ("ann", "bob")
    assert states[1].reason == "waiting for approval: a? (1 of 2 approved: ann)"


async def test_nothing_is_offered_openly_while_phases_wait(tmp_path):
    async with site(tmp_path) as (client, _):
        offers = []

        async def note(message):
            offers.append(message.data)

        await client.nc.subscribe("plan.session.s.target", cb=note)
        await client.nc.flush()
        await client.submit([asks("a"), phase("b", {"wait": {"for": "7s"}})], session="s")
        await reached(client, "s", stands("b"))
        await client.nc.publish(
            "plan.session.s.state",
            b'{"phaseId": "a", "status": "complete", "updated": "2026-01-01T00:00:00Z"}',
        )
        await client.nc.publish("plan.session.s.ack", b'{"phaseId": "a", "accepted": true}')
        state = await reached(client, "s", lambda state: state.phases[1].status == "complete")

    assert offers == []
    assert state.phases[0].status == "running"
