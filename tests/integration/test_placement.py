"""Real runtimes with labels and slots: who gets what, and what is said when nobody does."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from planter_protocol import PlanClient
from planter_testkit.commands import ended, started
from planter_testkit.nats import end, running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.runtimes import RuntimeProcess

SECONDS = 60.0
ALONE = "mkdir only.one && sleep 0.1 && rmdir only.one"
"""Fails when two of them run at the same time in one work folder."""


def phase(name: str, run: dict[str, Any] | None = None, **extensions: Any) -> dict[str, Any]:
    keys = {f"x-{key}": value for key, value in extensions.items()}
    return {"kind": "Phase", "id": name, "spec": {"x-run": run or {"noop": {}}, **keys}}


def wants(label: str, operator: str, value: Any) -> dict[str, Any]:
    return {"label": label, "operator": operator, "value": value}


async def registered(client: PlanClient, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len((await client.planner_info()).runtimes) < count:
            await asyncio.sleep(0.02)


async def reason_of(client: PlanClient, session: str, name: str) -> str:
    """Why the phase is where it is, once it is offered."""
    async with asyncio.timeout(SECONDS):
        while True:
            state = await client.get_state(session)
            found = {one.phase_id: one for one in state.phases}[name]
            if found.status == "targeted":
                return str(found.reason)
            await asyncio.sleep(0.02)


async def explained(url: str, *arguments: str) -> str:
    process = await started("explain", "s", "huge", "--nats", url, *arguments)
    found = await ended(process)
    assert found.status == 0, found.err
    return found.out


async def test_runtimes_get_what_their_labels_and_slots_allow(tmp_path: Path) -> None:
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
        AsyncExitStack() as stack,
    ):

        def start(name: str, slots: int, *labels: str) -> None:
            folder = tmp_path / name
            folder.mkdir()
            flags = [flag for label in labels for flag in ("--label", label)]
            process = RuntimeProcess(server.url, folder, name, ["--slots", str(slots), *flags])
            stack.callback(end, process.process, signal.SIGTERM)

        start("small", 8, "memory=8")
        start("near", 3, "memory=24", "zone=eu", "disks=ssd, tape")
        start("far", 8, "memory=24", "zone=us-1")
        await registered(client, 3)
        enough = wants("memory", ">=", 16)
        near = [{"label": "zone", "value": "eu", "weight": 80}]
        here = wants("planter.runtime", "=", "near")
        manifest = [
            phase("liked", constraints=[enough], affinity=near),
            phase("unliked", constraints=[enough], affinity=[{**near[0], "weight": -1}]),
            phase("set", constraints=[wants("disks", "set_contains", ["tape"])]),
            phase("pattern", constraints=[wants("zone", "regexp", "^us-[0-9]+$")]),
            phase("version", constraints=[wants("planter.version", "version", ">= 0.0.1"), here]),
            *(phase(f"alone{n}", {"shell": ALONE}, slots=2, constraints=[here]) for n in range(4)),
            phase("huge", constraints=[wants("memory", ">=", 100)], slots=9),
        ]
        await client.submit(manifest, session="s")
        reason = await reason_of(client, "s", "huge")
        text = await explained(server.url)
        document = json.loads(await explained(server.url, "--output", "json"))
        start("huge", 9, "memory=128")
        async with asyncio.timeout(SECONDS):
            verdict = await judged(client, "s")
        state = await client.get_state("s")

    where = {one.phase_id: one.runtime_id for one in state.phases}
    assert verdict.status == "complete", [one.reason for one in state.phases]
    assert {name: where[name] for name in ("liked", "unliked", "set", "pattern", "version", "huge")} == {
        "liked": "near",
        "unliked": "far",
        "set": "near",
        "pattern": "far",
        "version": "near",
        "huge": "huge",
    }
    assert reason.endswith("kind noop, labels (none), memory >= 100, at least 9 slots")
    removed = "3 do not fulfil memory >= 100"
    assert f"no registered runtime matches: of 3 runtimes, {removed}" in text
    assert "ends it: a runtime with executor noop, memory >= 100, at least 9 slots" in text
    assert [(one["constraint"], one["count"]) for one in document["phase"]["placement"]["removed"]] == [
        ("constraint", 3)
    ]
