"""kill -9 of a random one of three planners, again and again; another one is started in its place."""

import statistics

from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import pause_between, single_server
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.timings import take_overs

MEDIAN_SECONDS, WORST_SECONDS = 2.0, 12.0
MEDIAN_OF = 100
"""The median of fewer says more about the machine than about Planter."""


async def run(setting: Setting) -> Outcome:
    """Kill planners; the sessions of each go on with another within the promised time."""
    gaps: list[float] = []
    async with single_server(setting) as (_, bench):
        for _ in range(setting.count):
            await pause_between(bench.draw)
            slot = bench.draw.choice(bench.planners.slots)
            await bench.planners.others_ready(slot)
            bench.planners.kill(slot)
            bench.planners.start(slot)
            bench.faults += 1

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            gaps.extend(take_overs(account, bench.planners.kills))
            return spread("take-over", gaps)

        outcome = await bench.settle(figures)
    if len(gaps) >= MEDIAN_OF and statistics.median(gaps) > MEDIAN_SECONDS:
        outcome.violations.append(f"the median take-over is over {MEDIAN_SECONDS} s")
    if gaps and max(gaps) > WORST_SECONDS:
        outcome.violations.append(f"the worst take-over is over {WORST_SECONDS} s")
    return outcome
