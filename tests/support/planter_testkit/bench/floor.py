"""The floor: a graph walked with one JetStream publish, one delivery and one confirmed completion a task.

Two processes, as small as they can be: no journal, no state but counts of open needs, no retries, no fences.
What a task costs here is what NATS and nats-py take; what Planter takes on top of it is Planter's.

    python -m planter_testkit.bench.floor walk URL GRAPH.json COPIES     prints the seconds
    python -m planter_testkit.bench.floor work URL
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

TASKS, DONE = "FLOOR_TASKS", "FLOOR_DONE"
_BATCH = 4_000
_EXPIRES_SECONDS = 30


async def prepare(js: JetStreamContext) -> None:
    """The two streams and their consumers."""
    for name in (TASKS, DONE):
        await js.add_stream(StreamConfig(name, subjects=[f"{name}.>"]))
        config = ConsumerConfig(name, ack_policy=AckPolicy.EXPLICIT, max_ack_pending=100_000)
        await js.add_consumer(name, config)


class Pull:
    """Pulls a stream's messages; asks for more when half of what was asked for has come."""

    def __init__(self, nc: Client, stream: str, take: Callable[[Msg], None]) -> None:
        self._nc = nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{stream}"
        self._take = take
        self._inbox = nc.new_inbox()
        self._credit = 0

    async def start(self) -> None:
        """Begin."""
        await self._nc.subscribe(
            self._inbox, cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        await self._more()

    async def _more(self) -> None:
        wanted = {"batch": _BATCH - self._credit, "expires": _EXPIRES_SECONDS * 1_000_000_000}
        self._credit = _BATCH
        await self._nc.publish(self._subject, json.dumps(wanted).encode(), reply=self._inbox)

    async def _on_message(self, message: Msg) -> None:
        if message.headers:  # the pull has expired
            self._credit = 0
        else:
            self._credit -= 1
            self._take(message)
        if self._credit < _BATCH // 2:
            await self._more()


async def walk(url: str, graph: Path, copies: int) -> float:
    """Seconds from the first publish until every task of every copy is known as complete."""
    tasks = json.loads(graph.read_text())
    index = {task["id"]: number for number, task in enumerate(tasks)}
    dependents: list[list[int]] = [[] for _ in tasks]
    for number, task in enumerate(tasks):
        for need in task["deps"]:
            dependents[index[need]].append(number)
    missing = [[len(task["deps"]) for task in tasks] for _ in range(copies)]
    left = len(tasks) * copies
    over = asyncio.Event()
    nc = await nats.connect(url)
    js = nc.jetstream(publish_async_max_pending=4_000)
    ready: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    def done(message: Msg) -> None:
        nonlocal left
        copy, number = map(int, message.data.split(b"/"))
        nc._buffered_ack(message)  # type: ignore[attr-defined]
        left -= 1
        for dependent in dependents[number]:
            missing[copy][dependent] -= 1
            if missing[copy][dependent] == 0:
                ready.put_nowait((copy, dependent))
        if left == 0:
            over.set()

    _give_acks(nc)
    await Pull(nc, DONE, done).start()
    await nc.flush()
    began = time.perf_counter()
    for copy in range(copies):
        for number, task in enumerate(tasks):
            if not task["deps"]:
                ready.put_nowait((copy, number))

    async def publish() -> None:
        while True:
            copy, number = await ready.get()
            await js.publish_async(f"{TASKS}.{copy}", b"%d/%d" % (copy, number))

    publishing = asyncio.create_task(publish())
    await over.wait()
    seconds = time.perf_counter() - began
    publishing.cancel()
    await nc.close()
    return seconds


async def work(url: str) -> None:
    """Complete every task, until told to stop."""
    nc = await nats.connect(url)
    js = nc.jetstream(publish_async_max_pending=4_000)
    todo: asyncio.Queue[Msg] = asyncio.Queue()
    _give_acks(nc)
    await Pull(nc, TASKS, todo.put_nowait).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def complete() -> None:
        while True:
            message = await todo.get()
            future = await js.publish_async(f"{DONE}.{message.subject.rpartition('.')[2]}", message.data)
            future.add_done_callback(lambda _, message=message: nc._buffered_ack(message))  # type: ignore[attr-defined]

    working = asyncio.create_task(complete())
    await stop.wait()
    working.cancel()
    await nc.close()


def _give_acks(nc: Client) -> None:
    """An ack that waits for nothing: it goes out with whatever the connection writes next."""
    pending: set[asyncio.Task[None]] = set()

    async def send(reply: str) -> None:
        try:
            await nc.publish(reply, b"+ACK")
        except ConnectionClosedError:
            return

    def ack(message: Msg) -> None:
        task = asyncio.ensure_future(send(message.reply))
        pending.add(task)
        task.add_done_callback(pending.discard)

    nc._buffered_ack = ack  # type: ignore[attr-defined]


def main() -> None:
    """See the module."""
    match sys.argv[1:]:
        case ["work", url]:
            asyncio.run(work(url))
        case ["walk", url, graph, copies]:
            print(asyncio.run(walk(url, Path(graph), int(copies))))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
