"""Results of phases with ``x-cache``, for others with the same content. May be emptied at any time.

Looking up happens beside the steps, and every question is answered: after two seconds, or when anything goes
wrong, by "there is none". A result that could not be kept is made again.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from anyio.abc import TaskGroup
from nats.aio.client import Client

from planter.core import effects as f
from planter.core.inputs import LookedUp
from planter.core.large import may_be_large
from planter.shell.inputs import RESULT_BYTES_MAX, checked
from planter_protocol import assets
from planter_protocol.reading import last_message

log = structlog.get_logger(__name__)

WORKERS = 64
"""Questions under way at a time: a step takes in all that was answered meanwhile."""
_ANSWER_SECONDS = 2.0
_STREAM = f"KV_{assets.RESULTS_BUCKET}"


class _Kept(msgspec.Struct, rename="camel", omit_defaults=True):
    """One result, as it is stored."""

    source: str
    """Session and phase that made it."""
    made: int
    """When, in milliseconds since 1970."""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Kept)


class Results:
    """Keeps results and finds them again; answers each question with ``LookedUp``."""

    def __init__(self, nc: Client, tell: Callable[[str, LookedUp], None]) -> None:
        self._nc = nc
        self._tell = tell
        self._questions: asyncio.Queue[tuple[str, f.LookUp]] = asyncio.Queue()

    def look_up(self, session_id: str, effect: f.LookUp) -> None:
        """Answer, soon."""
        self._questions.put_nowait((session_id, effect))

    async def remember(self, session_id: str, effect: f.Remember, now: int) -> None:
        """Keep a result; unconfirmed, for it can be made again. A large one is its session's: not kept."""
        if may_be_large(effect.result):
            log.info(
                "result.not_kept", session=session_id, phase=effect.phase_id, reason="too large for x-cache"
            )
            return
        kept = _Kept(source=f"{session_id}/{effect.phase_id}", made=now, result=effect.result)
        await self._nc.publish(_subject(effect.key), _encoder.encode(kept))

    def start(self, tasks: TaskGroup) -> None:
        """Work in the given task group until it is cancelled."""
        for _ in range(WORKERS):
            tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            session_id, effect = await self._questions.get()
            answer = LookedUp(phase_id=effect.phase_id, key=effect.key)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._find(effect)
            except Exception as error:  # whatever it is, there is no earlier result
                text = str(error) or type(error).__name__
                log.warning("result.unknown", session=session_id, phase=effect.phase_id, error=text)
            self._tell(session_id, answer)

    async def _find(self, effect: f.LookUp) -> LookedUp:
        stored = await last_message(self._nc, _STREAM, _subject(effect.key))
        if stored is None or "KV-Operation" in stored.headers:
            return LookedUp(phase_id=effect.phase_id, key=effect.key)
        kept = _decoder.decode(stored.data)
        result = checked(kept.result, RESULT_BYTES_MAX, "the earlier result has")
        return LookedUp(
            phase_id=effect.phase_id, key=effect.key, result=result, source=kept.source, made=kept.made
        )


def _subject(key: str) -> str:
    return f"$KV.{assets.RESULTS_BUCKET}.{key}"
