"""Everything at once, at random: planners killed and stopped, the server killed, runtimes killed."""

import asyncio
import time

from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import Bench, pause_between, single_server
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.timings import longest_pauses, now_ms
from planter_testkit.nats import Server

_KINDS = {"planner kill": 4, "runtime kill": 3, "server kill": 1, "planner stop": 1}


async def run(setting: Setting) -> Outcome:
    """For ``count`` seconds.

    Runtimes come back under their names: that another one is lost is only known to a planner that has lived
    for its lease, and here none does.
    """
    done = dict.fromkeys(_KINDS, 0)
    moments: list[int] = []
    standing: set[asyncio.Task[None]] = set()
    async with single_server(setting, runtimes=3, same_name=1.0, load={"length": 12}) as (
        server,
        bench,
    ):
        until = time.monotonic() + setting.count
        while time.monotonic() < until:
            await pause_between(bench.draw, 0.5, 1.5)
            kind = bench.draw.choices(list(_KINDS), weights=list(_KINDS.values()))[0]
            if kind == "planner stop":
                if standing:
                    continue
                task = asyncio.create_task(
                    bench.planners.stand_still(bench.draw.choice(bench.planners.slots))
                )
                standing.add(task)
                task.add_done_callback(standing.discard)
            else:
                await _strike(bench, server, kind)
            moments.append(now_ms())
            done[kind] += 1
            bench.faults += 1
            bench.planners.restart_ended()
        await asyncio.gather(*standing)
        bench.planners.restart_ended()

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            text, numbers = spread("pause of all", longest_pauses(account, moments))
            kinds = ", ".join(f"{number} {kind}s" for kind, number in done.items())
            failed = account.statuses.get("failed", 0)
            return f"{kinds}; {failed} sessions failed; {text}", numbers

        return await bench.settle(figures)


async def _strike(bench: Bench, server: Server, kind: str) -> None:
    if kind == "server kill":
        server.kill()
        await asyncio.sleep(bench.draw.uniform(0, 0.5))
        await server.start()
        return
    group = bench.planners if kind == "planner kill" else bench.runtimes
    assert group is not None
    slot = bench.draw.choice(group.slots)
    group.kill(slot)
    group.start(slot)
