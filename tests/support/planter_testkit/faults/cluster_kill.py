"""kill -9 of the node that leads the journal or the inputs of a cluster of three, which is started again."""

import asyncio

from planter_protocol import PlanClient, assets
from planter_testkit.cluster import Cluster, Node, running_cluster
from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import bench
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.timings import first_after, longest_pauses, now_ms

WORST_SECONDS, WORST_AFTER_SECONDS = 25.0, 10.0
"""The time without any commit in all, elections of four to nine seconds included; and after them."""
STREAMS = (assets.JOURNAL, assets.IN)


async def run(setting: Setting) -> Outcome:
    """Kill leaders; nothing that a majority has confirmed is lost."""
    killed: list[int] = []
    elected: list[int] = []
    stood: list[float] = []
    resumed: list[float] = []
    async with (
        running_cluster(setting.folder / "nats") as cluster,
        bench(setting, cluster.url, planners=2, arguments=["--replicas", "3"]) as made,
    ):
        for _ in range(setting.count):
            stream = made.draw.choice(STREAMS)
            await asyncio.sleep(made.draw.uniform(0.5, 2))
            node = await cluster.leader(made.client.js, stream)
            node.kill()
            killed.append(now_ms())
            made.faults += 1
            await _elected_without(cluster, node, made.client)
            elected.append(now_ms())
            await asyncio.sleep(made.draw.uniform(0, 3))
            cluster.start(node)
            await cluster.caught_up(made.client.js, STREAMS)

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            stood.extend(longest_pauses(account, killed))
            resumed.extend(first_after(account, elected))
            text, numbers = spread("work stood still", stood)
            after, more = spread("after the election", resumed)
            return f"{text}; {after}", numbers | more

        outcome = await made.settle(figures)
    if stood and max(stood) > WORST_SECONDS:
        outcome.violations.append(f"work stood still for longer than {WORST_SECONDS} s")
    if resumed and max(resumed) > WORST_AFTER_SECONDS:
        outcome.violations.append(f"work went on later than {WORST_AFTER_SECONDS} s after the election")
    return outcome


async def _elected_without(cluster: Cluster, dead: Node, client: PlanClient) -> None:
    """Wait until other nodes lead the streams."""
    for stream in STREAMS:
        while (await cluster.leader(client.js, stream)) is dead:
            await asyncio.sleep(0.05)
