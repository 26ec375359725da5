"""A planner ends, or stands still for a while, at each named place of a step.

Two of three planners bear a failpoint at any time; the third one goes on with what they leave behind.
"""

import asyncio
import itertools
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from planter.shell.failpoints import NAMES
from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import Bench, single_server
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.processes import STOP_SECONDS
from planter_testkit.faults.timings import take_overs
from planter_testkit.planners import Planner, answering

REACHED_SECONDS = 45.0
_SHORT = ("step.decided", "journal.appended", "effects.between", "handler.store", "session.take_over")
_SHORT_STOPS = ("journal.append",)
_VICTIMS = (1, 2)


async def run(setting: Setting) -> Outcome:
    """Visit every failpoint, ``count`` times for each of its two actions."""
    kills, stops = (_SHORT, _SHORT_STOPS) if setting.short else (NAMES, NAMES)
    visits = deque(
        (name, action)
        for name, action in [*itertools.product(stops, ["stop"]), *itertools.product(kills, ["kill"])]
        for _ in range(setting.count)
    )
    missed: list[str] = []
    reached: dict[str, float] = dict.fromkeys((f"{name}:{action}" for name, action in visits), 0)
    long = {} if setting.short else {"length": 100}  # snapshots are taken of long sessions only
    async with single_server(setting, load=long) as (_, bench):
        for slot in _VICTIMS:
            bench.planners.kill(slot)
        rubbish = asyncio.create_task(_rubbish(bench))

        async def visit(slot: int) -> None:
            while visits:
                name, action = visits.popleft()
                if await _visit(bench, slot, name, action):
                    bench.faults += 1
                    reached[f"{name}:{action}"] += 1
                else:
                    missed.append(f"no planner came to {name} within {REACHED_SECONDS:.0f} s")

        await asyncio.gather(*(visit(slot) for slot in _VICTIMS))
        rubbish.cancel()
        await asyncio.wait([rubbish])

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            text, numbers = spread("take-over", take_overs(account, bench.planners.kills))
            return f"{text}; {len(account.buried)} dead letters", numbers | reached

        outcome = await bench.settle(figures)
    outcome.violations += missed
    return outcome


async def _visit(bench: Bench, slot: int, name: str, action: str) -> bool:
    """Start a planner that ends or stops at the failpoint; whether it did."""
    planner = bench.planners.start(slot, f"{name}:{bench.draw.randint(1, 3)}:{action}")
    if action == "kill":
        is_there = await _until(lambda: planner.process.poll() == -signal.SIGKILL)
        if not is_there:
            planner.kill()
        bench.planners.expect_end(planner)
        return is_there
    if not await _until(lambda: _stands_still(planner)):
        bench.planners.kill(slot)
        return False
    await asyncio.sleep(STOP_SECONDS)
    planner.process.send_signal(signal.SIGCONT)
    await answering(
        bench.client, planner
    )  # a zombie goes on working: it only must not decide on what it knew
    await asyncio.to_thread(planner.stop)
    bench.planners.expect_end(planner)
    return True


async def _until(fact: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + REACHED_SECONDS
    while not fact():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def _stands_still(planner: Planner) -> bool:
    try:
        return Path(f"/proc/{planner.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def _rubbish(bench: Bench) -> None:
    """Now and then something that nobody can read, so that something is buried."""
    for number in itertools.count():
        await asyncio.sleep(0.1)
        session = f"s{bench.draw.randrange(max(1, len(bench.load.followers)))}"
        await bench.client.nc.publish(f"plan.session.{session}.ack", b"{rubbish %d" % number)
