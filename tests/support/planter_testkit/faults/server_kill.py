"""kill -9 of the only nats-server, which comes back on the same port and store."""

import asyncio

from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import single_server
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.timings import first_after, now_ms

WORST_SECONDS = 5.0


async def run(setting: Setting) -> Outcome:
    """Kill the server; nothing that it has confirmed is lost, and work goes on soon after it is back."""
    back: list[int] = []
    resumed: list[float] = []
    async with single_server(setting) as (server, bench):
        for _ in range(setting.count):
            await asyncio.sleep(bench.draw.uniform(0.5, 2.5))
            server.kill()
            await asyncio.sleep(bench.draw.uniform(0, 0.5))
            await server.start()
            back.append(now_ms())
            bench.faults += 1

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            resumed.extend(first_after(account, back))
            return spread("resumed after", resumed)

        outcome = await bench.settle(figures)
    if resumed and max(resumed) > WORST_SECONDS:
        outcome.violations.append(f"work went on later than {WORST_SECONDS} s after the server was back")
    return outcome
