"""Sessions, phases, control, planners, runtimes, health and metrics over HTTP."""

import asyncio
import json

from planter_testkit.http import running_api, running_interface

from .test_pmp import JSON, complete, manifest, never, plan


async def test_sessions_are_listed_in_pages_newest_first(tmp_path):
    names = [f"s-{number}" for number in range(7)]
    async with running_api(tmp_path, complete) as api:
        for name in names:
            await plan(api, manifest("a"), session=name)
            await api.until(name, "complete")
        async with asyncio.timeout(30):
            while len((await api.http.get("/api/sessions?status=complete")).json()["items"]) < 7:
                await asyncio.sleep(0.01)
        found, links, cursor = [], 0, {}
        while cursor is not None:
            page = await api.http.get("/api/sessions", params={"limit": 3, **cursor})
            found += [item["sessionId"] for item in page.json()["items"]]
            links += 'rel="next"' in page.headers.get("link", "")
            following = page.json().get("nextCursor")
            cursor = {"cursor": following} if following else None
        none = await api.http.get("/api/sessions?status=paused")
        bad = await api.http.get("/api/sessions?cursor=%%%")

    assert found == names[::-1]
    assert links == 2
    assert none.json() == {"items": []}
    assert (bad.status_code, bad.json()["code"]) == (400, "request.malformed")


async def test_a_session_and_its_phases_can_be_read_with_an_etag(tmp_path):
    names = ["a/b c", *(f"p{number}" for number in range(1, 1200))]
    async with running_api(tmp_path, never) as api:
        flat = json.loads(manifest(*names))
        for phase in flat[1:]:
            phase["spec"]["waitFor"] = {"phases": ["a/b c"]}
        await plan(api, json.dumps(flat), session="big")
        session = await api.http.get("/api/sessions/big")
        same = await api.http.get("/api/sessions/big", headers={"if-none-match": session.headers["etag"]})
        other = await api.http.get("/api/sessions/big", headers={"if-none-match": '"x", W/"y"'})
        found, cursor = [], {}
        while cursor is not None:
            page = (await api.http.get("/api/sessions/big/phases", params={"limit": 500, **cursor})).json()
            found += [item["phaseId"] for item in page["items"]]
            cursor = {"cursor": page["nextCursor"]} if "nextCursor" in page else None
        out = await api.http.get("/api/sessions/big/phases?status=targeted&limit=5")
        phase = await api.http.get("/api/sessions/big/phases/a/b%20c")
        last = await api.http.get("/api/sessions/big/phases/p1199")
        missing = await api.http.get("/api/sessions/big/phases/nope")
        old = await api.http.get("/api/sessions/big/phases?cursor=7.3")

    assert session.json()["total"] == 1200
    assert session.json()["counts"]["pending"] == 1199
    assert (same.status_code, same.content) == (304, b"")
    assert other.status_code == 200
    assert found == names
    assert [item["phaseId"] for item in out.json()["items"]] == ["a/b c"]
    assert phase.json()["phaseId"] == "a/b c"
    assert last.json()["waitsFor"] == ["a/b c"]
    assert (missing.status_code, missing.json()["code"]) == (404, "phase.unknown")
    assert (old.status_code, old.json()["code"]) == (410, "cursor.expired")


async def test_commands_are_carried_out_or_refused_with_the_reason(tmp_path):
    async def control(api, session="s", **body):
        return await api.http.post(f"/api/sessions/{session}/control", json=body)

    async with running_api(tmp_path, never) as api:
        await plan(api, manifest("a", "b"), session="s")
        paused = await control(api, command="pause", reason="lunch")
        state = (await api.http.get("/api/sessions/s")).json()
        resumed = await control(api, command="resume")
        unknown = await control(api, command="skip", phaseId="nope")
        missing = await control(api, command="skip")
        nowhere = await control(api, session="nowhere", command="pause")
        wrong = await control(api, command="jump")
        extra = await control(api, command="pause", phase="a")
        early = await control(api, command="retry")
        broken = await api.http.post(
            "/api/sessions/s/control", content="{", headers={"content-type": "application/json"}
        )

    assert (paused.status_code, paused.json()["events"]) == (200, ["SessionPaused"])
    assert state["status"] == "paused"
    assert resumed.status_code == 200
    assert (unknown.status_code, unknown.json()["code"]) == (404, "phase.unknown")
    assert (missing.status_code, missing.json()["code"]) == (422, "phase.missing")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "session.unknown")
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/command")
    assert (early.status_code, early.json()["code"]) == (409, "phase.not_failed")
    assert extra.status_code == 422
    assert broken.status_code == 400


async def test_events_and_logs_come_in_pages(tmp_path):
    async with running_api(tmp_path, complete) as api:
        await plan(api, manifest("a", "b", "c"), session="s")
        await api.until("s", "complete")
        for number in range(5):
            line = {
                "level": "info",
                "message": f"line {number}",
                "timestamp": "t",
                "phaseId": ("a[0]", "b")[number % 2],
            }
            await _log(api.server.url, "s", json.dumps(line))
        await _log(api.server.url, "s", "not a log message")
        everything = (await api.http.get("/api/sessions/s/events")).json()
        first = await api.http.get("/api/sessions/s/events?limit=2")
        after = first.json()["nextAfter"]
        rest = (await api.http.get(f"/api/sessions/s/events?after={after}")).json()
        logs = (await api.http.get("/api/sessions/s/logs?limit=2")).json()
        more = (await api.http.get(f"/api/sessions/s/logs?after={logs['nextAfter']}")).json()
        mine = (await api.http.get("/api/sessions/s/logs?phase=b")).json()
        of_items = (await api.http.get("/api/sessions/s/logs?phase=a")).json()
        nowhere = await api.http.get("/api/sessions/nowhere/events")

    assert first.json()["items"] + rest["items"] == everything["items"]
    assert "nextAfter" not in everything
    assert "after=2" in first.headers["link"]
    assert [item["n"] for item in everything["items"]] == list(range(1, len(everything["items"]) + 1))
    assert [i["message"] for i in logs["items"] + more["items"]] == [f"line {n}" for n in range(5)]
    assert [i["message"] for i in mine["items"]] == ["line 1", "line 3"]
    assert [i["message"] for i in of_items["items"]] == ["line 0", "line 2", "line 4"]
    assert nowhere.status_code == 404


async def test_runtimes_planners_health_and_metrics_tell_who_is_there(tmp_path):
    async with (
        running_api(tmp_path, complete) as api,
        running_interface(api.server, tmp_path, "planner-2") as other,
    ):
        await plan(api, manifest("a"), session="s")
        await api.until("s", "complete")
        runtimes = (await api.http.get("/api/runtimes")).json()
        planners = (await other.http.get("/api/planners")).json()
        health = [await api.http.get(path) for path in ("/livez", "/readyz", "/startupz")]
        verbose = (await api.http.get("/readyz?verbose")).json()
        metrics = (await api.http.get("/metrics")).text
        api.server.kill()
        async with asyncio.timeout(30):
            while (unready := await api.http.get("/readyz?verbose")).status_code == 200:
                await asyncio.sleep(0.05)
        alive = await api.http.get("/livez")
        started = await api.http.post("/plan", content=manifest("a"), headers=JSON)
        scraped = await api.http.get("/metrics")
        await api.server.start()
        async with asyncio.timeout(60):
            while (await api.http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)

    assert [runtime["runtimeId"] for runtime in runtimes["items"]] == ["scripted"]
    assert [planner["plannerId"] for planner in planners["items"]] == ["planner-1", "planner-2"]
    assert [answer.status_code for answer in health] == [200, 200, 200]
    assert health[1].json() == {"status": "ok"}
    assert [check["name"] for check in verbose["checks"]] == ["nats", "journal", "planner"]
    assert 'planter_sessions{status="complete"} 1.0' in metrics
    assert 'planter_runtime_slots{use="free"} 500.0' in metrics
    assert 'planter_http_requests_total{method="POST",route="/plan",status="200"} 1.0' in metrics
    assert (unready.status_code, unready.headers["content-type"]) == (503, "application/problem+json")
    assert unready.json()["checks"][-1]["ok"] is False
    assert alive.status_code == 200
    assert (started.status_code, started.headers["retry-after"]) == (503, "1")
    assert scraped.status_code == 200
    assert "planter_planner_up 0.0" in scraped.text


async def _log(url: str, session: str, text: str) -> None:
    from planter_protocol import PlanClient

    async with PlanClient.connected(url) as client:
        await client.js.publish(f"plan.session.{session}.log", text.encode())
