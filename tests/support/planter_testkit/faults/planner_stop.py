"""Planners stand still for longer than their inputs and their place wait for them, and wake as zombies."""

import asyncio

from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import Bench, single_server
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.processes import Kill
from planter_testkit.faults.timings import now_ms, take_overs
from planter_testkit.planners import answering


async def run(setting: Setting) -> Outcome:
    """Stop two of three planners at a time, at random moments; whatever they believed is out of date then."""
    stopped: list[Kill] = []
    async with single_server(setting) as (_, bench):
        while bench.faults < setting.count:
            slots = bench.draw.sample(bench.planners.slots, min(2, setting.count - bench.faults))
            await asyncio.gather(*(_stop(bench, slot, stopped) for slot in slots))
            bench.faults += len(slots)

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            text, numbers = spread("take-over", take_overs(account, stopped))
            return f"{text}; {bench.planners.said('step.fenced')} steps fenced", numbers

        return await bench.settle(figures)


async def _stop(bench: Bench, slot: int, stopped: list[Kill]) -> None:
    await asyncio.sleep(bench.draw.uniform(0, 0.5))
    stopped.append(Kill(now_ms(), bench.planners[slot].name))
    await bench.planners.stand_still(slot)
    await answering(bench.client, bench.planners[slot])
