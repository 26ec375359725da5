"""``planter doctor`` against real servers: what it can see, and what it says about it."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.js import api

from planter.doctor import Report, examine, gather
from planter.doctor.facts import Probe
from planter.local.nats_server import embedded_nats
from planter_protocol import PlanClient, PlannerUnavailable, assets
from planter_testkit.nats import READY_SECONDS, end, server_binary
from planter_testkit.planners import Planner, answering, running_planner
from planter_testkit.runtimes import RuntimeProcess

CLUSTER_SECONDS = 60.0
DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"
USERS = """
accounts {
  APP {
    jetstream: { max_file: 300M }
    users: [
      { user: all, password: x }
      { user: agent, password: x, permissions: {
          publish: ["plan.session.*.ack", "plan.session.*.report", "$SYS.REQ.USER.INFO"]
          subscribe: ["_INBOX.>"] } }
      { user: mute, password: x, permissions: { publish: ">", subscribe: ["plan.>"] } }
    ]
    imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" } } ]
  }
  PLAIN { users: [ { user: plain, password: x } ] }
  SYS {
    users: [ { user: sys, password: x } ]
    exports: [ { service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream } ]
  }
}
system_account: SYS
"""


@asynccontextmanager
async def configured_server(folder: Path, config: str) -> AsyncGenerator[dict[str, str]]:
    """A server with this configuration on free ports; its addresses by kind: ``nats``, ``monitoring``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "server.conf"
    path.write_text(f'listen: "127.0.0.1:-1"\nhttp: "127.0.0.1:-1"\nports_file_dir: "{folder}"\n{config}\n')
    process = subprocess.Popen([server_binary(), "-c", str(path), "-l", str(folder / "server.log")])
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not (found := [file for file in folder.glob("*.ports") if file.read_text().endswith("}")]):
                assert process.poll() is None, (folder / "server.log").read_text()
                await asyncio.sleep(0.005)
        yield {kind: urls[0] for kind, urls in json.loads(found[0].read_text()).items() if urls}
    finally:
        end(process)


def store(folder: Path, more: str = "") -> str:
    return f'jetstream {{ store_dir: "{folder / "store"}"{more} }}'


@asynccontextmanager
async def running_runtime(url: str, folder: Path) -> AsyncGenerator[None]:
    """A runtime ``r1`` that the planner knows."""
    runtime = RuntimeProcess(url, folder, "r1")
    try:
        async with asyncio.timeout(READY_SECONDS), PlanClient.connected(url) as client:
            while not (await client.planner_info()).runtimes:
                await asyncio.sleep(0.01)
        yield
    finally:
        end(runtime.process)


async def examined(url: str, *monitors: str) -> Report:
    return examine(await gather(url, monitors))


def told(report: Report, check: str) -> list[tuple[str, str]]:
    return [(str(finding.level), finding.text) for finding in report.findings if finding.check == check]


def problems(report: Report) -> list[str]:
    return [f"{finding.check}: {finding.text}" for finding in report.findings if finding.level != "ok"]


def with_user(url: str, user: str) -> str:
    return url.replace("nats://", f"nats://{user}:x@")


async def test_a_server_with_planner_and_runtime_is_well_but_for_its_unknown_sync(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path)) as server,
        running_planner(server["nats"], tmp_path),
        running_runtime(server["nats"], tmp_path),
    ):
        report = await examined(server["nats"])
        asked = await examined(server["nats"], server["monitoring"])

    assert problems(report) == ["durability: default or always (R1, sync unknown)"]
    assert problems(asked) == ["durability: default (R1, sync every 2m)"]
    assert told(report, "planners") == [("ok", "1 running: planner-1")]
    assert told(report, "runtimes")[0][1].endswith(": r1")
    assert told(report, "latency")[0][0] == "ok"


async def test_nothing_is_stored_by_looking(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path)) as server,
        running_planner(server["nats"], tmp_path),
        PlanClient.connected(server["nats"]) as client,
    ):
        before = {name: (await client.js.stream_info(name)).state for name in assets.names()}
        await examined(server["nats"], server["monitoring"])
        after = {name: (await client.js.stream_info(name)).state for name in assets.names()}

    assert after == before


async def test_sync_always_is_seen_through_the_monitoring_address(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path, ", sync_interval: always")) as server,
        running_planner(server["nats"], tmp_path),
    ):
        report = await examined(server["nats"], server["monitoring"])

    assert told(report, "durability") == [("ok", "always (R1)")]


async def test_another_sync_interval_is_told_as_it_is(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path, ", sync_interval: 10s")) as server,
        running_planner(server["nats"], tmp_path),
    ):
        report = await examined(server["nats"], server["monitoring"])

    assert told(report, "durability") == [("warning", "default (R1, sync every 10s)")]


@pytest.mark.parametrize(("always", "title"), [(True, "always (R1)"), (False, "default (R1, sync every 2m)")])
async def test_the_embedded_server_tells_its_sync_by_a_tag(tmp_path, always, title):
    async with (
        embedded_nats(tmp_path, sync_always=always) as server,
        PlanClient.connected(server.url) as client,
    ):
        await assets.ensure(client.js)
        report = await examined(server.url)

    assert told(report, "durability")[0][1] == title


async def test_a_server_without_jetstream_fails_in_one_place(tmp_path):
    async with configured_server(tmp_path, "") as server:
        report = await examined(server["nats"])

    assert problems(report) == ["jetstream: JetStream is off"]


async def test_an_account_without_jetstream_is_told_apart(tmp_path):
    async with configured_server(tmp_path, store(tmp_path) + USERS) as server:
        report = await examined(with_user(server["nats"], "plain"))

    assert "jetstream: JetStream is not there for this user" in problems(report)


async def test_a_server_that_no_planner_has_visited_fails_and_names_the_way(tmp_path):
    async with configured_server(tmp_path, store(tmp_path)) as server:
        ran = await planter("doctor", "--nats", server["nats"], folder=tmp_path)
        as_json = await planter("doctor", "--nats", server["nats"], "--output", "json", folder=tmp_path)

    document = json.loads(as_json[1])
    assert (ran[0], as_json[0]) == (1, 1)
    assert re.search(r"^✗ streams +no planner has ever run on this server$", ran[1], re.MULTILINE)
    assert f"planter serve --nats {server['nats']}" in ran[1]
    assert document["level"] == "failure"
    assert document["durability"]["mode"] == "none"


async def test_streams_and_consumers_that_have_drifted_are_told_and_their_remedies_help(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path)) as server,
        running_planner(server["nats"], tmp_path),
        PlanClient.connected(server["nats"]) as client,
    ):
        js = client.js
        journal = (await js.stream_info(assets.JOURNAL)).config
        await js.update_stream(journal.evolve(max_age=3600.0, republish=None, allow_direct=False))
        await js.delete_stream(assets.LOGS)
        consumer = assets.partition_consumer(3)
        await js.add_consumer(assets.IN, consumer.evolve(ack_wait=30.0))
        await js.delete_consumer(assets.IN, assets.consumer_name(5))
        drifted = await examined(server["nats"])
        await js.update_stream(journal)
        await assets.ensure(js)
        repaired = await examined(server["nats"])

    events = "plan.journal.* to plan.session.{{wildcard(1)}}.events"
    assert told(drifted, "streams") == [
        ("failure", "PLANTER_LOGS: missing"),
        ("failure", "PLANTER_JOURNAL: `max_age` is 1h, expected without a limit"),
        ("warning", f"PLANTER_JOURNAL: `republish` is not set, expected {events}"),
        ("failure", "PLANTER_JOURNAL: `allow_direct` is off, expected on"),
    ]
    assert told(drifted, "consumers") == [
        ("failure", "planner-5: missing"),
        ("warning", "planner-3: `ack_wait` is 30s, expected 2s"),
    ]
    assert told(repaired, "streams")[0][0] == "ok"


async def test_inputs_wait_when_their_planner_has_gone(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path)) as server,
        PlanClient.connected(server["nats"]) as client,
    ):
        await assets.ensure(client.js)
        idle = await examined(server["nats"])
        await client.submit([{"id": "a"}], session="s1", confirm=None)
        waiting = await examined(server["nats"])

    assert told(idle, "planners") == [("warning", "none is running")]
    assert told(waiting, "planners") == [("failure", "none is running, and 1 input waits in 1 partition")]


async def test_dead_letters_are_counted_and_the_newest_is_shown(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path)) as server,
        running_planner(server["nats"], tmp_path),
        PlanClient.connected(server["nats"]) as client,
    ):
        await client.js.publish("plan.session.s1.control", b"not JSON")
        async with asyncio.timeout(READY_SECONDS):
            while (await client.js.stream_info(assets.DEAD_LETTERS)).state.messages == 0:
                await asyncio.sleep(0.01)
        report = await examined(server["nats"])

    found = next(finding for finding in report.findings if finding.check == "dead letters")
    assert found.text == "1 input could not be read"
    assert (found.cause or "").startswith("newest, on ")


async def test_every_planner_is_heard(tmp_path):
    async with (
        configured_server(tmp_path, store(tmp_path)) as server,
        running_planner(server["nats"], tmp_path, "p1"),
        PlanClient.connected(server["nats"]) as client,
    ):
        second = Planner(server["nats"], tmp_path, "p2")
        try:
            await answering(client, second)
            report = await examined(server["nats"])
        finally:
            second.stop()

    assert told(report, "planners") == [("ok", "2 running: p1, p2")]


async def test_a_user_that_may_do_little_is_told_what_and_waits_for_nothing(tmp_path):
    async with configured_server(tmp_path, store(tmp_path) + USERS) as server:
        async with PlanClient.connected(with_user(server["nats"], "all")) as client:
            await assets.ensure(client.js)
        facts = await gather(with_user(server["nats"], "agent"))

    assert facts.server.user == "agent"
    assert facts.inputs == {
        "start": Probe.DENIED,
        "control": Probe.DENIED,
        "ack": Probe.ALLOWED,
        "report": Probe.ALLOWED,
    }
    assert facts.journal is Probe.DENIED
    texts = problems(examine(facts))
    assert "permissions: user `agent` may not publish plan.session.*.start" in texts
    assert "permissions: user `agent` may not read the journal" in texts
    assert not any(finding.level == "failure" for finding in examine(facts).findings)


async def test_a_user_that_gets_no_answers_is_told_so(tmp_path):
    async with configured_server(tmp_path, store(tmp_path) + USERS) as server:
        report = await examined(with_user(server["nats"], "mute"))

    assert "permissions: this user gets no answers" in problems(report)


async def test_an_account_that_imports_the_servers_statistics_sees_the_sync(tmp_path):
    async with configured_server(tmp_path, store(tmp_path) + USERS) as server:
        async with PlanClient.connected(with_user(server["nats"], "all")) as client:
            await assets.ensure(client.js)
        report = await examined(with_user(server["nats"], "all"))

    assert told(report, "durability") == [("warning", "default (R1, sync every 2m)")]
    assert "of 286 MiB used" in told(report, "storage")[0][1]
    assert "x@" not in report.server


async def test_the_flag_that_nats_py_cannot_bear_is_a_failure(tmp_path):
    async with configured_server(
        tmp_path, "feature_flags { js_ack_fc_v2: true }\n" + store(tmp_path)
    ) as server:
        report = await examined(server["nats"])

    assert ("failure", "`js_ack_fc_v2` is on") in told(report, "flags")


async def test_without_a_server_the_status_is_4(tmp_path):
    status, out, err = await planter("doctor", "--nats", "nats://127.0.0.1:1", folder=tmp_path)

    assert (status, out) == (4, "")
    assert "no NATS server answers" in err


async def test_a_monitoring_address_that_does_not_answer_is_a_failure(tmp_path):
    async with configured_server(tmp_path, store(tmp_path)) as server:
        report = await examined(
            server["nats"], "http://127.0.0.1:1", server["nats"].replace("nats", "http", 1)
        )

    assert [level for level, _ in told(report, "monitor")] == ["failure", "failure"]


# -- three servers -------------------------------------------------------------------------------


@asynccontextmanager
async def deployed_cluster(
    folder: Path,
) -> AsyncGenerator[tuple[list[str], list[str], list[subprocess.Popen]]]:
    """The three servers of deploy/nats with free ports instead of theirs: addresses, monitors, processes."""
    numbers = dict(zip(("423{n}", "823{n}", "623{n}"), free_ports(3), strict=True))
    processes: list[subprocess.Popen] = []
    try:
        for n in (1, 2, 3):
            text = (DEPLOY / f"nats-{n}.conf").read_text()
            for pattern, ports in numbers.items():
                for other in (1, 2, 3):
                    text = text.replace(f":{pattern.format(n=other)}", f":{ports[other - 1]}")
            (folder / f"nats-{n}.conf").write_text(text)
            command = [server_binary(), "-c", f"nats-{n}.conf", "-l", f"nats-{n}.log"]
            processes.append(subprocess.Popen(command, cwd=folder))
        urls = [f"nats://127.0.0.1:{port}" for port in numbers["423{n}"]]
        await leader(urls[0])
        yield urls, [f"http://127.0.0.1:{port}" for port in numbers["823{n}"]], processes
    finally:
        for process in processes:
            end(process)


def free_ports(kinds: int) -> list[list[int]]:
    """Three free ports a kind; asked all at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3 * kinds)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return [ports[3 * kind : 3 * kind + 3] for kind in range(kinds)]


async def leader(url: str) -> None:
    """Wait until the cluster makes replicated streams."""
    seconds = CLUSTER_SECONDS
    async with asyncio.timeout(seconds), PlanClient.connected(url, wait=seconds) as client:
        while True:
            try:
                await client.js.add_stream(api.StreamConfig(name="TRIAL", subjects=["trial"]), num_replicas=3)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                await client.js.delete_stream("TRIAL")
                return


@asynccontextmanager
async def replicated_planner(urls: list[str], folder: Path) -> AsyncGenerator[None]:
    log = folder / "planner.log"
    command = [
        sys.executable,
        "-m",
        "planter",
        "serve",
        "--nats",
        ",".join(urls),
        "--id",
        "p1",
        "--replicas",
        "3",
        "--http",
        "off",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(CLUSTER_SECONDS), PlanClient.connected(urls[0]) as client:
            while not await answers(client):
                assert process.poll() is None, log.read_text()
        yield
    finally:
        end(process)


async def answers(client: PlanClient) -> bool:
    try:
        return bool(await client.planner_info(timeout=0.2))
    except PlannerUnavailable:
        await asyncio.sleep(0.01)
        return False


async def test_the_cluster_of_deploy_nats_is_replicated_and_says_when_servers_are_away(tmp_path):
    async with deployed_cluster(tmp_path) as (urls, monitors, processes), replicated_planner(urls, tmp_path):
        alone = await examined(urls[0])
        whole = await when(urls[0], monitors, lambda report: told(report, "replicas")[0][0] == "ok")
        end(processes[2])
        two = await when(urls[0], monitors[:2], lambda report: told(report, "replicas")[0][0] == "warning")
        end(processes[1])
        one = await when(urls[0], monitors[:1], lambda report: told(report, "replicas")[0][0] == "failure")

    assert told(alone, "durability") == [("warning", "replicated (R3, sync unknown)")]
    assert told(whole, "durability") == [("ok", "replicated + always (R3)")]
    assert told(whole, "replicas") == [("ok", "3 copies on nats-1, nats-2, nats-3, all up to date")]
    assert told(two, "replicas") == [("warning", "away or behind: nats-3")]
    assert "most copies are away" in told(one, "replicas")[0][1]
    assert one.level == "failure"


async def when(url: str, monitors: list[str], fact) -> Report:
    """The first report of which the fact is true."""
    async with asyncio.timeout(CLUSTER_SECONDS):
        while not fact(report := await examined(url, *monitors)):
            pass
    return report


async def planter(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PLANTER_", "NATS_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "planter", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**env, "HOME": str(folder), "PYTHONIOENCODING": "utf-8"},
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()
