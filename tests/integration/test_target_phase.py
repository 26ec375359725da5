"""Up to a target phase over the wire: first a part, then the rest, each phase once."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from planter_protocol import PlanClient, RequestRefused
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.scripted import scripted_runtime


def phase(name: str, *needs: str) -> dict[str, Any]:
    """A no-op phase."""
    return {"kind": "Phase", "id": name, "spec": {"x-run": {"noop": {}}, "waitFor": {"phases": [*needs]}}}


PHASES = [phase("setup"), phase("build", "setup"), phase("ship", "build"), phase("lint")]


def planter(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    """The command line."""
    command = [sys.executable, "-m", "planter", *arguments, "--nats", url]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


async def test_first_up_to_setup_then_the_rest_and_nothing_twice(tmp_path: Path) -> None:
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url) as runtime,
    ):
        await client.submit(PHASES, session="s", target_phase="setup")
        await judged(client, "s")
        first, part = set(runtime.executed), await client.get_state("s")
        source = {"plan": {"targetPhase": "build", **{p["id"]: p["spec"] for p in PHASES}}}
        await client.submit(source, session="s")
        await judged(client, "s")
        second = set(runtime.executed) - first
        await client.submit(PHASES, session="s")
        verdict = await judged(client, "s")
        whole = await client.get_state("s")

    assert [key[1] for key in first] == ["setup"]
    assert [key[1] for key in second] == ["build"]
    assert (part.target_phase, [phase.phase_id for phase in part.phases]) == ("setup", ["setup"])
    assert (whole.target_phase, whole.status, whole.revision) == (None, "complete", 3)
    assert Counter(key[1] for key in runtime.executed) == {"setup": 1, "build": 1, "ship": 1, "lint": 1}
    assert verdict.status == "complete"


async def test_a_large_manifest_goes_up_to_its_target_too(tmp_path: Path) -> None:
    many = [phase("setup"), *(phase(f"filler-{n:05}" + "x" * 80, "setup") for n in range(7_000))]
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url) as runtime,
    ):
        await client.submit(many, session="s", target_phase="setup", confirm=60.0)
        verdict = await judged(client, "s")
        with pytest.raises(RequestRefused) as refused:
            await client.submit(many, session="t", target_phase="setpu", confirm=60.0)

    assert len(json.dumps(many)) > 1024 * 1024
    assert (verdict.status, verdict.phases, len(runtime.executed)) == ("complete", 1, 1)
    assert refused.value.problems[0]["hint"] == "did you mean `setup`?"


async def test_the_command_line_goes_up_to_a_phase_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "site.planter.json"
    file.write_text(json.dumps(PHASES))
    async with (
        running_nats_server(tmp_path / "nats") as server,
        running_planner(server.url, tmp_path),
        scripted_runtime(server.url) as runtime,
    ):

        async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(planter, *arguments, url=server.url)

        wrong = await run("run", str(file), "--session", "s", "--target", "biuld")
        done = await run("run", str(file), "--session", "s", "--target", "build")
        status = await run("status", "s")
        ran = sorted(key[1] for key in runtime.executed)
        rest = await run("run", str(file), "--session", "s")
        after = await run("status", "s")

    assert (wrong.returncode, done.returncode, rest.returncode) == (3, 0, 0)
    assert "did you mean `build`?" in wrong.stderr
    assert ran == ["build", "setup"]
    assert "Target: up to phase build" in status.stdout
    assert "Target:" not in after.stdout
    assert max(runtime.executed.values()) == 1
    assert len(runtime.executed) == 4


async def test_what_is_planned_up_to_a_phase_is_what_is_applied(tmp_path: Path) -> None:
    manifest = tmp_path / "site.planter.json"
    specs = {one["id"]: one["spec"] for one in PHASES}
    manifest.write_text(json.dumps({"plan": {"targetPhase": "build", **specs}}))
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url),
    ):
        planned = planter("plan", str(manifest), "-o", "json", url=server.url)
        plan = json.loads(planned.stdout)
        reviewed = ("--digest", plan["planDigest"], "--base", str(plan["baseRevision"]))
        # In a thread: the runtime works in this loop.
        applied = await asyncio.to_thread(planter, "apply", str(manifest), *reviewed, url=server.url)
        state = await client.get_state("site")

    assert [change["phaseId"] for change in plan["changes"]] == ["setup", "build"]
    assert applied.returncode == 0, applied.stderr
    assert (state.target_phase, state.plan_digest) == ("build", plan["planDigest"])
