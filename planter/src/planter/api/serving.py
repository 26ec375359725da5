"""Application, server and connection, put together. Imports everything that is heavy."""

import socket

import anyio
import structlog

from planter import __version__
from planter.api.app import make_app
from planter.api.guard import Guard
from planter.api.metrics import Metrics
from planter.api.options import HttpOptions
from planter.api.planner_side import PlannerSide
from planter.api.server import Server
from planter.api.site import Site
from planter_protocol import PlanClient
from planter_protocol.connection import connect
from planter_protocol.errors import ServerUnreachable

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0


async def serve(options: HttpOptions, token: str, listener: socket.socket) -> None:
    """Serve until cancelled; then streams are ended, and requests get a moment."""
    while True:
        try:
            nc = await connect(options.nats_url, role="http", on_error=_on_error)
        except ServerUnreachable as error:
            log.warning("http.waits", reason=str(error))
            await anyio.sleep(_RETRY_SECONDS)
        else:
            break
    try:
        site = Site(PlannerSide(PlanClient(nc)), Metrics(__version__))
        server = Server(Guard(make_app(site), options, token, site.metrics.observe))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run_on, listener)
            host, port = listener.getsockname()[:2]
            log.info("http.ready", address=f"{host}:{port}", token_file=str(options.token_file))
            try:
                await anyio.sleep_forever()
            finally:
                site.stopping.set()
                server.stop()
    finally:
        with anyio.move_on_after(2, shield=True):
            await nc.close()


def _on_error(error: Exception) -> None:
    log.info("nats.error", role="http", error=str(error) or type(error).__name__)
