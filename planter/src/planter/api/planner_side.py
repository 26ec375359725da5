"""Everything that the HTTP interface asks of NATS and of planners, in one place.

What planners learn to answer later (a difference with more in it, an explanation, a start that names what it
is based on) is taken up here and nowhere else.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg

from planter.api.answers import CommitItem, LogItem, Planner
from planter.api.problems import Problem
from planter.core.status import SESSION_TERMINAL
from planter.shell.presence import BEAT_SECONDS
from planter_protocol import PlanClient, assets, messages, subjects
from planter_protocol.client import decode_commit, ends_session
from planter_protocol.codec import decode
from planter_protocol.errors import InvalidMessage, PlannerUnavailable, RequestRefused, SessionNotFound
from planter_protocol.reading import Stored, last_message, last_sequence, read_subject

_CONFIRM_SECONDS = 20.0
_NO_PHASES = 2**31
_LISTEN_SECONDS = 1.2 * BEAT_SECONDS


class Base(NamedTuple):
    """What is applied to a session: a change of it makes a staged plan stale."""

    revision: int
    digest: str | None


class Applied(NamedTuple):
    """A manifest that a planner has taken in."""

    state: messages.SessionState
    """Without phases."""
    after: int
    repeated: bool
    gaps: tuple[messages.Gap, ...] = ()
    """Of the phases that it has to run: those that no runtime took, just before."""


class StillStored(Exception):
    """The input stream has the manifest, but no planner has taken it in within the time."""

    def __init__(self, after: int) -> None:
        self.after = after
        super().__init__("no planner has taken the manifest in yet")


class PlannerSide:
    """Questions and orders over one connection."""

    def __init__(self, client: PlanClient) -> None:
        self.client = client
        self.nc = client.nc

    # -- plans -----------------------------------------------------------------------------------

    async def submit(self, session: str, manifest: str, *, on_revision: int | None = None) -> Applied:
        """Start the manifest and wait until a planner has said yes.

        Args:
            session: its id.
            manifest: text, JSON or YAML.
            on_revision: the planner refuses it unless the session has this revision (0: none) by then.

        Raises:
            RequestRefused: the manifest is invalid, the session executes another one, or ``plan.stale``.
            PlannerUnavailable: no planner answers; nothing was stored.
            StillStored: it is stored, the answer is late.
        """
        # Asked first, because without a planner the manifest would lie in the stream and start unasked later.
        await self.client.planner_info()
        gaps = await self._gaps(session, manifest)
        try:
            submitted = await self.client.submit(
                manifest, session=session, confirm=_CONFIRM_SECONDS, expect_revision=on_revision
            )
        except PlannerUnavailable:
            raise StillStored(await self.last_commit(session)) from None
        state = await self.head(session)
        if not submitted.repeated:
            state = msgspec.structs.replace(
                state, revision=submitted.revision, plan_digest=submitted.plan_digest
            )
        return Applied(state, submitted.after, submitted.repeated, gaps)

    async def _gaps(self, session: str, manifest: str) -> tuple[messages.Gap, ...]:
        """What no runtime takes of what the manifest would run; what is wrong with it, submitting tells."""
        with contextlib.suppress(RequestRefused, PlannerUnavailable):
            return (await self.diff(session, manifest)).gaps
        return ()

    async def submit_on(self, session: str, manifest: str, base: Base) -> Applied:
        """As ``submit``, if the session still is what the plan was made for.

        Raises:
            Problem: ``plan.stale``.
        """
        # The planner compares again when it decides; what is stale already need not be sent.
        found = await self.base(session)
        if found != base:
            text = (
                f"the plan was staged on revision {base.revision} of session {session}; "
                f"it has revision {found.revision} now"
            )
            raise Problem("plan.stale", text)
        return await self.submit(session, manifest, on_revision=base.revision)

    async def base(self, session: str) -> Base:
        """What is applied now; revision 0 when there is no such session."""
        try:
            state = await self.head(session)
        except SessionNotFound:
            return Base(0, None)
        return Base(state.revision, state.plan_digest)

    async def diff(self, session: str, manifest: str) -> messages.Diff:
        """What the manifest would change; changes nothing."""
        return await self.client.diff(session, manifest, timeout=_CONFIRM_SECONDS)

    async def control(self, session: str, command: messages.Control) -> messages.Commit:
        """Carry out a command, and wait for the commit."""
        return await self.client.send_control_confirmed(session, command)

    # -- states ----------------------------------------------------------------------------------

    async def state(self, session: str) -> messages.SessionState:
        """The session with all of its phases."""
        return await self.client.get_state(session)

    async def page(self, session: str, offset: int) -> messages.SessionState:
        """The session with a page of its phases."""
        return await self.client.get_state_page(session, offset)

    async def head(self, session: str) -> messages.SessionState:
        """The session without phases."""
        return await self.client.get_state_page(session, _NO_PHASES)

    async def sessions(self) -> list[messages.SessionRecord]:
        """All sessions, newest first."""
        return await self.client.sessions()

    async def counts(self, session: str) -> dict[str, int]:
        """Phases by status, from the listing; it may be a moment older than the journal."""
        bucket = assets.SESSIONS_BUCKET
        found = await last_message(self.nc, f"KV_{bucket}", f"$KV.{bucket}.{session}")
        if found is None or "KV-Operation" in found.headers:
            return {}
        return decode(found.data, messages.SessionRecord).counts

    # -- streams ---------------------------------------------------------------------------------

    async def last_commit(self, session: str) -> int:
        """Journal sequence of the session's last commit, 0 when there is no such session."""
        return await last_sequence(self.nc, assets.JOURNAL, subjects.journal(session))

    async def last_log(self, session: str) -> int:
        """Sequence of the session's last log message, 0 when there is none."""
        return await last_sequence(self.nc, assets.LOGS, subjects.log(session))

    async def known(self, session: str) -> int:
        """As ``last_commit``; raises SessionNotFound when there is no such session."""
        last = await self.last_commit(session)
        if last == 0:
            raise SessionNotFound(session)
        return last

    def commits(self, session: str, after: int) -> AsyncGenerator[Stored]:
        """The commits so far, oldest first; close it."""
        return read_subject(self.nc, assets.JOURNAL, subjects.journal(session), start=after + 1)

    def logs(self, session: str, after: int) -> AsyncGenerator[Stored]:
        """The log messages so far, oldest first; close it."""
        return read_subject(self.nc, assets.LOGS, subjects.log(session), start=after + 1)

    async def is_over(self, session: str, after: int | None = None) -> bool:
        """Whether the session has ended, with nothing in its journal after the sequence.

        Without a planner nobody knows; then it goes on.
        """
        try:
            state = await self.head(session)
        except PlannerUnavailable:
            return False
        ended = state.status in SESSION_TERMINAL
        return ended and (after is None or state.sequence <= after)

    async def until_over(self, session: str) -> None:
        """Return when the session has ended."""
        after = await self.last_commit(session)
        if await self.is_over(session):
            return
        async with aclosing(self.client.tail_journal(session, after=after)) as batches:
            async for batch in batches:
                ended = False
                for stored in batch:
                    ended = ends_session(decode_commit(stored.data), ended=ended)
                if ended:
                    return

    # -- processes -------------------------------------------------------------------------------

    async def info(self) -> messages.PlannerInfo:
        """What one planner says of itself and of the runtimes."""
        return await self.client.planner_info()

    async def planners(self) -> list[Planner]:
        """All planners: each says twice a second that it is there, or is the only one and answers."""
        alive: dict[str, bool] = {}

        async def on_presence(message: Msg) -> None:
            with contextlib.suppress(InvalidMessage):
                presence = decode(message.data, messages.Presence)
                alive[presence.planner_id] = not presence.leaving

        subscription = await self.nc.subscribe(subjects.PLANNER_PRESENCE_WILDCARD, cb=on_presence)
        try:
            info = await self.info()
            await asyncio.sleep(_LISTEN_SECONDS)
        except PlannerUnavailable:
            return []
        finally:
            await subscription.unsubscribe()
        found = [Planner(planner_id=name) for name in alive if alive[name] and name != info.planner_id]
        found.append(Planner(planner_id=info.planner_id, version=info.version, sessions=info.sessions))
        return sorted(found, key=lambda planner: planner.planner_id)


def commit_item(stored: Stored) -> CommitItem:
    """A stored commit as it is answered."""
    return CommitItem(sequence=stored.sequence, **_fields(decode_commit(stored.data)))


def log_item(stored: Stored) -> LogItem | None:
    """A stored log message as it is answered; None when it cannot be read (anybody may write a log)."""
    try:
        return LogItem(sequence=stored.sequence, **_fields(decode(stored.data, messages.Log)))
    except InvalidMessage:
        return None


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
