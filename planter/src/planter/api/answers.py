"""What the endpoints answer, beside the messages of the wire that they pass on as they are."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from planter_protocol import messages
from planter_protocol.artifacts import Artifact


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all answers: camelCase, defaults left out."""


class PlanAccepted(Answer, frozen=True):
    """The planner has taken the manifest in."""

    session_id: str
    plan_digest: str | None
    revision: int
    status: str
    """Of the session, a moment after the planner's answer."""
    after: int = 0
    """Journal sequence before the start: what comes of it are the events after this."""
    repeated: bool = False
    """The same plan was applied or running already: nothing new was started."""
    gaps: tuple[messages.Gap, ...] = ()
    """Phases that waited for a runtime when the manifest was submitted: why nobody takes them."""


class PlanStored(Answer, frozen=True):
    """The manifest is stored and will be taken in, but no planner has done so yet."""

    session_id: str
    after: int = 0


class PlanStaged(Answer, frozen=True):
    """The manifest is kept to be applied; nothing was started."""

    session_id: str
    plan_digest: str
    staged: bool
    base_revision: int
    """0: nothing is applied yet."""
    base_digest: str | None
    expires: str
    diff: messages.Diff
    gaps: tuple[messages.Gap, ...] = ()
    """Phases that no runtime would take now, and why; as in ``diff``."""


class Session(Answer, frozen=True):
    """A session without its phases."""

    session_id: str
    status: str
    revision: int = 0
    plan_digest: str | None = None
    reason: str | None = None
    created: str | None = None
    updated: str | None = None
    sequence: int = 0
    """Journal sequence that this includes."""
    total: int = 0
    """Number of phases."""
    counts: dict[str, int] = {}
    """Phases by status. Of sessions with more than 1,000 phases they may be a moment older."""


class CommitItem(messages.Commit, frozen=True, kw_only=True, rename="camel"):
    """A commit with its sequence in the journal."""

    sequence: int


class LogItem(messages.Log, frozen=True, kw_only=True):
    """A log message with its sequence in the stream of logs."""

    sequence: int


class SessionPage(Answer, frozen=True):
    """Sessions, newest first."""

    items: tuple[messages.SessionRecord, ...]
    next_cursor: str | None = None


class PhasePage(Answer, frozen=True):
    """Phases in the order of the manifest."""

    items: tuple[messages.PhaseState, ...]
    revision: int
    total: int
    next_cursor: str | None = None


class CommitPage(Answer, frozen=True):
    """Commits, oldest first."""

    items: tuple[CommitItem, ...]
    next_after: int | None = None
    """Ask for more with ``after=`` this; absent: these are all so far."""


class LogPage(Answer, frozen=True):
    """Log messages, oldest first."""

    items: tuple[LogItem, ...]
    next_after: int | None = None


class Controlled(Answer, frozen=True):
    """The command is carried out, or needed nothing."""

    session_id: str
    command: messages.ControlCommand
    n: int
    """Number of the commit that took it in."""
    events: tuple[str, ...]
    """Types of the events in that commit."""


class Runtimes(Answer, frozen=True):
    """Runtimes that the planner which answers knows."""

    items: tuple[messages.RuntimeInfo, ...]


class Planner(Answer, frozen=True):
    """A planner that is alive."""

    planner_id: str
    version: str | None = None
    sessions: int | None = None
    """Held in memory; known of the one that answered."""


class Planners(Answer, frozen=True):
    """Planners that said so within a second."""

    items: tuple[Planner, ...]


class Check(Answer, frozen=True):
    """One thing that has to be so."""

    name: str
    ok: bool
    detail: str | None = None


class Health(Answer, frozen=True):
    """Health of this process; ``checks`` with ``?verbose``."""

    status: str
    checks: tuple[Check, ...] = ()


class ProblemKind(Answer, frozen=True):
    """What a problem type means."""

    type: str
    code: str
    status: int
    title: str
    remedy: str


class ProblemKinds(Answer, frozen=True):
    """All problem types."""

    items: tuple[ProblemKind, ...]


class ArtifactItem(Artifact, frozen=True, kw_only=True):
    """An artifact with its sequence in the list."""

    sequence: int


class ArtifactPage(Answer, frozen=True):
    """Files that phases have kept, in the order in which they were stored."""

    items: tuple[ArtifactItem, ...]
    next_after: int | None = None
    """Ask for more with ``after=`` this; absent: these are all so far."""


# -- bodies of requests ----------------------------------------------------------------------------


PlanDigest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$", max_length=71)]


class Apply(Answer, frozen=True, forbid_unknown_fields=True):
    """Which staged plan is applied; without a digest the one that was staged last."""

    plan_digest: PlanDigest | None = None


class ControlBody(Answer, frozen=True, forbid_unknown_fields=True):
    """A command for a session."""

    command: messages.ControlCommand
    phase_id: str | None = None
    """For all but pause, resume and cancel; retry without it means every failed phase."""
    reason: str | None = None
    by: str | None = None
    """For approve and reject: who answers. A name, no proof of it."""
    comment: str | None = None
    plan_digest: str | None = None
    """The answer is about this plan; refused when the session has another."""
    data: dict[str, Any] | None = None
    """With approve: outputs of the phase, at most 16 KiB."""


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The document as JSON."""
    return Response(msgspec.json.encode(document), status, headers, "application/json")


def tagged_answer(request: Request, document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """As ``json_answer``, with a strong ETag; 304 when the caller has it already."""
    content = msgspec.json.encode(document)
    tag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
    named = {"etag": tag, **(headers or {})}
    if is_held(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=named)
    return Response(content, 200, named, "application/json")


def is_held(given: str, tag: str) -> bool:
    """Whether ``If-None-Match`` names the tag: the caller has it (RFC 9110, 13.1.2: weak comparison)."""
    return any(part.strip() == "*" or part.strip().removeprefix("W/") == tag for part in given.split(","))


def link(request: Request, **changed: object) -> dict[str, str]:
    """``Link`` to the next page (RFC 8288), if there is one."""
    if None in changed.values():
        return {}
    url = request.url.include_query_params(**changed)
    return {"link": f'<{url.path}?{url.query}>; rel="next"'}
