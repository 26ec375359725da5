"""A server, a planner with its HTTP interface, and a client for it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from planter_protocol import PlanClient
from planter_testkit.nats import READY_SECONDS, Server, running_nats_server
from planter_testkit.planners import Planner, answering
from planter_testkit.scripted import Script, scripted_runtime


class Api(NamedTuple):
    """An HTTP interface that answers."""

    server: Server
    planner: Planner
    url: str
    token: str
    http: httpx2.AsyncClient
    """Carries the token."""

    async def until(self, session: str, *statuses: str) -> dict[str, Any]:
        """The state of the session, once it has one of the statuses."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                answer = await self.http.get("/status", params={"session": session})
                if answer.status_code == 200 and answer.json()["status"] in statuses:
                    return answer.json()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_api(
    folder: Path,
    script: Script | None = None,
    *,
    server_arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Api]:
    """Everything that a request needs; with a script, a runtime too."""
    async with (
        running_nats_server(folder, server_arguments) as server,
        running_interface(server, folder, "planner-1", environment) as api,
    ):
        if script is None:
            yield api
            return
        async with scripted_runtime(server.url, script=script) as runtime:
            async with asyncio.timeout(READY_SECONDS):
                while runtime.name not in (await api.http.get("/api/runtimes")).text:
                    await asyncio.sleep(0.01)
            yield api


@asynccontextmanager
async def running_interface(
    server: Server, folder: Path, name: str, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Api]:
    """A planner process with HTTP on a free port; several share a token file in the folder."""
    token_file = folder / "http.token"
    variables = {"PLANTER_HTTP_TOKEN_FILE": str(token_file), **(environment or {})}
    planner = Planner(server.url, folder, name, arguments=("--http", "127.0.0.1:0"), environment=variables)
    try:
        async with PlanClient.connected(server.url) as client:
            await answering(client, planner)
        url = f"http://{await address_of(planner)}"
        token = token_file.read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=READY_SECONDS) as http:
            yield Api(server, planner, url, token, http)
    finally:
        planner.stop()


async def address_of(planner: Planner) -> str:
    """Where the planner listens, once it does."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            for event in logged(planner):
                assert event["event"] not in ("http.off", "http.broken"), event
                if event["event"] == "http.ready":
                    return event["address"]
            await asyncio.sleep(0.01)


def logged(planner: Planner) -> list[dict[str, Any]]:
    """What the planner has logged so far."""
    lines = planner.log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]
