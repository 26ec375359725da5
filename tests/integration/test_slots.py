"""All sessions of a planner share the slots of a runtime, also while their decisions are being stored."""

import asyncio
from typing import Any

import nats

from planter_protocol import PlanClient
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.scripted import ScriptedRuntime

SLOTS = 2
SESSIONS = 40
MANIFEST = [{"kind": "Phase", "id": "a", "spec": {"x-run": {"noop": {}}}}]


class Counting(ScriptedRuntime):
    """Counts the targets that it has and has not reported yet."""

    held_now = held_most = 0

    def _answer(self, target: dict[str, Any]) -> dict[str, Any] | None:
        answer = super()._answer(target)
        self.held_now += 1
        self.held_most = max(self.held_most, self.held_now)
        return answer

    async def report(self, session: str, reports: list[dict[str, Any]]) -> None:
        self.held_now -= len(reports)
        await super().report(session, reports)


async def test_many_sessions_at_once_do_not_fill_a_slot_twice(tmp_path) -> None:
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
    ):
        nc = await nats.connect(server.url)
        runtime = Counting(nc, "r1", SLOTS, lambda _: {"status": "complete"}, lambda _: 0.01)
        await nc.subscribe("plan.runtime.r1.target", cb=runtime.on_target)
        await runtime.heartbeat()
        while not (await client.planner_info()).runtimes:
            await asyncio.sleep(0.01)
        names = [f"s{number}" for number in range(SESSIONS)]
        await asyncio.gather(*(client.submit(MANIFEST, session=name, confirm=None) for name in names))
        async with asyncio.timeout(30):
            verdicts = [await judged(client, name) for name in names]
        assert len(runtime.executed) == SESSIONS
        assert runtime.held_most == SLOTS
        assert {verdict.status for verdict in verdicts} == {"complete"}
        await nc.close()
