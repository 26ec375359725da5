"""Sessions, their phases, events and logs; commands."""

import base64
import binascii
from collections import Counter
from contextlib import aclosing
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from planter.api import answers
from planter.api.answers import json_answer, link, tagged_answer
from planter.api.bodies import json_body
from planter.api.document import UNCHANGED, answer, problems, struct_input
from planter.api.parameters import (
    AfterQuery,
    CursorQuery,
    LastEventHeader,
    LimitQuery,
    NoneMatchHeader,
    PhasePath,
    PhaseQuery,
    SessionPath,
)
from planter.api.planner_side import commit_item, log_item
from planter.api.problems import Problem
from planter.api.site import site_of
from planter.api.streams import EventStream, commit_events, log_events, resumed_after, wants_events
from planter_protocol import messages
from planter_protocol.names import is_of_phase

router = APIRouter(prefix="/api/sessions", tags=["sessions"])

_StatusQuery = Annotated[
    messages.SessionStatusName | None, Query(description="Only sessions with this status.")
]
_PhaseStatusQuery = Annotated[
    messages.PhaseStatusName | None, Query(description="Only phases with this status.")
]
_LOOKED_AT_MAX = 20_000
"""Log messages that one page looks at: a phase that says nothing must not cost a reading of everything."""
_STREAM_END = {"description": "The stream is at its end: nothing more comes."}


@router.get(
    "",
    operation_id="listSessions",
    summary="Sessions, newest first",
    responses={200: answer(answers.SessionPage, "A page."), 304: UNCHANGED, **problems(400, 503)},
)
async def list_sessions(
    request: Request,
    limit: LimitQuery = 100,
    cursor: CursorQuery = None,
    status: _StatusQuery = None,
    if_none_match: NoneMatchHeader = None,
) -> Response:
    """From the listing, which follows the journals within a moment."""
    del if_none_match
    records = await site_of(request).side.sessions()
    found = sorted((r for r in records if status in (None, r.status)), key=_place, reverse=True)
    if cursor is not None:
        last = _read_cursor(cursor)
        found = [record for record in found if _place(record) < last]
    page = tuple(found[:limit])
    following = _cursor(page[-1]) if len(found) > limit else None
    return tagged_answer(
        request, answers.SessionPage(items=page, next_cursor=following), link(request, cursor=following)
    )


@router.get(
    "/{session}",
    operation_id="getSession",
    summary="One session, without its phases",
    responses={200: answer(answers.Session, "The session."), 304: UNCHANGED, **problems(404, 503)},
)
async def get_session(
    request: Request, session: SessionPath, if_none_match: NoneMatchHeader = None
) -> Response:
    """Asked of a planner: what its journal says now."""
    del if_none_match
    side = site_of(request).side
    state = await side.page(session, 0)
    if state.next is None:
        counts = dict(Counter(phase.status for phase in state.phases))
    else:
        counts = await side.counts(session)
    found = answers.Session(
        session_id=state.session_id,
        status=state.status,
        revision=state.revision,
        plan_digest=state.plan_digest,
        reason=state.reason,
        created=state.created,
        updated=state.updated,
        sequence=state.sequence,
        total=state.total,
        counts=counts,
    )
    return tagged_answer(request, found)


@router.get(
    "/{session}/phases",
    operation_id="listPhases",
    summary="Phases of a session, in the order of the manifest",
    responses={200: answer(answers.PhasePage, "A page."), 304: UNCHANGED, **problems(400, 404, 410, 503)},
)
async def list_phases(  # noqa: PLR0913, PLR0917 (parameters of the request)
    request: Request,
    session: SessionPath,
    limit: LimitQuery = 100,
    cursor: CursorQuery = None,
    status: _PhaseStatusQuery = None,
    if_none_match: NoneMatchHeader = None,
) -> Response:
    """Where every phase stands."""
    del if_none_match
    revision, offset = _read_phase_cursor(cursor)
    side = site_of(request).side
    found: list[messages.PhaseState] = []
    following: int | None = offset
    state = await side.page(session, offset)
    while following is not None and len(found) < limit:
        if revision not in (None, state.revision):
            raise Problem("cursor.expired", f"session {session} has another revision now: {state.revision}")
        revision = state.revision
        for phase in state.phases:
            following += 1
            if status in (None, phase.status):
                found.append(phase)
            if len(found) == limit:
                break
        if following >= state.total or not state.phases:
            following = None
        elif len(found) < limit:
            state = await side.page(session, following)
    next_cursor = None if following is None else f"{state.revision}.{following}"
    page = answers.PhasePage(
        items=tuple(found), revision=state.revision, total=state.total, next_cursor=next_cursor
    )
    return tagged_answer(request, page, link(request, cursor=next_cursor))


@router.get(
    "/{session}/phases/{phase:path}",
    operation_id="getPhase",
    summary="One phase",
    responses={200: answer(messages.PhaseState, "The phase."), 304: UNCHANGED, **problems(404, 503)},
)
async def get_phase(
    request: Request, session: SessionPath, phase: PhasePath, if_none_match: NoneMatchHeader = None
) -> Response:
    """Where one phase stands, its result included, and whole, however large it is."""
    del if_none_match
    side = site_of(request).side
    offset: int | None = 0
    while offset is not None:
        state = await side.page(session, offset)
        for found in state.phases:
            if found.phase_id == phase:
                (whole,) = await side.client.with_results(session, (found,))
                return tagged_answer(request, whole)
        offset = state.next
    raise Problem("phase.unknown", f"session {session} has no phase {phase[:128]!r}")


@router.get(
    "/{session}/events",
    operation_id="listEvents",
    summary="Commits of a session, as a page or a stream",
    responses={
        200: answer(answers.CommitPage, "Commits, oldest first.", streamed=True),
        204: _STREAM_END,
        **problems(400, 404, 503),
    },
)
async def list_events(
    request: Request,
    session: SessionPath,
    after: AfterQuery = 0,
    limit: LimitQuery = 100,
    last_event_id: LastEventHeader = None,
) -> Response:
    """With `Accept: text/event-stream` everything after `Last-Event-ID`, then live until the session ends."""
    del last_event_id
    site = site_of(request)
    last = await site.side.known(session)
    if wants_events(request):
        after = resumed_after(request, after)
        if after == last and await site.side.is_over(session, after):
            return Response(status_code=204)
        return EventStream(commit_events(site.side, session, after, last), site.stopping)
    items: list[answers.CommitItem] = []
    async with aclosing(site.side.commits(session, after)) as commits:
        async for stored in commits:
            if len(items) == limit:
                break
            items.append(commit_item(stored))
    following = items[-1].sequence if items and items[-1].sequence < last else None
    page = answers.CommitPage(items=tuple(items), next_after=following)
    return json_answer(page, headers=link(request, after=following))


@router.get(
    "/{session}/logs",
    operation_id="listLogs",
    summary="Log messages of a session, as a page or a stream",
    responses={
        200: answer(answers.LogPage, "Log messages, oldest first.", streamed=True),
        204: _STREAM_END,
        **problems(400, 404, 503),
    },
)
async def list_logs(  # noqa: PLR0913, PLR0917 (parameters of the request)
    request: Request,
    session: SessionPath,
    after: AfterQuery = 0,
    limit: LimitQuery = 100,
    phase: PhaseQuery = None,
    last_event_id: LastEventHeader = None,
) -> Response:
    """With `Accept: text/event-stream` everything after `Last-Event-ID`, then live until the session ends."""
    del last_event_id
    site = site_of(request)
    await site.side.known(session)
    last = await site.side.last_log(session)

    def wanted(item: messages.Log) -> bool:
        return phase is None or is_of_phase(item.phase_id or "", phase)

    if wants_events(request):
        after = resumed_after(request, after)
        if after and after == last and await site.side.is_over(session):
            return Response(status_code=204)
        return EventStream(log_events(site.side, session, after, last, wanted), site.stopping)
    items: list[answers.LogItem] = []
    seen, looked_at = after, 0
    async with aclosing(site.side.logs(session, after)) as logs:
        async for stored in logs:
            if len(items) == limit or looked_at == _LOOKED_AT_MAX:
                break
            seen, looked_at = stored.sequence, looked_at + 1
            item = log_item(stored)
            if item is not None and wanted(item):
                items.append(item)
    following = seen if after < seen < last else None
    page = answers.LogPage(items=tuple(items), next_after=following)
    return json_answer(page, headers=link(request, after=following))


@router.post(
    "/{session}/control",
    operation_id="controlSession",
    summary="Pause, resume, cancel, retry, skip or rerun; approve or reject",
    responses={
        200: answer(answers.Controlled, "The planner has carried it out."),
        **problems(400, 404, 409, 410, 413, 415, 503),
    },
    openapi_extra=struct_input(answers.ControlBody, {"command": "pause", "reason": "maintenance"}),
)
async def control_session(request: Request, session: SessionPath) -> Response:
    """Every command may be repeated without harm."""
    body = await json_body(request, answers.ControlBody)
    command = messages.Control(
        command=body.command,
        phase_id=body.phase_id,
        reason=body.reason,
        by=body.by,
        comment=body.comment,
        plan_digest=body.plan_digest,
        data=msgspec.UNSET if body.data is None else msgspec.Raw(msgspec.json.encode(body.data)),
    )
    site = site_of(request)
    await (
        site.side.info()
    )  # without a planner the command would lie in the stream and be obeyed unasked later
    commit = await site.side.control(session, command)
    done = answers.Controlled(
        session_id=session,
        command=body.command,
        n=commit.n,
        events=tuple(str(event["type"]) for event in commit.events),
    )
    return json_answer(done)


# -- cursors -----------------------------------------------------------------------------------------


def _place(record: messages.SessionRecord) -> tuple[str, str]:
    return record.updated or "", record.session_id


def _cursor(record: messages.SessionRecord) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_place(record))).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=tuple[str, str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise _bad_cursor() from None


def _read_phase_cursor(cursor: str | None) -> tuple[int | None, int]:
    if cursor is None:
        return None, 0
    revision, _, offset = cursor.partition(".")
    for part in (revision, offset):
        if not part.isascii() or not part.isdecimal() or len(part) > 9:
            raise _bad_cursor()
    return int(revision), int(offset)


def _bad_cursor() -> Problem:
    return Problem("request.malformed", "the cursor is not one of this list: take `nextCursor` as it is")
