"""The commands against a real server and planner, with a scripted runtime."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from planter_protocol import PlanClient, subjects
from planter_testkit.commands import DEADLINE_SECONDS, Ended, ended, started
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import running_planner
from planter_testkit.scripted import scripted_runtime

TWO = """\
- {kind: Phase, id: fetch, spec: {description: d, selector: {matchLabels: {}}, x-run: {noop: {}}}}
- kind: Phase
  id: build
  spec: {description: d, selector: {matchLabels: {}}, waitFor: {phases: [fetch]}, x-run: {noop: {}}}
"""
CHANGED = TWO.replace("id: build\n  spec: {description: d", "id: build\n  spec: {description: other")
OUTSIDE = TWO.replace("phases: [fetch]", "phases: [fetch, dns]")


class Site:
    """A server with a planner, and a folder for manifests."""

    def __init__(self, url: str, folder) -> None:
        self.url = url
        self.folder = folder

    def manifest(self, text: str, name: str = "site.planter.yaml") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    async def planter(self, *arguments: str) -> Ended:
        return await ended(await started(*arguments, "--nats", self.url))


@asynccontextmanager
async def running_site(folder, script=None):
    async with running_nats_server(folder) as server, running_planner(server.url, folder):
        site = Site(server.url, folder)
        if script is None:
            yield site
            return
        async with scripted_runtime(server.url, script=script):
            await known(server.url, "scripted")
            yield site


async def known(url: str, runtime: str) -> None:
    async with PlanClient.connected(url) as client, asyncio.timeout(DEADLINE_SECONDS):
        while all(info.runtime_id != runtime for info in (await client.planner_info()).runtimes):
            await asyncio.sleep(0.01)


def complete(_: dict[str, Any]) -> dict[str, Any]:
    return {"status": "complete"}


def fail_build(target: dict[str, Any]) -> dict[str, Any]:
    if target["phaseId"] == "build" and target["attempt"] == 1:
        return {"status": "failed", "error": {"message": "boom"}}
    return {"status": "complete"}


def never(_: dict[str, Any]) -> None:
    return None


async def test_run_follows_a_session_to_its_end(tmp_path):
    async with running_site(tmp_path, complete) as site:
        file = site.manifest(TWO)
        first = await site.planter("run", file, "--session", "nightly")
        again = await site.planter("run", file, "--session", "nightly")
        changed = await site.planter("run", site.manifest(CHANGED), "--session", "nightly")

    assert (first.status, first.out) == (0, "")
    assert first.err.splitlines()[-1].endswith("(2 complete)")
    assert [line.split()[2] for line in first.err.splitlines()[:-1]] == ["fetch", "build"]
    assert again.status == 0
    assert "session nightly complete: 2 phases" in again.err
    assert changed.status == 0
    assert "1 of them unchanged and done" in changed.err
    assert "build" in changed.err
    assert "fetch" not in changed.err


async def test_run_makes_a_session_id_from_the_name_of_the_file(tmp_path):
    async with running_site(tmp_path, complete) as site:
        detached = await site.planter("run", site.manifest(TWO), "--detach")

    assert detached.status == 0
    assert detached.out.startswith("site-")
    assert f"planter status {detached.out.strip()} --nats" in detached.err


async def test_json_is_the_final_state_and_ndjson_every_commit(tmp_path):
    async with running_site(tmp_path, complete) as site:
        document = await site.planter("run", site.manifest(TWO), "--session", "a", "--output", "json")
        stream = await site.planter("run", site.manifest(TWO), "--session", "b", "--output", "ndjson")

    state = json.loads(document.out)
    assert (state["sessionId"], state["status"], len(state["phases"])) == ("a", "complete", 2)
    commits = [json.loads(line) for line in stream.out.splitlines()]
    assert [commit["n"] for commit in commits] == list(range(1, len(commits) + 1))
    assert commits[-1]["events"][-1]["type"] == "SessionEnded"


async def test_a_failed_session_can_be_looked_at_and_retried(tmp_path):
    async with running_site(tmp_path, fail_build) as site:
        failed = await site.planter("run", site.manifest(TWO), "--session", "s")
        status = await site.planter("status", "s")
        refused = await site.planter("control", "s", "pause")
        unknown = await site.planter("control", "s", "skip", "nothing")
        retried = await site.planter("control", "s", "retry", "--reason", "network is back")
        events = await site.planter("events", "s", "--follow", "--output", "ndjson")
        listed = await site.planter("sessions", "--output", "json")
        graph = await site.planter("graph", "s", "--format", "json")

    assert failed.status == 1
    assert "build: boom" in failed.err
    assert f"planter logs s --nats {site.url} build" in failed.err
    assert status.status == 0
    assert "1 complete, 1 failed" in status.out
    assert "planter control s retry" in status.err
    assert (refused.status, refused.out) == (5, "")
    assert "session.ended" in refused.err
    assert unknown.status == 6
    assert retried.status == 0
    types = [event["type"] for line in events.out.splitlines() for event in json.loads(line)["events"]]
    assert types.count("SessionEnded") == 2
    assert [(record["sessionId"], record["status"]) for record in json.loads(listed.out)] == [
        ("s", "complete")
    ]
    assert json.loads(graph.out)["edges"] == [{"from": "fetch", "to": "build"}]


async def test_output_of_phases_is_shown_while_they_run_and_afterwards(tmp_path):
    async with running_site(tmp_path, never) as site, PlanClient.connected(site.url) as client:
        process = await started("run", site.manifest(TWO), "--session", "s", "--nats", site.url)
        await status_is(client, "s", "fetch", "targeted")
        for phase in ("fetch", "build", "build[1]"):
            log = {"level": "info", "message": f"{phase} says hello", "timestamp": now(), "phaseId": phase}
            await client.js.publish(subjects.log("s"), json.dumps(log).encode())
        first = await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)
        await client.control_confirmed("s", "cancel")
        process.send_signal(signal.SIGINT)
        await ended(process)
        everything = await site.planter("logs", "s")
        one = await site.planter("logs", "s", "build")
        lines = await site.planter("logs", "s", "--output", "ndjson")

    assert first == b"fetch | fetch says hello\n"
    assert (
        everything.out
        == "fetch | fetch says hello\nbuild | build says hello\nbuild[1] | build[1] says hello\n"
    )
    assert one.out == "build says hello\nbuild[1] | build[1] says hello\n"
    assert [json.loads(line)["phaseId"] for line in lines.out.splitlines()] == ["fetch", "build", "build[1]"]


async def test_ctrl_c_stops_watching_and_the_session_goes_on(tmp_path):
    async with running_site(tmp_path, never) as site, PlanClient.connected(site.url) as client:
        process = await started("run", site.manifest(TWO), "--session", "s", "--nats", site.url)
        await status_is(client, "s", "fetch", "targeted")
        await watching(process, client)
        process.send_signal(signal.SIGINT)
        stopped = await ended(process)
        state = await client.get_state("s")

    assert stopped.status == 130
    assert f"planter control s cancel --nats {site.url}" in stopped.err
    assert state.status == "running"


async def test_a_wait_that_is_over_has_a_status_of_its_own(tmp_path):
    async with running_site(tmp_path, never) as site:
        late = await site.planter("run", site.manifest(TWO), "--timeout", "100ms")

    assert late.status == 124
    assert "goes on" in late.err


async def test_a_phase_that_nobody_takes_and_one_that_waits_outside_are_explained(tmp_path):
    text = OUTSIDE.replace("matchLabels: {}", "matchLabels: {phase: preflight}", 1)
    async with running_site(tmp_path) as site:
        offered = await site.planter("run", site.manifest(text), "--session", "s", "--timeout", "3s")
        async with scripted_runtime(site.url, script=complete):
            await known(site.url, "scripted")
            outside = await site.planter("run", site.manifest(OUTSIDE), "--session", "t", "--timeout", "3s")

    assert "warning: 2 phases wait for a runtime: fetch, build\n  no runtime is registered\n" in offered.err
    assert "for a runtime" not in outside.err
    assert "hint: phase `fetch` is offered on plan.session.s.target" in offered.err
    assert "selector phase=preflight" in offered.err
    assert "hint: phase `build` waits for `dns`, outside this manifest" in outside.err


async def test_a_dry_run_says_what_would_change_and_starts_nothing(tmp_path):
    async with running_site(tmp_path, complete) as site:
        await site.planter("run", site.manifest(TWO), "--session", "s")
        text = await site.planter("run", site.manifest(CHANGED), "--session", "s", "--dry-run")
        document = await site.planter(
            "run", site.manifest(CHANGED), "--session", "s", "--dry-run", "-o", "json"
        )
        new = await site.planter("run", site.manifest(TWO), "--session", "new", "--dry-run")
        status = await site.planter("status", "new")

    assert text.status == 0
    assert "  ~ build  changed, runs again" in text.out
    assert json.loads(document.out)["diff"]["unchanged"] == ["fetch"]
    assert "2 to add" in new.out
    assert status.status == 6


async def test_a_session_that_executes_something_else_refuses(tmp_path):
    async with running_site(tmp_path, never) as site:
        await site.planter("run", site.manifest(TWO), "--session", "s", "--detach")
        busy = await site.planter("run", site.manifest(CHANGED), "--session", "s")
        repeated = await site.planter("run", site.manifest(TWO), "--session", "s", "--detach", "-o", "json")

    assert busy.status == 5
    assert "session.busy" in busy.err
    assert json.loads(repeated.out)["repeated"] is True


@pytest.mark.parametrize(
    "arguments", [("sessions",), ("status", "s"), ("events", "s"), ("logs", "s"), ("control", "s", "cancel")]
)
async def test_without_a_server_every_command_says_so(tmp_path, arguments):
    nowhere = await ended(await started(*arguments, "--nats", "nats://127.0.0.1:1"))

    assert (nowhere.status, nowhere.out) == (4, "")
    assert "planter dev" in nowhere.err


async def test_without_a_server_run_names_the_ways_out(tmp_path):
    file = Site("", tmp_path).manifest(TWO)
    nowhere = await ended(await started("run", file, "--nats", "nats://127.0.0.1:1"))

    assert nowhere.status == 4
    assert "planter run FILE --local" in nowhere.err
    assert "planter dev" in nowhere.err


async def test_without_a_planner_nothing_is_submitted(tmp_path):
    async with running_nats_server(tmp_path) as server:
        site = Site(server.url, tmp_path)
        async with running_planner(server.url, tmp_path):
            pass
        alone = await site.planter("run", site.manifest(TWO), "--session", "s")
        async with PlanClient.connected(server.url) as client:
            stored = (await client.js.stream_info("PLANTER_IN")).state.messages

    assert alone.status == 4
    assert "planter serve" in alone.err
    assert stored == 0


def now() -> str:
    return datetime.now(UTC).isoformat()


async def status_is(client: PlanClient, session: str, phase: str, status: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for commit in client.watch(session, until_ended=False):
            kinds = [event["type"] for event in commit.events if event.get("phaseId") == phase]
            if {"targeted": "PhaseTargeted"}[status] in kinds:
                return


async def watching(process: asyncio.subprocess.Process, client: PlanClient) -> None:
    """Wait until the command follows the session: it shows a line that is published only now."""
    log = {"level": "info", "message": "marker", "timestamp": now(), "phaseId": "fetch"}
    await client.js.publish(subjects.log("s"), json.dumps(log).encode())
    line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)
    assert line == b"fetch | marker\n"
