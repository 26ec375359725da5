"""Runtimes that queue, defer and reject over the wire, and what is seen of it (docs/scheduling.md)."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats
from nats.aio.msg import Msg

from planter_protocol import PlanClient
from planter_protocol.messages import PhaseState
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.scripted import ScriptedRuntime, scripted_runtime

PHASE = {"kind": "Phase", "id": "a", "spec": {"x-run": {"noop": {}}, "retry": {"maxAttempts": 1}}}


class Choosy(ScriptedRuntime):
    """A runtime that answers each offer with an ack, as the test says."""

    offers: list[tuple[float, dict[str, Any]]]
    answers: Callable[[int], dict[str, Any]]

    async def on_target(self, message: Msg) -> None:
        """Answer; work on what was accepted and not queued."""
        for target in json.loads(message.data)["targets"]:
            self.offers.append((time.monotonic(), target))
            answer = self.answers(len(self.offers))
            echo = {name: target[name] for name in ("phaseId", "attempt", "fence", "dispatchId", "runtimeId")}
            ack = json.dumps({**echo, **answer}).encode()
            await self.nc.jetstream().publish(f"plan.session.{target['sessionId']}.ack", ack)
            if answer["accepted"] and not answer.get("queued"):
                await self.report(target["sessionId"], [{**echo, "status": "complete"}])


async def choosy(url: str, name: str, answers: Callable[[int], dict[str, Any]]) -> Choosy:
    """A registered runtime of this kind."""
    nc = await nats.connect(url)
    runtime = Choosy(nc, name, 10, lambda _: None)
    runtime.offers, runtime.answers = [], answers
    await nc.subscribe(f"plan.runtime.{name}.target", cb=runtime.on_target)
    await runtime.heartbeat()
    return runtime


async def phase_when(client: PlanClient, holds: Callable[[PhaseState], bool]) -> PhaseState:
    """The phase's state once it is so."""
    async with asyncio.timeout(20):
        while True:
            (state,) = (await client.get_state("s")).phases
            if holds(state):
                return state
            await asyncio.sleep(0.01)


async def test_deferred_then_rejected_then_accepted(tmp_path: Path) -> None:
    answers = [
        {"accepted": False, "retryAfterMs": 1_500, "reason": "warming up"},
        {"accepted": False, "reason": "no GPU"},
        {"accepted": True, "queued": True},
    ]
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
    ):
        runtime = await choosy(server.url, "gpu", lambda n: answers[n - 1])
        async with asyncio.timeout(10):
            while not (await client.planner_info()).runtimes:
                await asyncio.sleep(0.01)
        await client.submit([PHASE], session="s")
        deferred = await phase_when(client, lambda state: "deferred" in (state.reason or ""))
        rejected = await phase_when(client, lambda state: "rejected" in (state.reason or ""))
        queued = await phase_when(client, lambda state: "queued" in (state.reason or ""))
        last = runtime.offers[-1][1]
        echo = {name: last[name] for name in ("phaseId", "attempt", "fence", "dispatchId", "runtimeId")}
        await runtime.report("s", [{**echo, "status": "complete"}])
        async with asyncio.timeout(10):
            verdict = await judged(client, "s")
        await runtime.nc.close()

    times = [moment for moment, _ in runtime.offers]
    assert (deferred.status, rejected.status, queued.status) == ("ready", "ready", "targeted")
    assert deferred.reason == "deferred by runtime gpu: warming up; offered again in 1.5 s"
    assert rejected.reason == "rejected by runtime gpu: no GPU; not asked again for 2 s"
    assert times[1] - times[0] >= 1.4
    assert times[2] - times[1] >= 1.9
    assert [target["attempt"] for _, target in runtime.offers] == [1, 1, 1]
    assert len({target["fence"] for _, target in runtime.offers}) == 3
    assert (verdict.status, verdict.completed) == ("complete", 1)


async def test_what_one_runtime_rejects_another_one_does_at_once(tmp_path: Path) -> None:
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url, name="willing", slots=1) as willing,
    ):
        picky = await choosy(server.url, "picky", lambda _: {"accepted": False, "reason": "not I"})
        async with asyncio.timeout(10):
            while len((await client.planner_info()).runtimes) < 2:
                await asyncio.sleep(0.01)
        begun = time.monotonic()
        await client.submit([PHASE], session="s")
        async with asyncio.timeout(10):
            verdict = await judged(client, "s")
        took = time.monotonic() - begun
        await picky.nc.close()

    assert (verdict.status, len(picky.offers), len(willing.executed)) == ("complete", 1, 1)
    assert took < 1
