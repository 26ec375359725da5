"""Three real nats-servers as one cluster on this machine, for tests that kill or cut off one of them."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import nats
import nats.errors
from nats.js import JetStreamContext

from planter_testkit.nats import end, server_binary

NODES = 3
ELECTED_SECONDS = 60.0


class Node:
    """One server of the cluster."""

    def __init__(self, number: int, folder: Path, port: int, route: int, user: int | None = None) -> None:
        self.name = f"n{number}"
        self.folder = folder / self.name
        self.port = port
        self.route = route
        #: Runs as this user, when the test tells nodes apart by it.
        self.user = user
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self, routes: Sequence[int]) -> None:
        """Start it; it finds the others by their routes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.user is not None:
            shutil.chown(self.folder, self.user, self.user)
        config = self.folder / "nats.conf"
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        config.write_text(
            f"server_name: {self.name}\n"
            f"listen: 127.0.0.1:{self.port}\n"
            f'jetstream {{ store_dir: "{self.folder / "jetstream"}" }}\n'
            f"cluster {{ name: test, listen: 127.0.0.1:{self.route}, routes: [{others}] }}\n"
        )
        command = [server_binary(), "-c", str(config), "-l", str(self.folder / "server.log")]
        self.process = subprocess.Popen(command, user=self.user, group=self.user, cwd=self.folder)

    def kill(self) -> None:
        """kill -9."""
        end(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM."""
        end(self.process)


class Cluster:
    """The three of them."""

    def __init__(self, folder: Path, users: Sequence[int] | None = None) -> None:
        ports = free_ports(2 * NODES)
        self.nodes = [
            Node(number, folder, ports[number], ports[NODES + number], users[number] if users else None)
            for number in range(NODES)
        ]

    @property
    def url(self) -> str:
        """All addresses, divided by commas."""
        return ",".join(node.url for node in self.nodes)

    def start(self, node: Node) -> None:
        """Start one of them, for the first time or again."""
        node.start([other.route for other in self.nodes if other is not node])

    async def elected(self) -> None:
        """Wait until JetStream answers through every node, which takes an election."""
        for node in self.nodes:
            nc = await nats.connect(
                node.url, error_cb=_quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.1
            )
            try:
                async with asyncio.timeout(ELECTED_SECONDS):
                    while not await _answers(nc.jetstream(timeout=1)):
                        await asyncio.sleep(0.05)
            finally:
                await nc.close()

    async def leader(self, js: JetStreamContext, stream: str) -> Node:
        """The node that leads the stream, once there is one."""
        async with asyncio.timeout(ELECTED_SECONDS):
            while True:
                name = await _leader(js, stream)
                found = next((node for node in self.nodes if node.name == name), None)
                if found is not None:
                    return found
                await asyncio.sleep(0.05)

    async def caught_up(self, js: JetStreamContext, streams: Sequence[str]) -> None:
        """Wait until every copy of the streams is current, as the leader sees it."""
        async with asyncio.timeout(ELECTED_SECONDS):
            while not all([await _is_caught_up(js, stream) for stream in streams]):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running_cluster(folder: Path, users: Sequence[int] | None = None) -> AsyncGenerator[Cluster]:
    """A cluster whose JetStream answers.

    Args:
        folder: for stores and logs.
        users: ids of the users that the nodes run as; None: all as this process.
    """
    cluster = Cluster(folder, users)
    with ExitStack() as stack:
        for node in cluster.nodes:
            stack.callback(node.stop)
            cluster.start(node)
        await cluster.elected()
        yield cluster
        for node in cluster.nodes:  # all at once: each one would look for a successor among the others
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)


def free_ports(number: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


async def _answers(js: JetStreamContext) -> bool:
    try:
        await js.account_info()
    except (nats.errors.Error, TimeoutError):
        return False
    return True


async def _leader(js: JetStreamContext, stream: str) -> str | None:
    try:
        cluster = (await js.stream_info(stream)).cluster
    except (nats.errors.Error, TimeoutError):
        return None
    return cluster.leader if cluster else None


async def _is_caught_up(js: JetStreamContext, stream: str) -> bool:
    try:
        cluster = (await js.stream_info(stream)).cluster
    except (nats.errors.Error, TimeoutError):
        return False
    if cluster is None or not cluster.leader or not cluster.replicas:
        return False
    return all(peer.current and not peer.offline for peer in cluster.replicas)


async def _quiet(_: Exception) -> None:
    """Reconnections are part of the tests."""
