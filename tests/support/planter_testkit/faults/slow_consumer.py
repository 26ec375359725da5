"""Somebody listens to everything and never reads, and a runtime takes targets and never reads them.

Neither may slow down the work of others, nor make a planner keep what it cannot get rid of. That takes a
setting of the server: by default it makes everybody wait whose messages somebody does not read. Measured:
less than half of the throughput is left, for seconds after the listener was dropped.
"""

import asyncio
import json
import socket
import statistics
import time
from typing import Any, Self

from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import Bench, single_server
from planter_testkit.faults.outcome import Outcome, Setting
from planter_testkit.graphs import Tasks, as_manifest, montage_like
from planter_testkit.planners import judged

RATIO_MIN, RATIO_MIN_SHORT = 0.8, 0.1
"""Of the throughput without them. The short form has one round next to other tests: it tells a standstill."""
RESIDENT_MB_MAX = 250.0
_WIDTH = 60
_HEARTBEAT_SECONDS = 1.0
_NOISE_BYTES = 64 * 1024
_NOISE_MB, _NOISE_MB_SHORT = 96, 8
"""The server itself keeps up to 64 MB for a client that does not read."""


async def run(setting: Setting) -> Outcome:
    """Rounds with and without the two, in turn; ``count`` of each."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    noise = _NOISE_MB_SHORT if setting.short else _NOISE_MB
    config = setting.folder / "server.conf"
    config.write_text("no_fast_producer_stall: true\n")
    arguments = ["-c", str(config)]
    async with single_server(setting, server_arguments=arguments, planners=2, load={"at_once": 1}) as (
        server,
        bench,
    ):
        late = await bench.load.finish()
        assert bench.scripted is not None
        bench.scripted.duration = None  # what is measured is the planners
        await _measure(bench, "warm-up")
        for number in range(setting.count):
            rates[False].append(await _measure(bench, f"quiet-{number}"))
            with Deaf(server.port) as deaf:
                beating = asyncio.create_task(deaf.beat())
                await _offer_to_the_deaf(bench, f"deaf-{number}")
                await _make_noise(bench, noise)
                rates[True].append(await _measure(bench, f"slow-{number}"))
                beating.cancel()
                await asyncio.wait([beating])
            bench.faults += 2
        async with asyncio.timeout(60):  # what the deaf one had is lost with it, and done by others
            for number in range(setting.count):
                await judged(bench.client, f"deaf-{number}")
        quiet, slow = (statistics.median(rates[one]) for one in (False, True))
        resident = bench.planners.resident_mb()

        def figures(_: Account) -> tuple[str, dict[str, float]]:
            share = f"{quiet:,.0f} phases/s without, {slow:,.0f} with them ({slow / quiet:.0%})"
            text = f"{share}; {resident:.0f} MB at most"
            return text, {"phases/s quiet": quiet, "phases/s slow": slow, "resident MB": resident}

        outcome = await bench.settle(figures)
    least = RATIO_MIN_SHORT if setting.short else RATIO_MIN
    if slow < least * quiet:
        outcome.violations.append(
            f"throughput fell to {slow / quiet:.0%}, at least {least:.0%} has to be left"
        )
    if resident > RESIDENT_MB_MAX:
        outcome.violations.append(f"a planner took {resident:.0f} MB")
    outcome.violations += late
    return outcome


class Deaf:
    """A listener to everything and a runtime, on sockets that nobody ever reads."""

    def __init__(self, port: int) -> None:
        self._sockets = [_connected(port, "plan.>"), _connected(port, "plan.runtime.deaf.target")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    async def beat(self) -> None:
        """Register the runtime, and renew its lease until cancelled."""
        beat = {
            "runtimeId": "deaf",
            "instance": "one",
            "slots": 1_000,
            "labels": {"work": "deaf"},
            "executors": ["noop"],
            "leaseMs": 4_000,
        }
        data = json.dumps(beat).encode()
        while True:
            self._sockets[1].sendall(b"PUB plan.runtime.deaf.heartbeat %d\r\n%b\r\n" % (len(data), data))
            await asyncio.sleep(_HEARTBEAT_SECONDS)


def _connected(port: int, subject: str) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port))
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %b 1\r\nPING\r\n' % subject.encode())
    return found


def _manifest(tasks: Tasks, labels: dict[str, str]) -> list[dict[str, Any]]:
    manifest = as_manifest(tasks)
    for phase in manifest:
        phase["spec"]["selector"] = {"matchLabels": labels}
    return manifest


async def _measure(bench: Bench, name: str) -> float:
    """Phases a second of a session of a few hundred."""
    tasks = montage_like(_WIDTH)
    manifest = _manifest(tasks, {"work": "quick"})
    begun = time.perf_counter()
    submitted = await bench.client.submit(manifest, session=name)
    bench.load.confirmed[submitted.sequence] = name
    async with asyncio.timeout(60):
        await judged(bench.client, name)
    return len(tasks) / (time.perf_counter() - begun)


async def _offer_to_the_deaf(bench: Bench, name: str) -> None:
    """A session whose targets go to the runtime that never reads, most of them."""
    while not any(one.runtime_id == "deaf" for one in (await bench.client.planner_info()).runtimes):
        await asyncio.sleep(0.05)
    manifest = _manifest([{"id": f"p{n}", "deps": []} for n in range(500)], {"work": "deaf"})
    await bench.client.submit(manifest, session=name)


async def _make_noise(bench: Bench, megabytes: int) -> None:
    """Fill whatever buffers there are for the listener."""
    for _ in range(megabytes * 1024 * 1024 // _NOISE_BYTES):
        await bench.client.nc.publish("plan.session.noise.events", b"x" * _NOISE_BYTES)
        await bench.client.nc.flush()
