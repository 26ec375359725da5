"""Big sessions, and many at once: a real server, planner and runtime of no-ops, and what they take.

    python scripts/big_sessions.py                     what has to hold: a minute or two for each line
    python scripts/big_sessions.py --size 5000 --sessions 500      the same, small

A line for each run: seconds until the manifest was accepted, seconds from then until the session had ended,
phases a second, processor time of the planner and of the process that reads large manifests for it, the
planner's peak memory (VmHWM), and the median and longest time of another session's ``get_state`` meanwhile.
Exit status 0: everything completed, the judge found the journals true, memory stayed below the limit, and ten
times the phases took the planner at most twelve times the processor time (wall-clock time says nothing on a
machine that others use as well).
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from planter_protocol import PlanClient, PlannerUnavailable
from planter_testkit.graphs import as_manifest, fan, layers, montage_like
from planter_testkit.nats import end, running_nats_server
from planter_testkit.planners import Planner, answering, judged

MEMORY_MIB_MAX = 500
TEN_TIMES_MAX = 12.0
SHAPES = {"fan": fan, "layers": layers, "montage": lambda count: montage_like((count - 6) // 4)}
SLOTS = 1_000
_ASK_SECONDS = 0.1
_LOOK_SECONDS = 0.1


class Run(NamedTuple):
    """What one run took."""

    name: str
    phases: int
    accepted: float
    ran: float
    processor: float
    """Seconds of the planner and its children."""
    memory_mib: int
    waited: float
    """Longest ``get_state`` of another session meanwhile, in seconds."""
    median: float
    wrong: str = ""


async def main() -> int:
    """Run everything and print the table."""
    arguments = _arguments()
    runs: list[Run] = []
    print(
        f"{'run':<26}{'phases':>9}{'accepted':>10}{'ran':>9}{'phases/s':>10}{'cpu':>9}{'peak':>10}"
        f"{'get_state':>20}"
    )
    for name in filter(None, arguments.shapes.split(",")):
        runs += [
            await _measured(f"{name} of {size:,}", _one(name, size), arguments)
            for size in (arguments.size // 10, arguments.size)
        ]
    if arguments.sessions:
        many = _many(arguments.sessions)
        runs.append(await _measured(f"{arguments.sessions:,} sessions of 5", many, arguments))
    problems = [f"{run.name}: {run.wrong}" for run in runs if run.wrong]
    problems += [
        f"{run.name}: the planner took {run.memory_mib} MiB, the limit is {MEMORY_MIB_MAX}"
        for run in runs
        if run.memory_mib > MEMORY_MIB_MAX
    ]
    pairs = zip(runs[0::2], runs[1::2], strict=False)
    problems += [
        f"{large.name}: took {large.processor / small.processor:.1f} times the processor time of {small.name}"
        for small, large in pairs
        if large.phases >= 9 * small.phases and large.processor > TEN_TIMES_MAX * small.processor
    ]
    print("\n".join(problems) or "all complete and within the limits")
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--size", type=int, default=100_000, help="phases of the large sessions")
    parser.add_argument("--sessions", type=int, default=10_000, help="small sessions at once; 0: none")
    parser.add_argument("--shapes", default="fan,layers,montage")
    parser.add_argument("--profile", type=Path, help="profile the planner into this folder")
    parser.add_argument("--no-judge", action="store_true", help="do not read the journals again")
    return parser.parse_args()


def _one(shape: str, size: int) -> dict[str, Any]:
    return {shape: as_manifest(SHAPES[shape](size))}


def _many(count: int) -> dict[str, Any]:
    chain = as_manifest([{"id": f"p{n}", "deps": [f"p{n - 1}"] if n else []} for n in range(5)])
    return {f"s{n}": chain for n in range(count)}


async def _measured(name: str, sessions: dict[str, Any], arguments: argparse.Namespace) -> Run:
    """One run with processes of its own."""
    with tempfile.TemporaryDirectory(prefix="planter-big-") as folder:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(running_nats_server(Path(folder) / "nats"))
            client = await stack.enter_async_context(PlanClient.connected(server.url))
            planner = stack.enter_context(_planner(server.url, Path(folder), name, arguments.profile))
            await answering(client, planner)
            stack.enter_context(_runtime(server.url, Path(folder)))
            await _runtime_known(client)
            run = await _timed(client, planner, name, sessions, judge=not arguments.no_judge)
    speed = run.phases / run.ran
    print(
        f"{run.name:<26}{run.phases:>9,}{run.accepted:>9.1f}s{run.ran:>8.1f}s{speed:>10,.0f}"
        f"{run.processor:>8.1f}s"
        f"{run.memory_mib:>6} MiB{run.median * 1000:>8.0f} / {run.waited * 1000:.0f} ms  {run.wrong}",
        flush=True,
    )
    return run


async def _timed(
    client: PlanClient, planner: Planner, name: str, sessions: dict[str, Any], *, judge: bool
) -> Run:
    await client.submit(as_manifest([{"id": "a", "deps": []}]), session="asked")
    waits: list[float] = []
    asking = asyncio.create_task(_ask(client, waits))
    begun = time.monotonic()
    window = asyncio.Semaphore(200)
    confirm = 300.0 if len(sessions) == 1 else None  # many are stored at once, and taken in as it comes

    async def submit(session: str, manifest: Any) -> None:
        async with window:
            await client.submit(manifest, session=session, confirm=confirm)

    await asyncio.gather(*(submit(session, manifest) for session, manifest in sessions.items()))
    accepted = time.monotonic() - begun
    wrong = await _ended(client, planner, set(sessions))
    ran = time.monotonic() - begun - accepted
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    phases = sum(len(manifest) for manifest in sessions.values())
    processor, memory = _processor(planner.process.pid), _peak_mib(planner.process.pid)
    if judge and not wrong:
        chosen = list(sessions)[:: max(1, len(sessions) // 200)]
        verdicts = [await judged(client, session) for session in chosen]
        done = sum(verdict.completed for verdict in verdicts)
        wanted = sum(len(sessions[session]) for session in chosen)
        wrong = "" if done == wanted else f"{done:,} of {wanted:,} phases completed"
    return Run(name, phases, accepted, ran, processor, memory, max(waits), statistics.median(waits), wrong)


async def _ask(client: PlanClient, waits: list[float]) -> None:
    """How long a small question takes, again and again."""
    while True:
        begun = time.monotonic()
        with suppress(PlannerUnavailable):
            await client.get_state("asked", timeout=60)
        waits.append(time.monotonic() - begun)
        await asyncio.sleep(_ASK_SECONDS)


async def _ended(client: PlanClient, planner: Planner, sessions: set[str]) -> str:
    """Wait until all have ended; what is wrong, if anything."""
    looks = 0
    while True:
        records = {r.session_id: r.status for r in await client.sessions() if r.session_id in sessions}
        if len(records) == len(sessions) and "running" not in records.values():
            bad = [name for name, status in records.items() if status != "complete"]
            return f"{len(bad)} sessions are not complete" if bad else ""
        if planner.process.poll() is not None:
            return f"the planner ended: {planner.log.read_text()[-500:]}"
        looks += 1
        if looks * _LOOK_SECONDS > 1_200:
            return "not over after twenty minutes"
        await asyncio.sleep(_LOOK_SECONDS + len(sessions) / 5_000)


async def _runtime_known(client: PlanClient) -> None:
    while True:
        if (await client.planner_info()).runtimes:
            return
        await asyncio.sleep(0.05)


@contextmanager
def _planner(url: str, folder: Path, name: str, profile: Path | None) -> Generator[Planner]:
    planner = Planner.__new__(Planner)
    planner.name, planner.log = "big", folder / "planner.log"
    command = [sys.executable]
    if profile is not None:
        profile.mkdir(parents=True, exist_ok=True)
        command += ["-m", "cProfile", "-o", str(profile / f"{name.replace(' ', '-').replace(',', '')}.prof")]
    command += ["-m", "planter", "serve", "--nats", url, "--id", "big", "--http", "off"]
    with planner.log.open("ab") as log:
        planner.process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield planner
    finally:
        planner.stop()


@contextmanager
def _runtime(url: str, folder: Path) -> Generator[None]:
    command = [sys.executable, "-m", "planter_runtime", "--nats", url, "--id", "r1", "--any-selector"]
    with (folder / "runtime.log").open("ab") as log:
        process = subprocess.Popen([*command, "--slots", str(SLOTS)], stdout=log, stderr=log, cwd=folder)
    try:
        yield
    finally:
        end(process)


def _processor(pid: int) -> float:
    """Seconds of processor time that the process and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> int:
    """The most memory that the process ever had in use, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
