"""From the bytes of a start message to a plan: what is read once, and what is not kept."""

import json
from typing import Any

import msgspec

from planter.shell.plans import graph_apart, plan_of
from planter_protocol.messages import Start
from planter_testkit.graphs import as_manifest, fan

NOBODY: Any = None
SMALL = as_manifest([{"id": "a", "deps": []}, {"id": "b", "deps": ["a"]}, {"id": "c", "deps": ["b"]}])


def start(manifest: list[Any], target: str | None = None) -> Start:
    return Start(manifest=msgspec.Raw(json.dumps(manifest).encode()), target_phase=target)


async def test_the_same_small_manifest_is_read_once_and_its_sessions_share_plan_and_graph() -> None:
    first, again = [await plan_of(NOBODY, start(SMALL)) for _ in range(2)]
    assert first.plan is not None
    assert again.plan is first.plan
    assert await graph_apart(first.plan) is await graph_apart(again.plan)


async def test_a_target_phase_makes_another_plan_of_the_same_manifest() -> None:
    whole, part = await plan_of(NOBODY, start(SMALL)), await plan_of(NOBODY, start(SMALL, "b"))
    assert whole.plan is not None
    assert part.plan is not None
    assert [spec.id for spec in part.plan.phases] == ["a", "b"]
    assert part.plan.digest != whole.plan.digest


async def test_what_is_wrong_is_said_each_time() -> None:
    wrong = [*SMALL, {"id": "c", "spec": {}}]
    readings = [await plan_of(NOBODY, start(wrong)) for _ in range(2)]
    assert [reading.plan for reading in readings] == [None, None]
    assert readings[0].problems == readings[1].problems != ()


async def test_large_manifests_are_not_kept() -> None:
    manifest = as_manifest(fan(400))
    first, again = [await plan_of(NOBODY, start(manifest)) for _ in range(2)]
    assert first.plan == again.plan
    assert first.plan is not again.plan
