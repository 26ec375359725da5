"""Planners, runtimes and clients as processes of one simulated world, and what they do there."""

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import msgspec
from nats.errors import Error as NatsError

from planter.shell.daemon import Planner, PlannerOptions
from planter_protocol import PlanClient, ProtocolError, assets
from planter_runtime.agent import Agent
from planter_runtime.context import PhaseContext
from planter_runtime.errors import PermanentFailure, TemporaryFailure
from planter_runtime.executors.process import ProcessGroups
from planter_runtime.sdk import Runtime
from planter_runtime.settings import Settings
from planter_testkit.sim.client import SimClient
from planter_testkit.sim.loop import PROCESS, Process, VirtualLoop
from planter_testkit.sim.server import Packet, SimServer
from planter_testkit.sim.storage import Consumer, bucket_stream, streams_of
from planter_testkit.sim.weather import Weather

PARTITIONS = 2
"""Fewer than in life: a pull loop for each costs most of a history's time."""
LARGE = "runtime-large"
"""The runtime that has all that phases want."""
RESTART_SECONDS = 0.3
SYNC_SECONDS = 1.5
"""Two minutes in life; histories are shorter than that."""


class Execution(msgspec.Struct):
    """One execution of an attempt, as the runtime's own ledger has it."""

    session: str
    phase: str
    attempt: int
    fence: int
    runtime: str
    outcome: str = "open"


class Node:
    """One process with its connection."""

    def __init__(self, name: str, process: Process, client: SimClient) -> None:
        self.name = name
        self.process = process
        self.client = client
        self.task: asyncio.Task[None] | None = None
        self.planner: Planner | None = None
        self.agent: Agent | None = None


class World:
    """Everything of one history."""

    def __init__(
        self, loop: VirtualLoop, draw: random.Random, *, replicated: bool, sync_always: bool
    ) -> None:
        self.loop = loop
        self.draw = draw
        self.replicated = replicated
        self.weather = Weather.drawn(random.Random(draw.random()), replicated=replicated)
        self.server = SimServer(loop, self.weather, replicated=replicated)
        self.server.tap = self._tap
        self._make_streams(sync_always=sync_always)
        self.planners: dict[str, Node] = {}
        self.runtimes: dict[str, Node] = {}
        self.executions: list[Execution] = []
        #: What was seen to be wrong while it happened.
        self.seen_wrong: list[str] = []
        #: Slots that the work of each life of a runtime takes, as the work itself counts them.
        self.in_use: dict[str, int] = {}
        self.trace: list[str] = []
        self.behaviour_seed = draw.random()
        #: Confirmed writes were lost with the power: what they said cannot be asked for.
        self.has_lost = False
        #: Among them the key of the dispatch ids: what was signed with it may be nobody's.
        self.has_lost_key = False
        #: After how long planners purge ended sessions.
        self.retain_seconds: float | None = None
        #: What a runtime may have.
        self.slots: tuple[int, ...] = (1, 2, 4)
        #: Labels from which each life of a runtime draws, where phases want some.
        self.labels: tuple[dict[str, str], ...] = ()
        #: By how many milliseconds the clock of a process is ahead when it starts.
        self.skews: dict[str, int] = {}
        self._lives = 0
        self.clients: list[SimClient] = []

    def note(self, text: str) -> None:
        """Something that a reader of the history wants to know."""
        self.trace.append(f"{self.loop.now - 1_000:9.4f}  {text}")

    # -- processes -------------------------------------------------------------------------------

    def start_planner(self, name: str) -> None:
        """A planner process; its supervisor starts it again when it ends by itself."""
        self._lives += 1
        self.planners[name] = self._spawn(name, f"{name}.{self._lives}", self._planner)

    def start_runtime(self, name: str) -> None:
        """A runtime process: another life of the same name."""
        self._lives += 1
        self.runtimes[name] = self._spawn(name, f"{name}.{self._lives}", self._runtime)

    def client(self, name: str) -> PlanClient:
        """A client's connection."""
        return PlanClient(self._connection(name))  # type: ignore[arg-type]

    def connection(self, name: str) -> SimClient:
        """A bare connection."""
        return self._connection(name)

    def kill(self, node: Node) -> None:
        """kill -9."""
        node.client.kill()
        if node.process.stopped:
            self.loop.resume(node.process)
        if node.task is not None:
            node.task.cancel()

    def end(self) -> None:
        """Take everything down, so that nothing of this history is left for the next."""
        for node in [*self.planners.values(), *self.runtimes.values()]:
            self.kill(node)
        for client in self.clients:
            client.kill()
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        for _ in range(20):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.loop.close()

    def _connection(self, name: str) -> SimClient:
        self.clients.append(SimClient(self.loop, self.server, self.weather, name, len(self.clients) + 1))
        return self.clients[-1]

    def _spawn(self, name: str, life: str, run: Callable[[Node], Coroutine[Any, Any, None]]) -> Node:
        process = Process(life)
        process.skew_ms = process.skew_least_ms = self.skews.get(name, 0)
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        node = Node(name, process, context.run(self._connection, life))
        node.task = self.loop.create_task(run(node), context=context)
        node.task.add_done_callback(lambda task: self._ended(node, task))
        return node

    def _ended(self, node: Node, task: asyncio.Task[None]) -> None:
        """Whoever ends without being killed is started again, as a supervisor does."""
        if node.client.dead:
            if not task.cancelled():
                task.exception()
            return
        error = None if task.cancelled() else task.exception()
        self.note(f"{node.process.name} ended by itself: {error!r}")
        if not _is_expected(error):
            self.seen_wrong.append(f"{node.process.name} ended by itself: {error!r}")
        node.client.kill()
        start = (
            self.start_planner
            if node.planner is not None or node.name in self.planners
            else self.start_runtime
        )
        self.loop.call_at(self.loop.now + RESTART_SECONDS, start, node.name)

    async def _planner(self, node: Node) -> None:
        nc: Any = node.client
        options = PlannerOptions(
            nats_url="sim",
            planner_id=node.process.name.replace(".", "-"),
            retain_seconds=self.retain_seconds,
            retain_sessions=None,
        )
        js = nc.jetstream(timeout=5)
        planner = await Planner.create(nc, js, str(options.planner_id), options)
        node.planner = planner
        async with anyio.create_task_group() as tasks, planner.running(tasks):
            nc.on_reconnected = planner.reconnected
            await asyncio.Event().wait()

    async def _runtime(self, node: Node) -> None:
        nc: Any = node.client
        runtime = Runtime()
        runtime.handler(do="work")(self._work(node))
        settings = Settings(
            nats_url="sim",
            runtime_id=node.name,
            slots=self.draw.choice(self.slots) if node.name != LARGE else max(self.slots),
            labels={"*": "*", **self._labels(node.name)},
            executors=("noop",),
            workdir=Path("/"),
        )
        async with anyio.create_task_group() as tasks:
            agent = Agent(settings, tuple(runtime.handlers), nc, tasks, ProcessGroups())
            node.agent = agent
            nc.on_reconnected = agent.beat_now
            await agent.start()
            await asyncio.Event().wait()

    def _labels(self, name: str) -> dict[str, str]:
        if not self.labels:
            return {}
        return self.labels[-1] if name == LARGE else self.draw.choice(self.labels)

    def _work(self, node: Node) -> Callable[[PhaseContext], Coroutine[Any, Any, Any]]:
        """What phases do: last a while, then complete or fail, as the seed has it for this attempt."""

        async def work(context: PhaseContext, slots: int = 1, size: int = 0) -> Any:
            execution = Execution(
                context.session, context.phase, context.attempt, context.fence, node.process.name
            )
            self.executions.append(execution)
            self._take(node, execution, slots, size)
            try:
                return await work_at(context, execution)
            finally:
                self.in_use[node.process.name] -= slots

        async def work_at(context: PhaseContext, execution: Execution) -> Any:
            name = f"{self.behaviour_seed}/{context.session}/{context.phase}"
            habit = random.Random(name)
            draw = random.Random(f"{name}/{context.fence}")
            fails = habit.choice((0.0, 0.0, 0.0, 0.4, 1.0))
            longest = habit.choice((0.01, 0.1, 0.5, 3.0))
            await anyio.sleep(draw.random() * longest)
            if draw.random() < fails:
                is_temporary = draw.random() < 0.8
                execution.outcome = "failed" if is_temporary else "failed for good"
                raise (TemporaryFailure if is_temporary else PermanentFailure)("as the seed has it")
            execution.outcome = "complete"
            return {"by": node.process.name} if draw.random() < 0.3 else None

        return work

    def _take(self, node: Node, execution: Execution, slots: int, size: int) -> None:
        """I15: work runs where its labels are fulfilled, and no runtime has more of it than slots."""
        assert node.agent is not None
        settings = node.agent.settings
        if int(settings.labels.get("size", "0")) < size:
            self.seen_wrong.append(f"I15 placement: {execution} with labels {settings.labels}")
        in_use = self.in_use[node.process.name] = self.in_use.get(node.process.name, 0) + slots
        if in_use > settings.slots:
            self.seen_wrong.append(f"I15 slots: {in_use} of {settings.slots} with {execution}")

    # -- the server ------------------------------------------------------------------------------

    def _make_streams(self, *, sync_always: bool) -> None:
        streams = streams_of(list(assets.STREAMS), partitions=PARTITIONS, replicated=self.replicated)
        streams += [
            bucket_stream(str(config.bucket), replicated=self.replicated) for config in assets.BUCKETS
        ]
        for stream in streams:
            stream.sync_always = sync_always
            self.server.streams[stream.name] = stream
        if not sync_always:
            self._sync()
        for number in range(PARTITIONS):
            config = assets.partition_consumer(number)
            name = str(config.durable_name)
            self.server.consumers[assets.IN, name] = Consumer(
                name, str(config.filter_subject), float(config.ack_wait or 2.0)
            )

    def _sync(self) -> None:
        """The default of nats-server: what was written is on the disk a while later."""
        for stream in self.server.streams.values():
            stream.synced = stream.last
        self.loop.call_at(self.loop.now + SYNC_SECONDS, self._sync)

    def _tap(self, packet: Packet) -> None:
        """I4: no target goes out before the commit that orders it is stored (it may be purged by now)."""
        words = packet.subject.split(".")
        if words[:2] != ["plan", "runtime"] or words[-1] != "target":
            return
        journal = self.server.streams[assets.JOURNAL]
        for target in msgspec.json.decode(packet.data)["targets"]:
            kept = journal.messages.get(target["fence"]) or journal.removed.get(target["fence"])
            wanted = f'"phaseId":"{target["phaseId"]}"'.encode()
            session = target["sessionId"]
            if kept is None or wanted not in kept.data or kept.subject != f"plan.journal.{session}":
                what = f"{session}/{target['phaseId']} attempt {target['attempt']} fence {target['fence']}"
                self.seen_wrong.append(f"I4 output: target {what} was published without its commit")


def _is_expected(error: BaseException | None) -> bool:
    """Whether a process may end so: the server was away for too long."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_expected(inner) for inner in error.exceptions)
    return isinstance(error, NatsError | ProtocolError | TimeoutError)
