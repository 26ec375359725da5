"""All runtimes are replaced, one after the other, while they work: nothing is lost, nothing is done twice."""

import asyncio
import signal
from collections import Counter
from contextlib import ExitStack

from planter_protocol import PlanClient
from planter_testkit.nats import end, running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.runtimes import RuntimeProcess

RUNTIMES = ("r1", "r2", "r3")
ROUNDS = 2
SESSIONS = 4
PHASES = 180


def manifest() -> list[dict]:
    """Phases that write their names down when they end, in rows that wait for each other."""
    rows, width = PHASES // 6, 6
    script = 'sleep 0.1; echo "$PLANTER_SESSION/$PLANTER_PHASE" >> done'
    return [
        {
            "kind": "Phase",
            "id": f"p{row}-{number}",
            "spec": {
                "x-run": {"shell": script},
                "waitFor": {"phases": [f"p{row - 1}-{number}"] if row else []},
            },
        }
        for row in range(rows)
        for number in range(width)
    ]


async def ready(client: PlanClient, name: str) -> None:
    """Wait until the planner gives work to the runtime; its earlier life has said that it is gone."""
    async with asyncio.timeout(20):
        while not any(
            (one.runtime_id, one.state) == (name, "ready") for one in (await client.planner_info()).runtimes
        ):
            await asyncio.sleep(0.01)


async def test_all_runtimes_are_replaced_under_load(tmp_path) -> None:
    with ExitStack() as stack:
        running: dict[str, RuntimeProcess] = {}

        async def start(name: str) -> None:
            running[name] = RuntimeProcess(server.url, tmp_path, name, ("--slots", "4"))
            stack.callback(end, running[name].process)
            await ready(client, name)

        async with (
            running_nats_server(tmp_path / "nats") as server,
            running_planner(server.url, tmp_path),
            PlanClient.connected(server.url) as client,
        ):
            for name in RUNTIMES:
                await start(name)
            sessions = [f"s{number}" for number in range(SESSIONS)]
            for session in sessions:
                await client.submit(manifest(), session=session)
            restarts_at_work = 0
            for name in RUNTIMES * ROUNDS:
                running[name].signal(signal.SIGTERM)
                assert await running[name].ended() == 0
                await start(name)
                states = [await client.get_state(session) for session in sessions]
                restarts_at_work += any(state.status != "complete" for state in states)
            async with asyncio.timeout(60):
                verdicts = [await judged(client, session) for session in sessions]

    assert {verdict.status for verdict in verdicts} == {"complete"}
    assert restarts_at_work >= len(RUNTIMES), "the work was over too early to show anything"
    done = Counter((tmp_path / "done").read_text().split())
    assert len(done) == SESSIONS * PHASES
    assert set(done.values()) == {1}
