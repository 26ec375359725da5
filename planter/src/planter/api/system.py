"""Planners, runtimes, health, metrics, and what the problem types mean."""

from typing import Annotated

import anyio
from fastapi import APIRouter, Path, Query, Request
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from starlette.responses import Response

from planter.api import answers
from planter.api.answers import Check, json_answer
from planter.api.document import answer, problems
from planter.api.metrics import MEDIA_TYPE
from planter.api.problems import KINDS, Problem, slug, type_of
from planter.api.site import Site, site_of
from planter_protocol import assets
from planter_protocol.errors import ProtocolError

router = APIRouter(tags=["system"])

_CHECK_SECONDS = 2.0
_VerboseQuery = Annotated[str | None, Query(description="List the checks (any value but 0 and false).")]


@router.get(
    "/api/runtimes",
    operation_id="listRuntimes",
    summary="Registered runtimes",
    responses={200: answer(answers.Runtimes, "As the planner that answers knows them."), **problems(503)},
)
async def list_runtimes(request: Request) -> Response:
    """A runtime is registered by its heartbeat."""
    info = await site_of(request).side.info()
    return json_answer(answers.Runtimes(items=info.runtimes))


@router.get(
    "/api/planners",
    operation_id="listPlanners",
    summary="Planners that are alive",
    responses={200: answer(answers.Planners, "Those that said so within a second."), **problems(503)},
)
async def list_planners(request: Request) -> Response:
    """Listens for a moment; an empty list means that there is none."""
    return json_answer(answers.Planners(items=tuple(await site_of(request).side.planners())))


@router.get(
    "/livez",
    operation_id="getLiveness",
    summary="Whether the process turns",
    responses={200: answer(answers.Health, "It does."), **problems()},
)
async def get_liveness(verbose: _VerboseQuery = None) -> Response:
    """Asks nobody."""
    return _health((Check(name="loop", ok=True),), verbose)


@router.get(
    "/startupz",
    operation_id="getStartup",
    summary="Whether the process has started",
    responses={200: answer(answers.Health, "It has."), **problems()},
)
async def get_startup(verbose: _VerboseQuery = None) -> Response:
    """HTTP comes after the planner: who gets an answer here has both."""
    return _health((Check(name="started", ok=True),), verbose)


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Whether sessions can be started",
    responses={200: answer(answers.Health, "They can."), **problems(503)},
)
async def get_readiness(request: Request, verbose: _VerboseQuery = None) -> Response:
    """NATS is connected, its JetStream has the journal, a planner answers."""
    return _health(await _checks(site_of(request)), verbose)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Prometheus metrics",
    responses={
        200: {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(),
    },
)
async def get_metrics(request: Request) -> Response:
    """Counters of this process, gauges of sessions and runtimes."""
    site = site_of(request)
    return Response(await site.metrics.text(site.side), media_type=MEDIA_TYPE)


@router.get(
    "/problems",
    operation_id="listProblems",
    summary="All problem types",
    responses={200: answer(answers.ProblemKinds, "What each means."), **problems()},
)
async def list_problems() -> Response:
    """The table of errors."""
    return json_answer(answers.ProblemKinds(items=tuple(_described(code) for code in KINDS)))


@router.get(
    "/problems/{slug}",
    operation_id="getProblem",
    summary="One problem type",
    responses={200: answer(answers.ProblemKind, "What it means."), **problems(404)},
)
async def get_problem(
    name: Annotated[str, Path(alias="slug", max_length=64, examples=["manifest-invalid"])],
) -> Response:
    """Where the `type` of a problem leads."""
    for code in KINDS:
        if slug(code) == name:
            return json_answer(_described(code))
    raise Problem("not_found", f"there is no problem type {name!r}")


def _described(code: str) -> answers.ProblemKind:
    kind = KINDS[code]
    return answers.ProblemKind(
        type=type_of(code), code=code, status=kind.status, title=kind.title, remedy=kind.remedy
    )


async def _checks(site: Site) -> tuple[Check, ...]:
    nc = site.side.nc
    connected = Check(name="nats", ok=nc.is_connected, detail=None if nc.is_connected else "not connected")
    if not connected.ok:
        return (connected,)
    return (connected, await _journal(site), await _planner(site))


async def _journal(site: Site) -> Check:
    try:
        with anyio.fail_after(_CHECK_SECONDS):
            await site.side.client.js.stream_info(assets.JOURNAL)
    except NotFoundError:
        return Check(name="journal", ok=False, detail=f"there is no stream {assets.JOURNAL}")
    except (TimeoutError, NatsError):
        return Check(name="journal", ok=False, detail="JetStream does not answer")
    return Check(name="journal", ok=True)


async def _planner(site: Site) -> Check:
    try:
        info = await site.side.client.planner_info(timeout=_CHECK_SECONDS)
    except (ProtocolError, NatsError):
        return Check(name="planner", ok=False, detail="no planner answers")
    return Check(name="planner", ok=True, detail=info.planner_id)


def _health(checks: tuple[Check, ...], verbose: str | None) -> Response:
    shown = checks if verbose is not None and verbose.lower() not in ("0", "false") else ()
    failed = [check for check in checks if not check.ok]
    if not failed:
        return json_answer(answers.Health(status="ok", checks=shown))
    kind = "planner.unavailable" if failed[0].name == "planner" else "nats.unavailable"
    detail = "; ".join(f"{check.name}: {check.detail}" for check in failed)
    raise Problem(kind, detail, extra={"checks": shown} if shown else None)
