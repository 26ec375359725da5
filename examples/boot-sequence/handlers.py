"""Handlers for the boot sequence: real checks, a real database file, a real web service that answers."""

import http.server
import json
import shutil
import sqlite3
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from planter_runtime import PermanentFailure, PhaseContext, Runtime

runtime = Runtime()
STATE = Path(tempfile.mkdtemp(prefix="planter-boot-"))


@runtime.handler(phase="preflight")
async def preflight(ctx: PhaseContext) -> dict:
    """Is there enough of everything?"""
    free = shutil.disk_usage(STATE).free
    if free < 10_000_000:
        raise PermanentFailure(f"only {free:,} bytes of disk are free")
    ctx.log(f"python {sys.version.split()[0]}, {free // 1_000_000:,} MB of disk free")
    return {"freeBytes": free}


@runtime.handler(phase="infrastructure")
def infrastructure(ctx: PhaseContext) -> dict:
    """Configuration and a database."""
    (STATE / "config.json").write_text(json.dumps({"greeting": "hello from the boot sequence"}))
    with sqlite3.connect(STATE / "boot.db") as database:
        database.execute("create table if not exists services (name text primary key, port integer)")
    ctx.log(f"state is in {STATE}")
    return {"state": str(STATE)}


@runtime.handler(phase="services", service="web")
def web(ctx: PhaseContext) -> dict:
    """A web service on a free port; it has to answer before the phase is complete."""
    greeting = json.loads((STATE / "config.json").read_text())["greeting"].encode()

    class Greet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(greeting)

        def log_message(self, *arguments: object) -> None:
            """Quiet: the phase's log says what matters."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=5) as answer:
        ctx.log(f"web answers on port {server.server_port}: {answer.read().decode()}")
    _register("web", server.server_port)
    return {"port": server.server_port}


@runtime.handler(phase="services", service="worker")
async def worker(ctx: PhaseContext) -> None:
    """A worker that needs no port."""
    _register("worker", None)
    ctx.log("worker is up")


@runtime.handler(phase="lazy")
async def lazy(ctx: PhaseContext) -> None:
    """Whatever is needed only on use."""
    ctx.log(f"{ctx.phase} is instantiated, because something needs it")


def _register(name: str, port: int | None) -> None:
    with sqlite3.connect(STATE / "boot.db") as database:
        database.execute("insert or replace into services values (?, ?)", (name, port))
