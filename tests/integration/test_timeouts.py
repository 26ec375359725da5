"""The four timeouts with a real planner and a real runtime: what fails, is stopped, is tried again."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from planter_protocol import PlanClient
from planter_testkit.nats import READY_SECONDS, end, running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.runtimes import RuntimeProcess

MODULE = """
import time
import anyio
from planter_runtime import PhaseContext, Runtime, heartbeat, last_details

runtime = Runtime(executors=("shell", "python"))

@runtime.handler(phase="waits")
async def waits(ctx: PhaseContext):
    if ctx.attempt == 1:
        for row in range(1_000):
            ctx.heartbeat({"row": row})
        await anyio.sleep(1_000)
    return ctx.details

@runtime.handler(phase="blocks")
def blocks(ctx: PhaseContext):
    for row in range(50):
        time.sleep(0.05)
        ctx.heartbeat(row)
    while ctx.attempt == 1 and not ctx.is_cancelled:
        time.sleep(0.01)
    return ctx.details

def works(rows):
    for row in range(rows):
        time.sleep(0.05)
        heartbeat(row)
    return last_details()
"""
SILENT = """
if [ "$PLANTER_ATTEMPT" = 1 ]; then echo row 7 > "$PLANTER_HEARTBEAT"; exec sleep 1000; fi
printf %s "$PLANTER_DETAILS" > seen
"""


def phase(name: str, timeouts: Any, run: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A phase whose failure does not stop the others."""
    given = {"x-timeout": timeouts, "onFailure": {"action": "continue", "spec": {}}, **spec}
    if run is not None:
        given["x-run"] = run
    return {"id": name, "spec": {"x-retry": {"initial": "10ms", "jitter": 0}, **given}}


@asynccontextmanager
async def everything(folder: Path) -> AsyncGenerator[PlanClient]:
    """A server, a planner, and a runtime with handlers whose work folder is ``folder``."""
    (folder / "timely.py").write_text(MODULE)
    async with (
        running_nats_server(folder / "nats") as server,
        running_planner(server.url, folder),
        PlanClient.connected(server.url) as client,
    ):
        runtime = RuntimeProcess(server.url, folder, "r1", ["--module", "timely.py", "--slots", "10"])
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not (await client.planner_info()).runtimes:
                    await asyncio.sleep(0.01)
            yield client
        finally:
            end(runtime.process)


async def story(client: PlanClient, session: str, seconds: float = 30) -> dict[str, list[dict[str, Any]]]:
    """The events of each phase, once the session has ended; a judge has looked at the journal."""
    events: dict[str, list[dict[str, Any]]] = {}
    async with asyncio.timeout(seconds):
        async for commit in client.watch(session):
            for event in commit.events:
                events.setdefault(event.get("phaseId", ""), []).append(event)
    assert (await judged(client, session)).status == "complete"
    return events


def failures(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Type and kind of everything that failed."""
    kinds = ("AttemptFailed", "PhaseFailed", "AttemptLost")
    return [(event["type"], event.get("kind", "")) for event in events if event["type"] in kinds]


def result(events: list[dict[str, Any]]) -> Any:
    """What the phase returned."""
    return next(event for event in events if event["type"] == "PhaseCompleted").get("result")


async def test_silent_work_is_stopped_and_its_next_attempt_goes_on_from_the_details(tmp_path) -> None:
    retry = {"retry": {"maxAttempts": 2}}
    labels = {name: {"selector": {"matchLabels": {"phase": name}}} for name in ("waits", "blocks")}
    async with everything(tmp_path) as client:
        manifest = [
            phase("shell", {"heartbeat": "1s"}, {"shell": SILENT}, **retry),
            phase("python", {"heartbeat": "2s"}, {"python": "timely:works", "with": {"rows": 60}}),
            phase("waits", {"heartbeat": "1s"}, **labels["waits"], **retry),
            phase("blocks", {"heartbeat": "2s"}, **labels["blocks"], **retry),
        ]
        await client.submit(manifest, session="s")
        events = await story(client, "s")

    assert {name: failures(events[name]) for name in ("shell", "python", "waits", "blocks")} == {
        "shell": [("AttemptFailed", "heartbeat_timeout")],
        "python": [],
        "waits": [("AttemptFailed", "heartbeat_timeout")],
        "blocks": [("AttemptFailed", "heartbeat_timeout")],
    }
    assert (tmp_path / "seen").read_text() == '"row 7"'
    assert (result(events["waits"]), result(events["blocks"])) == ({"row": 999}, 49)
    progress = [event["details"] for event in events["waits"] if event["type"] == "PhaseProgressed"]
    assert progress == [{"row": 999}]  # a thousand heartbeats were one report
    assert len([event for event in events["python"] if event["type"] == "PhaseProgressed"]) < 10


async def test_each_timeout_does_what_it_says(tmp_path) -> None:
    sleep = {"shell": "echo $$ > $PLANTER_PHASE.pid; exec sleep 1000"}
    async with everything(tmp_path) as client:
        manifest = [
            phase("late", {"scheduleToStart": "500ms"}, sleep, selector={"matchLabels": {"gpu": "yes"}}),
            phase("slow", {"startToClose": "300ms"}, sleep, retry={"maxAttempts": 2}),
            phase("long", {"scheduleToClose": "3s"}, sleep, retry={"maxAttempts": 9}),
            phase(
                "tired",
                {"schedule_to_close": "20s"},
                {"shell": "false"},
                **{"retry": {"maxAttempts": 9}, "x-retry": {"initial": "30s", "jitter": 0}},
            ),
        ]
        await client.submit(manifest, session="s")
        events = await story(client, "s")
        async with asyncio.timeout(10):
            while is_alive(int((tmp_path / "long.pid").read_text())):
                await asyncio.sleep(0.02)

    assert failures(events["late"]) == [("PhaseFailed", "schedule_to_start_timeout")]
    assert "no registered runtime matches (kind shell, labels gpu=yes)" in events["late"][-1]["message"]
    assert failures(events["slow"]) == [("AttemptFailed", "timeout"), ("PhaseFailed", "timeout")]
    assert failures(events["long"]) == [("PhaseFailed", "schedule_to_close_timeout")]
    assert failures(events["tired"]) == [("PhaseFailed", "exit")]
    assert "no further attempt: it would begin after the 20,000 ms" in events["tired"][-1]["message"]


def is_alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
