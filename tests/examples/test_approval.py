"""The example with an approval: a session in one process, the answer from another."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from planter_protocol import PlanClient
from planter_testkit.commands import DEADLINE_SECONDS, ended, started
from planter_testkit.nats import end, running_nats_server
from planter_testkit.planners import running_planner
from planter_testkit.runtimes import RuntimeProcess

MANIFEST = Path(__file__).parents[2] / "examples" / "approval" / "approval.planter.yaml"


@asynccontextmanager
async def asked(folder: Path) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    """A server with planner and runtime, and ``planter run`` of the example, come to its question."""
    async with (
        running_nats_server(folder) as server,
        running_planner(server.url, folder),
        PlanClient.connected(server.url) as client,
    ):
        runtime = RuntimeProcess(server.url, folder, "r1")
        try:
            running = await started("run", str(MANIFEST), "--session", "release", "--nats", server.url)
            commits = client.watch("release", until_ended=False)
            async with asyncio.timeout(DEADLINE_SECONDS), aclosing(commits):
                async for commit in commits:
                    if any(event["type"] == "ApprovalRequested" for event in commit.events):
                        break
            yield server.url, running
        finally:
            end(runtime.process, signal.SIGTERM)


@pytest.mark.parametrize(
    ("answer", "status", "said", "unsaid"),
    [
        (
            ("approve", "approve", "--by", "ann", "--data", '{"region": "eu"}'),
            0,
            "approved by ann",
            "withdrawn",
        ),
        (("reject", "approve", "--by", "ann", "--comment", "not yet"), 1, "withdrawn", "deployed"),
    ],
)
async def test_the_release_goes_out_or_not_as_somebody_answers(
    tmp_path, answer, status, said, unsaid
) -> None:
    async with asked(tmp_path) as (url, running):
        given = await ended(await started("control", "release", *answer, "--nats", url))
        done = await ended(running)

    assert given.status == 0, given.err
    assert done.status == status, done.err
    assert said in done.out
    assert unsaid not in done.out
    assert "waiting" in done.err
    assert "planter control release approve approve" in done.err
