"""Chapter "HTTP Endpoints". ``HTTP_URL`` names the server, ``HTTP_TOKEN`` is the bearer token, if it asks."""

import asyncio
import json
import os
import secrets
import urllib.error
import urllib.request
from typing import Any, NamedTuple

import pytest
from kit import QUICK_RETRY, SECONDS, phase, spelled

MEDIA_TYPE = "application/vnd.phase-manifest+json"


@pytest.fixture(autouse=True)
def http_url(url: str) -> str:
    """The HTTP server that is tested: that of the environment, or Planter's own."""
    del url
    found = os.environ.get("HTTP_URL", "").rstrip("/")
    if not found:
        pytest.skip("HTTP_URL is not set: no HTTP server to test")
    return found


class Answer(NamedTuple):
    """What a request came to."""

    status: int
    media_type: str
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


async def request(method: str, path: str, data: bytes | None = None, media_type: str = MEDIA_TYPE) -> Answer:
    """One request; an error of HTTP is an answer too."""
    headers = {"Authorization": f"Bearer {os.environ['HTTP_TOKEN']}"} if os.environ.get("HTTP_TOKEN") else {}
    if data is not None:
        headers["Content-Type"] = media_type

    def ask() -> Answer:
        address = os.environ["HTTP_URL"].rstrip("/") + path
        asked = urllib.request.Request(address, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=SECONDS) as response:
                return Answer(response.status, response.headers.get_content_type(), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.get_content_type(), error.read())

    return await asyncio.to_thread(ask)


@pytest.fixture
def name() -> str:
    """A fresh session id."""
    return f"pmp-{secrets.token_hex(6)}"


def body(*phases: dict[str, Any], how: str = "camel") -> bytes:
    """A manifest as it is sent."""
    return json.dumps(spelled(list(phases), how)).encode()


@pytest.mark.clause("H1.1", "H1.2", "H2.1", "M1")
@pytest.mark.parametrize("how", ["camel", "snake"])
async def test_a_manifest_is_accepted_and_the_answer_names_its_session(name: str, how: str) -> None:
    answer = await request("POST", f"/plan?session={name}", body(phase("a"), phase("b", ("a",)), how=how))

    assert answer.status == 200, answer.body
    assert answer.json["sessionId"] == name


@pytest.mark.clause("H1.1", "H2.1")
async def test_without_a_session_one_is_made_up() -> None:
    answer = await request("POST", "/plan", body(phase("a")))

    assert answer.status == 200, answer.body
    assert answer.json["sessionId"]


@pytest.mark.clause("M2", "M3")
async def test_the_media_type_may_have_a_version_and_a_charset(name: str) -> None:
    media_type = f"{MEDIA_TYPE}; version=1.0.0; charset=utf-8"
    answer = await request("POST", f"/plan?session={name}", body(phase("größe")), media_type)

    assert answer.status == 200, answer.body


@pytest.mark.clause("H2.2")
@pytest.mark.parametrize("data", [b"", b"{", b"7", b"\xff", b'[{"kind": "Stage", "id": "a", "spec": {}}]'])
async def test_what_is_no_manifest_is_a_bad_request(name: str, data: bytes) -> None:
    answer = await request("POST", f"/plan?session={name}", data)

    assert answer.status == 400, answer.body
    assert answer.media_type == "application/problem+json"


@pytest.mark.clause("H2.2")
async def test_every_problem_of_a_manifest_is_listed(name: str) -> None:
    worse = phase("worse", wishes=3)
    answer = await request("POST", f"/plan?session={name}", body({**phase("bad"), "kind": "Stage"}, worse))

    text = answer.body.decode()
    assert answer.status == 400
    assert "Stage" in text
    assert "wishes" in text


@pytest.mark.clause("H2.3")
async def test_another_manifest_while_one_is_executed_is_a_conflict(name: str) -> None:
    first = await request("POST", f"/plan?session={name}", body(phase("a")))
    second = await request("POST", f"/plan?session={name}", body(phase("b")))

    assert (first.status, second.status) == (200, 409), second.body


@pytest.mark.clause("H3.1")
async def test_status_names_every_phase(name: str) -> None:
    await request("POST", f"/plan?session={name}", body(phase("a"), phase("b", ("a",))))

    answer = await request("GET", f"/status?session={name}")

    assert answer.status == 200, answer.body
    assert {each["phaseId"] for each in answer.json["phases"]} == {"a", "b"}


@pytest.mark.clause("H3.1")
async def test_the_status_of_an_unknown_session_is_not_found(name: str) -> None:
    assert (await request("GET", f"/status?session={name}")).status == 404


@pytest.mark.clause("H3.2", "H3.4")
@pytest.mark.parametrize("path", ["/diff", "/logs"])
async def test_diff_and_logs_are_answered(name: str, path: str) -> None:
    await request("POST", f"/plan?session={name}", body(phase("a")))

    assert (await request("GET", f"{path}?session={name}")).status == 200


@pytest.mark.clause("H3.3")
async def test_apply_is_answered(name: str) -> None:
    """What the current plan is before the next one has been submitted, the protocol leaves open."""
    await request("POST", f"/plan?session={name}", body(phase("a", **{"x-retry": QUICK_RETRY})))

    answer = await request("POST", f"/apply?session={name}", b"{}", "application/json")

    assert answer.status in (200, 202, 404, 409), answer.body
