"""Many phases at once on one runtime, and all that they say: nothing is lost, and memory stays flat.

``PHASES=10000 pytest -s tests/integration/test_runtime_many.py`` takes a minute, for a million lines.
"""

import json
import os
from pathlib import Path

import pytest

from planter_testkit.bench.stand import processor
from planter_testkit.runtimes import PlainPlanner, planner_and_runtime, target

HANDLERS = """
import asyncio
from planter_runtime import PhaseContext, Runtime

runtime = Runtime()
running, all_there = 0, asyncio.Event()

@runtime.handler(phase="together")
async def together(count: int) -> int:
    global running
    running += 1
    if running == count:
        all_there.set()
    await all_there.wait()
    return running

@runtime.handler(phase="talks")
def talks(ctx: PhaseContext, lines: int) -> None:
    for number in range(lines):
        ctx.log(f"{ctx.phase} says {number} " + "x" * 60)
"""
SECONDS = 60.0
PHASES = int(os.environ.get("PHASES", "300"))
LINES = 100
AT_ONCE = min(2_000, PHASES // 2)
"""A runtime holds 4,096 targets at most, and turns the others away."""


def memory_kib(pid: int, name: str) -> int:
    """``VmRSS`` now, or ``VmHWM``, the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


async def test_a_thousand_async_handlers_run_at_the_same_time(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    labels, run = {"phase": "together"}, {"with": {"count": 1_000}}
    options = ("--module", "handlers.py", "--slots", "1000")
    async with planner_and_runtime(tmp_path, *options) as (planner, runtime):
        idle = memory_kib(runtime.process.pid, "VmRSS")
        await planner.offer("r1", *(target(f"p{n}", run, labels=labels) for n in range(1_000)))
        reports = [await planner.report(f"p{n}", seconds=SECONDS) for n in range(1_000)]
        most = memory_kib(runtime.process.pid, "VmHWM")

    assert {report["result"] for report in reports} == {1_000}
    print(f"idle {idle / 1024:.0f} MiB, with a thousand {most / 1024:.0f} MiB")
    assert idle < 45 * 1024
    assert most < 120 * 1024


async def ended(planner: PlainPlanner, count: int) -> None:
    """Wait until so many phases have ended."""
    names: set[str] = set()
    looked = 0

    def are() -> bool:
        nonlocal looked
        fresh, looked = planner.reports[looked:], len(planner.reports)
        names.update(one["phaseId"] for one in fresh if one["status"] == "complete")
        return len(names) >= count

    await planner.until(are, SECONDS + count / 50)


@pytest.mark.timeout(120 + PHASES / 20)
async def test_what_many_phases_say_is_all_there_in_order_and_memory_stays_flat(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    labels, run = {"phase": "talks"}, {"with": {"lines": LINES}}
    options = ("--module", "handlers.py", "--slots", "32")
    half = 0
    async with planner_and_runtime(tmp_path, *options) as (planner, runtime):
        for begin in range(0, PHASES, AT_ONCE):
            end = min(begin + AT_ONCE, PHASES)
            await planner.offer("r1", *(target(f"p{n}", run, labels=labels) for n in range(begin, end)))
            await ended(planner, end)
            if end <= PHASES // 2:
                half = memory_kib(runtime.process.pid, "VmHWM")
        most = memory_kib(runtime.process.pid, "VmHWM")
        used = processor(runtime.process.pid)
        stored = (await planner.nc.jetstream().stream_info("PLANTER_LOGS")).state.messages
        await planner.until(lambda: len(planner.logs) >= stored, SECONDS)

    said: dict[str, list[str]] = {}
    for entry in planner.logs:
        said.setdefault(entry["phaseId"], []).extend(entry["message"].split("\n"))
    for number in range(PHASES):
        wanted = [f"p{number} says {line} " + "x" * 60 for line in range(LINES)]
        assert said[f"p{number}"] == wanted, json.dumps(said[f"p{number}"][:3])
    grown = f"{half / 1024:.0f} MiB after half, {most / 1024:.0f} MiB after all"
    print(f"{grown}, {stored:,} messages, {used:.1f} s of processor")
    assert most < half + 8 * 1024
