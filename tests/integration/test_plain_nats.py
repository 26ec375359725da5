"""Any NATS client can do everything by publishing JSON: nats-py alone, none of our packages in this file."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter_testkit.nats import Server, publish_raw, running_nats_server
from planter_testkit.planners import running_planner
from planter_testkit.scripted import scripted_runtime

MANIFEST = [
    {"kind": "Phase", "id": "preflight", "spec": {"selector": {"matchLabels": {"phase": "preflight"}}}},
    {
        "Kind": "Phase",
        "Id": "setup",
        "Spec": {"selector": {"match_labels": {"phase": "setup"}}, "wait_for": {"phases": ["preflight"]}},
    },
]


class Monitor:
    """Collects what monitors see of one session."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.events: list[str] = []
        self.states: list[tuple[str, str]] = []
        self.ended = asyncio.Event()
        self.seen = asyncio.Condition()

    async def follow(self, session: str) -> "Monitor":
        """Subscribe to events and states."""
        await self.nc.subscribe(f"plan.session.{session}.events", cb=self._on_events)
        await self.nc.subscribe(f"plan.session.{session}.state", cb=self._on_state)
        await self.nc.flush()
        return self

    async def until(self, event: str) -> None:
        """Wait until an event has been seen."""
        async with asyncio.timeout(10), self.seen:
            await self.seen.wait_for(lambda: event in self.events)

    async def _on_events(self, message: Msg) -> None:
        async with self.seen:
            self.events += [event["type"] for event in json.loads(message.data)["events"]]
            self.seen.notify_all()
        if "SessionEnded" in self.events:
            self.ended.set()

    async def _on_state(self, message: Msg) -> None:
        state = json.loads(message.data)
        self.states.append((state["phaseId"], state["status"]))


async def start(nc: Client, session: str, manifest: Any) -> None:
    """Publish a manifest, as any client would."""
    data = json.dumps({"manifest": manifest, "dryRun": False}).encode()
    await nc.jetstream().publish(f"plan.session.{session}.start", data)


async def command(nc: Client, session: str, **fields: Any) -> None:
    """Publish a control command."""
    await nc.jetstream().publish(f"plan.session.{session}.control", json.dumps(fields).encode())


async def get_state(nc: Client, session: str) -> Any:
    """Ask for the full state."""
    return json.loads((await nc.request(f"plan.session.{session}.get_state", b"", timeout=5)).data)


async def test_a_bare_pmp_runtime_that_knows_only_target_ack_and_state_completes_a_session(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path):
        nc = await nats.connect(server.url)
        monitor = await Monitor(nc).follow("demo")

        # The runtime: these few lines are all that it takes.
        async def on_target(message: Msg) -> None:
            phase = json.loads(message.data)["phaseId"]
            await nc.publish(
                "plan.session.demo.ack", json.dumps({"phaseId": phase, "accepted": True}).encode()
            )
            for status in ("running", "complete"):
                state = {"phaseId": phase, "status": status, "updated": "2025-07-19T20:00:00Z"}
                await nc.publish("plan.session.demo.state", json.dumps(state).encode())

        await nc.subscribe("plan.session.demo.target", cb=on_target)
        await start(nc, "demo", MANIFEST)
        async with asyncio.timeout(10):
            await monitor.ended.wait()
        state = await get_state(nc, "demo")
        await nc.close()

    assert (
        state["status"],
        [phase["status"] for phase in state["phases"]],
    ) == ("complete", ["complete", "complete"])
    assert [pair for pair in monitor.states if pair[1] == "targeted"] == [
        ("preflight", "targeted"),
        ("setup", "targeted"),
    ]


async def test_pause_resume_and_cancel_by_publishing_json(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path):
        nc = await nats.connect(server.url)
        monitor = await Monitor(nc).follow("demo")

        await start(nc, "demo", MANIFEST)
        await monitor.until("PhaseTargeted")
        await command(nc, "demo", command="pause")
        await monitor.until("SessionPaused")
        paused = (await get_state(nc, "demo"))["status"]
        await command(nc, "demo", command="resume")
        await monitor.until("SessionResumed")
        await command(nc, "demo", command="cancel")
        await monitor.until("SessionEnded")
        state = await get_state(nc, "demo")
        await nc.close()

    assert (paused, state["status"]) == ("paused", "cancelled")


async def test_an_invalid_manifest_is_answered_with_every_problem_and_its_place(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path):
        nc = await nats.connect(server.url)
        subscription = await nc.subscribe("plan.session.demo.events")

        await start(
            nc, "demo", [{"kind": "Phase", "id": "a", "spec": {"selektor": {}, "retry": {"maxAttempts": 0}}}]
        )
        message = await subscription.next_msg(10)
        await nc.close()

    (event,) = json.loads(message.data)["events"]
    assert (event["type"], event["code"]) == ("InputRefused", "manifest.invalid")
    assert len(event["problems"]) == 2


async def test_bytes_that_are_no_message_become_dead_letters_and_block_nobody(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path):
        nc = await nats.connect(server.url)
        monitor = await Monitor(nc).follow("good")

        for data in (
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b"null",
            b"[" * 100_000,
            json.dumps({"manifest": 7}).encode(),
        ):
            await nc.jetstream().publish("plan.session.bad.start", data)
        await nc.jetstream().publish("plan.session.bad.report", b'{"phaseId":"x","status":"flying"}')
        await start(nc, "good", [])
        async with asyncio.timeout(10):
            await monitor.ended.wait()
        letters = []
        subscription = await nc.jetstream().pull_subscribe("plan.dead.*", stream="PLANTER_DEAD_LETTERS")
        while len(letters) < 7:  # all but `manifest: 7`, which can be read and is refused
            letters += await subscription.fetch(7, timeout=10)
        state = await get_state(nc, "bad")
        await nc.close()

    assert {letter.subject for letter in letters} == {"plan.dead.bad"}
    assert all(letter.headers["Planter-Reason"].startswith("not a valid") for letter in letters)
    assert state["status"] == "pending"


TEXT = b"NATS/1.0\r\nA: b\r\n\r\n"
"""A header block as it should be."""


@pytest.mark.parametrize("odd", [b"\xff\xfe", b"a\x0bb", b"a\x0cb"])
@pytest.mark.parametrize("header", [b"", TEXT])
async def test_subjects_that_are_no_text_block_nobody(tmp_path, odd: bytes, header: bytes) -> None:
    async with a_planner_that_goes_on(tmp_path) as (server, letters):
        for reply in (b"_INBOX.a.1", b"_INBOX.%b.1" % odd):
            await publish_raw(server.url, *addresses(odd), reply=reply, header=header)
        assert await letters() == 8


@pytest.mark.parametrize(
    "header",
    [
        b"\r\n",
        b"x",
        b"NATS/1.0",
        b"NATS/1.0 \r\n\r\n",
        b"NATS/1.0 \xff\xff\xff\r\n\r\n",
        b"NATS/1.0 503\r\nA: \xff\r\n\r\n",
        b"NATS/1.0 503 \xff\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\xff: b\r\n\r\n",
        b"MSG a 1 2\r\n{}\r\n",
    ],
)
async def test_headers_that_are_none_block_nobody(tmp_path, header: bytes) -> None:
    async with a_planner_that_goes_on(tmp_path) as (server, _):
        await publish_raw(server.url, *addresses(b"bad"), header=header)


def addresses(token: bytes) -> list[bytes]:
    """Everything that a planner listens to, of a session, runtime or planner of this name."""
    inputs = (b"start", b"control", b"ack", b"report")
    return [
        *(b"plan.session.%b.%b" % (token, verb) for verb in (*inputs, b"get_state", b"diff", b"explain")),
        b"plan.runtime.%b.heartbeat" % token,
        b"plan.planner.%b.presence" % token,
        b"plan.notify.%b.hook.%b" % (token, token),
        b"plan.planner.info",
        b"plan.planner.handover",
        b"$SRV.PING",
    ]


@asynccontextmanager
async def a_planner_that_goes_on(folder: Path) -> AsyncGenerator[tuple[Server, Callable[[], Awaitable[int]]]]:
    """A planner that has to complete a session after the block, without having lost its connection.

    Yields its server, and a count of the dead letters.
    """
    async with (
        running_nats_server(folder) as server,
        running_planner(server.url, folder) as planner,
        scripted_runtime(server.url),
    ):
        nc = await nats.connect(server.url)
        monitor = await Monitor(nc).follow("good")

        async def letters() -> int:
            await start(nc, "good", [{"kind": "Phase", "id": "a", "spec": {"x-run": {"noop": {}}}}])
            async with asyncio.timeout(10):
                await monitor.ended.wait()
            return (await nc.jetstream().stream_info("PLANTER_DEAD_LETTERS")).state.messages

        yield server, letters
        await letters()
        await nc.close()
    log = planner.log.read_text()
    assert not [word for word in ("nats.error", "connection.", "Traceback") if word in log]


async def test_a_forged_report_changes_nothing(tmp_path) -> None:
    async with running_nats_server(tmp_path) as server, running_planner(server.url, tmp_path):
        nc = await nats.connect(server.url)
        monitor = await Monitor(nc).follow("demo")
        beat = {
            "runtimeId": "victim",
            "instance": "1",
            "slots": 1,
            "labels": {"*": "*"},
            "executors": ["noop"],
        }
        await nc.publish("plan.runtime.victim.heartbeat", json.dumps(beat).encode())
        manifest = [{"kind": "Phase", "id": "a", "spec": {"x-run": {"noop": {}}}}]
        await start(nc, "demo", manifest)
        await monitor.until("PhaseTargeted")

        js = nc.jetstream()
        for forged in (
            {"phaseId": "a", "status": "complete"},
            {"phaseId": "a", "status": "complete", "attempt": 1, "fence": 1},
            {"phaseId": "a", "status": "complete", "attempt": 1, "fence": 1, "dispatchId": "0" * 32},
        ):
            await js.publish("plan.session.demo.report", json.dumps(forged).encode())
        await command(nc, "demo", command="pause")  # comes after them in the stream
        await monitor.until("SessionPaused")
        await nc.close()

    assert "PhaseCompleted" not in monitor.events
