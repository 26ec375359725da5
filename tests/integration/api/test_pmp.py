"""The endpoints of the Phase Manifest Protocol, with a real server, planner and runtime."""

import asyncio
import json

from planter_testkit.http import running_api, running_interface

JSON = {"content-type": "application/vnd.phase-manifest+json"}
YAML = {"content-type": "application/yaml"}


def manifest(*ids: str, text: str = "d") -> str:
    """Phases, each waiting for the one before."""
    return json.dumps(
        [
            {
                "kind": "Phase",
                "id": name,
                "spec": {
                    "description": text,
                    "selector": {"matchLabels": {}},
                    "waitFor": {"phases": list(ids[max(0, number - 1) : number])},
                    "x-run": {"noop": {}},
                },
            }
            for number, name in enumerate(ids)
        ]
    )


def complete(_):
    return {"status": "complete"}


def never(_):
    return None


def fail(_):
    return {"status": "failed", "error": {"message": "boom", "retryable": False}}


async def plan(api, text, headers=JSON, **parameters):
    return await api.http.post("/plan", content=text, headers=headers, params=parameters)


async def test_a_submitted_manifest_runs_and_its_status_and_logs_can_be_read(tmp_path):
    async with running_api(tmp_path, complete) as api:
        accepted = await plan(api, manifest("a", "b"))
        state = await api.until("default", "complete")
        logs = await api.http.get("/logs")

    assert accepted.status_code == 200
    assert accepted.json()["sessionId"] == "default"
    assert accepted.json()["revision"] == 1
    assert accepted.json()["planDigest"] == state["planDigest"]
    assert accepted.headers["location"] == "/api/sessions/default"
    assert [phase["status"] for phase in state["phases"]] == ["complete", "complete"]
    assert logs.json() == {"items": []}


async def test_every_spelling_and_media_type_of_a_manifest_is_taken(tmp_path):
    manifests = [
        (JSON, '[{"Kind": "Phase", "Id": "a", "Spec": {"selector": {"match_labels": {}}, "wait_for": {}}}]'),
        (JSON, '[{"kind": "Phase", "id": "a", "spec": {"selector": {"matchLabels": {}}, "waitFor": {}}}]'),
        ({"content-type": "application/json; charset=utf-8"}, '{"phases": [{"id": "a", "spec": {}}]}'),
        (YAML, "phases:\n  - id: a\n    spec: {}\n"),
        ({"content-type": "text/yaml"}, "- {kind: Phase, id: a, spec: {selector: {match_labels: {}}}}\n"),
        ({"content-type": "application/x-yaml"}, "- {kind: Phase, id: a, spec: {}}\n"),
    ]
    async with running_api(tmp_path, never) as api:
        answers = [
            await plan(api, text, headers, session=f"s{number}")
            for number, (headers, text) in enumerate(manifests)
        ]

    assert [answer.status_code for answer in answers] == [200] * len(manifests)
    assert len({answer.json()["planDigest"] for answer in answers}) == 1


async def test_an_invalid_manifest_is_answered_with_every_problem_and_its_place(tmp_path):
    broken = "phases:\n  - id: x\n    spec: {waitFor: {phases: [x]}, oops: 1}\n  - id: y\n    spec: []\n"
    async with running_api(tmp_path) as api:
        yaml = await plan(api, broken, YAML)
        staged = await plan(api, broken, YAML, stage="true")
        diff = await api.http.post("/diff", content=broken, headers=YAML)
        syntax = await plan(api, '[{"kind": "Phase",\n "id": "a",,}]')
        nothing = await plan(api, "  ")
        latin = await plan(api, '[{"id": "é"}]'.encode("latin-1"))

    assert {a.status_code for a in (yaml, staged, diff, syntax, nothing, latin)} == {400}
    assert {a.headers["content-type"] for a in (yaml, syntax)} == {"application/problem+json"}
    problem = yaml.json()
    assert problem["type"] == "/problems/manifest-invalid"
    assert problem["code"] == "manifest.invalid"
    assert {(e["line"], e["column"], e["path"]) for e in problem["errors"]} >= {
        (3, 31, "/phases/0/spec/waitFor/phases/0"),
        (3, 36, "/phases/0/spec/oops"),
    }
    assert all({"code", "message", "severity"} <= set(e) for e in problem["errors"])
    assert any("hint" in e for e in problem["errors"])
    assert diff.json()["errors"] == problem["errors"] == staged.json()["errors"]
    assert syntax.json()["errors"][0]["line"] == 2


async def test_the_same_manifest_again_is_taken_and_another_one_conflicts_while_it_runs(tmp_path):
    async with running_api(tmp_path, never) as api:
        first = await plan(api, manifest("a"), session="s")
        again = await plan(api, manifest("a"), session="s")
        other = await plan(api, manifest("b"), session="s")
        beside = await plan(api, manifest("b"), session="t")

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["repeated"] is True
    assert again.json()["revision"] == first.json()["revision"] == 1
    assert again.json()["planDigest"] == first.json()["planDigest"]
    assert (other.status_code, other.json()["code"]) == (409, "session.busy")
    assert "wait for its end" in other.json()["detail"]
    assert beside.status_code == 200


async def test_a_staged_plan_starts_nothing_until_any_replica_applies_it(tmp_path):
    async with running_api(tmp_path, complete) as api:
        staged = await plan(api, manifest("a"), session="s", stage="true")
        before = await api.http.get("/status", params={"session": "s"})
        diff = await api.http.get("/diff", params={"session": "s"})
        async with running_interface(api.server, tmp_path, "planner-2") as other:
            digest = staged.json()["planDigest"]
            parameters = {"session": "s"}
            applied = await other.http.post("/apply", json={"planDigest": digest}, params=parameters)
            state = await other.until("s", "complete")
            lost = await other.http.post("/apply", json={"planDigest": digest}, params=parameters)
            nothing = await other.http.post("/apply", params=parameters)
            same = await other.http.get("/diff", params=parameters)

    assert staged.status_code == 200
    assert staged.json()["staged"] is True
    assert staged.json()["diff"]["add"] == ["a"]
    assert before.status_code == 404
    assert diff.json() == staged.json()["diff"]
    assert (applied.status_code, applied.json()["revision"]) == (200, 1)
    assert state["planDigest"] == digest
    assert (lost.status_code, lost.json()["repeated"], lost.json()["revision"]) == (200, True, 1)
    assert (nothing.status_code, nothing.json()["code"]) == (404, "plan.not_staged")
    assert (same.status_code, same.json()["planDigest"], same.json()["baseDigest"]) == (200, digest, digest)


async def test_a_plan_staged_on_what_has_changed_since_is_stale(tmp_path):
    async with running_api(tmp_path, complete) as api:
        staged = await plan(api, manifest("a"), session="s", stage="true")
        await plan(api, manifest("b"), session="s")
        await api.until("s", "complete")
        stale = await api.http.post("/apply", params={"session": "s"})
        fresh = await plan(api, manifest("a"), session="s", stage="true")
        applied = await api.http.post("/apply", params={"session": "s"})

    assert (stale.status_code, stale.json()["code"]) == (409, "plan.stale")
    assert fresh.json()["baseRevision"] == 1
    assert fresh.json()["planDigest"] == staged.json()["planDigest"]
    assert (applied.status_code, applied.json()["revision"]) == (200, 2)


async def test_the_last_staged_plan_is_applied_when_no_digest_names_one(tmp_path):
    async with running_api(tmp_path, never) as api:
        first = await plan(api, manifest("a"), stage="true")
        second = await plan(api, manifest("b"), stage="true")
        named = await api.http.get("/diff", params={"planDigest": first.json()["planDigest"]})
        applied = await api.http.post("/apply")
        busy = await api.http.post("/apply", json={"planDigest": first.json()["planDigest"]})

    assert named.json()["add"] == ["a"]
    assert applied.json()["planDigest"] == second.json()["planDigest"]
    assert busy.status_code == 409


async def test_a_manifest_above_the_message_limit_is_submitted_and_staged(tmp_path):
    ids = [f"phase-{number}" for number in range(900)]
    async with running_api(tmp_path, never) as api:
        staged = await plan(api, manifest(*ids, text="x" * 1000), session="s", stage="true")
        applied = await api.http.post("/apply", params={"session": "s"})
        submitted = await plan(api, manifest(*ids, text="x" * 1000), session="t")
        state = await api.http.get("/status", params={"session": "t"})

    assert staged.status_code == 200, staged.text
    assert applied.json()["planDigest"] == staged.json()["planDigest"] == submitted.json()["planDigest"]
    assert state.json()["total"] == len(state.json()["phases"]) == 900


async def test_a_request_with_the_same_idempotency_key_is_answered_and_not_repeated(tmp_path):
    key = {**JSON, "idempotency-key": "one two"}
    async with running_api(tmp_path, fail) as api:
        first = await plan(api, manifest("a"), key)
        await api.until("default", "failed")
        again = await plan(api, manifest("a"), key)
        reused = await plan(api, manifest("b"), key)
        elsewhere = await plan(api, manifest("a"), key, session="other")
        state = await api.http.get("/status")
        unkeyed = await plan(api, manifest("a"))

    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert state.json()["revision"] == 1
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency.reused")
    assert elsewhere.json()["sessionId"] == "other"
    assert unkeyed.json()["revision"] == 2


async def test_a_refused_request_leaves_its_idempotency_key_free(tmp_path):
    key = {**JSON, "idempotency-key": "k"}
    async with running_api(tmp_path, never) as api:
        refused = await plan(api, "[]x", key)
        await plan(api, manifest("a"))
        busy = await plan(api, manifest("b"), key)
        await api.http.post("/api/sessions/default/control", json={"command": "cancel"})
        # The attempt that is out ends by the runtime's word alone: another session is free at once.
        free = await plan(api, manifest("b"), key, session="free")
        taken = await plan(api, manifest("b"), key)

    assert (refused.status_code, busy.status_code, free.status_code) == (400, 409, 200)
    assert taken.status_code == 409
    assert taken.json()["code"] == "session.busy"


async def test_two_requests_with_one_key_at_the_same_time_start_one_revision(tmp_path):
    key = {**JSON, "idempotency-key": "k"}
    async with running_api(tmp_path, complete) as api:
        found = await asyncio.gather(*(plan(api, manifest("a"), key) for _ in range(5)))
        state = await api.until("default", "complete")

    assert {answer.status_code for answer in found} <= {200, 409}
    assert any(answer.status_code == 200 for answer in found)
    assert state["revision"] == 1


async def test_what_no_runtime_takes_is_told_when_a_manifest_is_staged_and_when_it_is_started(tmp_path):
    wants = {"label": "gpu.memory", "operator": ">=", "value": 16}
    phases = [
        {"kind": "Phase", "id": "any", "spec": {"x-run": {"noop": {}}}},
        {"kind": "Phase", "id": "train", "spec": {"x-run": {"noop": {}}, "x-constraints": [wants]}},
        {"kind": "Phase", "id": "large", "spec": {"x-run": {"noop": {}}, "x-slots": 1000}},
    ]
    async with running_api(tmp_path, complete) as api:
        staged = await plan(api, json.dumps(phases), stage="true")
        started = await plan(api, json.dumps(phases), session="other")
        fitting = await plan(api, manifest("a"), session="third")
        applied = await api.http.post("/apply", json={})

    for answer in (staged, started, applied):
        assert answer.status_code == 200
        assert [(gap["phases"], gap["count"]) for gap in answer.json()["gaps"]] == [
            (["train"], 1),
            (["large"], 1),
        ]
        assert (
            "do not fulfil gpu.memory >= 16 (they have no such label)" in answer.json()["gaps"][0]["reason"]
        )
        assert "have fewer than 1000 slots in all" in answer.json()["gaps"][1]["reason"]
    assert staged.json()["diff"]["gaps"] == staged.json()["gaps"]
    assert "gaps" not in fitting.json()
