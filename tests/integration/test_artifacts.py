"""Large results and artifacts: through real runtimes, planners and servers, and back by CLI and HTTP."""

import asyncio
import base64
import hashlib
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planter_protocol import PlanClient, artifacts
from planter_protocol.reading import last_message, read_subject
from planter_testkit.commands import ended, started
from planter_testkit.http import Api, running_interface
from planter_testkit.nats import end, running_nats_server
from planter_testkit.runtimes import RuntimeProcess

HANDLERS = """
import hashlib, json
from planter_runtime import PermanentFailure, Runtime

runtime = Runtime()

@runtime.handler({"do": "rows"})
def rows(ctx):
    return {"rows": ["x" * 20] * 10_000, "count": 10_000}

@runtime.handler({"do": "count"})
async def count(ctx, table, again):
    text = json.dumps(table, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    return {"count": len(table["rows"]), "same": table == again[0], "digest": digest}

@runtime.handler({"do": "huge"})
def huge(ctx):
    return "x" * (17 * 1024 * 1024)

@runtime.handler({"do": "report"})
async def report(ctx):
    ctx.artifact("text/report.txt", b"from memory")
    open("page.html", "w").write("<script>")
    ctx.artifact("page.html", "page.html")
    import os; os.unlink("page.html")
    raise PermanentFailure("the tests failed")

@runtime.handler({"do": "hostile"})
def hostile(ctx):
    refused = []
    for name in ("../etc/passwd", "/etc/passwd", "a//b", "", "a\\nb", "x" * 300, "a\\\\b"):
        try:
            ctx.artifact(name, b"")
        except ValueError as error:
            refused.append(str(error))
    return refused
"""


class World:
    """A server with a planner that has HTTP, and a runtime."""

    def __init__(self, api: Api, client: PlanClient, folder: Path) -> None:
        self.api = api
        self.client = client
        self.folder = folder

    async def run(self, session: str, *phases: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Run phases to the end of their session; the states of all, by id."""
        submitted = await self.client.submit(list(phases), session=session)
        async with asyncio.timeout(60):
            async for _ in self.client.watch(session, after=submitted.after):
                pass
        state = await self.client.get_state(session)
        return {phase.phase_id: json.loads(msgspec.json.encode(phase)) for phase in state.phases}

    async def log(self, session: str) -> str:
        return "\n".join([line.message async for _, line in self.client.logs(session)])

    async def planter(self, *arguments: str):
        return await ended(await started(*arguments, "--nats", self.api.server.url))

    @asynccontextmanager
    async def runtime(self, name: str, *arguments: str) -> AsyncGenerator[RuntimeProcess]:
        runtime = RuntimeProcess(self.api.server.url, self.folder, name, arguments)
        try:
            async with asyncio.timeout(30):
                while name not in (await self.api.http.get("/api/runtimes")).text:
                    await asyncio.sleep(0.01)
            yield runtime
        finally:
            end(runtime.process, signal.SIGTERM)


@asynccontextmanager
async def world(folder: Path, *arguments: str) -> AsyncGenerator[World]:
    (folder / "handlers.py").write_text(HANDLERS)
    async with (
        running_nats_server(folder / "nats") as server,
        running_interface(server, folder, "planner-1") as api,
        PlanClient.connected(server.url) as client,
    ):
        found = World(api, client, folder)
        async with found.runtime("r1", "--module", "handlers.py", *arguments):
            yield found


async def uploading(client: PlanClient, session: str) -> None:
    """Wait until the first chunk of anything of the session is stored."""
    async with asyncio.timeout(60):
        while await last_message(client.nc, artifacts.STREAM, artifacts.chunk_subject(session)) is None:
            await asyncio.sleep(0.005)


def phase(name: str, *needs: str, do: str | None = None, **more: Any) -> dict[str, Any]:
    labels = {} if do is None else {"do": do}
    spec = {"selector": {"matchLabels": labels}, "waitFor": {"phases": list(needs)}, **more}
    return {"kind": "Phase", "id": name, "spec": spec}


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"x-run": {"shell": script, **more}}


async def test_a_large_result_goes_through_two_phases_and_is_found_by_every_reader(tmp_path):
    whole = {"rows": ["x" * 20] * 10_000, "count": 10_000}
    text = json.dumps(whole, separators=(",", ":"), sort_keys=True).encode()
    given = {"with": {"table": "${{ phases.rows.result }}", "again": ["${{ phases.rows.result }}"]}}
    async with world(tmp_path) as it:
        found = await it.run(
            "big",
            phase("rows", do="rows", **{"x-outputs": ["count"]}),
            phase("count", "rows", do="count", **{"x-run": given}),
            phase(
                "file",
                "rows",
                **shell(
                    'test -z "$PLANTER_WITH" && wc -c < "$PLANTER_WITH_FILE" > "$PLANTER_RESULT"',
                    **{"with": {"table": "${{ phases.rows.result }}"}},
                ),
            ),
        )
        status = await it.planter("status", "big", "--output", "json")
        over_http = (await it.api.http.get("/api/sessions/big/phases/rows")).json()
        in_list = (await it.api.http.get("/api/sessions/big/phases")).json()["items"]
        state = await it.client.get_state("big", with_results=True)
        store = await it.client.js.object_store("PLANTER_ARTIFACTS")
        reference = found["rows"]["result"]["planter:object"]
        plain = await store.get(f"big/{reference['digest'].partition(':')[2]}")

    assert (reference["bytes"], sorted(reference["keys"])) == (len(plain.data or b""), ["count", "rows"])
    assert found["count"]["result"] == {
        "count": 10_000,
        "same": True,
        "digest": hashlib.sha256(text).hexdigest(),
    }
    assert found["file"]["result"] == len(text) + len('{"table":}')
    assert {item["phaseId"]: item["result"] for item in json.loads(status.out)["phases"]}["rows"] == whole
    assert over_http["result"] == whole
    assert {item["phaseId"]: item["result"] for item in in_list}["rows"] == found["rows"]["result"]
    assert json.loads(bytes(state.phases[0].result)) == whole  # type: ignore[arg-type]
    assert json.loads(plain.data or b"") == whole  # as any client of NATS reads it


@pytest.mark.parametrize(
    "more",
    [
        {"x-when": "phases.rows.result.count > 3"},
        {"x-when": "has(phases.rows.result)"},
        {"x-foreach": "phases.rows.result.rows"},
        {"x-cache": {"key": "phases.rows.result.count"}},
        {"x-run": {"shell": "true", "with": {"n": "${{ phases.rows.result.count }}"}}},
        {"x-run": {"shell": "true", "with": {"n": "all: ${{ phases.rows.result }}"}}},
        {"x-run": {"shell": "true", "env": {"A": "${{ phases.rows.result }}"}}},
    ],
)
async def test_an_expression_that_looks_into_a_large_result_fails_its_phase_and_says_why(tmp_path, more):
    async with world(tmp_path) as it:
        found = await it.run(
            "s", phase("rows", do="rows"), phase("next", "rows", **{**shell("true"), **more})
        )

    assert found["rows"]["status"] == "complete"
    assert found["next"]["status"] == "failed"
    assert "the result of rows has 230,0" in found["next"]["reason"]
    assert "can be handed on whole, as a value of `with`" in found["next"]["reason"]


async def test_what_does_not_look_inside_still_works_beside_a_large_result(tmp_path):
    when = 'phases.rows.status == "complete" && phases["rows"] ["attempt"] == 1'
    async with world(tmp_path) as it:
        found = await it.run(
            "s", phase("rows", do="rows"), phase("next", "rows", **{"x-when": when}, **shell("true"))
        )

    assert found["next"]["status"] == "complete"


async def test_a_large_result_is_not_taken_from_another_session_by_x_cache(tmp_path):
    cached = phase("rows", do="rows", **{"x-cache": {}})
    async with world(tmp_path) as it:
        first = await it.run("one", cached)
        second = await it.run("two", cached)
        log = it.api.planner.log.read_text()

    assert (first["rows"]["status"], second["rows"]["status"]) == ("complete", "complete")
    assert second["rows"]["attempt"] == 1  # it ran; its result is its own session's
    assert "result.not_kept" in log


async def test_a_result_beyond_the_limit_fails_for_good_and_says_what_to_do(tmp_path):
    async with world(tmp_path) as it:
        found = await it.run("s", phase("huge", do="huge", retry={"maxAttempts": 3}))
        listed = [one async for one in read_subject(it.client.nc, artifacts.STREAM, "$O.>")]

    assert (found["huge"]["status"], found["huge"]["attempt"]) == ("failed", 1)
    assert "17,825,794 bytes as JSON, the limit is 16,777,216" in found["huge"]["reason"]
    assert "keep it as an artifact" in found["huge"]["reason"]
    assert listed == []


async def test_a_result_that_was_removed_fails_who_needs_it_with_the_reason(tmp_path):
    given = {"with": {"table": "${{ phases.rows.result }}", "again": [1]}}
    async with world(tmp_path) as it:
        await it.run("s", phase("rows", do="rows"))
        await it.client.js.purge_stream(artifacts.STREAM)
        found = await it.run(
            "s", phase("rows", do="rows"), phase("n", "rows", do="count", **{"x-run": given})
        )
        state = await it.client.get_state("s", with_results=True)

    assert found["n"]["status"] == "failed"
    assert "there is no object s/" in found["n"]["reason"]
    assert "planter:object" in json.loads(bytes(state.phases[0].result))  # type: ignore[arg-type]


# -- artifacts ---------------------------------------------------------------------------------------


async def test_an_artifact_of_a_shell_phase_is_listed_and_fetched_with_its_digest(tmp_path):
    script = (
        "head -c 5242880 /dev/urandom > big.bin && sha256sum big.bin && mkdir -p out/deep &&"
        " echo 1 > out/a.csv && echo 2 > out/deep/b.csv && : > empty &&"
        " cp out/a.csv $PLANTER_ARTIFACTS/'grüße 1.csv'"
    )
    async with world(tmp_path) as it:
        found = await it.run(
            "s", phase("build/x", **shell(script, artifacts=["big.bin", "out/**/*.csv", "empty", "no*such"]))
        )
        assert found["build/x"]["status"] == "complete", found
        log = await it.log("s")
        digest = f"sha256:{log.split()[0]}"
        listed = await it.planter("artifacts", "s", "build/x", "--output", "json")
        table = await it.planter("artifacts", "s")
        fetched = await it.planter("artifacts", "s", "build/x", "big.bin", "--to", str(tmp_path / "got.bin"))
        piped = await it.planter("artifacts", "s", "build/x", "out/deep/b.csv", "--to", "-")
        missing = await it.planter("artifacts", "s", "build/x", "nope", "--to", str(tmp_path / "nope"))
        no_session = await it.planter("artifacts", "unknown")
        base = "/api/sessions/s/phases/build/x/artifacts"
        of_phase = "/api/sessions/s/artifacts?phase=build/x"
        in_list = (await it.api.http.get(of_phase)).json()
        first = await it.api.http.get(f"{of_phase}&limit=3")
        second = await it.api.http.get(first.links["next"]["url"])
        none = (await it.api.http.get("/api/sessions/s/artifacts?phase=build")).json()
        answer = await it.api.http.get(f"{base}/big.bin")
        same = await it.api.http.get(f"{base}/big.bin", headers={"if-none-match": answer.headers["etag"]})
        any_ = await it.api.http.get(f"{base}/big.bin", headers={"if-none-match": "*"})
        named = await it.api.http.get(f"{base}/grüße 1.csv")
        nothing = await it.api.http.get(f"{base}/empty", params={"attempt": 1})
        absent = await it.api.http.get(f"{base}/nope")
        later = await it.api.http.get(f"{base}/big.bin", params={"attempt": 2})

    items = {one["name"]: one for one in json.loads(listed.out)}
    assert sorted(items) == ["big.bin", "empty", "grüße 1.csv", "out/a.csv", "out/deep/b.csv"]
    assert (items["big.bin"]["digest"], items["big.bin"]["bytes"]) == (digest, 5_242_880)
    assert {one["name"] for one in in_list["items"]} == set(items)
    assert [*first.json()["items"], *second.json()["items"]] == in_list["items"]
    assert ("nextAfter" in second.json(), len(first.json()["items"]), none["items"]) == (False, 3, [])
    assert "out/deep/b.csv" in table.out
    content = (tmp_path / "got.bin").read_bytes()
    assert fetched.status == 0
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
    assert [path.name for path in tmp_path.glob("*.part")] == []
    assert piped.out == "2\n"
    assert (missing.status, no_session.status) == (6, 6)
    assert not (tmp_path / "nope").exists()
    assert (answer.status_code, answer.content) == (200, content)
    assert (
        answer.headers["content-digest"]
        == f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
    )
    assert answer.headers["content-length"] == "5242880"
    assert (same.status_code, same.content, any_.status_code) == (304, b"", 304)
    assert named.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%BC%C3%9Fe%201.csv"
    assert (nothing.status_code, nothing.content) == (200, b"")
    assert (absent.status_code, absent.json()["code"]) == (404, "artifact.unknown")
    assert later.status_code == 404
    assert "no file matches 'no*such'" in log


STEPS = """
from planter_runtime import keep_artifact

def check():
    keep_artifact("a/b.txt", b"from a child")
    keep_artifact("steps.py", "steps.py")
    raise ValueError("checked")
"""


async def test_a_failed_phase_keeps_its_artifacts_and_its_failure(tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    page = "/api/sessions/s/phases/report/artifacts/page.html"
    async with world(tmp_path) as it:
        found = await it.run(
            "s",
            phase("report", do="report"),
            phase("tests", **shell("echo bad > junit.xml; exit 3", artifacts=["junit.xml"])),
            phase("python", **{"x-run": {"python": "steps:check"}}),
        )
        listed = await it.client.artifacts("s")
        html = await it.api.http.get(page)
        text = await it.client.artifact("s", "report", "text/report.txt")
        data = b"".join([part async for part in it.client.object_bytes("s", text.digest)])

    assert {name: one["status"] for name, one in found.items()} == dict.fromkeys(found, "failed")
    assert found["tests"]["reason"] == "the shell script exited with code 3"
    assert found["report"]["reason"] == "the tests failed"
    assert found["python"]["reason"] == "ValueError: checked"
    assert [(one.phase_id, one.name) for one in listed] == [
        ("python", "a/b.txt"),
        ("python", "steps.py"),
        ("report", "page.html"),
        ("report", "text/report.txt"),
        ("tests", "junit.xml"),
    ]
    assert data == b"from memory"
    assert html.content == b"<script>"
    assert html.headers["content-type"] == "application/octet-stream"
    assert html.headers["x-content-type-options"] == "nosniff"
    assert html.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("ln -s /etc/passwd out.txt", "artifact 'out.txt' cannot be kept: it is a symbolic link"),
        ("ln -s /etc etc; touch out.txt", "artifact 'etc' cannot be kept: it is a symbolic link"),
        ("mkfifo out.txt", "artifact 'out.txt' cannot be kept: it is no file"),
        ("ln -s /etc/passwd $PLANTER_ARTIFACTS/p", "artifact 'p' cannot be kept: it is a symbolic link"),
        ("rm -r $PLANTER_ARTIFACTS; ln -s /etc $PLANTER_ARTIFACTS", "cannot be kept: it is a symbolic link"),
        ("touch \"$(printf '%s/a\\nb' $PLANTER_ARTIFACTS)\"", "it holds characters that cannot be printed"),
        ("touch \"$(printf '%s/a\\377' $PLANTER_ARTIFACTS)\"", "it is not UTF-8"),
        ("head -c 70000 /dev/zero > out.txt", "the limit of an attempt is 65,536 (--artifact-bytes-max)"),
        ("cd $PLANTER_ARTIFACTS; touch 1 2 3 4", "there are more than 3 (--artifacts-max)"),
    ],
)
async def test_what_must_not_be_kept_is_refused_with_the_reason(tmp_path, script, reason):
    run = shell(script, artifacts=["out.txt", "etc/passwd"], isolation="none")
    async with world(tmp_path, "--artifact-bytes-max", "65536", "--artifacts-max", "3") as it:
        found = await it.run("s", phase("a", **run, retry={"maxAttempts": 3}))
        listed = await it.client.artifacts("s")
        log = await it.log("s")

    assert (found["a"]["status"], found["a"]["attempt"]) == ("failed", 1)
    assert reason in found["a"]["reason"]
    assert "root:" not in log
    assert [one.name for one in listed if one.bytes] == []


async def test_a_program_that_puts_a_link_in_the_place_of_its_folder_has_nothing_kept(tmp_path):
    (tmp_path / "sub").mkdir()
    run = shell("cd ..; mv sub gone; ln -s /etc sub", artifacts=["passwd"], cwd="sub")
    async with world(tmp_path) as it:
        found = await it.run("s", phase("a", **run))
        listed = await it.client.artifacts("s")

    assert (found["a"]["status"], listed) == ("complete", [])


async def test_a_handler_is_told_which_names_are_none(tmp_path):
    async with world(tmp_path) as it:
        found = await it.run("s", phase("a", do="hostile"))
        listed = await it.client.artifacts("s")

    assert len(found["a"]["result"]) == 7
    assert listed == []


async def test_a_runtime_that_is_killed_in_an_upload_leaves_nothing_listed_and_the_next_attempt_works(
    tmp_path,
):
    run = shell("head -c 100000000 /dev/zero > big.bin", artifacts=["big.bin"])
    async with world(tmp_path) as it:
        session = "s"
        async with it.runtime("r2", "--label", "only=r2", "--lease", "2") as runtime:
            labels = {"selector": {"matchLabels": {"only": "r2"}}}
            one = phase("a", **run, retry={"maxAttempts": 3})
            one["spec"] |= labels
            submitted = await it.client.submit([one], session=session)
            await uploading(it.client, session)
            runtime.signal(signal.SIGKILL)
            await runtime.ended()
        assert await it.client.artifacts(session) == []
        async with it.runtime("r3", "--label", "only=r2"):
            async with asyncio.timeout(60):
                async for _ in it.client.watch(session, after=submitted.after):
                    pass
            state = await it.client.get_state(session)
            listed = await it.client.artifacts(session)

    assert state.status == "complete"
    assert [(one.name, one.bytes) for one in listed] == [("big.bin", 100_000_000)]
    assert listed[0].attempt == state.phases[0].attempt


async def test_cancelling_ends_an_upload(tmp_path):
    run = shell("head -c 100000000 /dev/zero > big.bin", artifacts=["big.bin"])
    async with world(tmp_path) as it:
        submitted = await it.client.submit([phase("a", **run)], session="s")
        await uploading(it.client, "s")
        await it.client.control_confirmed("s", "cancel")
        async with asyncio.timeout(20):
            async for _ in it.client.watch("s", after=submitted.after):
                pass
        state = await it.client.get_state("s")
        listed = await it.client.artifacts("s")

    assert (state.status, state.phases[0].status) == ("cancelled", "cancelled")
    assert listed == []
