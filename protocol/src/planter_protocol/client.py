"""The client for publishers and monitors.

async with PlanClient.connected("nats://127.0.0.1:4222") as client:
    submitted = await client.submit(manifest, session="nightly")
    async for commit in client.watch("nightly", after=submitted.after):
        print(commit.at, [event["type"] for event in commit.events])
    print((await client.get_state("nightly")).status)
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import APIError, BadObjectMetaError, NoStreamResponseError
from nats.js.errors import NotFoundError as JetStreamNotFound

from planter_protocol import assets, explaining, headers, messages, subjects
from planter_protocol.artifacts import (
    RESOLVED_BYTES_MAX,
    Artifact,
    TooManyBytes,
    find_artifact,
    list_artifacts,
    may_refer,
    read_artifacts,
    read_object,
    resolve,
)
from planter_protocol.codec import MESSAGE_BYTES_MAX, check_size, decode, encode
from planter_protocol.confirming import Confirmed
from planter_protocol.connection import DEFAULT_URL, connect
from planter_protocol.errors import (
    InvalidMessage,
    JetStreamUnavailable,
    ObjectBroken,
    ObjectNotFound,
    PlannerUnavailable,
    RequestRefused,
    SessionNotFound,
)
from planter_protocol.names import is_of_phase, is_token, new_session_id, random_token, session_id
from planter_protocol.reading import Stored, last_sequence, read_subject

T = TypeVar("T")

_PUBLISH_SECONDS = 2.0
_PUBLISH_TRIES = 5
_POLL_SECONDS = 2.0
_SETTLE_SECONDS = (0.002, 0.01, 0.05, 0.2)
OBJECT_BYTES_MAX = 256 * 1024 * 1024
"""Of a manifest, or a plan, as JSON."""
INLINE_BYTES_MAX = MESSAGE_BYTES_MAX - 16 * 1024
"""A larger manifest is an object in the bucket PLANTER_MANIFESTS, named in the message."""


class Submitted(NamedTuple):
    """A manifest that the input stream has confirmed."""

    session: str
    sequence: int
    """Of the message in PLANTER_IN; the commit that takes it in names it under ``inputs``."""
    after: int
    """Last journal sequence of the session before: watch from here."""
    revision: int = 0
    """The revision that the planner made of it (0: not waited for)."""
    plan_digest: str | None = None
    repeated: bool = False
    """The same plan was already applied or running; nothing new was started."""


class PlanClient:
    """Submit, watch, control and query sessions over one NATS connection."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.js: JetStreamContext = nc.jetstream(timeout=_PUBLISH_SECONDS)
        self._published = Confirmed(nc)

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, url: str = DEFAULT_URL, *, role: str = "client", wait: float = 2.0
    ) -> AsyncGenerator["PlanClient"]:
        """A client with a connection of its own, closed at the end.

        Raises:
            ServerUnreachable: no server answers within ``wait`` seconds.
        """
        nc = await connect(url, role=role, wait=wait)
        try:
            yield cls(nc)
        finally:
            await nc.close()

    # -- publishers ------------------------------------------------------------------------------

    async def submit(  # noqa: PLR0913 (each is a field of the message)
        self,
        manifest: Any,
        *,
        session: str | None = None,
        dry_run: bool = False,
        confirm: float | None = 10.0,
        replan: bool = False,
        expect_digest: str | None = None,
        expect_revision: int | None = None,
        target_phase: str | None = None,
    ) -> Submitted:
        """Publish a manifest to ``plan.session.<id>.start`` and, by default, wait for the planner's answer.

        Args:
            manifest: a list or dict of phases, or JSON or YAML text (str or bytes).
            session: the session's id; None makes a new one.
            dry_run: only ask, as ``diff`` does; nothing is published to the input stream.
            confirm: seconds to wait until a planner has taken it in; None does not wait.
            replan: apply it to the session even while that runs.
            expect_digest: digest of the plan that was reviewed.
            expect_revision: revision of the session that it was reviewed against.
            target_phase: run this phase and what it needs, and stop.

        Raises:
            RequestRefused: the manifest is invalid, the session executes another one, or what was reviewed
                is not what would be applied (``plan.stale``).
            PlannerUnavailable: the input is stored, but no planner took it in within ``confirm`` seconds.
            JetStreamUnavailable: the input stream does not answer.
        """
        session = session_id(session) if session else new_session_id()
        if dry_run:
            found = await self.diff(session, manifest, target_phase=target_phase)
            return Submitted(session, 0, 0, found.base_revision, found.plan_digest)
        message = msgspec.structs.replace(
            await self._start_message(manifest, target_phase=target_phase),
            replan=replan,
            expect_digest=expect_digest,
            expect_revision=expect_revision,
        )
        after = await last_sequence(self.nc, assets.JOURNAL, subjects.journal(session))
        sequence = await self._publish(subjects.start(session), message)
        submitted = Submitted(session, sequence, after)
        return submitted if confirm is None else await self._confirmed(submitted, confirm)

    async def control(
        self,
        session: str,
        command: messages.ControlCommand,
        *,
        phase: str | None = None,
        reason: str | None = None,
    ) -> int:
        """Publish a command to ``plan.session.<id>.control``; returns its input sequence."""
        return await self.send_control(
            session, messages.Control(command=command, phase_id=phase, reason=reason)
        )

    async def send_control(self, session: str, control: messages.Control) -> int:
        """As ``control``, with all that a command may say."""
        return await self._publish(subjects.control(session), control)

    async def control_confirmed(
        self,
        session: str,
        command: messages.ControlCommand,
        *,
        phase: str | None = None,
        reason: str | None = None,
        wait: float = 10.0,
    ) -> messages.Commit:
        """As ``control``, then wait for the commit that took it in.

        Raises:
            RequestRefused: the planner refused the command; the text says why.
            SessionNotFound: there is no such session.
            PlannerUnavailable: no planner took it in within ``wait`` seconds.
        """
        control = messages.Control(command=command, phase_id=phase, reason=reason)
        return await self.send_control_confirmed(session, control, wait=wait)

    async def send_control_confirmed(
        self, session: str, control: messages.Control, *, wait: float = 10.0
    ) -> messages.Commit:
        """As ``control_confirmed``, with all that a command may say."""
        after = await last_sequence(self.nc, assets.JOURNAL, subjects.journal(session))
        if after == 0:
            raise SessionNotFound(session)
        sequence = await self.send_control(session, control)
        return await self._taken_in(Submitted(session, sequence, after), wait)

    # -- monitors --------------------------------------------------------------------------------

    async def watch(
        self, session: str, *, after: int = 0, until_ended: bool = True
    ) -> AsyncGenerator[messages.Commit]:
        """Every commit of a session after a journal sequence, gap-free and in order, then live.

        Args:
            session: the session's id.
            after: journal sequence that is already known; 0 starts at the beginning.
            until_ended: stop when the newest commit ends the session; False goes on for ever.
        """
        numbered = self.watch_numbered(session, after=after, until_ended=until_ended)
        async with aclosing(numbered):
            async for _, commit in numbered:
                yield commit

    async def watch_numbered(
        self, session: str, *, after: int = 0, until_ended: bool = True
    ) -> AsyncGenerator[tuple[int, messages.Commit]]:
        """As ``watch``, with the journal sequence of each commit."""
        tail = self._tail(assets.JOURNAL, subjects.journal(session), subjects.events(session), after)
        async with aclosing(tail):
            async for batch in tail:
                ended = False
                for stored in batch:
                    commit = decode_commit(stored.data)
                    ended = ends_session(commit, ended=ended)
                    yield stored.sequence, commit
                if ended and until_ended:
                    return

    async def history(self, session: str, *, after: int = 0) -> list[messages.Commit]:
        """The commits of a session so far."""
        read = read_subject(self.nc, assets.JOURNAL, subjects.journal(session), start=after + 1)
        return [decode_commit(stored.data) async for stored in read]

    async def logs(
        self, session: str, *, after: int = 0, follow: bool = False
    ) -> AsyncGenerator[tuple[int, messages.Log]]:
        """Log messages with their stream sequences, oldest first; ``follow`` goes on for ever."""
        subject = subjects.log(session)
        if not follow:
            async for stored in read_subject(self.nc, assets.LOGS, subject, start=after + 1):
                yield stored.sequence, decode(stored.data, messages.Log)
            return
        tail = self._tail(assets.LOGS, subject, subject, after)
        async with aclosing(tail):
            async for batch in tail:
                for stored in batch:
                    yield stored.sequence, decode(stored.data, messages.Log)

    def tail_journal(self, session: str, *, after: int = 0) -> AsyncGenerator[list[Stored]]:
        """Batches of a session's stored commits, for ever; an empty batch: there are no more so far."""
        return self._tail(assets.JOURNAL, subjects.journal(session), subjects.events(session), after)

    def tail_log(
        self, session: str, *, after: int = 0, woken: asyncio.Event | None = None
    ) -> AsyncGenerator[list[Stored]]:
        """As ``tail_journal``, of the log; setting ``woken`` lets it look at once."""
        subject = subjects.log(session)
        return self._tail(assets.LOGS, subject, subject, after, woken)

    async def sessions(self) -> list[messages.SessionRecord]:
        """All sessions, newest first, from the bucket PLANTER_SESSIONS."""
        bucket = assets.SESSIONS_BUCKET
        found: list[messages.SessionRecord] = []
        async for stored in read_subject(self.nc, f"KV_{bucket}", f"$KV.{bucket}.>"):
            if "KV-Operation" not in stored.headers:
                with suppress(InvalidMessage):  # what nobody can read is no session
                    found.append(decode(stored.data, messages.SessionRecord))
        return sorted(found, key=lambda record: record.updated or "", reverse=True)

    # -- queries ---------------------------------------------------------------------------------

    async def get_state(
        self, session: str, *, timeout: float = 5.0, with_results: bool = False
    ) -> messages.SessionState:
        """The full state of a session, asked from a planner (large ones come in pages, put together here).

        A large result is a reference in it, unless ``with_results``: see there.

        Raises:
            SessionNotFound: there is no such session.
            PlannerUnavailable: no planner answers.
        """
        state = await self.get_state_page(session, timeout=timeout)
        phases = list(state.phases)
        while state.next is not None:
            state = await self.get_state_page(session, state.next, timeout=timeout)
            phases.extend(state.phases)
        if with_results:
            phases = await self.with_results(session, phases)
        return msgspec.structs.replace(state, phases=tuple(phases))

    async def with_results(
        self, session: str, phases: Iterable[messages.PhaseState], bytes_max: int = RESOLVED_BYTES_MAX
    ) -> list[messages.PhaseState]:
        """Phases with their large results in the place of the references to them, as long as there is room.

        Those that would make it more than ``bytes_max``, and those removed or broken, stay references.
        """
        found: list[messages.PhaseState] = []
        for phase in phases:
            result = phase.result
            if result is not msgspec.UNSET and may_refer(result):
                with suppress(TooManyBytes, ObjectNotFound, ObjectBroken, InvalidMessage):
                    result = msgspec.Raw(await resolve(self.nc, session, bytes(result), bytes_max))
                    bytes_max -= len(bytes(result))
            found.append(msgspec.structs.replace(phase, result=result))
        return found

    # -- artifacts -------------------------------------------------------------------------------

    async def artifacts(self, session: str, phase: str | None = None) -> list[Artifact]:
        """The files that the phases of a session have kept, or one phase and its items."""
        return await list_artifacts(self.nc, session_id(session), phase)

    async def artifacts_since(
        self, session: str, after: int = 0, phase: str | None = None
    ) -> AsyncGenerator[tuple[int, Artifact]]:
        """As ``artifacts``, one after the other in the order in which they were stored, with their sequences.

        Args:
            session: its id.
            after: sequence after which to begin.
            phase: None: of all phases.
        """
        async with aclosing(read_artifacts(self.nc, session_id(session), after)) as found:
            async for sequence, artifact in found:
                if phase is None or is_of_phase(artifact.phase_id, phase):
                    yield sequence, artifact

    async def artifact(self, session: str, phase: str, name: str, attempt: int | None = None) -> Artifact:
        """One of them; without an attempt that of the last one that has kept it.

        Raises:
            RequestRefused: there is none (``artifact.unknown``).
        """
        found = await find_artifact(self.nc, session_id(session), phase, name, attempt)
        if found is None:
            of_attempt = "" if attempt is None else f" in attempt {attempt}"
            text = f"phase {phase!r} of session {session} has kept no {name!r}{of_attempt}"
            raise RequestRefused("artifact.unknown", text)
        return found

    def object_bytes(self, session: str, digest: str) -> AsyncGenerator[bytes]:
        """The content of an artifact or a large result, in parts; to be believed when it has ended well.

        Raises:
            ObjectNotFound: the session has no such object.
            ObjectBroken: its bytes do not have the digest.
        """
        return read_object(self.nc, session, digest)

    async def get_state_page(
        self, session: str, offset: int = 0, *, timeout: float = 5.0
    ) -> messages.SessionState:
        """As ``get_state``, but one page, from a phase on; an offset after the last phase asks for none."""
        request = messages.GetState(offset=offset)
        return await self._request(subjects.get_state(session), request, messages.SessionState, timeout)

    async def diff(
        self, session: str, manifest: Any, *, timeout: float = 10.0, target_phase: str | None = None
    ) -> messages.Diff:
        """What the manifest would change in the session; changes nothing.

        A manifest that is too large for a message is stored under its digest first, as it is for a start.

        Raises:
            RequestRefused: the manifest is invalid, or the session's id is not used any more.
            PlannerUnavailable: no planner answers.
        """
        start = await self._start_message(manifest, target_phase=target_phase)
        message = msgspec.structs.replace(start, dry_run=True)
        return await self._request(subjects.diff(session), message, messages.Diff, timeout)

    async def explain(
        self, session: str, phase: str | None = None, *, timeout: float = 10.0
    ) -> explaining.Explanation:
        """Why a phase is not running; without one, why all those that neither run nor are done are not.

        Raises:
            SessionNotFound: there is no such session.
            RequestRefused: it has no such phase (``phase.unknown``).
            PlannerUnavailable: no planner answers.
        """
        message = explaining.Explain(phase_id=phase)
        return await self._request(subjects.explain(session), message, explaining.Explanation, timeout)

    async def planner_info(self, *, timeout: float = 2.0) -> messages.PlannerInfo:
        """Which planner answers and which runtimes it knows."""
        return await self._request(subjects.PLANNER_INFO, messages.GetState(), messages.PlannerInfo, timeout)

    # -- inside ----------------------------------------------------------------------------------

    async def _start_message(self, manifest: Any, *, target_phase: str | None = None) -> messages.Start:
        data = _manifest_json(manifest)
        if len(data) <= INLINE_BYTES_MAX:
            return messages.Start(manifest=msgspec.Raw(data), target_phase=target_phase)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        await store_object(self.js, digest, data)
        reference = messages.ManifestRef(digest=digest, size=len(data))
        return messages.Start(manifest_ref=reference, target_phase=target_phase)

    async def _publish(self, subject: str, message: Any) -> int:
        """Confirmed publish; a repeated one carries the same id, so the stream keeps it once."""
        data = encode(message)
        message_id = f"{subject}/{random_token(16)}"
        check_size(subject, data, {headers.MSG_ID: message_id})
        for tries_left in reversed(range(_PUBLISH_TRIES)):
            try:
                return await self._published.publish(
                    subject, data, timeout=_PUBLISH_SECONDS, headers={headers.MSG_ID: message_id}
                )
            except NoStreamResponseError as error:
                raise JetStreamUnavailable(
                    _address(self.nc), f"no stream takes {subject}: has a planner ever run here?"
                ) from error
            except (TimeoutError, NatsTimeoutError, APIError) as error:
                if tries_left == 0:
                    raise JetStreamUnavailable(
                        _address(self.nc), f"{subject} was not confirmed: {error}"
                    ) from error
        raise AssertionError("unreachable")

    async def _taken_in(self, submitted: Submitted, wait: float) -> messages.Commit:
        """The commit that names the input; raises RequestRefused when it refuses it."""
        try:
            commits = self.watch(submitted.session, after=submitted.after, until_ended=False)
            async with asyncio.timeout(wait), aclosing(commits):
                async for commit in commits:
                    if submitted.sequence in commit.inputs:
                        _raise_refused(commit, submitted.sequence)
                        return commit
        except TimeoutError:
            raise PlannerUnavailable(subjects.start(submitted.session)) from None
        raise AssertionError("a watch without end has ended")

    async def _confirmed(self, submitted: Submitted, wait: float) -> Submitted:
        commit = await self._taken_in(submitted, wait)
        applied = next((event for event in commit.events if event["type"] == "PlanApplied"), None)
        if applied is None:
            return submitted._replace(repeated=True)
        return submitted._replace(revision=applied["revision"], plan_digest=applied["digest"])

    async def _request(self, subject: str, message: Any, kind: type[T], timeout: float) -> T:
        try:
            reply = await self.nc.request(subject, encode(message), timeout=timeout)
        except (TimeoutError, NoRespondersError, NatsTimeoutError) as error:
            raise PlannerUnavailable(subject) from error
        _raise_refusal(reply)
        return decode(reply.data, kind)

    async def _tail(
        self, stream: str, subject: str, wake: str, after: int, woken: asyncio.Event | None = None
    ) -> AsyncGenerator[list[Stored]]:
        """Batches of stored messages after a sequence, for ever.

        Live messages only wake the reader; what counts is read from the stream, so a dropped message, a
        reconnection or a slow reader never makes a gap.
        """
        woken = woken or asyncio.Event()

        async def on_message(_: Msg) -> None:
            woken.set()

        subscription = await self.nc.subscribe(wake, cb=on_message)
        try:
            while True:
                woken.clear()
                batch = [stored async for stored in read_subject(self.nc, stream, subject, start=after + 1)]
                yield batch
                if batch:
                    after = batch[-1].sequence
                    continue
                if await _is_set_within(woken.wait, _POLL_SECONDS):
                    # The stream may store a message a moment after the subscriber has seen it.
                    for pause in _SETTLE_SECONDS:
                        if await last_sequence(self.nc, stream, subject) > after:
                            break
                        await asyncio.sleep(pause)
        finally:
            with suppress(ConnectionClosedError):  # the reader may outlive its connection
                await subscription.unsubscribe()


async def store_object(js: JetStreamContext, digest: str, data: bytes) -> None:
    """Keep bytes in the bucket PLANTER_MANIFESTS under their digest; the same bytes are stored once."""
    store = await js.object_store(assets.MANIFESTS_BUCKET)
    try:
        await store.get_info(digest)
    except JetStreamNotFound:
        await store.put(digest, data)


async def load_object(js: JetStreamContext, digest: str) -> bytes:
    """The bytes of a digest.

    Raises:
        InvalidMessage: there is no such object, or its bytes do not have that digest.
    """
    bucket = assets.MANIFESTS_BUCKET
    store = await js.object_store(bucket)
    try:
        info = await store.get_info(digest)
    except JetStreamNotFound as error:
        raise InvalidMessage("manifest reference", f"no object {digest} in {bucket}") from error
    except (BadObjectMetaError, ValueError, TypeError, LookupError) as error:
        text = f"the description of {digest} in {bucket} cannot be read"
        raise InvalidMessage("manifest reference", text) from error
    if not is_token(info.nuid or ""):
        raise InvalidMessage("manifest reference", f"the description of {digest} names no chunks")
    # Its chunks (NATS ADR-20 says where) by direct gets: a tenth of the time that ``store.get`` takes.
    nc = js._nc  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    chunks = read_subject(nc, f"OBJ_{bucket}", f"$O.{bucket}.C.{info.nuid}")
    data = bytearray()
    async with aclosing(chunks):
        async for stored in chunks:
            data += stored.data
            if len(data) > OBJECT_BYTES_MAX:
                text = f"the object {digest} has more than {OBJECT_BYTES_MAX:,} bytes"
                raise InvalidMessage("manifest reference", text)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise InvalidMessage("manifest reference", f"the object {digest} has other bytes")
    return bytes(data)


def decode_commit(data: bytes) -> messages.Commit:
    """A journal record as monitors read it (records may be larger than messages of clients)."""
    try:
        return _commits.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage("Commit", str(error)) from error


def ends_session(commit: messages.Commit, *, ended: bool = False) -> bool:
    """Whether the session is over after this commit, given whether it was before."""
    for event in commit.events:
        if event["type"] in ("SessionEnded", "SessionPurged"):
            ended = True
        elif event["type"] in ("PlanApplied", "SessionReopened"):
            ended = False
    return ended


_commits = msgspec.json.Decoder(messages.Commit)


def _manifest_json(manifest: Any) -> bytes:
    """The manifest as JSON; YAML text travels as a JSON string, so that places in it stay true."""
    if not isinstance(manifest, str | bytes):
        return encode(manifest)
    data = manifest.encode() if isinstance(manifest, str) else manifest
    if data.lstrip()[:1] in (b"{", b"["):
        try:
            msgspec.json.decode(data, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return data
    return encode(data.decode("utf-8", "replace"))


def _raise_refused(commit: messages.Commit, sequence: int) -> None:
    for event in commit.events:
        if event["type"] == "InputRefused" and event["input"] == sequence:
            raise RequestRefused(event["code"], event["text"], event.get("problems", ()))


def _raise_refusal(reply: Msg) -> None:
    if reply.data[:9] != b'{"error":':
        return
    error = decode(reply.data, messages.Refusal).error
    if error.code == "session.unknown":
        raise SessionNotFound(error.text.split("'")[1] if "'" in error.text else error.text)
    raise RequestRefused(error.code, error.text, error.problems)


async def _is_set_within(wait: Callable[[], Awaitable[Any]], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        return False
    return True


def _address(nc: Client) -> str:
    return nc.connected_url.netloc if nc.connected_url else "(not connected)"
