"""Large results and artifacts: objects in the bucket PLANTER_ARTIFACTS, which any client of NATS can read.

An object is ``<session>/<hex of its SHA-256>``, so a session has the same content once, and none of it is any
other session's: it goes with its session. Its layout is that of NATS object stores (ADR-20); the token of its
chunks is ``<session>.<hex>.<milliseconds>-<random>``, so that one filter finds all chunks of a session.

A large result is named in its report by a reference, ``{"planter:object": {"digest": ..., "bytes": ...}}``.
An artifact is a key in the key-value bucket of the same name, written when its object is there.
"""

import base64
import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Annotated, Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from planter_protocol import assets, headers
from planter_protocol.codec import encode, free_json, timestamp
from planter_protocol.confirming import Confirmed
from planter_protocol.errors import InvalidMessage, ObjectBroken, ObjectNotFound, ObjectNotStored
from planter_protocol.messages import Message
from planter_protocol.names import ITEM_ID_LENGTH_MAX, is_of_phase, is_token, random_token
from planter_protocol.reading import last_message, read_subject

CHUNK_BYTES = 128 * 1024
REFERENCE = "planter:object"
"""The only key of a reference to an object of the same session."""
INLINE_RESULT_BYTES_MAX = 64 * 1024
"""A result that is larger, as JSON, is an object."""
RESULT_BYTES_MAX = 16 * 1024 * 1024
"""Of any result."""
RESOLVED_BYTES_MAX = 64 * 1024 * 1024
"""Of all objects that are put in the place of references in one value."""
KEYS_MAX = 64
NAME_BYTES_MAX = 255
NAME_PARTS_MAX = 16
STREAM = f"OBJ_{assets.ARTIFACTS_BUCKET}"
INDEX = f"KV_{assets.ARTIFACTS_BUCKET}"
META_SUBJECTS = f"$O.{assets.ARTIFACTS_BUCKET}.M.*"
_HEX = re.compile(r"[0-9a-f]{64}")
_UPLOAD = re.compile(r"[0-9]{1,15}-[^.]*")
_BATCH = 16
_TRY_SECONDS, _TRIES = 5.0, 4
_REFERENCE_BYTES = f'"{REFERENCE}"'.encode()


class ObjectRef(Message, frozen=True):
    """What stands in a report for a large result, under the key ``planter:object``."""

    digest: str
    """``sha256:`` and the hex digest of the JSON text."""
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    keys: tuple[str, ...] | None = None
    """Of an object, if there are no more than ``KEYS_MAX``."""


class Artifact(Message, frozen=True):
    """A file that a phase has kept: the value of its key in the index."""

    session_id: str
    phase_id: str
    attempt: int
    name: str
    """A relative path; its parts are separated by ``/``."""
    digest: str
    """``sha256:`` and the hex digest."""
    bytes: int
    stored: str
    runtime_id: str | None = None


class _Options(msgspec.Struct):
    max_chunk_size: int = CHUNK_BYTES


class _Info(msgspec.Struct):
    """NATS ADR-20: what an object store says of an object."""

    name: str
    nuid: str
    size: int
    chunks: int
    digest: str
    bucket: str = assets.ARTIFACTS_BUCKET
    mtime: str = ""
    deleted: bool = False
    options: _Options = msgspec.field(default_factory=_Options)


class ObjectPart(NamedTuple):
    """Whose a chunk is, as its subject says."""

    session: str
    hex_digest: str
    token: str

    @property
    def began(self) -> int:
        """When its upload began, in milliseconds since 1970."""
        return int(self.token.partition("-")[0])


_infos = msgspec.json.Decoder(_Info)
_artifacts = msgspec.json.Decoder(Artifact)


# -- names -------------------------------------------------------------------------------------------


def digest_of(data: bytes) -> str:
    """``sha256:`` and the hex digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def object_name(session: str, digest: str) -> str:
    """The name of a session's object; raises ``InvalidMessage`` for what is no digest."""
    kind, _, text = digest.partition(":")
    if kind != "sha256" or _HEX.fullmatch(text) is None:
        raise InvalidMessage("object reference", f"{digest[:80]!r} is not sha256: and 64 hexadecimal digits")
    return f"{session}/{text}"


def name_problem(name: str) -> str | None:
    """Why this cannot be the name of an artifact; None when it can."""
    if not name or name.startswith("/") or "\\" in name:
        return "an artifact's name is a relative path with `/` between its parts"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if not name.isprintable():
        return "it holds characters that cannot be printed"
    parts = name.split("/")
    if size > NAME_BYTES_MAX or len(parts) > NAME_PARTS_MAX:
        return f"it has more than {NAME_BYTES_MAX} bytes or {NAME_PARTS_MAX} parts"
    if any(part in ("", ".", "..") for part in parts):
        return "it has a part that is empty, `.` or `..`"
    return None


def meta_subject(name: str) -> str:
    """Where an object's description is stored (ADR-20)."""
    return f"$O.{assets.ARTIFACTS_BUCKET}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def parse_meta(subject: str) -> tuple[str, str] | None:
    """The session and the hex digest of a description's subject; None when it is somebody else's."""
    try:
        name = base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode()
    except ValueError:
        return None
    session, _, hex_digest = name.partition("/")
    is_ours = is_token(session) and _HEX.fullmatch(hex_digest) and subject == meta_subject(name)
    return (session, hex_digest) if is_ours else None


def chunk_subject(session: str, hex_digest: str = "*", token: str = "*") -> str:  # noqa: S107 (of a subject)
    """Where an object's chunks are stored."""
    return f"$O.{assets.ARTIFACTS_BUCKET}.C.{session}.{hex_digest}.{token}"


def parse_chunk(subject: str) -> ObjectPart | None:
    """The parts of a chunk's subject; None when it is somebody else's."""
    match subject.split("."):
        case ["$O", assets.ARTIFACTS_BUCKET, "C", session, hex_digest, token] if (
            is_token(session) and _HEX.fullmatch(hex_digest) and _UPLOAD.fullmatch(token)
        ):
            return ObjectPart(session, hex_digest, token)
        case _:
            return None


def index_subject(
    session: str, phase: str | None = None, attempt: int | str = "*", name: str | None = None
) -> str:
    """The key of an artifact, or of all those of a session, a phase, an attempt."""
    phase_token = "*" if phase is None else _token(phase)
    name_token = "*" if name is None else _token(name)
    return f"$KV.{assets.ARTIFACTS_BUCKET}.{session}.{phase_token}.{attempt}.{name_token}"


def _token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


# -- references --------------------------------------------------------------------------------------


def reference_to(data: bytes) -> bytes:
    """The reference to a result, as JSON."""
    keys: tuple[str, ...] | None = None
    if data[:1] == b"{":
        found = tuple(msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
        if len(found) <= KEYS_MAX and sum(map(len, found)) <= CHUNK_BYTES // 32:
            keys = found
    return encode({REFERENCE: ObjectRef(digest=digest_of(data), bytes=len(data), keys=keys)})


def read_reference(value: object) -> ObjectRef | None:
    """The reference that a JSON value is; None when it is none."""
    if not isinstance(value, dict) or len(value) != 1 or REFERENCE not in value:  # pyright: ignore[reportUnknownArgumentType]
        return None
    try:
        return msgspec.convert(value[REFERENCE], ObjectRef)
    except msgspec.ValidationError:
        return None


def may_refer(data: bytes | msgspec.Raw | msgspec.UnsetType) -> bool:
    """Whether JSON may hold a reference: a quick look."""
    return data is not msgspec.UNSET and _REFERENCE_BYTES in bytes(data)


async def resolve(nc: Client, session: str, data: bytes, bytes_max: int = RESOLVED_BYTES_MAX) -> bytes:
    """JSON with each reference in it replaced by what it refers to; verified.

    Raises:
        InvalidMessage: it is no JSON.
        TooManyBytes: together they have more than ``bytes_max``.
        ObjectNotFound, ObjectBroken: one is not there, or is not what it was.
    """
    value = free_json(data, "result")
    found = list(_references(value))
    total = sum(reference.bytes for reference in found)
    if total > bytes_max:
        raise TooManyBytes(total, bytes_max)
    loaded: dict[str, msgspec.Raw] = {}
    left = bytes_max  # what a reference says of its size, anybody can have said
    for reference in found:
        if reference.digest not in loaded:
            object_ = await load_object(nc, session, reference.digest, left)
            loaded[reference.digest] = _json(reference.digest, object_)
        left -= len(bytes(loaded[reference.digest]))
        if left < 0:
            raise TooManyBytes(bytes_max - left, bytes_max)
    return encode(_replaced(value, loaded))


def _json(digest: str, data: bytes) -> msgspec.Raw:
    """The text of an object, in the middle of another, must not be anything but one value."""
    try:
        return msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ObjectBroken(digest, f"it is no JSON: {error}") from error


class TooManyBytes(Exception):
    """The objects of references are too large to be in memory together."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"they refer to {count:,} bytes, the limit is {limit:,}")


def _references(value: Any) -> Iterator[ObjectRef]:
    if (reference := read_reference(value)) is not None:
        yield reference
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:  # pyright: ignore[reportUnknownVariableType]
            yield from _references(item)


def _replaced(value: Any, loaded: dict[str, msgspec.Raw]) -> Any:
    if (reference := read_reference(value)) is not None:
        return loaded[reference.digest]
    if isinstance(value, dict):
        return {key: _replaced(item, loaded) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_replaced(item, loaded) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


# -- storing -----------------------------------------------------------------------------------------


async def chunks_of(data: bytes) -> AsyncGenerator[bytes]:
    """Bytes that are in memory, as ``store`` wants them."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


class ObjectWriter:
    """Stores objects and lists artifacts, each part confirmed before the next: memory stays at one chunk."""

    def __init__(self, nc: Client, confirmed: Confirmed | None = None) -> None:
        self._nc = nc
        self._confirmed = confirmed or Confirmed(nc)

    async def store(
        self,
        session: str,
        digest: str,
        chunks: AsyncIterable[bytes],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Store an object, unless the session has it; until the last step nobody finds it.

        Args:
            session: whose it is.
            digest: of all bytes; they are checked against it.
            chunks: each at most ``CHUNK_BYTES``.
            progress: called after each chunk.

        Raises:
            ObjectNotStored: the bucket does not confirm, or refuses.
            ObjectBroken: the chunks are not what the digest says.
        """
        name = object_name(session, digest)
        if await _info(self._nc, name) is not None:
            return
        hex_digest = digest.partition(":")[2]
        token = f"{time.time_ns() // 1_000_000}-{random_token(12)}"
        subject = chunk_subject(session, hex_digest, token)
        hashed, size, count = hashlib.sha256(), 0, 0
        async for chunk in chunks:
            hashed.update(chunk)
            size, count = size + len(chunk), count + 1
            await self._put(name, subject, chunk, {headers.MSG_ID: f"{token}.{count}"})
            progress()
        if hashed.hexdigest() != hex_digest:
            raise ObjectBroken(name, "its bytes have changed while they were read")
        info = _Info(
            name=name,
            nuid=f"{session}.{hex_digest}.{token}",
            size=size,
            chunks=count,
            digest=f"SHA-256={base64.urlsafe_b64encode(hashed.digest()).decode()}",
            mtime=timestamp(time.time_ns() // 1_000_000),
        )
        await self._put(name, meta_subject(name), encode(info), {headers.ROLLUP: "sub"})

    async def list(self, artifact: Artifact) -> None:
        """List an artifact whose object is stored; raises ObjectNotStored."""
        subject = index_subject(artifact.session_id, artifact.phase_id, artifact.attempt, artifact.name)
        await self._put(artifact.name, subject, encode(artifact), {})

    async def _put(self, name: str, subject: str, data: bytes, header: dict[str, str]) -> None:
        problem = ""
        for _ in range(_TRIES):
            try:
                await self._confirmed.publish(subject, data, timeout=_TRY_SECONDS, headers=header)
            except (TimeoutError, NatsError) as error:
                problem = str(error) or type(error).__name__
            else:
                return
        raise ObjectNotStored(name, problem)


# -- reading -----------------------------------------------------------------------------------------


async def read_object(nc: Client, session: str, digest: str) -> AsyncGenerator[bytes]:
    """The bytes of a session's object, in parts; believe them when it has ended without an error.

    Raises:
        InvalidMessage: that is no digest.
        ObjectNotFound: there is no such object (raised before the first part).
        ObjectBroken: they are not the bytes of this digest.
    """
    name = object_name(session, digest)
    info = await _info(nc, name)
    if info is None:
        raise ObjectNotFound(name)
    hashed, size = hashlib.sha256(), 0
    subject = f"$O.{assets.ARTIFACTS_BUCKET}.C.{info.nuid}"
    async for stored in read_subject(nc, STREAM, subject, batch_max=_BATCH):
        hashed.update(stored.data)
        size += len(stored.data)
        yield stored.data
    if f"sha256:{hashed.hexdigest()}" != digest:
        raise ObjectBroken(name, f"{size:,} bytes were read, {info.size:,} were stored, or others")


async def load_object(nc: Client, session: str, digest: str, bytes_max: int) -> bytes:
    """As ``read_object``, whole; raises TooManyBytes before there is more in memory."""
    data = bytearray()
    async for part in read_object(nc, session, digest):
        data += part
        if len(data) > bytes_max:
            raise TooManyBytes(len(data), bytes_max)
    return bytes(data)


async def list_artifacts(nc: Client, session: str, phase: str | None = None) -> list[Artifact]:
    """The artifacts of a session, or of one phase and its items; by phase, name and attempt."""
    found = [artifact async for _, artifact in _listed(nc, index_subject(session))]
    wanted = [one for one in found if phase is None or is_of_phase(one.phase_id, phase)]
    return sorted(wanted, key=lambda one: (one.phase_id, one.name, one.attempt))


def read_artifacts(nc: Client, session: str, after: int = 0) -> AsyncGenerator[tuple[int, Artifact]]:
    """The artifacts of a session as they were stored, each with its sequence; close it."""
    return _listed(nc, index_subject(session), after)


async def find_artifact(
    nc: Client, session: str, phase: str, name: str, attempt: int | None = None
) -> Artifact | None:
    """One artifact; without an attempt that of the last one that has kept it."""
    if name_problem(name) is not None or not 0 < len(phase) <= ITEM_ID_LENGTH_MAX:
        return None  # nor would it be a subject that the server takes
    subject = index_subject(session, phase, "*" if attempt is None else attempt, name)
    found = [artifact async for _, artifact in _listed(nc, subject)]
    return max(found, key=lambda one: one.attempt, default=None)


async def _listed(nc: Client, subject: str, after: int = 0) -> AsyncGenerator[tuple[int, Artifact]]:
    """What the index has, by sequence; what nobody can read there names nothing."""
    async with aclosing(read_subject(nc, INDEX, subject, start=after + 1)) as messages:
        async for stored in messages:
            if "KV-Operation" not in stored.headers:
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    yield stored.sequence, _artifacts.decode(stored.data)


async def stored_token(nc: Client, session: str, hex_digest: str) -> str | None:
    """The token of the chunks that a session's object consists of; None when it is not whole."""
    info = await _info(nc, f"{session}/{hex_digest}")
    return None if info is None else info.nuid.rpartition(".")[2]


async def _info(nc: Client, name: str) -> _Info | None:
    stored = await last_message(nc, STREAM, meta_subject(name))
    if stored is None:
        return None
    try:
        info = _infos.decode(stored.data)
    except msgspec.DecodeError as error:
        raise ObjectBroken(name, str(error)) from error
    return None if info.deleted else info
