"""Large results and artifacts go with their session; what an interrupted upload left goes after a while.

Nothing here is needed by a decision. Removing is repeated until nothing is left: see ``retention``.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable

import anyio
import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from planter.shell.clock import Clock
from planter_protocol import artifacts, assets, subjects
from planter_protocol.artifacts import ObjectPart
from planter_protocol.errors import ObjectBroken, ProtocolError
from planter_protocol.names import is_token
from planter_protocol.reading import last_message

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 600.0
ABANDONED_MS = 24 * 3600 * 1000
"""An upload that began longer ago and is not whole is nobody's any more. Nothing younger is looked at: reads
may be stale (NATS: direct gets), and a session that is not in its journal yet must not lose anything."""
_REQUEST_SECONDS = 5.0
_KNOWN_MAX = 200_000
_EMPTY = artifacts.digest_of(b"").partition(":")[2]
"""Of the one object that has no chunks."""


async def remove_artifacts(nc: Client, js: JetStreamContext, session: str) -> None:
    """Everything that a session has stored: first what names it, then what it is."""
    digests = {_EMPTY}  # without chunks to be found by
    try:
        async for part in _chunks(nc, session):
            digests.add(part.hex_digest)
        await js.purge_stream(artifacts.INDEX, subject=artifacts.index_subject(session))
        for digest in digests:
            await js.purge_stream(artifacts.STREAM, subject=artifacts.meta_subject(f"{session}/{digest}"))
        await js.purge_stream(artifacts.STREAM, subject=artifacts.chunk_subject(session))
    except NotFoundError:
        return  # there are no such buckets, and so nothing in them


class ArtifactSweeper:
    """Looks now and then for what an upload has left that did not end, or ended after its session."""

    def __init__(self, nc: Client, js: JetStreamContext, owns: Callable[[str], bool]) -> None:
        self._nc = nc
        self._js = js
        self._owns = owns
        self._clock = Clock()
        #: Tokens of objects that were whole when we looked.
        self._known: set[str] = set()
        #: What nothing was stored for when we looked last: descriptions by session and digest.
        self._hollow: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except (TimeoutError, NatsError, ProtocolError) as error:
                log.warning("artifacts.late", error=str(error) or type(error).__name__)
            except Exception:
                log.exception("artifacts.broken")  # our bug, and no reason to end a planner

    async def sweep(self) -> None:
        """Of the sessions that are ours."""
        found: defaultdict[str, list[ObjectPart]] = defaultdict(list)
        before = self._clock.now_ms() - ABANDONED_MS
        stored: set[tuple[str, str]] = set()
        try:
            async for part in _chunks(self._nc, "*"):
                if self._owns(part.session):
                    stored.add((part.session, part.hex_digest))
                    if part.began < before:
                        found[part.session].append(part)
            await self._remove_hollow(stored)
        except NotFoundError:
            return
        for session, parts in found.items():
            if await self._is_gone(session):
                log.info("artifacts.removed", session=session)
                await remove_artifacts(self._nc, self._js, session)
            else:
                await self._remove_abandoned(session, parts)

    async def _remove_hollow(self, stored: set[tuple[str, str]]) -> None:
        """Descriptions and listings whose chunks were removed while they were written.

        An object that is described is not stored again, so what is not there must not be described. Only what
        was so in the sweep before is removed: it may just be under way.
        """
        hollow: set[tuple[str, str]] = set()
        async for subject in _subjects(self._nc, artifacts.STREAM, artifacts.META_SUBJECTS):
            named = artifacts.parse_meta(subject)
            if named is not None and self._owns(named[0]) and named not in stored:
                hollow.add(named)
        described = {session for session, _ in stored | hollow}
        async for subject in _subjects(self._nc, artifacts.INDEX, artifacts.index_subject("*")):
            session = subject.split(".")[2]
            if session not in described and is_token(session) and self._owns(session):
                hollow.add((session, _EMPTY))
        for session, hex_digest in hollow & self._hollow:
            if hex_digest != _EMPTY:
                await self._remove_description(session, hex_digest)
            elif await self._is_gone(session):
                log.info("artifacts.removed", session=session)
                await remove_artifacts(self._nc, self._js, session)
        self._hollow = hollow

    async def _remove_description(self, session: str, hex_digest: str) -> None:
        """If there are no chunks, asked once more: a listing that shrinks while it is read has gaps."""
        chunks = artifacts.chunk_subject(session, hex_digest)
        async for _ in _subjects(self._nc, artifacts.STREAM, chunks):
            return
        log.info("artifacts.abandoned", session=session, digest=hex_digest)
        name = artifacts.meta_subject(f"{session}/{hex_digest}")
        await self._js.purge_stream(artifacts.STREAM, subject=name)

    async def _is_gone(self, session: str) -> bool:
        """Whether the session has never been, or is purged."""
        stored = await last_message(self._nc, assets.JOURNAL, subjects.journal(session))
        if stored is None:
            return True
        try:
            events = _commits.decode(stored.data).events
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False  # somebody has to look at it (planter doctor)
        return any(event.type == "SessionPurged" for event in events)

    async def _remove_abandoned(self, session: str, parts: list[ObjectPart]) -> None:
        if len(self._known) > _KNOWN_MAX:
            self._known.clear()
        for part in parts:
            if part.token in self._known:
                continue
            try:
                token = await artifacts.stored_token(self._nc, session, part.hex_digest)
            except ObjectBroken:
                token = None  # a description that nobody can read describes nothing
            if token == part.token:
                self._known.add(part.token)
                continue
            log.info("artifacts.abandoned", session=session, digest=part.hex_digest)
            subject = artifacts.chunk_subject(session, part.hex_digest, part.token)
            await self._js.purge_stream(artifacts.STREAM, subject=subject)


class _Event(msgspec.Struct):
    type: str


class _Events(msgspec.Struct):
    events: list[_Event] = []


class _Found(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _Error(msgspec.Struct):
    code: int = 0
    description: str = ""


class _Info(msgspec.Struct):
    """NATS: an answer of ``STREAM.INFO``, a page of subjects."""

    total: int = 0
    state: _Found = msgspec.field(default_factory=_Found)
    error: _Error | None = None


_commits = msgspec.json.Decoder(_Events)
_infos = msgspec.json.Decoder(_Info)
_NOT_FOUND = 404


async def _chunks(nc: Client, session: str) -> AsyncGenerator[ObjectPart]:
    """What there are chunks of; the server answers from its memory."""
    async for subject in _subjects(nc, artifacts.STREAM, artifacts.chunk_subject(session)):
        if (part := artifacts.parse_chunk(subject)) is not None:
            yield part


async def _subjects(nc: Client, stream: str, wanted: str) -> AsyncGenerator[str]:
    """The subjects of a stream that have messages."""
    seen = 0
    while True:
        query = {"subjects_filter": wanted, "offset": seen}
        reply = await nc.request(
            f"$JS.API.STREAM.INFO.{stream}", msgspec.json.encode(query), timeout=_REQUEST_SECONDS
        )
        info = _infos.decode(reply.data)
        if info.error is not None:
            if info.error.code == _NOT_FOUND:
                raise NotFoundError(code=info.error.code, description=info.error.description)
            raise ProtocolError(f"{stream}: {info.error.description}")
        page = info.state.subjects or {}
        for subject in page:
            yield subject
        seen += len(page)
        if not page or seen >= info.total:
            return
