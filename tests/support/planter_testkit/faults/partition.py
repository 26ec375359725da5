"""One of three nodes is cut off from the others for some seconds; its clients stay connected to it.

A writer at each node says what the cluster has confirmed to it. What a minority has confirmed must not exist,
and what planners at the isolated node decide on old reads must not be stored.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import nats
import nats.errors
from nats.aio.client import Client

from planter_protocol import assets
from planter_protocol.reading import read_subject
from planter_testkit.cluster import NODES, Cluster, Node, running_cluster
from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import bench
from planter_testkit.faults.network import FIRST_USER, folder_for_users, heal, isolate, own_network
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.timings import longest_pauses, now_ms

STREAMS = (assets.JOURNAL, assets.IN, assets.DEAD_LETTERS)
USERS = tuple(range(FIRST_USER, FIRST_USER + NODES))
LEAST_SECONDS, MOST_SECONDS, MOST_SECONDS_SHORT = 4.0, 9.0, 5.0
"""Shorter and longer than an election."""
PROBE = "probe"
_PROBE_SECONDS = 0.05
_UNDER_WAY_MS = 500
"""What the others had confirmed when the node was cut off has reached its client by then."""


class Writer:
    """Sends inputs for a session that does not exist, through one node, and remembers what was confirmed."""

    def __init__(self, nc: Client, name: str) -> None:
        self.confirmed: dict[int, str] = {}
        #: When, in milliseconds.
        self.moments: list[int] = []
        self._nc = nc
        self._name = name
        self._stopping = False

    async def run(self) -> None:
        """Write until stopped."""
        number = 0
        while not self._stopping:
            number += 1
            text = f"{self._name}-{number}"
            js = self._nc.jetstream(timeout=1)
            try:
                ack = await js.publish(f"plan.session.{PROBE}.ack", text.encode())
            except (nats.errors.Error, TimeoutError):
                continue
            self.confirmed[ack.seq] = text
            self.moments.append(now_ms())
            await asyncio.sleep(_PROBE_SECONDS)

    def stop(self) -> None:
        """Write no more."""
        self._stopping = True


async def run(setting: Setting) -> Outcome:
    """Isolate a node, ``count`` times: mostly the one that leads the journal."""
    most = MOST_SECONDS_SHORT if setting.short else MOST_SECONDS
    cut: list[int] = []
    wrong: list[str] = []
    with own_network(), folder_for_users(USERS) as folder:
        async with (
            running_cluster(folder, USERS) as cluster,
            bench(setting, cluster.url, arguments=["--replicas", "3"], load={"at_once": 6}) as made,
            _writing(cluster) as writers,
        ):
            for _ in range(setting.count):
                leader = await cluster.leader(made.client.js, assets.JOURNAL)
                node = leader if made.draw.random() < 0.7 else made.draw.choice(cluster.nodes)
                cut.append(now_ms())
                await _cut_off(cluster, node, made.draw.uniform(LEAST_SECONDS, most))
                alone = _confirmed_between(
                    writers[cluster.nodes.index(node)], cut[-1] + _UNDER_WAY_MS, now_ms()
                )
                wrong += [f"{node.name} confirmed {alone} writes while it was cut off"] if alone else []
                made.faults += 1
                await cluster.caught_up(made.client.js, STREAMS)
            for writer in writers:
                writer.stop()

            def figures(account: Account) -> tuple[str, dict[str, float]]:
                text, numbers = spread("work stood still", longest_pauses(account, cut))
                acked = sum(len(writer.confirmed) for writer in writers)
                return f"{acked:,} writes confirmed by single nodes; {text}", numbers

            outcome = await made.settle(figures)
            wrong += await _lost(made.client.nc, writers)
    outcome.violations += wrong
    return outcome


async def _cut_off(cluster: Cluster, node: Node, seconds: float) -> None:
    assert node.user is not None
    isolate(node.user, [one.route for one in cluster.nodes])
    try:
        await asyncio.sleep(seconds)
    finally:
        heal()


def _confirmed_between(writer: Writer, after: int, before: int) -> int:
    return sum(after < moment < before for moment in writer.moments)


@asynccontextmanager
async def _writing(cluster: Cluster) -> AsyncGenerator[list[Writer]]:
    async with AsyncExitStack() as stack:
        writers: list[Writer] = []
        tasks: list[asyncio.Task[None]] = []
        for node in cluster.nodes:
            nc = await nats.connect(node.url, error_cb=_quiet, max_reconnect_attempts=-1)
            stack.push_async_callback(nc.close)
            writers.append(Writer(nc, node.name))
            tasks.append(asyncio.create_task(writers[-1].run()))
        try:
            yield writers
        finally:
            for writer in writers:
                writer.stop()
            await asyncio.wait(tasks, timeout=10)


async def _lost(nc: Client, writers: Sequence[Writer]) -> list[str]:
    """Writes that a node has confirmed, and that are not in the dead letters as what they were."""
    letters = {
        int(stored.headers["Nats-Msg-Id"].rpartition("/")[2]): stored.data.decode()
        async for stored in read_subject(nc, assets.DEAD_LETTERS, f"plan.dead.{PROBE}")
    }
    return [
        f"a write confirmed as input {sequence} was {text!r} and is {letters.get(sequence)!r}"
        for writer in writers
        for sequence, text in writer.confirmed.items()
        if letters.get(sequence) != text
    ]


async def _quiet(_: Exception) -> None:
    """Reconnections are part of the tests."""
