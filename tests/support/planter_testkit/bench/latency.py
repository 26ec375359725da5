"""How long single things take while little else happens: to a first target, to the next one, to an answer."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nats.aio.msg import Msg

from planter_protocol import PlanClient
from planter_protocol.inline import subscribe_inline
from planter_protocol.sending import publish
from planter_testkit.bench.stand import Ends, pss_mib, running_bound, running_planter, running_stand
from planter_testkit.bench.workloads import Workload, chain, fan
from planter_testkit.graphs import as_manifest

_SETTLE_SECONDS = 3.0


class Spread(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Spread":
        """Median and 99th percentile."""
        ordered = sorted(seconds)
        return cls(ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000)


class Idle(NamedTuple):
    """What ``planter dev`` takes when nothing happens."""

    ready_seconds: float
    memory_mib: float
    """All its processes, shared pages in shares (PSS)."""
    core_percent: float


async def start_to_first_target(folder: Path, count: int, *, bound: bool = False) -> Spread:
    """From the publishing of a start to its first target, one session after the other.

    ``bound``: with the planner that knows the graph by heart.
    """
    work = Workload("one", chain(1))
    async with (
        running_stand(folder, sync_always=False) as stand,
        running_bound(stand, work) if bound else running_planter(stand) as client,
    ):
        heard = await _listening(client, "plan.runtime.*.target", lambda data: b'"p0"' in data)
        text = json.dumps({"manifest": as_manifest(work.tasks)}).encode()
        waits: list[float] = []
        for number in range(count):
            heard.clear()
            began = time.perf_counter()
            await publish(client.nc, f"plan.session.n{number}.start", text, now=True)
            waits.append(await heard.at() - began)
            await asyncio.sleep(0.01)
    return Spread.of(waits)


async def report_to_next_target(folder: Path, length: int) -> Spread:
    """Along a chain: from the report on a phase to the target of the next, as a bystander sees it."""
    async with running_stand(folder, sync_always=False) as stand, running_planter(stand) as client:
        reported: dict[int, float] = {}
        targeted: dict[int, float] = {}

        def note(into: dict[int, float]) -> Callable[[Msg], None]:
            def hear(message: Msg) -> None:
                now = time.perf_counter()
                for name in re.findall(rb'"phaseId":"p(\d+)"', message.data):
                    into[int(name)] = now

            return hear

        await subscribe_inline(client.nc, "plan.session.*.report", note(reported))
        await subscribe_inline(client.nc, "plan.runtime.*.target", note(targeted))
        ends = Ends(1)
        await ends.listen(client)
        await client.submit(as_manifest(chain(length)), session="chain", confirm=None)
        async with asyncio.timeout(120):
            await ends.over.wait()
    return Spread.of([targeted[n + 1] - reported[n] for n in range(length - 1) if n + 1 in targeted])


async def get_state(folder: Path, size: int, count: int) -> Spread:
    """The answer about a session of so many phases, all of them."""
    async with running_stand(folder, sync_always=False) as stand, running_planter(stand) as client:
        ends = Ends(1)
        await ends.listen(client)
        await client.submit(as_manifest(fan(size)), session="large", confirm=None)
        async with asyncio.timeout(120):
            await ends.over.wait()
        waits: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await client.get_state("large", timeout=30)
            waits.append(time.perf_counter() - began)
    return Spread.of(waits)


async def idle(folder: Path, seconds: float) -> Idle:
    """Start ``planter dev`` as a user does, and watch it do nothing."""
    folder.mkdir(parents=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "planter", "dev", "--data", str(folder / "data")]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        await asyncio.to_thread(_until_ready, process)
        ready = time.perf_counter() - began
        await asyncio.sleep(_SETTLE_SECONDS)
        pids = _family(process.pid)
        before, since = sum(map(_used_ns, pids)), time.perf_counter()
        await asyncio.sleep(seconds)
        used = sum(map(_used_ns, pids)) - before
        share = used / 1e9 / (time.perf_counter() - since) * 100
        return Idle(ready, sum(map(pss_mib, pids)), share)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _used_ns(pid: int) -> int:
    """What the process's threads have run, in nanoseconds.

    ``/proc/PID/stat`` counts hundredths of a second, which is as much as an idle process uses in a second.
    """
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _until_ready(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if b"nats://" in line:
            return
    raise RuntimeError(f"planter dev ended with {process.wait()}")


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _family(int(child))
    return found


class _Heard:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._future: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def now(self) -> None:
        if not self._future.done():
            self._future.set_result(time.perf_counter())

    async def at(self) -> float:
        async with asyncio.timeout(10):
            return await self._future


async def _listening(client: PlanClient, subject: str, wanted: Callable[[bytes], bool]) -> _Heard:
    heard = _Heard()

    def hear(message: Msg) -> None:
        if wanted(message.data):
            heard.now()

    await subscribe_inline(client.nc, subject, hear)
    await client.nc.flush()
    return heard
