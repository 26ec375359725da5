"""The bound: the messages of Planter, with a planner that knows its graph by heart.

It pulls the same inputs, stores the same commits with compare-and-set, and publishes the same targets,
states, records and acknowledgements as the real one does for this graph. It reads ids only, checks nothing,
keeps counts of open needs and no session, and survives nothing. Runtime and client are the real ones. What it
is slower than the floor is the price of a journal, of states, and of runtimes that are spoken to: no planner
over nats-py is faster.

    python -m planter_testkit.bench.bound URL GRAPH.json       prints "ready" when a runtime is there
"""

import asyncio
import json
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from planter.shell.intake import Delivery, Puller
from planter_protocol import assets, subjects
from planter_protocol.confirming import Confirmed
from planter_protocol.connection import connect
from planter_protocol.loops import calm_collector, loop_factory
from planter_protocol.sending import publish

_WORKERS = 128
_CONFIRM_SECONDS = 30.0
_AT = "2026-01-01T00:00:00.000Z"
_MS = 1_795_316_249_800
_DISPATCH_ID = "0123456789abcdef" * 2
_DIGEST = "0123456789abcdef" * 4


class _Report(msgspec.Struct, rename="camel"):
    """As much as is read of reports."""

    phase_id: str = ""
    reports: list["_Report"] = []


class _Beat(msgspec.Struct, rename="camel"):
    """As much as is read of a heartbeat."""

    runtime_id: str
    instance: str


_reports = msgspec.json.Decoder(_Report)


class _Walk:
    """One session: what is known of it."""

    def __init__(self, needs: list[int]) -> None:
        self.missing = list(needs)
        self.left = len(needs)
        self.sequence = self.record = 0
        self.inputs: list[Delivery] = []
        self.queued = False


class Walker:
    """Walks every session that is started, along the one graph."""

    def __init__(self, nc: Client, tasks: list[dict[str, Any]]) -> None:
        self._nc = nc
        self._names: list[str] = [task["id"] for task in tasks]
        self._index = {name: number for number, name in enumerate(self._names)}
        self._needs = [len(task["deps"]) for task in tasks]
        self._dependents: list[list[int]] = [[] for _ in tasks]
        for number, task in enumerate(tasks):
            for need in task["deps"]:
                self._dependents[self._index[need]].append(number)
        self._plan = [
            {"id": task["id"], "digest": _DIGEST, "needs": task["deps"], "run": {"noop": {}}}
            for task in tasks
        ]
        self._walks: dict[str, _Walk] = {}
        self._todo: asyncio.Queue[str] = asyncio.Queue()
        self._confirmed = Confirmed(nc)
        self._who = {"runtimeId": "", "instance": ""}
        self.met = asyncio.Event()
        self._targets: list[dict[str, Any]] = []
        self._ready_to_send = asyncio.Event()

    async def on_heartbeat(self, message: Msg) -> None:
        """The runtime: one is all there is."""
        beat = msgspec.json.decode(message.data, type=_Beat)
        self._who = {"runtimeId": beat.runtime_id, "instance": beat.instance}
        self.met.set()

    def on_input(self, given: Delivery) -> None:
        """A start, or reports."""
        session = given.subject.split(".")[2]
        walk = self._walks.get(session)
        if walk is None:
            walk = self._walks[session] = _Walk(self._needs)
        walk.inputs.append(given)
        if not walk.queued:
            walk.queued = True
            self._todo.put_nowait(session)

    async def work(self) -> None:
        """Step sessions, until cancelled."""
        while True:
            session = await self._todo.get()
            walk = self._walks[session]
            inputs, walk.inputs = walk.inputs, []
            await self._step(session, walk, inputs)
            walk.queued = bool(walk.inputs)
            if walk.queued:
                self._todo.put_nowait(session)

    async def send_targets(self) -> None:
        """Targets of all sessions that are ready at a time, in one message; until cancelled."""
        while True:
            await self._ready_to_send.wait()
            self._ready_to_send.clear()
            targets, self._targets = self._targets, []
            subject = subjects.runtime_target(self._who["runtimeId"])
            await publish(self._nc, subject, msgspec.json.encode({"targets": targets}))

    async def _step(self, session: str, walk: _Walk, inputs: list[Delivery]) -> None:
        is_new = not walk.sequence
        done, ready = self._advance(walk, inputs)
        data = msgspec.json.encode(
            {
                "v": 1,
                "n": 1,
                "at": _AT,
                "atMs": _MS,
                "by": "planner-0",
                "inputs": [given.sequence for given in inputs],
                "events": self._events(walk, done, ready),
            }
        )
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(walk.sequence),
            "Nats-Msg-Id": f"{session}/{walk.sequence}/planner-0",
            "Nats-Expected-Stream": assets.JOURNAL,
        }
        walk.sequence = await self._confirmed.publish(
            subjects.journal(session), data, timeout=_CONFIRM_SECONDS, headers=headers
        )
        self._target(session, walk, ready)
        await self._tell(session, "complete", done)
        await self._tell(session, "targeted", ready)
        if is_new or not walk.left:
            await self._record(session, walk)
        for given in inputs:
            await publish(self._nc, given.reply, b"+ACK")

    def _advance(self, walk: _Walk, inputs: list[Delivery]) -> tuple[list[str], list[str]]:
        """What has been completed, and what became ready by it."""
        done: list[str] = []
        ready: list[str] = []
        for given in inputs:
            if given.subject.endswith(".start"):
                ready += [name for name, needs in zip(self._names, self._needs, strict=True) if not needs]
                continue
            report = _reports.decode(given.data)
            for one in report.reports or (report,):
                done.append(one.phase_id)
                walk.left -= 1
                for dependent in self._dependents[self._index[one.phase_id]]:
                    walk.missing[dependent] -= 1
                    if not walk.missing[dependent]:
                        ready.append(self._names[dependent])
        return done, ready

    def _events(self, walk: _Walk, done: Iterable[str], ready: Iterable[str]) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if not walk.sequence:
            plan = {"digest": _DIGEST, "phases": self._plan}
            events.append({"type": "PlanApplied", "revision": 1, "digest": _DIGEST, "plan": plan})
        times = {"started": _MS, "finished": _MS}
        by = {"attempt": 1, "runtimeId": self._who["runtimeId"]}
        events += [{"type": "PhaseCompleted", "phaseId": name, **by, **times} for name in done]
        events += [{"type": "PhaseTargeted", "phaseId": name, "attempt": 1, **self._who} for name in ready]
        if not walk.left:
            events.append({"type": "SessionEnded", "status": "complete"})
        return events

    def _target(self, session: str, walk: _Walk, ready: Iterable[str]) -> None:
        self._targets += [
            {
                "phaseId": name,
                "reason": "dependencies satisfied",
                "sessionId": session,
                "attempt": 1,
                "fence": walk.sequence,
                "dispatchId": _DISPATCH_ID,
                **self._who,
                "description": "no-op",
                "run": {"noop": {}},
            }
            for name in ready
        ]
        if self._targets:
            self._ready_to_send.set()

    async def _tell(self, session: str, status: str, names: Iterable[str]) -> None:
        same = {"status": status, "updated": _AT, "attempt": 1, "by": "planner-0"}
        for name in names:
            state = {"phaseId": name, **same, "runtimeId": self._who["runtimeId"]}
            await publish(self._nc, subjects.state(session), msgspec.json.encode(state))

    async def _record(self, session: str, walk: _Walk) -> None:
        record = {
            "sessionId": session,
            "status": "running" if walk.left else "complete",
            "sequence": walk.sequence,
            "revision": 1,
            "planDigest": _DIGEST,
            "counts": {"complete": len(self._names) - walk.left},
            "created": _AT,
            "updated": _AT,
        }
        walk.record = await self._confirmed.publish(
            f"$KV.{assets.SESSIONS_BUCKET}.{session}",
            msgspec.json.encode(record),
            timeout=_CONFIRM_SECONDS,
            headers={"Nats-Expected-Last-Subject-Sequence": str(walk.record)},
        )


async def serve(url: str, graph: Path) -> None:
    """Walk until told to stop, or until something breaks."""
    nc = await connect(url)
    await assets.ensure(nc.jetstream(), url=url)
    walker = Walker(nc, json.loads(graph.read_text()))
    await nc.subscribe(subjects.RUNTIME_HEARTBEAT_WILDCARD, cb=walker.on_heartbeat)
    await nc.publish(subjects.RUNTIME_DISCOVER, b"")
    await walker.met.wait()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pullers = [
        Puller(nc, assets.IN, assets.consumer_name(number), walker.on_input, lambda: True)
        for number in range(assets.PARTITIONS)
    ]
    running = [asyncio.ensure_future(walker.work()) for _ in range(_WORKERS)]
    running += [asyncio.ensure_future(puller.run()) for puller in pullers]
    running.append(asyncio.ensure_future(walker.send_targets()))
    calm_collector()
    print("ready", flush=True)
    ended, _ = await asyncio.wait(
        [asyncio.ensure_future(stop.wait()), *running], return_when=asyncio.FIRST_COMPLETED
    )
    for task in running:
        task.cancel()
    await nc.close()
    for task in ended:
        task.result()


def main() -> None:
    """See the module."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(sys.argv[1], Path(sys.argv[2])))


if __name__ == "__main__":
    main()
