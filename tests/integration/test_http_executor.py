"""Phases that are HTTP requests, to a real server on 127.0.0.1 that answers what a test wants."""

import asyncio
import json
from typing import Any

import pytest

from planter_testkit.answering import READ_SECONDS, answer, answering
from planter_testkit.runtimes import planner_and_runtime, target


async def test_arguments_are_sent_as_json_and_the_answer_is_the_result(tmp_path) -> None:
    sent = answer("201 Created", b'{"id": 7}', "Content-Type: application/json", "Set-Cookie: session=secret")
    async with answering(lambda head, body: sent) as server, planner_and_runtime(tmp_path) as (planner, _):
        http = {"url": f"{server.url}/build?token=secret", "query": {"page": "2"}, "headers": {"X-Team": "a"}}
        run = {"http": http, "with": {"name": "site"}}
        await planner.offer("r1", target("bäu[3]", run, attempt=2, fence=7))
        report = await planner.report("bäu[3]")

    assert report["status"] == "complete"
    assert report["result"]["status"] == 201
    assert report["result"]["body"] == {"id": 7}
    assert "set-cookie" not in report["result"]["headers"]
    first, *headers = server.heads[0].rstrip().split("\r\n")
    assert first == "POST /build?token=secret&page=2 HTTP/1.1"
    assert {
        "Planter-Session: s1",
        "Planter-Phase: b%C3%A4u[3]",
        "Planter-Attempt: 2",
        "Planter-Fence: 7",
    } <= {*headers}
    assert {"X-Team: a", "Content-Type: application/json"} <= {*headers}
    assert json.loads(server.bodies[0]) == {"name": "site"}
    line = planner.output("bäu[3]")[0]
    assert line.startswith(f"POST {server.url}/build: 201 Created, 9 bytes, ")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("sent", "more", "result"),
    [
        (answer("204 No Content"), {}, {"status": 204, "body": ""}),
        (answer("200 OK", "grüße".encode()), {}, {"status": 200, "body": "grüße"}),
        (answer("200 OK", b"gr\xfc", "Content-Type: text/plain; charset=latin-1"), {}, {"body": "grü"}),
        (answer("200 OK", b"\xff\xfe\x00"), {}, {"bodyBytes": 3}),
        (answer("200 OK", b"{", "Content-Type: application/json"), {}, {"body": "{"}),
        (answer("404 Not Found", b"no"), {"expect": ["2xx", 404]}, {"status": 404, "body": "no"}),
        (answer("302 Found", b"", "Location: /"), {"expect": ["3xx"]}, {"status": 302}),
    ],
)
async def test_expected_answers_of_all_kinds_complete_the_phase(tmp_path, sent, more, result) -> None:
    async with answering(lambda head, body: sent) as server, planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"http": {"url": server.url, **more}}))
        report = await planner.report("a")

    assert report["status"] == "complete"
    assert {key: report["result"][key] for key in result} == result
    assert server.heads[0].startswith("GET / HTTP/1.1")


@pytest.mark.parametrize(
    ("sent", "retryable", "message"),
    [
        (answer("404 Not Found", b"no such page"), False, "was answered with 404 Not Found: no such page"),
        (answer("302 Found", b"", "Location: /"), False, "was answered with 302 Found"),
        (answer("429 Too Many Requests"), True, "was answered with 429 Too Many Requests"),
        (
            answer("503 Service Unavailable", b"\xff"),
            True,
            "was answered with 503 Service Unavailable: \ufffd",
        ),
        (answer("200 OK", b"x" * 300_000), False, "the answer has more than 262,144 bytes"),
        (answer("200 OK", b"x" * 70_000), True, "cannot be stored: JetStream does not answer"),
        (b"nonsense\r\n\r\n", True, "illegal status line"),
    ],
)
async def test_other_answers_fail_it_and_say_whether_another_attempt_may_help(
    tmp_path, sent, retryable, message
) -> None:
    async with answering(lambda head, body: sent) as server, planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"http": {"url": server.url}}))
        report = await planner.report("a")

    assert report["status"] == "failed"
    assert message in report["error"]["message"]
    assert report["error"].get("retryable", True) is retryable


async def test_a_server_that_is_not_there_may_come_back(tmp_path) -> None:
    async with answering(lambda head, body: b"") as server:
        url = server.url
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"http": {"url": url}}))
        report = await planner.report("a")

    assert (report["error"]["kind"], report["error"].get("retryable", True)) == ("http", True)
    assert report["error"]["message"].startswith(f"GET {url}: ")


async def test_redirects_are_followed_when_that_is_wanted(tmp_path) -> None:
    def go_round(head: str, body: bytes) -> bytes:
        place = head.split()[1]
        if place == "/round":
            return answer("302 Found", b"", "Location: /round")
        return (
            answer("200 OK", b"there") if place == "/there" else answer("302 Found", b"", "Location: /there")
        )

    def run(place: str) -> dict[str, Any]:
        return {"http": {"url": server.url + place, "followRedirects": True}}

    async with answering(go_round) as server, planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run("/")), target("b", run("/round")))
        first, second = await planner.report("a"), await planner.report("b")

    assert first["result"]["body"] == "there"
    assert "more than 5 redirects" in second["error"]["message"]


async def test_a_timeout_and_a_cancellation_close_the_connection(tmp_path) -> None:
    def reply(head: str, body: bytes) -> bytes:
        return answer("200 OK") if head.startswith("GET /first ") else b""

    async with answering(reply) as server, planner_and_runtime(tmp_path) as (planner, _):
        # The first request of a runtime loads what it needs: only then is a short time enough to connect.
        await planner.offer("r1", target("first", {"http": {"url": f"{server.url}/first"}}))
        await planner.report("first")
        await planner.offer("r1", target("slow", {"http": {"url": server.url}}, timeoutMs=1_000))
        late = await planner.report("slow")
        await asyncio.wait_for(server.hung_up.wait(), READ_SECONDS)
        server.hung_up.clear()
        await planner.offer("r1", target("b", {"http": {"url": server.url}}, fence=8))
        await planner.until(lambda: len(server.heads) == 3 or None)
        await planner.control("r1", command="cancel", sessionId="s1", phaseId="b", reason="enough")
        cancelled = await planner.report("b")
        await asyncio.wait_for(server.hung_up.wait(), READ_SECONDS)

    assert late["error"]["kind"] == "timeout"
    assert (cancelled["status"], cancelled["error"]["message"]) == ("cancelled", "enough")


async def test_requests_that_cannot_be_made_are_rejected(tmp_path) -> None:
    runs = {
        "a": {"http": {"url": "https://h/"}, "env": {"A": "b"}},
        "b": {"http": {"url": "file:///etc/passwd"}},
        "c": {"http": {}},
    }
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", *(target(phase, run) for phase, run in runs.items()))
        reasons = [(await planner.ack(phase, accepted=False))["reason"] for phase in "abc"]

    assert reasons == [
        "x-run.http runs no program: it takes no `env`, `cwd`, `venv`, `limits` or `isolation`",
        "x-run.http.url is not an http or https address: 'file:///etc/passwd'",
        "x-run.http cannot be read: Object missing required field `url`",
    ]
