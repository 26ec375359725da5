"""Plan, apply, replan, dry run and explain against a real server and planner."""

import asyncio
import hashlib
import json
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
from nats.js.errors import NotFoundError

from planter_protocol import PlanClient, RequestRefused
from planter_testkit.commands import DEADLINE_SECONDS, Ended, ended, started
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import judged, running_planner
from planter_testkit.scripted import ScriptedRuntime, scripted_runtime

TWO = """\
- {kind: Phase, id: fetch, spec: {x-run: {noop: {}}}}
- {kind: Phase, id: build, spec: {waitFor: {phases: [fetch]}, x-run: {noop: {}}}}
"""
EDITED = TWO.replace("spec: {waitFor", "spec: {description: other, waitFor")


class Site:
    """A server with a planner and a runtime, and a folder for manifests."""

    def __init__(self, url: str, folder: Path, runtime: ScriptedRuntime) -> None:
        self.url = url
        self.runtime = runtime
        self.folder = folder

    def manifest(self, text: str) -> str:
        path = self.folder / "site.planter.yaml"
        path.write_text(text)
        return str(path)

    async def planter(self, *arguments: str) -> Ended:
        return await ended(await started(*arguments, "--nats", self.url))


@asynccontextmanager
async def running_site(folder: Path, script=lambda _: {"status": "complete"}):
    async with (
        running_nats_server(folder) as server,
        running_planner(server.url, folder),
        scripted_runtime(server.url, script=script) as runtime,
        PlanClient.connected(server.url) as client,
    ):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (await client.planner_info()).runtimes:
                await asyncio.sleep(0.01)
        yield Site(server.url, folder, runtime)


def phases(*specs: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"kind": "Phase", "id": name, "spec": {"x-run": {"noop": {}}, **spec}} for name, spec in specs]


async def everything_stored(url: str) -> dict[str, tuple[int, int, str]]:
    """Each stream, buckets too: how many messages, the last sequence, a digest of all that is in it."""
    nc = await nats.connect(url)
    try:
        found: dict[str, tuple[int, int, str]] = {}
        js = nc.jetstream()
        for info in await js.streams_info():
            name, digest = str(info.config.name), hashlib.sha256()
            for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
                with suppress(NotFoundError):  # an older value of a key
                    stored = await js.get_msg(name, sequence)
                    digest.update(repr((sequence, stored.subject, stored.headers, stored.data)).encode())
            found[name] = info.state.messages, info.state.last_seq, digest.hexdigest()
        return found
    finally:
        await nc.close()


async def status_of(client: PlanClient, session: str, phase: str) -> str | None:
    state = await client.get_state(session)
    return next((one.status for one in state.phases if one.phase_id == phase), None)


async def until(client: PlanClient, session: str, phase: str, status: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await status_of(client, session, phase) != status:
            await asyncio.sleep(0.01)


async def test_plan_then_apply_what_was_planned_and_nothing_that_is_stale(tmp_path):
    async with running_site(tmp_path) as site:
        file = site.manifest(TWO)
        new = await site.planter("plan", file, "--detailed-exitcode")
        first = await site.planter("apply", file, "--yes")
        same = await site.planter("plan", file, "--detailed-exitcode")
        again = await site.planter("apply", file, "--yes")
        file = site.manifest(EDITED)
        changed = await site.planter("plan", file, "--output", "json")
        planned = json.loads(changed.out)
        reviewed = ("--digest", planned["planDigest"], "--base", str(planned["baseRevision"]))
        applied = await site.planter("apply", file, *reviewed)
        stale = await site.planter("apply", site.manifest(TWO), "--yes", "--base", "1")
        other = await site.planter("apply", site.manifest(TWO), "--digest", planned["planDigest"])
        broken = await site.planter("plan", site.manifest("- {id: 7}"), "--detailed-exitcode")
        asked = await site.planter("apply", site.manifest(TWO))

    assert (new.status, first.status, same.status, again.status) == (2, 0, 0, 0)
    assert "2 to add" in new.out
    assert "No changes: session site has done all of this." in again.err
    assert (changed.status, planned["baseRevision"]) == (0, 1)
    assert [(one["phaseId"], one["actions"]) for one in planned["changes"]] == [
        ("build", ["update", "rerun"])
    ]
    assert applied.status == 0
    assert "1 of them unchanged and done" in applied.err
    assert (stale.status, other.status) == (5, 5)
    assert "plan.stale" in stale.err
    assert "what was reviewed is" in other.err
    assert broken.status == 1
    assert (asked.status, "--yes" in asked.err) == (2, True)


async def test_a_running_session_is_replanned_and_what_is_unchanged_keeps_its_attempt(tmp_path):
    script: dict[str, Any] = {"hold": {"keeps", "edited"}}
    targets: list[dict[str, Any]] = []

    def work(target):
        targets.append(target)
        return None if target["phaseId"] in script["hold"] else {"status": "complete"}

    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path),
        scripted_runtime(server.url, script=work) as runtime,
        PlanClient.connected(server.url) as client,
    ):
        controls: list[dict[str, Any]] = []
        stopped = asyncio.Event()

        async def on_control(message) -> None:
            controls.append(json.loads(message.data))
            stopped.set()

        await client.nc.subscribe("plan.runtime.scripted.control", cb=on_control)
        before = phases(
            ("keeps", {}), ("edited", {"description": "1"}), ("later", {"waitFor": {"phases": ["edited"]}})
        )
        after = phases(("keeps", {}), ("edited", {"description": "2"}), ("new", {}))
        await client.submit(before, session="s")
        await until(client, "s", "edited", "targeted")
        try:
            await client.submit(after, session="s")
        except RequestRefused as error:
            refused = error
        shown = await client.diff("s", after)
        submitted = await client.submit(after, session="s", replan=True, expect_revision=1)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stopped.wait()
        blocked = await client.explain("s", "edited")
        kept = next(key for key in runtime.executed if key[1] == "keeps")
        script["hold"] = set()
        order = controls[0]
        key = ("s", "edited", order["fence"])
        echo = {"phaseId": "edited", "attempt": order["attempt"], "fence": order["fence"]}
        target = next(t for t in targets if (t["sessionId"], t["phaseId"], t["fence"]) == key)
        echo["dispatchId"] = target["dispatchId"]
        await runtime.report("s", [{**echo, "status": "cancelled"}])
        await until(client, "s", "edited", "complete")
        first = next(t for t in targets if t["phaseId"] == "keeps")
        names = ("phaseId", "attempt", "fence", "dispatchId")
        await runtime.report("s", [{name: first[name] for name in names} | {"status": "complete"}])
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for _ in client.watch("s"):
                pass
        state = await client.get_state("s")
        verdict = await judged(client, "s")

    assert refused.code == "session.busy"
    assert "planter apply --replan" in str(refused)
    assert {one.phase_id: one.actions for one in shown.changes} == {
        "edited": ("cancel", "update", "rerun"),
        "new": ("add",),
        "later": ("drop",),
        "keeps": ("keep",),
    }
    assert submitted.revision == 2
    assert [one.code for one in blocked.phase.conditions] == ["attempt.stopping"]
    assert {one.phase_id: (one.status, one.attempt) for one in state.phases} == {
        "keeps": ("complete", 1),
        "edited": ("complete", 2),
        "new": ("complete", 1),
    }
    assert runtime.executed[kept] == 1
    assert (verdict.status, state.status) == ("complete", "complete")


async def seen(client: PlanClient, session: str, kind: str, **fields: Any) -> None:
    """Wait until the journal has such an event."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for commit in client.watch(session, until_ended=False):
            for event in commit.events:
                if event["type"] == kind and all(event.get(key) == value for key, value in fields.items()):
                    return


async def test_apply_follows_a_replan_to_the_end_and_so_does_who_was_following_before(tmp_path):
    slow = "- {kind: Phase, id: slow, spec: {x-run: {noop: {}}}}\n"
    wrong = slow + "- {kind: Phase, id: wrong, spec: {x-run: {noop: {}}, description: first}}\n"
    held: dict[str, dict[str, Any]] = {}

    def first_attempts_are_held(target: dict[str, Any]) -> dict[str, Any] | None:
        if target["phaseId"] == "new" or target["attempt"] > 1:
            return {"status": "complete"}
        names = ("phaseId", "attempt", "fence", "dispatchId", "runtimeId")
        held[target["phaseId"]] = {name: target[name] for name in names}
        return None

    async with (
        running_site(tmp_path, first_attempts_are_held) as site,
        PlanClient.connected(site.url) as client,
    ):
        before = asyncio.create_task(site.planter("apply", site.manifest(wrong), "--yes", "--session", "s"))
        await seen(client, "s", "PhaseTargeted", phaseId="wrong")
        file = site.manifest(wrong.replace("first", "second") + slow.replace("slow", "new"))
        shown = await site.planter("plan", file, "--session", "s")
        refused = await site.planter("apply", file, "--yes", "--session", "s")
        replanning = asyncio.create_task(site.planter("apply", file, "--yes", "--session", "s", "--replan"))
        await seen(client, "s", "PlanApplied", revision=2)
        await site.runtime.report("s", [{**held["wrong"], "status": "cancelled"}])
        await seen(client, "s", "PhaseCompleted", phaseId="wrong", attempt=2)
        await site.runtime.report("s", [{**held["slow"], "status": "complete"}])
        after, first = await replanning, await before
        state = await client.get_state("s")

    assert "  ~ wrong  changed, runs again; attempt 1 on scripted is cancelled" in shown.out
    assert "    slow   goes on: attempt 1 on scripted" in shown.out
    assert "--replan" in shown.err
    assert (refused.status, "session.busy" in refused.err) == (5, True)
    assert (first.status, after.status) == (0, 0)
    assert "session s complete: 3 phases" in first.err
    assert "session s complete: 3 phases" in after.err
    assert {one.phase_id: one.attempt for one in state.phases} == {"slow": 1, "wrong": 2, "new": 1}


async def test_a_dry_run_and_a_plan_leave_every_stream_and_bucket_as_they_were(tmp_path):
    many = [{"kind": "Phase", "id": f"p{n:05}", "spec": {"description": "x" * 60}} for n in range(6_000)]
    async with running_site(tmp_path) as site, PlanClient.connected(site.url) as client:
        await site.planter("run", site.manifest(TWO), "--session", "s")
        async with asyncio.timeout(DEADLINE_SECONDS):  # the listing is written after the end
            while (await client.sessions())[0].counts != {"complete": 2}:
                await asyncio.sleep(0.05)
        before = await everything_stored(site.url)
        file = site.manifest(EDITED)
        answers = [
            await site.planter("run", file, "--session", "s", "--dry-run"),
            await site.planter("run", file, "--session", "new", "--dry-run"),
            await site.planter("plan", file, "--session", "s"),
            await site.planter("plan", site.manifest(json.dumps(many)), "--session", "s"),
            await site.planter("explain", "s"),
        ]
        dry = await client.submit(phases(("a", {})), session="s", dry_run=True)
        after = await everything_stored(site.url)

    assert [answer.status for answer in answers] == [0] * 5
    assert "6000 to add" in answers[3].out
    assert (dry.sequence, dry.revision) == (0, 1)
    assert len(before) >= 7
    assert after == before


async def test_a_dry_run_in_the_input_stream_is_answered_and_starts_nothing(tmp_path):
    async with running_site(tmp_path) as site, PlanClient.connected(site.url) as client:
        await client.submit(phases(("a", {})), session="s")
        async for _ in client.watch("s"):
            pass
        subscription = await client.nc.subscribe("plan.session.s.events")
        wanted = {"manifest": phases(("a", {}), ("b", {})), "dryRun": True}
        await client.js.publish("plan.session.s.start", json.dumps(wanted).encode())
        (event,) = json.loads((await subscription.next_msg(10)).data)["events"]
        state = await client.get_state("s")

    assert (event["type"], event["code"]) == ("InputRefused", "start.dry_run")
    assert "1 to add, 0 to change, 0 to remove, 0 to run again; nothing was started" in event["text"]
    assert (state.revision, state.status, len(state.phases)) == (1, "complete", 1)


async def test_explain_says_what_is_missing_and_that_nothing_matches_is_in_the_journal(tmp_path):
    manifest = phases(
        ("odd", {"x-run": {"docker": {"image": "x"}}}), ("next", {"waitFor": {"phases": ["odd"]}})
    )
    text = json.dumps(manifest).replace('"docker": {"image": "x"}', '"exec": ["true"]')
    async with running_site(tmp_path) as site:
        applying = asyncio.create_task(site.planter("apply", site.manifest(text), "--yes", "--session", "s"))
        async with PlanClient.connected(site.url) as client:
            await seen(client, "s", "PhaseUnmatched", phaseId="odd")
            one = await site.planter("explain", "s", "odd")
            every = await site.planter("explain", "s")
            document = await site.planter("explain", "s", "next", "--output", "json")
            unknown = await site.planter("explain", "s", "nope")
            nowhere = await site.planter("explain", "nowhere")
            events = await site.planter("events", "s")
            await client.control_confirmed("s", "cancel")
        applied = await applying

    assert "no registered runtime matches: of 1 runtime, 1 have no executor exec" in one.out
    assert "ends it: a runtime with executor exec" in one.out
    assert "1 registered, 0 could take it now" in one.out
    assert "wait for odd, which is targeted, directly or through others" in every.out
    assert json.loads(document.out)["phase"]["conditions"][0]["phaseId"] == "odd"
    assert (unknown.status, nowhere.status, applied.status) == (6, 6, 1)
    assert "PhaseUnmatched odd" in events.out


async def test_a_start_that_is_read_together_with_the_last_report_finds_a_session_that_is_over(tmp_path):
    targets: list[dict[str, Any]] = []
    async with (
        running_nats_server(tmp_path) as server,
        running_planner(server.url, tmp_path) as planner,
        scripted_runtime(server.url, script=targets.append) as runtime,
        PlanClient.connected(server.url) as client,
    ):
        await client.submit(phases(("a", {})), session="s")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not targets:
                await asyncio.sleep(0.01)
        echo = {name: targets[0][name] for name in ("phaseId", "attempt", "fence", "dispatchId")}
        planner.process.send_signal(signal.SIGSTOP)
        await runtime.report("s", [{**echo, "status": "complete"}])
        await client.submit(phases(("b", {})), session="s", confirm=None)
        planner.process.send_signal(signal.SIGCONT)
        await until(client, "s", "b", "targeted")
        state = await client.get_state("s")

    assert (state.revision, [phase.phase_id for phase in state.phases]) == (2, ["b"])
