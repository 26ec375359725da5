"""What is refused before anything is asked of NATS, and how."""

import asyncio
import json
import stat

import httpx2
import pytest

from planter_testkit.http import logged, running_api
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import Planner, answering

from .test_pmp import JSON, YAML, manifest, never, plan


def refused(answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == "/problems/" + problem["code"].replace(".", "-").replace("_", "-")
    assert problem["remedy"]
    return answer.status_code, problem["code"]


async def raw(url: str, request: bytes) -> bytes:
    """The first line of the answer to bytes that no client library would send."""
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(request)
    async with asyncio.timeout(30):
        line = await reader.readline()
    writer.close()
    return line


async def test_every_error_is_a_problem_whose_type_can_be_looked_up(tmp_path):
    async with running_api(tmp_path) as api:
        ask = api.http.request
        answers = {
            "nothing": await ask("GET", "/nothing"),
            "slash": await ask("GET", "/status/"),
            "method": await ask("DELETE", "/plan"),
            "methods": await ask("PUT", "/diff"),
            "options": await ask("OPTIONS", "/plan"),
            "session": await ask("GET", "/status?session=a.b"),
            "limit": await ask("GET", "/api/sessions?limit=0"),
            "type": await ask("POST", "/plan", content="{}", headers={"content-type": "text/plain"}),
            "no type": await ask("POST", "/plan", content="[]"),
            "charset": await plan(api, "[]", {"content-type": "application/json; charset=latin-1"}),
            "gzip": await plan(api, b"\x1f\x8b", {**JSON, "content-encoding": "gzip"}),
            "digest": await ask("POST", "/apply", json={"planDigest": "x.>"}),
        }
        kinds = (await ask("GET", "/problems")).json()["items"]
        for answer in answers.values():
            assert (await ask("GET", answer.json()["type"])).json() in kinds

    assert {name: refused(answer) for name, answer in answers.items()} == {
        "nothing": (404, "not_found"),
        "slash": (404, "not_found"),
        "method": (405, "method.not_allowed"),
        "methods": (405, "method.not_allowed"),
        "options": (405, "method.not_allowed"),
        "session": (422, "request.invalid"),
        "limit": (422, "request.invalid"),
        "type": (415, "media_type.unsupported"),
        "no type": (415, "media_type.unsupported"),
        "charset": (415, "media_type.unsupported"),
        "gzip": (415, "media_type.unsupported"),
        "digest": (422, "request.invalid"),
    }
    assert answers["methods"].headers["allow"] == "GET, HEAD, POST"
    assert "application/vnd.phase-manifest+json" in answers["type"].headers["accept-post"]
    assert answers["limit"].json()["errors"][0]["name"] == "limit"


async def test_a_body_above_the_limit_is_refused_and_its_sender_hears_of_it(tmp_path):
    async def chunks(count):
        for _ in range(count):
            yield b" " * 1024 * 1024

    async with running_api(tmp_path) as api:
        head = (
            f"POST /plan HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {65 * 1024 * 1024}\r\n\r\n"
        )
        declared = await raw(api.url, head.encode())
        yaml = await plan(api, chunks(40), YAML)
        command = await api.http.post("/api/sessions/s/control", json={"reason": "x" * 70_000})

    assert b" 413 " in declared
    assert refused(yaml) == (413, "body.too_large")
    assert refused(command) == (413, "body.too_large")


async def test_only_known_names_are_served_so_that_a_rebound_name_gets_nothing(tmp_path):
    environment = {"PLANTER_HTTP_HOSTS": "plan.example, other.example"}
    async with running_api(tmp_path, environment=environment) as api:
        port = api.url.rpartition(":")[2]
        known = ["localhost", f"LOCALHOST:{port}", "127.0.0.1", "[::1]:1", "plan.example", "other.example:80"]
        unknown = [
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1@evil",
            "",
            "a b",
        ]
        good = [await api.http.get("/livez", headers={"host": name}) for name in known]
        bad = [await api.http.get("/livez", headers={"host": name}) for name in unknown]
        twice = await raw(api.url, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        none = await raw(api.url, b"GET /livez HTTP/1.0\r\n\r\n")

    assert [answer.status_code for answer in good] == [200] * len(good)
    assert [refused(answer) for answer in bad] == [(421, "host.refused")] * len(bad)
    assert b" 421 " in twice
    assert b" 421 " in none


async def test_requests_of_other_sites_are_refused_and_links_may_be_followed(tmp_path):
    async with running_api(tmp_path, never) as api:
        own = {"origin": api.url, "sec-fetch-site": "same-origin"}
        foreign = [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://[bad"},
            {"origin": "http://localhost:3000"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ]
        taken = await plan(api, manifest("a"), {**JSON, **own})
        posts = [await plan(api, manifest("a"), {**JSON, **headers}) for headers in foreign]
        reads = [await api.http.get("/status", headers=headers) for headers in foreign]
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        followed = await api.http.get("/status", headers=link)
        form = await plan(api, manifest("a"), {**JSON, **link})

    assert taken.status_code == 200
    assert {refused(answer) for answer in (*posts, *reads, form)} == {(403, "origin.refused")}
    assert followed.status_code == 200
    assert "access-control-allow-origin" not in taken.headers


async def test_what_changes_something_needs_the_token_and_reads_do_not(tmp_path):
    async with running_api(tmp_path, never) as api, httpx2.AsyncClient(base_url=api.url) as nobody:
        paths = ("/plan", "/apply", "/diff", "/api/sessions/s/control")
        without = [await nobody.post(path, content="[]", headers=JSON) for path in paths]
        tokens = (
            "Bearer wrong",
            "Bearer",
            f"Basic {api.token}",
            api.token,
            "Bearer \xff",
            "Bearer " + api.token[:-1],
        )
        wrong = [
            await nobody.post("/plan", content="[]", headers=[("authorization", value.encode("latin-1"))])
            for value in tokens
        ]
        reads = [await nobody.get(path) for path in ("/api/sessions", "/metrics", "/openapi.json", "/readyz")]
        taken = await nobody.post(
            "/plan", content=manifest("a"), headers={**JSON, "authorization": f"bearer {api.token}"}
        )
        log = api.planner.log.read_text()
    file = tmp_path / "http.token"

    assert {refused(answer) for answer in (*without, *wrong)} == {(401, "auth.required")}
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in without)
    assert [answer.status_code for answer in reads] == [200] * 4
    assert taken.status_code == 200
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(api.token) >= 43
    assert api.token not in log
    assert str(file) in log


async def test_reads_need_the_token_too_where_that_is_wanted_but_probes_do_not(tmp_path):
    environment = {"PLANTER_HTTP_TOKEN_FOR": "everything"}
    async with (
        running_api(tmp_path, environment=environment) as api,
        httpx2.AsyncClient(base_url=api.url) as nobody,
    ):
        reads = [await nobody.get(path) for path in ("/api/sessions", "/metrics", "/openapi.json", "/status")]
        probes = [await nobody.get(path) for path in ("/livez", "/readyz", "/startupz")]
        known = await api.http.get("/api/sessions")

    assert {refused(answer) for answer in reads} == {(401, "auth.required")}
    assert [answer.status_code for answer in (*probes, known)] == [200] * 4


async def test_answers_carry_what_protects_a_browser_and_their_request_id(tmp_path):
    async with running_api(tmp_path) as api:
        answer = await api.http.get("/livez", headers={"x-request-id": "abc-1"})
        other = await api.http.get("/nothing", headers={"x-request-id": "a b\tc"})

    assert answer.headers["x-request-id"] == "abc-1"
    assert other.json()["requestId"] == other.headers["x-request-id"] != "a b\tc"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["date"].endswith("GMT")
    assert "server" not in answer.headers


@pytest.mark.parametrize("content", ["short\n", "two words of enough length\n", "caf\xe9" * 10])
async def test_a_token_file_that_cannot_be_used_turns_http_off_and_the_planner_goes_on(tmp_path, content):
    (tmp_path / "http.token").write_bytes(content.encode("latin-1"))
    async with running_nats_server(tmp_path) as server:
        from planter_protocol import PlanClient

        environment = {"PLANTER_HTTP_TOKEN_FILE": str(tmp_path / "http.token")}
        arguments = ("--http", "127.0.0.1:0")
        planner = Planner(server.url, tmp_path, "p", arguments=arguments, environment=environment)
        try:
            async with PlanClient.connected(server.url) as client:
                await answering(client, planner)
                off = await event(planner, "http.off")
                info = await client.planner_info()
        finally:
            planner.stop()

    assert "token file" in off["reason"]
    assert "remove it" in off["remedy"]
    assert content.strip() not in json.dumps(off)
    assert info.planner_id == "p"


async def event(planner: Planner, name: str):
    async with asyncio.timeout(30):
        while True:
            for found in logged(planner):
                if found["event"] == name:
                    return found
            await asyncio.sleep(0.01)
