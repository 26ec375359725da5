"""The processes that are measured, each on its own: server, planners, runtime."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from nats.aio.msg import Msg

from planter.core.status import SESSION_TERMINAL
from planter_protocol import PlanClient, assets, headers, subjects
from planter_protocol.codec import decode
from planter_protocol.inline import subscribe_inline
from planter_protocol.messages import SessionRecord
from planter_protocol.reading import Stored, last_message, read_subject
from planter_testkit.bench.workloads import Workload
from planter_testkit.nats import end, running_nats_server
from planter_testkit.planners import Planner

SLOTS = 4_000
"""Nothing waits for room, as nothing does on the floor."""
SYNC_ALWAYS = "jetstream { sync_interval: always }\n"


class Took(NamedTuple):
    """One run of a workload."""

    seconds: float
    """Floor: from the first publish to the last completion. Planter: from the first start to the last end."""
    ran: float
    """Planter: from the first commit of a session to the last end."""
    cpu: dict[str, float]
    """Processor seconds of each process."""
    memory_mib: dict[str, int]
    """The most memory that each process had (VmHWM)."""
    busy: float
    """How much of all cores was in use, by whomever."""


class Stand:
    """A server, and what runs on it."""

    def __init__(self, url: str, folder: Path, server_pid: int) -> None:
        self.url = url
        self.folder = folder
        self.pids: dict[str, int] = {"nats-server": server_pid}


@asynccontextmanager
async def running_stand(folder: Path, *, sync_always: bool) -> AsyncGenerator[Stand]:
    """A server of its own."""
    arguments: list[str] = []
    folder.mkdir(parents=True)
    if sync_always:
        (folder / "nats.conf").write_text(SYNC_ALWAYS)
        arguments = ["-c", str(folder / "nats.conf")]
    async with running_nats_server(folder, arguments) as server:
        assert server.process is not None
        yield Stand(server.url, folder, server.process.pid)


@asynccontextmanager
async def running_planter(stand: Stand, planners: int = 1, slots: int = SLOTS) -> AsyncGenerator[PlanClient]:
    """Planters and one runtime of no-ops, ready; and a client."""
    async with AsyncExitStack() as stack:
        for number in range(planners):
            planner = Planner(stand.url, stand.folder, f"planner-{number}")
            stack.callback(planner.stop)
            stand.pids[planner.name] = planner.process.pid
        stack.callback(end, _start_runtime(stand, slots))
        client = await stack.enter_async_context(PlanClient.connected(stand.url, wait=10))
        await _ready(client, planners)
        yield client


@asynccontextmanager
async def running_bound(stand: Stand, workload: Workload) -> AsyncGenerator[PlanClient]:
    """The planner that knows the graph by heart (``bound``) and one runtime of no-ops; and a client."""
    from planter_testkit.bench import bound

    async with AsyncExitStack() as stack:
        stack.callback(end, _start_runtime(stand, slots=workload.size))  # room for all: it counts no slots
        graph = stand.folder / "graph.json"
        graph.write_text(json.dumps(workload.tasks))
        walker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            bound.__name__,
            stand.url,
            str(graph),
            env=_variables(),
            stdout=asyncio.subprocess.PIPE,
        )
        stack.push_async_callback(_end, walker)
        stand.pids["planner-0"] = walker.pid
        assert walker.stdout is not None
        if not await asyncio.wait_for(walker.stdout.readline(), 20):
            raise RuntimeError("the bound's planner ended before it was ready")
        yield await stack.enter_async_context(PlanClient.connected(stand.url, wait=10))


def _start_runtime(stand: Stand, slots: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "planter_runtime", "--nats", stand.url, "--id", "r1"]
    command += ["--any-selector", "--slots", str(slots)]
    with (stand.folder / "runtime.log").open("ab") as log:
        runtime = subprocess.Popen(command, stdout=log, stderr=log, cwd=stand.folder)
    stand.pids["runtime"] = runtime.pid
    return runtime


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()


def _variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


async def _ready(client: PlanClient, planners: int) -> None:
    async with asyncio.timeout(20):
        seen: set[str] = set()
        while len(seen) < planners:
            try:
                info = await client.planner_info(timeout=0.5)
            except Exception:
                await asyncio.sleep(0.05)
                continue
            if info.runtimes:
                seen.add(info.planner_id)
            await asyncio.sleep(0.02)
        if planners > 1:
            await asyncio.sleep(2)  # each has seen the others, and they have shared the partitions


class Ends:
    """Knows when so many sessions have ended, by the listing.

    Who hears of every commit takes part in what is measured: his process competes for the cores.
    """

    def __init__(self, wanted: int) -> None:
        self.over = asyncio.Event()
        self.failed = 0
        self._wanted = wanted
        self._ended: set[str] = set()

    async def listen(self, client: PlanClient) -> None:
        """From now on."""
        await subscribe_inline(client.nc, f"$KV.{assets.SESSIONS_BUCKET}.*", self._on_record)
        await client.nc.flush()

    def _on_record(self, message: Msg) -> None:
        record = decode(message.data, SessionRecord)
        if record.status in SESSION_TERMINAL and record.session_id not in self._ended:
            self._ended.add(record.session_id)
            self.failed += record.status != "complete"
            if len(self._ended) == self._wanted:
                self.over.set()


async def _committed(client: PlanClient) -> tuple[float, float]:
    """When the first commit and the last one were stored, in seconds since 1970, by the server's clock."""
    async for stored in read_subject(client.nc, assets.JOURNAL, subjects.JOURNAL_WILDCARD, batch_max=1):
        last = await last_message(client.nc, assets.JOURNAL, subjects.JOURNAL_WILDCARD)
        assert last is not None
        return _stored_at(stored), _stored_at(last)
    raise RuntimeError("the journal is empty")


def _stored_at(stored: Stored) -> float:
    time, _, fraction = stored.headers[headers.TIME_STAMP].removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{time}+00:00").timestamp() + float(f"0.{fraction or 0}")


async def run_planter(
    folder: Path, workload: Workload, *, planners: int = 1, sync_always: bool = False
) -> Took:
    """The workload through Planter."""
    async with (
        running_stand(folder, sync_always=sync_always) as stand,
        running_planter(stand, planners) as client,
    ):
        return await _run(stand, client, workload)


async def run_bound(folder: Path, workload: Workload) -> Took:
    """The workload through Planter's messages, without its planner."""
    async with running_stand(folder, sync_always=False) as stand, running_bound(stand, workload) as client:
        return await _run(stand, client, workload)


async def _run(stand: Stand, client: PlanClient, workload: Workload) -> Took:
    from planter_testkit.graphs import as_manifest

    text = json.dumps(as_manifest(workload.tasks)).encode()
    ends = Ends(workload.copies)
    await ends.listen(client)
    before = {name: processor(pid) for name, pid in stand.pids.items()}
    cores = _cores()
    began = time.time()
    window = asyncio.Semaphore(100)

    async def submit(number: int) -> None:
        async with window:
            await client.submit(text, session=f"s{number}", confirm=None)

    await asyncio.gather(*(submit(number) for number in range(workload.copies)))
    async with asyncio.timeout(600):
        await ends.over.wait()
    first, last = await _committed(client)
    cpu = {name: processor(pid) - before[name] for name, pid in stand.pids.items()}
    memory = {name: peak_mib(pid) for name, pid in stand.pids.items()}
    if ends.failed:
        raise RuntimeError(f"{ends.failed} sessions of {workload.name} did not complete")
    used, there = (after - before for after, before in zip(_cores(), cores, strict=True))
    return Took(last - began, last - first, cpu, memory, used / max(there, 1))


async def run_floor(folder: Path, workload: Workload, *, sync_always: bool = False) -> Took:
    """The workload on the floor."""
    import nats

    from planter_testkit.bench import floor

    async with running_stand(folder, sync_always=sync_always) as stand:
        nc = await nats.connect(stand.url)
        await floor.prepare(nc.jetstream())
        await nc.close()
        (folder / "graph.json").write_text(json.dumps(workload.tasks))
        command = [sys.executable, "-m", floor.__name__]
        variables = _variables()
        worker = subprocess.Popen([*command, "work", stand.url], env=variables)
        stand.pids["worker"] = worker.pid
        try:
            walker = await asyncio.create_subprocess_exec(
                *command,
                "walk",
                stand.url,
                str(folder / "graph.json"),
                str(workload.copies),
                env=variables,
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(walker.communicate(), 600)
        finally:
            end(worker)
    seconds = float(out)
    return Took(seconds, seconds, {}, {}, 0.0)


def processor(pid: int) -> float:
    """Seconds of processor time that the process and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _cores() -> tuple[int, int]:
    """Ticks that the cores of this machine were in use, and ticks in all, since it started."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    idle, waiting = ticks[3], ticks[4]
    return sum(ticks) - idle - waiting, sum(ticks)


def peak_mib(pid: int) -> int:
    """The most memory that the process ever had in use, in MiB."""
    return _status(pid, "VmHWM:")


def pss_mib(pid: int) -> float:
    """Memory in use, shared pages in shares, in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) // 1024
    return 0
