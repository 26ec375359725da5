"""That a runtime's name is its own: two lives of one name would be lost in turn, with all that they run."""

import anyio
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from planter_protocol import services
from planter_protocol.codec import decode
from planter_protocol.errors import InvalidMessage
from planter_runtime.errors import NameTaken

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 1.0
"""Whoever takes longer stands still, or may not be asked: its name is taken over, as after a crash."""
_PAUSE_SECONDS = 0.1


async def claim_name(nc: Client, runtime_id: str) -> None:
    """Return when nobody answers to the name; wait for one that drains, for it is about to leave.

    Raises:
        NameTaken: one answers that means to stay.
    """
    is_told = False
    while (facts := await _facts_of(nc, runtime_id)) is not None:
        if facts.get("state") not in ("draining", "gone"):
            raise NameTaken(runtime_id, facts.get("host", ""))
        if not is_told:
            log.info("runtime.waiting", runtime=runtime_id, reason="an earlier one of this name is draining")
            is_told = True
        await anyio.sleep(_PAUSE_SECONDS)


async def _facts_of(nc: Client, runtime_id: str) -> dict[str, str] | None:
    """What the runtime of this name says of itself (NATS ADR-32, PING); None when nobody answers."""
    *_, subject = services.subjects_of("PING", services.RUNTIME, runtime_id)
    try:
        answer = await nc.request(subject, b"", timeout=_ANSWER_SECONDS)
        return dict(decode(answer.data, services.Ping).metadata)
    except NoRespondersError:
        return None
    except (TimeoutError, NatsError, InvalidMessage) as error:
        log.warning("runtime.name_unsure", runtime=runtime_id, error=str(error) or type(error).__name__)
        return None
