"""What strangers send to a planner: refused or passed over, and everybody else's work goes on."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from planter_protocol import PlanClient, assets, subjects
from planter_protocol.messages import Control
from planter_protocol.reading import last_sequence
from planter_testkit.http import Api, running_interface
from planter_testkit.nats import running_nats_server
from planter_testkit.scripted import scripted_runtime

SECONDS = 30.0
GARBAGE = (
    b'{"source":"\xff","made":1}',
    b'{"x":' + b"[" * 100_000,
    b'{"source":"a/b","made":1,"result":' + b"[" * 150 + b"]" * 150 + b"}",
)


@asynccontextmanager
async def world(folder: Path) -> AsyncGenerator[tuple[Api, PlanClient]]:
    """A server, a planner with HTTP as a process, a runtime of no-ops, and a client."""
    async with (
        running_nats_server(folder / "nats") as server,
        running_interface(server, folder, "planner-1") as api,
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url),
    ):
        yield api, client


def phase(name: str, **spec: Any) -> dict[str, Any]:
    """A phase; a no-op unless ``spec`` says otherwise."""
    return {"id": name, "spec": {"x-run": {"noop": {}}, **spec}}


async def ended(client: PlanClient, session: str, *phases: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a session to its end; its events."""
    submitted = await client.submit(list(phases), session=session)
    async with asyncio.timeout(SECONDS):
        commits = [commit async for commit in client.watch(session, after=submitted.after)]
    return [event for commit in commits for event in commit.events]


async def events(client: PlanClient, session: str) -> list[dict[str, Any]]:
    return [event for commit in await client.history(session) for event in commit.events]


async def until(client: PlanClient, session: str, kind: str, **wanted: Any) -> dict[str, Any]:
    """The first such event."""
    async with asyncio.timeout(SECONDS):
        while True:
            for event in await events(client, session):
                if event["type"] == kind and wanted.items() <= event.items():
                    return event
            await asyncio.sleep(0.02)


async def test_who_takes_an_open_offer_may_have_any_name_and_say_any_time(tmp_path: Path) -> None:
    offered = {"selector": {"matchLabels": {"team": "elsewhere"}}, "retry": {"maxAttempts": 2}}
    manifest = [{"id": "a", "spec": {**offered, "x-timeout": {"startToClose": "300ms"}}}, phase("b")]
    async with world(tmp_path) as (_, client):
        await client.submit(manifest, session="s")
        await until(client, "s", "PhaseTargeted", phaseId="a")
        ack = {"phaseId": "a", "accepted": True, "runtimeId": "build.host-1"}
        report = {"phaseId": "a", "status": "running", "started": "9999-12-31T23:59:59-23:59"}
        for verb, message in (("ack", ack), ("report", report)):
            await client.js.publish(f"plan.session.s.{verb}", json.dumps(message).encode())
        await until(client, "s", "PhaseTargeted", phaseId="a", attempt=2)
        state = await client.get_state("s")

    assert [one.status for one in state.phases] == ["targeted", "complete"]


async def test_a_command_that_grows_when_it_is_repeated_is_refused_shortly(tmp_path: Path) -> None:
    stands = phase("a", **{"x-run": {"wait": {"for": "1h"}}})
    async with world(tmp_path) as (_, client):
        await client.submit(
            [stands, *(phase(f"p{n}", waitFor={"phases": ["a"]}) for n in range(300))], session="s"
        )
        command = {"command": "skip", "phaseId": "\u0080" * 120_000}
        await client.js.publish("plan.session.s.control", json.dumps(command, ensure_ascii=False).encode())
        refused = await until(client, "s", "InputRefused")
        await client.send_control_confirmed("s", Control(command="cancel", reason="r" * 200_000))
        await until(client, "s", "SessionEnded")
        history = await client.history("s")

    assert len(refused["text"]) < 5_000
    reasons = [e["reason"] for c in history for e in c.events if e["type"] == "PhaseCancelled"]
    assert len(reasons) == 301
    assert max(map(len, reasons)) < 500


async def test_an_earlier_result_that_nobody_can_read_is_none(tmp_path: Path) -> None:
    cached = phase("a", **{"x-run": {"noop": {"result": {"n": 1}}}, "x-cache": True})
    bucket = assets.RESULTS_BUCKET
    async with world(tmp_path) as (_, client):
        await ended(client, "first", cached)
        subject = f"$KV.{bucket}.>"
        async with asyncio.timeout(SECONDS):
            while not (
                found := (await client.js.stream_info(f"KV_{bucket}", subjects_filter=subject)).state.subjects
            ):
                await asyncio.sleep(0.02)
        (key,) = found
        kinds: list[set[str]] = []
        for number, garbage in enumerate(GARBAGE):
            put = await client.js.publish(key, garbage)
            kinds.append({event["type"] for event in await ended(client, f"s{number}", cached)})
            async with asyncio.timeout(SECONDS):  # its own result is stored when it has ended
                while await last_sequence(client.nc, f"KV_{bucket}", key) == put.seq:
                    await asyncio.sleep(0.02)

    assert all("PhaseCompleted" in kind and "PhaseReused" not in kind for kind in kinds)


async def test_what_a_runtime_says_of_itself_is_bounded(tmp_path: Path) -> None:
    beat = {"runtimeId": "r", "instance": "i", "slots": 10**400, "leaseMs": 10**30, "executors": ["noop"]}
    async with world(tmp_path) as (api, client):
        for number in range(3):
            large = {**beat, "runtimeId": f"large{number}", "slots": 1, "labels": {"a": "x" * 400_000}}
            await client.nc.publish(f"plan.runtime.large{number}.heartbeat", json.dumps(large).encode())
        await client.nc.publish("plan.runtime.r.heartbeat", json.dumps(beat).encode())
        async with asyncio.timeout(SECONDS):
            while "r" not in {one.runtime_id for one in (await client.planner_info()).runtimes}:
                await asyncio.sleep(0.02)
        info = await client.planner_info()
        metrics = await api.http.get("/metrics")

    assert {one.runtime_id for one in info.runtimes} == {"r", "scripted"}
    assert max(one.slots for one in info.runtimes) == 1_000_000
    assert (metrics.status_code, "planter_runtime_slots" in metrics.text) == (200, True)


async def test_a_start_whose_manifest_has_a_broken_description_is_refused(tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    name = base64.urlsafe_b64encode(digest.encode()).decode()
    async with world(tmp_path) as (_, client):
        await ended(client, "other", phase("a"))
        for number, description in enumerate((b"x", b'{"name":"a","nuid":">","size":1,"chunks":1}', b"[]")):
            await client.js.publish(f"$O.{assets.MANIFESTS_BUCKET}.M.{name}", description)
            start = {"manifestRef": {"digest": digest, "size": 1}}
            await client.js.publish(subjects.start(f"s{number}"), json.dumps(start).encode())
            refused = await until(client, f"s{number}", "InputRefused")
            assert refused["code"] == "manifest.missing"


@pytest.mark.parametrize("body", [b'{"command":"\xff"}', b"[" * 200_000, b'{"a":' * 20_000])
async def test_bodies_that_are_no_json_are_the_senders_fault(tmp_path: Path, body: bytes) -> None:
    async with world(tmp_path) as (api, client):
        await ended(client, "s", phase("a"))
        kind = {"content-type": "application/json"}
        command = await api.http.post("/api/sessions/s/control", content=body[:60_000], headers=kind)
        plan = await api.http.post("/plan?session=t", content=body, headers=kind)

    assert (command.status_code // 100, plan.status_code // 100) == (4, 4)
