"""Server-sent events: exact resumption, their end, and nothing left behind."""

import asyncio
import contextlib
import json
import time
from typing import Any, NamedTuple

import anyio
import pytest

from planter.api import streams
from planter_protocol import PlanClient
from planter_testkit.http import running_api

from .test_pmp import complete, manifest, never, plan

DEADLINE_SECONDS = 30.0
EVENTS = {"accept": "text/event-stream"}


class Event(NamedTuple):
    """One server-sent event."""

    id: str | None
    type: str | None
    data: Any


async def read(lines, until=lambda _: False) -> list[Event]:
    """Events until the stream ends, or the condition holds for one."""
    found: list[Event] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for line in lines:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
                continue
            if "data" in fields:
                found.append(Event(fields.get("id"), fields.get("event"), json.loads(fields["data"])))
                if until(found[-1]):
                    return found
            fields = {}
    return found


async def events(api, path: str, **headers: str) -> list[Event]:
    async with api.http.stream("GET", path, headers={**EVENTS, **headers}) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return await read(answer.aiter_lines())


async def test_a_stream_has_every_commit_and_ends_with_the_session(tmp_path):
    async with running_api(tmp_path, complete) as api:
        await plan(api, manifest("a", "b", "c"), session="s")
        live = await events(api, "/api/sessions/s/events")
        pages = (await api.http.get("/api/sessions/s/events")).json()["items"]
        replayed = await events(api, "/api/sessions/s/events")

    assert [event.data for event in live] == [event.data for event in replayed] == pages
    assert [event.id for event in live] == [str(item["sequence"]) for item in pages]
    assert {event.type for event in live} == {"commit"}
    assert live[-1].data["events"][-1]["type"] == "SessionEnded"


async def test_a_stream_that_is_taken_up_again_goes_on_exactly_where_it_was(tmp_path):
    async with running_api(tmp_path, complete) as api:
        for number in range(3):
            await plan(api, manifest("a", "b", text=f"revision {number}"), session="s")
            await api.until("s", "complete")
        everything = await events(api, "/api/sessions/s/events")
        for index, event in enumerate(everything[:-1]):
            rest = await events(api, "/api/sessions/s/events", **{"last-event-id": event.id})
            assert rest == everything[index + 1 :]
        by_parameter = await events(api, f"/api/sessions/s/events?after={everything[0].id}")
        last = {**EVENTS, "last-event-id": everything[-1].id}
        over = await api.http.get("/api/sessions/s/events", headers=last)
        bad = await api.http.get("/api/sessions/s/events", headers={**EVENTS, "last-event-id": "x1"})
        newer = await events(api, "/api/sessions/s/events", **{"last-event-id": "99999"})

    assert by_parameter == everything[1:]
    assert over.status_code == 204
    assert (bad.status_code, bad.headers["content-type"]) == (400, "application/problem+json")
    assert newer[0].type == "reset"
    assert newer[1:] == everything


async def test_a_session_that_ended_and_was_refused_a_command_later_ends_its_stream_too(tmp_path):
    async with running_api(tmp_path, complete) as api:
        await plan(api, manifest("a"), session="s")
        await api.until("s", "complete")
        ended = (await events(api, "/api/sessions/s/events"))[-1]
        await api.http.post("/api/sessions/s/control", json={"command": "pause"})
        rest = await events(api, "/api/sessions/s/events", **{"last-event-id": ended.id})

    assert [event.data["events"][0]["type"] for event in rest] == ["InputRefused"]


async def test_logs_are_streamed_live_and_end_with_the_session(tmp_path):
    async with running_api(tmp_path, never) as api, PlanClient.connected(api.server.url) as client:

        async def say(number: int) -> None:
            line = {"level": "info", "message": f"{number}", "timestamp": "t", "phaseId": "a"}
            await client.js.publish("plan.session.s.log", json.dumps(line).encode())

        await plan(api, manifest("a", "b"), session="s")
        await say(0)
        async with api.http.stream("GET", "/logs?session=s", headers=EVENTS) as answer:
            lines = answer.aiter_lines()
            first = await read(lines, until=lambda event: event.data["message"] == "0")
            await say(1)
            second = await read(lines, until=lambda event: event.data["message"] == "1")
            await say(2)
            await cancelled(client)
            since = time.monotonic()
            rest = await read(lines)
            took = time.monotonic() - since
        resumed = await events(api, "/api/sessions/s/logs?phase=a", **{"last-event-id": first[0].id})

    assert [event.data["message"] for event in first + second + rest] == ["0", "1", "2"]
    assert [event.data["message"] for event in resumed] == ["1", "2"]
    assert took < 10


async def cancelled(client: PlanClient) -> None:
    """End the session, with the life of the runtime that has its attempt."""
    await client.control_confirmed("s", "cancel")
    anew = {"runtimeId": "scripted", "instance": "two", "slots": 1, "state": "ready"}
    await client.nc.publish("plan.runtime.scripted.heartbeat", json.dumps(anew).encode())


async def test_clients_that_go_away_leave_no_subscription_and_no_consumer_behind(tmp_path):
    async with running_api(tmp_path, never) as api, PlanClient.connected(api.server.url) as client:
        await plan(api, manifest("a"), session="s")
        before = await subscriptions(api)
        kept = []
        async with contextlib.AsyncExitStack() as open_streams:
            for number in range(20):
                path = f"/api/sessions/s/{'logs' if number % 2 else 'events'}"
                answer = await open_streams.enter_async_context(api.http.stream("GET", path, headers=EVENTS))
                kept.append(answer.aiter_lines())  # one that is dropped closes its connection
                await anext(kept[-1])
            async with asyncio.timeout(DEADLINE_SECONDS):
                while await subscriptions(api) < before + 20:
                    await asyncio.sleep(0.02)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await subscriptions(api) > before:
                await asyncio.sleep(0.02)
        consumers = [
            (await client.js.stream_info(name)).state.consumer_count
            for name in ("PLANTER_JOURNAL", "PLANTER_LOGS")
        ]

    assert consumers == [0, 0]


async def subscriptions(api) -> int:
    text = (await api.http.get("/metrics")).text
    line = next(line for line in text.splitlines() if line.startswith("planter_nats_subscriptions "))
    return int(float(line.split()[1]))


async def test_the_end_of_the_planner_ends_streams_at_once(tmp_path):
    async with running_api(tmp_path, never) as api:
        await plan(api, manifest("a"), session="s")
        async with (
            api.http.stream("GET", "/api/sessions/s/events", headers=EVENTS) as commits,
            api.http.stream("GET", "/api/sessions/s/logs", headers=EVENTS) as logs,
        ):
            since = time.monotonic()
            api.planner.process.terminate()
            await asyncio.gather(read(commits.aiter_lines()), read(logs.aiter_lines()))
            status = await asyncio.to_thread(api.planner.process.wait, 10)
            took = time.monotonic() - since
        log = api.planner.log.read_text()

    assert status == 0
    assert took < 5
    assert "graceful" not in log
    assert "http.broken" not in log


async def test_a_head_request_for_a_stream_is_answered_and_ends(tmp_path):
    async with running_api(tmp_path, never) as api:
        await plan(api, manifest("a"), session="s")
        answer = await api.http.head("/api/sessions/s/events", headers=EVENTS)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/json"


async def test_a_silent_stream_is_kept_alive_with_comments(monkeypatch):
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.01)
    sent: list[bytes] = []
    alive = anyio.Event()

    async def silent(emit, tasks):
        await anyio.sleep_forever()

    async def send(message):
        sent.append(message.get("body", b""))
        if sent.count(b": keep-alive\n\n") == 2:
            alive.set()

    async def receive():
        await alive.wait()
        return {"type": "http.disconnect"}

    with anyio.fail_after(DEADLINE_SECONDS):
        await streams.EventStream(silent, anyio.Event())({"type": "http"}, receive, send)

    assert sent[1] == b"retry: 2000\n\n"
    assert sent.count(b": keep-alive\n\n") >= 2


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("text/event-stream, */*", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=bad", False),
    ],
)
def test_only_who_prefers_a_stream_gets_one(accept, wanted):
    from starlette.requests import Request

    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})

    assert streams.wants_events(request) is wanted
