"""What each durability mode costs on this machine: confirmed publishes and a small run, all modes in turn.

    python scripts/measure_durability.py [--rounds 3]

One server or three (on one machine and one disk, unlike in production), with `sync_interval` as it is by
default or `always`. Figures are medians over the rounds; what carries over to another machine are the ratios.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import nats.errors
from nats.js import api

from planter.local import find_server
from planter_protocol import PlanClient, PlannerUnavailable

MODES = (
    ("default", 1, False),
    ("always", 1, True),
    ("replicated", 3, False),
    ("replicated + always", 3, True),
)
MESSAGE = b"x" * 300
SEQUENTIAL, WRITERS, EACH = 500, 50, 40
WIDE, DEEP = 20, 100
READY_SECONDS = 60.0


class Figures(NamedTuple):
    """Confirmed publishes a second of one client, of 50 at once, and phases a second of a run."""

    one: float
    many: float
    phases: float


@contextmanager
def process(*command: str, log: Path) -> Generator[None]:
    """A process that ends with the block."""
    with log.open("ab") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def free_ports(number: int) -> list[int]:
    """Free ports, all different."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def configuration(folder: Path, number: int, ports: list[int], routes: list[int], *, always: bool) -> Path:
    """The configuration file of one server."""
    name, sync = f"n{number}", ", sync_interval: always" if always else ""
    lines = [f"server_name: {name}", f'listen: "127.0.0.1:{ports[number]}"']
    lines.append(f'jetstream {{ store_dir: "{folder / name}"{sync} }}')
    if len(ports) > 1:
        addresses = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        lines.append(f'cluster {{ name: m, listen: "127.0.0.1:{routes[number]}", routes: [{addresses}] }}')
    path = folder / f"{name}.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


@asynccontextmanager
async def servers(folder: Path, count: int, *, always: bool) -> AsyncGenerator[str]:
    """That many servers, ready to make streams."""
    ports, routes = free_ports(count), free_ports(count)
    with ExitStack() as running:
        for number in range(count):
            path = configuration(folder, number, ports, routes, always=always)
            running.enter_context(process(find_server(), "-c", str(path), log=folder / "nats.log"))
        url = f"nats://127.0.0.1:{ports[0]}"
        stream = api.StreamConfig(name="MEASURE", subjects=["measure.*"])
        async with asyncio.timeout(READY_SECONDS), PlanClient.connected(url, wait=READY_SECONDS) as client:
            while True:
                try:
                    await client.js.add_stream(stream, num_replicas=count)
                    break
                except (nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.05)
        yield url


async def publish(client: PlanClient, subject: str, count: int) -> None:
    """Confirmed publishes, one after another."""
    for _ in range(count):
        await client.js.publish(subject, MESSAGE, timeout=30)


async def publishes(url: str) -> tuple[float, float]:
    """Confirmed publishes a second: one writer, then many at once."""
    async with PlanClient.connected(url) as client:
        await publish(client, "measure.warm", 20)
        began = time.perf_counter()
        await publish(client, "measure.one", SEQUENTIAL)
        one = SEQUENTIAL / (time.perf_counter() - began)
        began = time.perf_counter()
        await asyncio.gather(*(publish(client, f"measure.{number}", EACH) for number in range(WRITERS)))
        return one, WRITERS * EACH / (time.perf_counter() - began)


async def run(url: str, folder: Path, replicas: int) -> float:
    """Phases a second of one session of twenty chains with a hundred phases each, all no-ops."""
    planter = [sys.executable, "-m", "planter", "serve", "--nats", url, "--replicas", str(replicas)]
    planter += ["--http", "off"]
    runtime = [sys.executable, "-m", "planter_runtime", "--nats", url, "--id", "r1", "--any-selector"]
    manifest = [
        {
            "id": f"p{lane}-{step}",
            "spec": {
                "x-run": {"noop": {}},
                **({"waitFor": {"phases": [f"p{lane}-{step - 1}"]}} if step else {}),
            },
        }
        for lane in range(WIDE)
        for step in range(DEEP)
    ]
    with (
        process(*planter, log=folder / "planter.log"),
        process(*runtime, "--slots", "100", "--workdir", str(folder), log=folder / "runtime.log"),
    ):
        async with asyncio.timeout(READY_SECONDS), PlanClient.connected(url) as client:
            await ready(client)
            began = time.perf_counter()
            submitted = await client.submit(manifest, session="measure")
            async for _ in client.watch("measure", after=submitted.after):
                pass
            return WIDE * DEEP / (time.perf_counter() - began)


async def ready(client: PlanClient) -> None:
    """Wait until a planner answers and knows the runtime."""
    while True:
        with suppress(PlannerUnavailable):
            if (await client.planner_info(timeout=1)).runtimes:
                return
        await asyncio.sleep(0.05)


async def measure(replicas: int, *, always: bool) -> Figures:
    """One mode, once."""
    with tempfile.TemporaryDirectory(prefix="planter-durability-") as name:
        folder = Path(name)
        async with servers(folder, replicas, always=always) as url:
            return Figures(*await publishes(url), await run(url, folder, replicas))


async def main() -> None:
    """Every mode in every round, then the medians."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[Figures]] = {name: [] for name, _, _ in MODES}
    for _ in range(rounds):
        for name, replicas, always in MODES:
            found[name].append(await measure(replicas, always=always))
    medians = {
        name: Figures(*map(statistics.median, zip(*rows, strict=True))) for name, rows in found.items()
    }
    first = medians[MODES[0][0]]
    print(f"| mode | one client, msg/s | {WRITERS} clients, msg/s | run, phases/s |\n|---|---|---|---|")
    for name, figures in medians.items():
        cells = " | ".join(
            f"{value:,.0f} ({value / base:.2f})" for value, base in zip(figures, first, strict=True)
        )
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    asyncio.run(main())
