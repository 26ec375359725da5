"""The endpoints of the Phase Manifest Protocol (PMP, "HTTP Endpoints")."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from planter.api import sessions
from planter.api.answers import (
    Apply,
    LogPage,
    PlanAccepted,
    PlanStaged,
    PlanStored,
    json_answer,
    tagged_answer,
)
from planter.api.bodies import json_body, manifest_body
from planter.api.document import UNCHANGED, answer, manifest_input, problems, struct_input
from planter.api.idempotency import accepted, submit_once
from planter.api.keeping import KEPT_SECONDS, StagedPlan
from planter.api.parameters import (
    DEFAULT_SESSION,
    AfterQuery,
    DigestQuery,
    IdempotencyHeader,
    LastEventHeader,
    LimitQuery,
    NoneMatchHeader,
    PhaseQuery,
    SessionQuery,
)
from planter.api.planner_side import Base, StillStored
from planter.api.problems import Problem
from planter.api.site import Site, site_of
from planter_protocol import messages
from planter_protocol.codec import timestamp

router = APIRouter(tags=["pmp"])


@router.post(
    "/plan",
    operation_id="submitPlan",
    summary="Submit a manifest and start it, or stage it",
    responses={
        200: {
            "description": "The manifest is taken in, or staged with `stage=true`.",
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/PlanAccepted"},
                            {"$ref": "#/components/schemas/PlanStaged"},
                        ]
                    }
                }
            },
        },
        202: answer(PlanStored, "Stored; the planner's answer is late. Look at the status."),
        **problems(400, 409, 410, 413, 415, 503),
    },
    openapi_extra=manifest_input(),
)
async def submit_plan(
    request: Request,
    session: SessionQuery = DEFAULT_SESSION,
    stage: Annotated[bool, Query(description="Only keep it for POST /apply; nothing starts.")] = False,  # noqa: FBT002
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Submits a manifest. The same manifest again, while it is executed, is 200 with `repeated`."""
    site = site_of(request)
    manifest = await manifest_body(request)
    if stage:
        return json_answer(await _stage(site, session, manifest))
    try:
        if idempotency_key is None:
            return _accepted(accepted(await site.side.submit(session, manifest)))
        once = await submit_once(site.keeping, site.side, idempotency_key, session, manifest)
    except StillStored as late:
        return _late(session, late)
    return _accepted(once.answer, replayed=once.replayed)


@router.post(
    "/apply",
    operation_id="applyPlan",
    summary="Apply what is staged",
    responses={
        200: answer(PlanAccepted, "The staged manifest is taken in."),
        202: answer(PlanStored, "Stored; the planner's answer is late. Look at the status."),
        **problems(400, 404, 409, 410, 413, 415, 503),
    },
    openapi_extra=struct_input(Apply, {"planDigest": f"sha256:{'0' * 64}"}, required=False),
)
async def apply_plan(request: Request, session: SessionQuery = DEFAULT_SESSION) -> Response:
    """Commits a staged plan, by its digest or the last one, if the session is what it was staged on."""
    site = site_of(request)
    wanted = await json_body(request, Apply, Apply())
    digest = wanted.plan_digest
    staged = await site.keeping.staged(session, digest)
    digest = digest or (staged.plan_digest if staged else None)
    found = await site.side.base(session)
    if digest == found.digest and digest is not None and (staged is None or found != _base(staged)):
        # It was applied already, and the answer was lost on its way.
        state = await site.side.head(session)
        done = PlanAccepted(
            session_id=session,
            plan_digest=state.plan_digest,
            revision=state.revision,
            status=state.status,
            after=state.sequence,
            repeated=True,
        )
    elif staged is None or digest is None:
        raise _not_staged(session, digest)
    else:
        try:
            manifest = await site.keeping.manifest_of(staged)
            done = accepted(await site.side.submit_on(session, manifest, _base(staged)))
        except StillStored as late:
            return _late(session, late)
    if staged is not None:
        await site.keeping.unstage(session, staged.plan_digest)
    return _accepted(done)


@router.get(
    "/status",
    operation_id="getStatus",
    summary="The state of a session with all of its phases",
    responses={200: answer(messages.SessionState, "The state."), 304: UNCHANGED, **problems(404, 503)},
)
async def get_status(
    request: Request, session: SessionQuery = DEFAULT_SESSION, if_none_match: NoneMatchHeader = None
) -> Response:
    """Asked of a planner: what its journal says now."""
    del if_none_match
    return tagged_answer(request, await site_of(request).side.state(session))


@router.get(
    "/diff",
    operation_id="getDiff",
    summary="What the staged manifest would change",
    responses={200: answer(messages.Diff, "The difference."), **problems(404, 503)},
)
async def get_diff(
    request: Request, session: SessionQuery = DEFAULT_SESSION, plan_digest: DigestQuery = None
) -> Response:
    """The staged plan against what is applied now; with nothing staged, there is no difference."""
    site = site_of(request)
    staged = await site.keeping.staged(session, plan_digest)
    if staged is None and plan_digest is not None:
        raise _not_staged(session, plan_digest)
    if staged is None:
        applied = await site.side.head(session)
        same = messages.Diff(
            session_id=session,
            base_revision=applied.revision,
            base_digest=applied.plan_digest,
            plan_digest=applied.plan_digest,
        )
        return tagged_answer(request, same)
    return tagged_answer(request, await site.side.diff(session, await site.keeping.manifest_of(staged)))


@router.post(
    "/diff",
    operation_id="diffManifest",
    summary="What a manifest would change",
    responses={200: answer(messages.Diff, "The difference."), **problems(400, 413, 415, 503)},
    openapi_extra=manifest_input(),
)
async def diff_manifest(request: Request, session: SessionQuery = DEFAULT_SESSION) -> Response:
    """The manifest in the body against what is applied; nothing is kept, nothing starts."""
    manifest = await manifest_body(request)
    return json_answer(await site_of(request).side.diff(session, manifest))


@router.get(
    "/logs",
    operation_id="getLogs",
    summary="Log messages of a session, as a page or a stream",
    responses={
        200: answer(LogPage, "Log messages, oldest first.", streamed=True),
        204: {"description": "The stream is at its end: nothing more comes."},
        **problems(400, 404, 503),
    },
)
async def get_logs(  # noqa: PLR0913, PLR0917 (parameters of the request)
    request: Request,
    session: SessionQuery = DEFAULT_SESSION,
    after: AfterQuery = 0,
    limit: LimitQuery = 100,
    phase: PhaseQuery = None,
    last_event_id: LastEventHeader = None,
) -> Response:
    """As `/api/sessions/{session}/logs`."""
    return await sessions.list_logs(request, session, after, limit, phase, last_event_id)


async def _stage(site: Site, session: str, manifest: str) -> PlanStaged:
    diff = await site.side.diff(session, manifest)
    digest = diff.plan_digest or ""
    now = time.time_ns() // 1_000_000
    plan = StagedPlan(digest, diff.base_revision, diff.base_digest, now)
    await site.keeping.stage(session, plan, manifest)
    return PlanStaged(
        session_id=session,
        plan_digest=digest,
        staged=True,
        base_revision=diff.base_revision,
        base_digest=diff.base_digest,
        expires=timestamp(now + int(KEPT_SECONDS * 1000)),
        diff=diff,
        gaps=diff.gaps,
    )


def _base(staged: StagedPlan) -> Base:
    return Base(staged.base_revision, staged.base_digest)


def _accepted(done: PlanAccepted, *, replayed: bool = False) -> Response:
    headers = {"location": f"/api/sessions/{done.session_id}"}
    if replayed:
        headers["idempotent-replayed"] = "true"
    return json_answer(done, headers=headers)


def _late(session: str, late: StillStored) -> Response:
    stored = PlanStored(session_id=session, after=late.after)
    return json_answer(stored, 202, {"location": f"/api/sessions/{session}", "retry-after": "2"})


def _not_staged(session: str, digest: str | None) -> Problem:
    what = f"no plan {digest} is" if digest else "nothing is"
    return Problem("plan.not_staged", f"{what} staged for session {session}")
