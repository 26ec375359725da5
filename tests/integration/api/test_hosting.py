"""The HTTP interface as a guest of the planner: its port, its description, what it costs."""

import asyncio
import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from planter_protocol import PlanClient
from planter_testkit.http import logged, running_api
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import Planner, answering

ROOT = Path(__file__).parents[3]


async def test_a_port_that_is_taken_is_a_warning_with_a_remedy_and_the_planner_goes_on(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with running_nats_server(tmp_path) as server:
            planner = Planner(server.url, tmp_path, "p", arguments=("--http", address))
            try:
                async with PlanClient.connected(server.url) as client:
                    await answering(client, planner)
                    async with asyncio.timeout(30):
                        while not (off := [e for e in logged(planner) if e["event"] == "http.off"]):
                            await asyncio.sleep(0.01)
                    info = await client.planner_info()
                status = planner.stop()
            finally:
                planner.stop()

    assert off[0]["address"] == address
    assert off[0]["level"] == "warning"
    assert "--http" in off[0]["remedy"]
    assert (info.planner_id, status) == ("p", 0)


async def test_a_planner_with_http_off_imports_none_of_it(tmp_path):
    code = "import sys, planter.api.hosting, planter.shell.daemon; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert {"fastapi", "uvicorn", "starlette", "prometheus_client"} & set(loaded.split()) == set()


async def test_an_idle_interface_does_not_wake_the_planner(tmp_path):
    """uvicorn's own loop would wake up ten times a second for as long as the process lives."""
    async with running_api(tmp_path) as api:
        await api.http.get("/readyz")
        process = psutil.Process(api.planner.process.pid)
        before, cpu = process.num_ctx_switches().voluntary, process.cpu_times()
        await asyncio.sleep(3)
        wakes = (process.num_ctx_switches().voluntary - before) / 3
        used = sum(process.cpu_times()[:2]) - sum(cpu[:2])

    print(f"{wakes:.1f} wake-ups a second, {used / 3:.2%} of a core")
    assert wakes < 12  # the planner's own are about five, on a busy machine up to nine; uvicorn's ten more
    assert used / 3 < 0.05


async def test_the_stored_description_is_the_one_that_is_served(tmp_path):
    stored = json.loads((ROOT / "schemas" / "openapi.json").read_text())
    async with running_api(tmp_path) as api:
        served = (await api.http.get("/openapi.json")).json()

    assert served == stored, "it has changed: python scripts/openapi.py"
    assert served["openapi"].startswith("3.1")
    operations = [
        operation
        for path in served["paths"].values()
        for operation in path.values()
        if "responses" in operation
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) >= 20
    for operation in operations:
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], operation["operationId"]


def test_the_script_writes_what_is_stored():
    path = ROOT / "scripts" / "openapi.py"
    spec = importlib.util.spec_from_file_location("openapi_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.described() == module.FILE.read_text(encoding="utf-8")
