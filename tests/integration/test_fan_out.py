"""Items of a list, and earlier results, over the wire: with processes, judged from the journal."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from planter_protocol import PlanClient, assets
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.scripted import scripted_runtime


def phase(name: str, *needs: str, **spec: Any) -> dict[str, Any]:
    """A no-op phase that answers with what its ``x-run`` says."""
    return {
        "kind": "Phase",
        "id": name,
        "spec": {"waitFor": {"phases": [*needs]}, "x-run": {"noop": {}}, **spec},
    }


async def test_a_thousand_items_run_once_each_although_the_planner_is_killed(tmp_path: Path) -> None:
    wide = phase("wide", **{"x-foreach": {"items": list(range(1_000)), "parallel": 50}})
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path) as first,
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url, slots=50) as runtime,
    ):
        await client.submit([wide, phase("after", "wide")], session="s")
        async for _, commit in client.watch_numbered("s"):
            if any(event["type"] == "PhaseCompleted" for event in commit.events):
                break
        first.kill()
        async with running_planner(server.url, tmp_path, "planner-2"):
            verdict = await judged(client, "s")
            state = await client.get_state("s")

    done = Counter(key[1] for key in runtime.executed)
    assert verdict.status == "complete"
    assert verdict.order[-2:] == ["wide", "after"]
    assert len(state.phases) == 1_002
    assert set(done) == {f"wide[{n}]" for n in range(1_000)} | {"after"}


async def test_a_result_is_taken_from_another_session_until_it_is_run_anew(tmp_path: Path) -> None:
    plans = [phase("make", **{"x-cache": True}), phase("use", "make")]
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
        scripted_runtime(server.url) as runtime,
    ):
        for session in ("one", "two"):
            await client.submit(plans, session=session)
            await judged(client, session)
        taken = next(phase for phase in (await client.get_state("two")).phases if phase.phase_id == "make")
        before = Counter(key[:2] for key in runtime.executed)
        await client.control_confirmed("two", "rerun", phase="make")
        while (await client.get_state("two")).status != "complete":
            await asyncio.sleep(0.01)
        after = Counter(key[:2] for key in runtime.executed)
        found = await client.nc.jetstream().stream_info(f"KV_{assets.RESULTS_BUCKET}")

    assert taken.reason == "the result of one/make was taken (x-cache)"
    assert before == {("one", "make"): 1, ("one", "use"): 1, ("two", "use"): 1}
    assert after == {**before, ("two", "make"): 1, ("two", "use"): 2}
    assert found.state.messages == 1
