"""Measure Planter against the floor that JetStream sets, in one run: ratios mean something, figures drift.

    python scripts/bench.py                          everything, each five times: about half an hour
    python scripts/bench.py --repeat 1 --scale 0.1   a look, two minutes
    python scripts/bench.py --only fan,chain
    python scripts/bench.py --graphs FOLDER          the real Montage graphs instead of our own of their shape

Every run has a server, planner and runtime of its own, started as processes. The floor walks the same graph
with two minimal scripts: a JetStream publish, a delivery and a confirmed completion a task, and nothing else.
Prints a table; ``--json FILE`` keeps the figures, ``--page FILE`` writes the table of docs/performance.md.
"""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from planter_testkit.bench import latency
from planter_testkit.bench.stand import Took, run_bound, run_floor, run_planter
from planter_testkit.bench.workloads import DIAMOND, Workload, fan, workloads

BOUNDED = ("chain", "diamonds")
"""These are measured with a planner that decides nothing, too: what the messages alone allow."""
BEGIN, END = "<!-- newest run: begin -->", "<!-- newest run: end -->"


class Row(NamedTuple):
    """One line of the table."""

    name: str
    floor: str
    planter: str
    ratio: float | None
    must: str
    holds: bool | None
    more: str = ""


async def main() -> int:
    """Run what was asked for."""
    arguments = _arguments()
    rows: list[Row] = []
    for name, measure in _measures(arguments).items():
        if not arguments.only or name in arguments.only.split(","):
            for row in await measure():
                rows.append(row)
                print(_line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    if arguments.page:
        _write_page(arguments.page, rows, arguments)
    return 0


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, the medians count (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes")
    parser.add_argument("--only", default="", help="names, divided by commas")
    parser.add_argument("--graphs", type=Path, help="folder with montage-1k.json and montage-10k.json.gz")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    return parser.parse_args()


Measure = Callable[[], Any]


def _measures(arguments: argparse.Namespace) -> dict[str, Measure]:
    known = workloads(arguments.scale, arguments.graphs)
    bench = _Bench(arguments.repeat)
    musts = {
        "chain": 1 / 1.5,
        "fan": 0.7,
        "montage-1k": None,
        "montage-10k": 0.7,
        "diamonds": 0.6,
        "fan-100k": None,
        "sessions-10k": None,
    }
    found: dict[str, Measure] = {
        name: lambda name=name, must=must: bench.against_floor(known[name](), must, bound=name in BOUNDED)
        for name, must in musts.items()
    }
    small = Workload("fan-sync-always", fan(max(10, int(10_000 * arguments.scale))))
    found["sync-always"] = lambda: bench.against_floor(small, 2.0, sync_always=True)
    many = Workload("diamonds-2", DIAMOND, max(10, int(2_000 * arguments.scale)))
    found["two-planners"] = lambda: bench.two_planners(many)
    found["latency"] = lambda: bench.latencies(arguments.scale)
    found["idle"] = bench.idle
    return found


class _Bench:
    def __init__(self, repeat: int) -> None:
        self._repeat = repeat

    async def _times(self, run: Callable[[Path], Any], repeat: int | None = None) -> list[Any]:
        found: list[Any] = []
        for _ in range(repeat or self._repeat):
            with tempfile.TemporaryDirectory(prefix="planter-bench-") as folder:
                found.append(await run(Path(folder) / "stand"))
        return found

    async def against_floor(
        self, workload: Workload, must: float | None, *, sync_always: bool = False, bound: bool = False
    ) -> list[Row]:
        """Turn by turn, so that all see the same weather."""
        floors: list[Took] = []
        bounds: list[Took] = []
        planters: list[Took] = []
        for _ in range(self._repeat):
            with tempfile.TemporaryDirectory(prefix="planter-bench-") as folder:
                floors.append(await run_floor(Path(folder) / "floor", workload, sync_always=sync_always))
                if bound:
                    bounds.append(await run_bound(Path(folder) / "bound", workload))
                planters.append(
                    await run_planter(Path(folder) / "planter", workload, sync_always=sync_always)
                )
        floor = statistics.median(took.seconds for took in floors)
        ran = statistics.median(took.ran for took in planters)
        whole = statistics.median(took.seconds for took in planters)
        more = (
            f"accepted in {whole - ran:.2f} s, all in {whole:.2f} s ({floor / whole:.2f} of the floor), "
            f"{_processor_us(planters, workload):,.0f} us of processor a task, {_memory(planters)}"
        )
        wanted = "" if must is None else f"{must:.2f}"
        ratio = floor / ran
        sides = _speed(floor, workload), _speed(ran, workload)
        rows = [Row(workload.name, *sides, ratio, wanted, None if must is None else ratio >= must, more)]
        if bounds:
            ran = statistics.median(took.ran for took in bounds)
            sides = _speed(floor, workload), _speed(ran, workload)
            more = f"nothing decided; {_processor_us(bounds, workload):,.0f} us of processor a task"
            rows.append(Row(f"{workload.name}, bound", *sides, floor / ran, "", None, more))
        return rows

    async def two_planners(self, workload: Workload) -> list[Row]:
        """The same sessions with one planner and with two."""
        runs: tuple[list[Took], list[Took]] = [], []
        for _ in range(self._repeat):
            for number, found in enumerate(runs, start=1):
                found.extend(await self._times(partial(run_planter, workload=workload, planners=number), 1))
        rates = [workload.size / statistics.median(took.ran for took in times) for times in runs]
        busy = [statistics.median(took.busy for took in times) for times in runs]
        ratio = rates[1] / rates[0]
        sides = f"one: {rates[0]:,.0f}/s", f"{rates[1]:,.0f}/s"
        more = f"one keeps {busy[0]:.0%} of the cores busy, two {busy[1]:.0%}: {1 / busy[0]:.2f} is the most"
        return [Row("two planners", *sides, ratio, "1.20", ratio >= 1.2, more)]

    async def latencies(self, scale: float) -> list[Row]:
        """Single things, while nothing else happens."""
        size, count = max(10, int(10_000 * scale)), max(20, int(300 * scale))
        first = await self._times(lambda folder: latency.start_to_first_target(folder, count))
        bound = await self._times(lambda folder: latency.start_to_first_target(folder, count, bound=True))
        following = await self._times(lambda folder: latency.report_to_next_target(folder, count))
        state = await self._times(lambda folder: latency.get_state(folder, size, 20))
        named = (
            ("start to first target", first, (1.5, 10)),
            ("start to first, bound", bound, None),
            ("report to next target", following, (1.5, 10)),
            (f"get_state of {size:,}", state, None),
        )
        rows: list[Row] = []
        for name, spreads, limits in named:
            p50 = statistics.median(spread.p50 for spread in spreads)
            p99 = statistics.median(spread.p99 for spread in spreads)
            wanted = "" if limits is None else f"{limits[0]} / {limits[1]} ms"
            holds = None if limits is None else p50 <= limits[0] and p99 <= limits[1]
            rows.append(Row(name, "", f"{p50:.2f} / {p99:.2f} ms", None, wanted, holds, "p50 / p99"))
        return rows

    async def idle(self) -> list[Row]:
        """``planter dev`` without work."""
        times = await self._times(lambda folder: latency.idle(folder, 10))
        memory = statistics.median(time.memory_mib for time in times)
        share = statistics.median(time.core_percent for time in times)
        ready = statistics.median(time.ready_seconds for time in times)
        holds = memory < 200 and share < 1
        said = f"{memory:.0f} MiB, {share:.1f} % of a core"
        return [Row("idle planter dev", "", said, None, "200 MiB, 1 %", holds, f"ready after {ready:.2f} s")]


def _speed(seconds: float, workload: Workload) -> str:
    if workload.name == "chain":
        return f"{seconds / workload.size * 1000:.2f} ms"
    return f"{workload.size / seconds:,.0f}/s"


def _memory(runs: list[Took]) -> str:
    """The most that each process ever had, of all runs."""
    most = {name: max(took.memory_mib[name] for took in runs) for name in runs[0].memory_mib}
    return "MiB: " + ", ".join(f"{name.removesuffix('-0')} {mib}" for name, mib in sorted(most.items()))


def _processor_us(runs: list[Took], workload: Workload) -> float:
    """Processor time of all processes, microseconds a task."""
    return statistics.median(sum(took.cpu.values()) for took in runs) / workload.size * 1e6


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    mark = {True: "ok", False: "below", None: ""}[row.holds]
    return f"{row.name:22} {row.floor:>14} {row.planter:>24} {ratio:>6} {row.must:>13} {mark:5}  {row.more}"


def _write_page(page: Path, rows: list[Row], arguments: argparse.Namespace) -> None:
    """Put the table between the marks of the page."""
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    lines = [
        f"Medians of {arguments.repeat}; {python}, {platform.system()} {platform.machine()}.",
        "",
        "| workload | floor | Planter | ratio | must | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        must = f"{row.must}{'' if row.holds is None else ' (holds)' if row.holds else ' (**not yet**)'}"
        lines.append(f"| {row.name} | {row.floor} | {row.planter} | {ratio} | {must} | {row.more} |")
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{tail}")


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
