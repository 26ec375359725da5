"""Runtimes in other languages: the ones of the examples, as their users start them."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from planter_protocol import PlanClient
from planter_protocol.messages import SessionState
from planter_testkit.nats import READY_SECONDS, end, running_nats_server
from planter_testkit.planners import running_planner

EXAMPLES = Path(__file__).parents[2] / "examples" / "other-languages"
INSTALL_SECONDS = 120


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the examples."""
    ignored = shutil.ignore_patterns("node_modules", "package-lock.json")
    return Path(shutil.copytree(EXAMPLES, tmp_path / "other-languages", ignore=ignored))


@pytest.fixture
def node(folder) -> Path:
    """The folder of the Node example, its packages installed."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    subprocess.run(command, cwd=folder / "node", check=True, timeout=INSTALL_SECONDS)
    return folder / "node"


@pytest.fixture
def bash(folder) -> Path:
    """The folder of the Bash example."""
    if shutil.which("bash") is None or shutil.which("jq") is None:
        pytest.skip("needs bash and jq")
    return folder / "bash"


class Stand:
    """A server, a planner, a client, and runtimes that are started as processes."""

    def __init__(self, url: str, client: PlanClient) -> None:
        self.url = url
        self.client = client

    async def runtimes(self, count: int) -> None:
        """Wait until the planner knows so many."""
        async with asyncio.timeout(READY_SECONDS):
            while len((await self.client.planner_info(timeout=5)).runtimes) != count:
                await asyncio.sleep(0.02)

    async def until(self, session: str, phase: str, status: str) -> None:
        """Wait until the phase has the status."""
        async with asyncio.timeout(READY_SECONDS):
            while (phase, status) not in await self._statuses(session):
                await asyncio.sleep(0.02)

    async def _statuses(self, session: str) -> set[tuple[str, str]]:
        return {(one.phase_id, one.status) for one in (await self.client.get_state(session)).phases}

    async def ended(self, session: str) -> SessionState:
        """The state of the session, once it is over."""
        async with asyncio.timeout(READY_SECONDS):
            async for _ in self.client.watch(session):
                pass
        return await self.client.get_state(session)


@asynccontextmanager
async def standing(tmp_path: Path, *commands: tuple[Path, Sequence[str]]) -> AsyncGenerator[Stand]:
    """With the runtimes of these commands; they end with status 0 when they are asked to."""
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url, wait=READY_SECONDS) as client,
    ):
        stand = Stand(server.url, client)
        address = server.url.removeprefix("nats://")
        processes = [subprocess.Popen([*command, address], cwd=folder) for folder, command in commands]
        try:
            await stand.runtimes(len(processes))
            yield stand
            for process in processes:
                process.send_signal(signal.SIGTERM)
            statuses = [await asyncio.to_thread(process.wait, READY_SECONDS) for process in processes]
        finally:
            for process in processes:
                end(process, signal.SIGKILL)
    assert statuses == [0] * len(processes)


def phase(name: str, label: str, arguments: dict, *needs: str) -> dict:
    spec = {"selector": {"matchLabels": {"phase": label}}, "x-run": {"with": arguments}}
    return {"kind": "Phase", "id": name, "spec": {**spec, "waitFor": {"phases": list(needs)}}}


async def test_the_example_runs_on_both(tmp_path, bash, node, folder) -> None:
    commands = (bash, ["./runtime.sh"]), (node, ["node", "runtime.mjs"])
    async with standing(tmp_path, *commands) as stand:
        await stand.client.submit((folder / "languages.planter.yaml").read_text(), session="both")
        state = await stand.ended("both")
        output = [line.message async for _, line in stand.client.logs("both")]

    assert {one.phase_id: one.status for one in state.phases} == {"disk": "complete", "greet": "complete"}
    assert any(text.startswith("greeting a disk that is ") for text in output)
    assert any("Filesystem" in text for text in output)


async def test_node_fails_is_cancelled_and_times_out_as_told(tmp_path, node) -> None:
    manifest = [
        phase("wrong", "nap", {"seconds": {}}),
        {**phase("slow", "nap", {"seconds": 60})},
        phase("stays", "nap", {"seconds": 60}),
    ]
    manifest[1]["spec"]["x-run"]["timeout"] = "300ms"
    for one in manifest:
        one["spec"]["onFailure"] = {"action": "continue", "spec": {}}
    async with standing(tmp_path, (node, ["node", "runtime.mjs"])) as stand:
        await stand.client.submit(manifest, session="s")
        await stand.until("s", "slow", "failed")
        await stand.client.control("s", "cancel")
        state = await stand.ended("s")

    found = {one.phase_id: (one.status, one.reason) for one in state.phases}
    assert found["wrong"] == ("failed", "seconds is {}, no number")
    assert found["slow"] == ("failed", "timeout")
    assert found["stays"][0] == "cancelled"


async def test_bash_tells_exit_codes_and_is_cancelled(tmp_path, bash) -> None:
    for name, script in (("fails", "exit 7"), ("sleeps", "exec sleep 1000")):
        (bash / "phases" / name).write_text(f"#!/bin/sh\n{script}\n")
        (bash / "phases" / name).chmod(0o755)
    manifest = [phase("a", "fails", {}), phase("b", "sleeps", {}, "a")]
    manifest[0]["spec"]["onFailure"] = {"action": "continue", "spec": {}}
    async with standing(tmp_path, (bash, ["./runtime.sh"])) as stand:
        await stand.client.submit(manifest, session="s")
        await stand.until("s", "b", "running")
        await stand.client.control("s", "cancel")
        state = await stand.ended("s")

    found = {one.phase_id: (one.status, one.reason) for one in state.phases}
    assert found["a"] == ("failed", "exited with code 7")
    assert found["b"][0] == "cancelled"
