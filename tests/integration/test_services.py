"""Planners and runtimes as NATS services (ADR-32), asked over the wire as ``nats micro`` asks."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from planter_testkit.nats import running_nats_server
from planter_testkit.planners import running_planner
from planter_testkit.runtimes import RuntimeProcess, end

TYPES = {verb: f"io.nats.micro.v1.{verb.lower()}_response" for verb in ("PING", "INFO", "STATS")}


async def asked(nc: Client, subject: str, expected: int) -> list[dict[str, Any]]:
    """All answers, in the order of their names; waits until as many have come."""
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    answers: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while len(answers) < expected:  # a runtime that starts may not listen yet
            answers = []
            await nc.publish(subject, b"", reply=inbox)
            try:
                while len(answers) < expected:
                    message = await subscription.next_msg(0.5)
                    if message.data:  # else the server says that nobody listens
                        answers.append(json.loads(message.data))
            except nats.errors.TimeoutError:
                continue
    await subscription.unsubscribe()
    return sorted(answers, key=lambda answer: answer["name"])


async def until(nc: Client, subject: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The one service's answer, once it says what is waited for: no order holds between two subjects."""
    async with asyncio.timeout(30):
        while True:
            (answer,) = await asked(nc, subject, 1)
            if holds(answer):
                return answer


async def endpoint(nc: Client, service: str, name: str) -> dict[str, Any]:
    """The statistics of an endpoint."""
    (stats,) = await asked(nc, f"$SRV.STATS.{service}", 1)
    return next(each for each in stats["endpoints"] if each["name"] == name)


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_planner_and_runtime_answer_for_all_for_their_name_and_for_their_id(tmp_path, verb) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path, "p1"):
        runtime = RuntimeProcess(server.url, tmp_path, "build-7", ["--slots", "3", "--label", "os=linux"])
        nc = await nats.connect(server.url)
        try:
            everybody = await asked(nc, f"$SRV.{verb}", 2)
            by_name = await asked(nc, f"$SRV.{verb}.planter-planner", 1)
            by_id = await asked(nc, f"$SRV.{verb}.planter-runtime.build-7", 1)
        finally:
            await nc.close()
            end(runtime.process)

    assert [answer["type"] for answer in everybody] == [TYPES[verb]] * 2
    assert [(answer["name"], answer["id"]) for answer in everybody] == [
        ("planter-planner", "p1"),
        ("planter-runtime", "build-7"),
    ]
    assert [answer["id"] for answer in by_name + by_id] == ["p1", "build-7"]
    assert all(answer["version"].count(".") == 2 for answer in everybody)
    facts = by_id[0]["metadata"]
    assert (facts["id"], facts["slots"], facts["labels"], facts["state"]) == (
        "build-7", "3", "os=linux", "ready"
    )  # fmt: skip
    assert facts["instance"]
    assert all(isinstance(value, str) for answer in everybody for value in answer["metadata"].values())


async def test_info_names_the_subjects_and_stats_count_requests_and_what_was_refused(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path, "p1"):
        nc = await nats.connect(server.url)
        (info,) = await asked(nc, "$SRV.INFO.planter-planner.p1", 1)
        start = {"manifest": [{"kind": "Phase", "id": "a", "spec": {}}]}
        good = await nc.request("plan.session.demo.diff", json.dumps(start).encode(), timeout=5)
        bad = await nc.request("plan.session.demo.diff", b"{", timeout=5)
        unknown = await nc.request("plan.session.nobody.get_state", b"", timeout=5)
        diff = await endpoint(nc, "planter-planner", "diff")
        await nc.close()

    assert {each["name"]: (each["subject"], each["queue_group"]) for each in info["endpoints"]} == {
        "get_state": ("plan.session.*.get_state", "planter"),
        "diff": ("plan.session.*.diff", "planter"),
        "explain": ("plan.session.*.explain", "planter"),
        "info": ("plan.planner.info", "planter"),
    }
    assert good.headers is None
    assert bad.headers["Nats-Service-Error-Code"] == "400"
    assert unknown.headers["Nats-Service-Error-Code"] == "404"
    assert unknown.headers["Nats-Service-Error"] == json.loads(unknown.data)["error"]["text"]
    assert (diff["num_requests"], diff["num_errors"]) == (2, 1)
    assert diff["last_error"].startswith("400:request.invalid: ")
    assert diff["processing_time"] >= diff["average_processing_time"] > 0


async def test_a_runtime_counts_targets_and_says_that_it_drains(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path, "p1"):
        nc = await nats.connect(server.url)
        runtime = RuntimeProcess(server.url, tmp_path, "r1")
        try:
            await asked(nc, "$SRV.PING.planter-runtime.r1", 1)
            ended = await nc.subscribe("plan.session.demo.events")
            phase = {"kind": "Phase", "id": "a", "spec": {"x-run": {"shell": "read x < gate"}}}
            os.mkfifo(tmp_path / "gate")
            await nc.jetstream().publish(
                "plan.session.demo.start", json.dumps({"manifest": [phase]}).encode()
            )
            async with asyncio.timeout(20):
                while b"PhaseStarted" not in (await ended.next_msg(20)).data:
                    pass
            await nc.publish("plan.runtime.r1.target", b"{")
            stats = await until(
                nc, "$SRV.STATS.planter-runtime", lambda answer: answer["endpoints"][0]["num_errors"] > 0
            )
            await nc.publish("plan.runtime.r1.control", b'{"command":"drain"}')
            draining = await until(
                nc, "$SRV.PING.planter-runtime", lambda answer: answer["metadata"]["state"] != "ready"
            )
            (tmp_path / "gate").write_text("go\n")
        finally:
            await nc.close()
            end(runtime.process)

    target = stats["endpoints"][0]
    assert (target["name"], target["num_requests"], target["num_errors"]) == ("target", 2, 1)
    assert "not a valid Targets" in target["last_error"]
    assert draining["metadata"]["state"] == "draining"
    assert draining["metadata"]["running"] == "1"
