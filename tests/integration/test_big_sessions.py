"""Large sessions, and many, in a small form; ``scripts/big_sessions.py`` without options is the large one."""

import asyncio
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planter.shell.host import IDLE_KEPT
from planter.shell.plans import ManifestUnreadable, plan_of
from planter_protocol import PlanClient, RequestRefused
from planter_protocol.messages import Start
from planter_testkit.graphs import as_manifest, fan
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import answering, judged, planners
from planter_testkit.scripted import scripted_runtime

SCRIPT = Path(__file__).parents[2] / "scripts" / "big_sessions.py"


def large(count: int = 6_000) -> list[dict[str, Any]]:
    """A manifest of more than a megabyte."""
    return [
        {**phase, "spec": {**phase["spec"], "description": "x" * 200}} for phase in as_manifest(fan(count))
    ]


def test_the_script_finds_everything_complete_and_within_the_limits() -> None:
    command = [sys.executable, str(SCRIPT), "--size", "5000", "--shapes", "montage", "--sessions", "300"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 sessions of 5" in done.stdout


async def test_while_a_large_manifest_is_read_others_are_answered(tmp_path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        await stack.enter_async_context(scripted_runtime(server.url))
        await answering(client, start("planner-0"))
        await client.submit(as_manifest([{"id": "a", "deps": []}]), session="small")
        begun = time.monotonic()
        submitting = asyncio.create_task(client.submit(large(), session="large", confirm=60))
        waits: list[float] = []
        while not submitting.done():
            asked = time.monotonic()
            await client.get_state("small", timeout=30)
            waits.append(time.monotonic() - asked)
        await submitting
        accepted = time.monotonic() - begun
        async with asyncio.timeout(60):
            verdict = await judged(client, "large")

    assert (verdict.status, verdict.completed) == ("complete", 6_000)
    assert max(waits) < accepted / 2
    assert len(waits) > 10


async def test_what_is_wrong_in_a_large_manifest_is_told_as_in_a_small_one(tmp_path) -> None:
    manifest = large()
    manifest[0]["spec"]["waitFor"] = {"phases": ["join"]}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        await answering(client, start("planner-0"))
        with pytest.raises(RequestRefused) as refused:
            await client.submit(manifest, session="large", confirm=60)

    assert refused.value.code == "manifest.invalid"
    assert "join" in str(refused.value)
    assert len(refused.value.problems) == 1


async def test_a_manifest_that_ends_its_reader_does_not_end_the_planner(monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    nobody: Any = None

    with pytest.raises(ManifestUnreadable):
        await plan_of(nobody, Start(manifest=msgspec.Raw(msgspec.json.encode(large()))))


async def test_sessions_that_are_over_leave_the_memory(tmp_path) -> None:
    manifest = as_manifest([{"id": "a", "deps": []}])
    names = [f"s{n}" for n in range(IDLE_KEPT + 50)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(tmp_path))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        start = stack.enter_context(planners(server.url, tmp_path))
        await stack.enter_async_context(scripted_runtime(server.url))
        await answering(client, start("planner-0"))
        for name in names:
            await client.submit(manifest, session=name, confirm=None)
        async with asyncio.timeout(60):
            while {record.status for record in await client.sessions()} != {"complete"} or (
                await client.planner_info()
            ).sessions > IDLE_KEPT:
                await asyncio.sleep(0.05)
        oldest = await client.get_state(names[0])  # read again

    assert oldest.status == "complete"
