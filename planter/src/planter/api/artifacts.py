"""Files that phases have kept: a list, and each as it is, to be saved and never to be shown."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from planter.api import answers
from planter.api.answers import is_held, link, tagged_answer
from planter.api.document import UNCHANGED, answer, problems
from planter.api.parameters import AfterQuery, LimitQuery, NoneMatchHeader, PhasePath, PhaseQuery, SessionPath
from planter.api.site import site_of
from planter_protocol import RequestRefused
from planter_protocol.artifacts import Artifact

router = APIRouter(prefix="/api/sessions", tags=["sessions"])

_NamePath = Annotated[
    str, Path(description="Name of the artifact, with its slashes.", examples=["report.html"])
]
_AttemptQuery = Annotated[
    int | None, Query(ge=1, le=2**31, description="Of this attempt, not of the last that has kept one.")
]
_BETWEEN = "/artifacts/"
_CONTENT = {
    "description": "The content, as an attachment.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.get(
    "/{session}/artifacts",
    operation_id="listArtifacts",
    summary="Files that the phases of a session have kept",
    responses={
        200: answer(answers.ArtifactPage, "In the order in which they were stored."),
        304: UNCHANGED,
        **problems(404, 503),
    },
)
async def list_artifacts(  # noqa: PLR0913, PLR0917 (parameters of the request)
    request: Request,
    session: SessionPath,
    after: AfterQuery = 0,
    limit: LimitQuery = 100,
    phase: PhaseQuery = None,
    if_none_match: NoneMatchHeader = None,
) -> Response:
    """Those that are stored whole; none of a session whose artifacts are removed."""
    del if_none_match
    side = site_of(request).side
    await side.known(session)
    items: list[answers.ArtifactItem] = []
    is_more = False
    async with aclosing(side.client.artifacts_since(session, after, phase)) as found:
        async for sequence, artifact in found:
            if len(items) == limit:
                is_more = True
                break
            items.append(answers.ArtifactItem(sequence=sequence, **msgspec.structs.asdict(artifact)))
    following = items[-1].sequence if is_more else None
    page = answers.ArtifactPage(items=tuple(items), next_after=following)
    return tagged_answer(request, page, link(request, after=following))


@router.get(
    "/{session}/phases/{phase:path}/artifacts/{name:path}",
    operation_id="getArtifact",
    summary="One file that a phase has kept",
    responses={200: _CONTENT, 304: UNCHANGED, **problems(404, 503)},
    response_class=Response,
)
async def get_artifact(  # noqa: PLR0913, PLR0917 (parameters of the request)
    request: Request,
    session: SessionPath,
    phase: PhasePath,
    name: _NamePath,
    attempt: _AttemptQuery = None,
    if_none_match: NoneMatchHeader = None,
) -> Response:
    """Of the last attempt that has kept one of this name, unless `attempt` says otherwise."""
    client = site_of(request).side.client
    found = await _found(request, session, f"{phase}{_BETWEEN}{name}", attempt)
    tag = f'"{found.digest}"'
    digest = base64.b64encode(bytes.fromhex(found.digest.partition(":")[2])).decode()
    base = found.name.rpartition("/")[2]
    headers = {
        "etag": tag,
        "content-digest": f"sha-256=:{digest}:",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(base, safe='')}",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "no-cache",
    }
    if if_none_match is not None and is_held(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    chunks = client.object_bytes(session, found.digest)
    first = await anext(chunks, b"")  # what is not there is told before the answer begins
    headers["content-length"] = str(found.bytes)
    return StreamingResponse(_all(first, chunks), 200, headers, "application/octet-stream")


async def _all(first: bytes, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for chunk in chunks:
        yield chunk


async def _found(request: Request, session: str, path: str, attempt: int | None) -> Artifact:
    """The artifact of ``PHASE/artifacts/NAME``: either may have the middle of that in it."""
    side = site_of(request).side
    await side.known(session)
    at = path.find(_BETWEEN)
    while True:
        phase, name = path[:at], path[at + len(_BETWEEN) :]
        following = path.find(_BETWEEN, at + 1)
        try:
            return await side.client.artifact(session, phase, name, attempt)
        except RequestRefused:
            if following < 0:
                raise
        at = following
