"""No room left for the streams: by the server's own limit, or because its disk is full.

Publishers get errors or time-outs. Planners keep nothing that they cannot store, do not end, and go on when
there is room again.
"""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from nats.errors import Error as NatsError

from planter_protocol import assets
from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import Bench, bench
from planter_testkit.faults.outcome import Outcome, Setting, Skipped, spread
from planter_testkit.faults.timings import first_after, longest_pauses, now_ms
from planter_testkit.nats import Server, running_nats_server

FULL_SECONDS, FULL_SECONDS_SHORT = 3.0, 1.0
"""For so long nothing can be stored."""
_STORE = "260MB"
"""Planter reserves 256 MB of it for its dead letters."""
_DISK, _DISK_CLAIMED = "24m", "1GB"
"""A tmpfs takes what it holds from memory; the server may believe that there is more."""
_PORTION = 64 * 1024
_FILL_SUBJECT = "plan.session.filler.log"
_PROBE_SUBJECT = "plan.session.probe.control"
Step = Callable[[], Awaitable[None]]


async def run_limit(setting: Setting) -> Outcome:
    """The server's ``max_file_store`` is reached; room is made by purging what filled it."""
    async with _bench(setting, _STORE) as (_, made):

        async def fill() -> None:
            await _until_refused(made, _FILL_SUBJECT, b"x" * _PORTION)
            await _until_refused(made, _FILL_SUBJECT, b"x" * 256)

        async def make_room() -> None:
            await made.client.js.purge_stream(assets.LOGS, subject=_FILL_SUBJECT)

        return await _rounds(made, fill, make_room)


async def run_disk(setting: Setting) -> Outcome:
    """A small tmpfs is filled to the last byte; room is made, and the server restarted, as it has to be."""
    store = setting.folder / "nats" / "jetstream"
    with _small_disk(store):
        async with _bench(setting, _DISK_CLAIMED) as (server, made):
            ballast = store / "ballast"

            async def fill() -> None:
                _fill(ballast)
                await _until_refused(made, _PROBE_SUBJECT, b"{}")

            async def make_room() -> None:
                ballast.unlink()
                await asyncio.to_thread(server.stop)
                await server.start()

            return await _rounds(made, fill, make_room)


@asynccontextmanager
async def _bench(setting: Setting, store: str) -> AsyncGenerator[tuple[Server, Bench]]:
    config = setting.folder / "store.conf"
    config.write_text(f"jetstream {{ max_file_store: {store} }}\n")
    async with (
        running_nats_server(setting.folder / "nats", ["-c", str(config)]) as server,
        bench(setting, server.url, planners=2, load={"at_once": 4}) as made,
    ):
        yield server, made


async def _rounds(made: Bench, fill: Step, make_room: Step) -> Outcome:
    full: list[int] = []
    back: list[int] = []
    for _ in range(made.setting.count):
        async with asyncio.timeout(60):
            await fill()
        full.append(now_ms())
        made.faults += 1
        await asyncio.sleep(FULL_SECONDS_SHORT if made.setting.short else FULL_SECONDS)
        async with asyncio.timeout(60):
            await make_room()
        back.append(now_ms())
        await _until_stored(made)
        async with asyncio.timeout(60):
            await made.load.until_commits(made.load.commits + 1)

    def figures(account: Account) -> tuple[str, dict[str, float]]:
        stood, numbers = spread("stood still", longest_pauses(account, full))
        text, more = spread("resumed after", first_after(account, back))
        return f"{stood}; {text}", numbers | more

    return await made.settle(figures)


async def _until_refused(made: Bench, subject: str, data: bytes) -> None:
    """Publish until the server does not confirm any more."""
    while True:
        try:
            await made.client.js.publish(subject, data, timeout=1)
        except (NatsError, TimeoutError):
            return


async def _until_stored(made: Bench) -> None:
    """Wait until an input is confirmed again."""
    async with asyncio.timeout(30):
        while True:
            try:
                await made.client.js.publish(_PROBE_SUBJECT, b"{}", timeout=1)
            except (NatsError, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return


def _fill(ballast: Path) -> None:
    """Take every byte that is left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (_PORTION, 4096, 256, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


@contextmanager
def _small_disk(folder: Path) -> Generator[None]:
    """A file system of its own, in memory."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        raise Skipped("there is no mount command")
    folder.mkdir(parents=True)
    command = [mount, "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([unmount, "--lazy", str(folder)], check=False)
