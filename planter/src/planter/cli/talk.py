"""The connection of a command, and the questions that several commands ask first."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from nats.errors import NoRespondersError

from planter.cli.options import settings
from planter_protocol import JetStreamUnavailable, PlanClient, SessionNotFound, assets, subjects
from planter_protocol.names import session_id
from planter_protocol.reading import last_sequence


@asynccontextmanager
async def connected(nats: str | None) -> AsyncGenerator[PlanClient]:
    """A client of the server that is meant; what only means that Planter was never there, says so."""
    url = settings(nats_url=nats).nats_url
    async with PlanClient.connected(url, role="cli") as client:
        try:
            yield client
        except NoRespondersError as error:
            raise JetStreamUnavailable(
                url, "no planner has ever run there: start one with `planter serve` or `planter dev`"
            ) from error


async def require_session(client: PlanClient, session: str) -> None:
    """Raise SessionNotFound unless the session has a journal (no planner is needed to know that)."""
    if await last_sequence(client.nc, assets.JOURNAL, subjects.journal(session_id(session))) == 0:
        raise SessionNotFound(session)


async def last_log(client: PlanClient, session: str) -> int:
    """Sequence of the session's last log message, 0 when there is none."""
    return await last_sequence(client.nc, assets.LOGS, subjects.log(session))
