"""Every error as ``application/problem+json`` (RFC 9457), and the table of what there is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from nats.errors import Error as NatsError
from starlette.responses import Response

from planter_protocol import errors
from planter_protocol.names import InvalidName

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1


class Kind(NamedTuple):
    """One kind of error: ``code`` is for programs and never changes."""

    status: int
    title: str
    remedy: str


KINDS: dict[str, Kind] = {
    "request.malformed": Kind(400, "The request is malformed", "send what /openapi.json describes"),
    "manifest.invalid": Kind(400, "The manifest is not valid", "mend what `errors` lists and send it again"),
    "auth.required": Kind(
        401,
        "A token is required",
        "send `Authorization: Bearer TOKEN`; the start of the planner says where it is",
    ),
    "origin.refused": Kind(
        403, "Requests of other sites are refused", "ask from the same origin, or not from a browser"
    ),
    "not_found": Kind(404, "There is no such resource", "the paths are in /openapi.json"),
    "session.unknown": Kind(404, "There is no such session", "GET /api/sessions lists what there is"),
    "phase.unknown": Kind(404, "There is no such phase", "GET /api/sessions/{id}/phases lists what there is"),
    "artifact.unknown": Kind(
        404, "There is no such artifact", "GET /api/sessions/{id}/artifacts lists what there is"
    ),
    "plan.not_staged": Kind(404, "Nothing is staged", "stage a manifest with POST /plan?stage=true"),
    "method.not_allowed": Kind(405, "The method is not allowed here", "use one of those in the header Allow"),
    "conflict": Kind(409, "The session does not allow this now", "look at GET /status, then decide again"),
    "session.busy": Kind(
        409, "The session executes another manifest", "wait for its end, cancel it, or use another session id"
    ),
    "approval.by": Kind(422, "The answer has no usable name", "say in `by` who answers"),
    "approval.data": Kind(422, "The data of the answer cannot be taken", "mend what `detail` says"),
    "approval.comment": Kind(422, "The comment is too long", "shorten it"),
    "session.ended": Kind(409, "The session has ended", "start it again with POST /plan"),
    "plan.stale": Kind(
        409, "The session has changed since the plan was staged", "stage it again and look at what changes"
    ),
    "idempotency.in_progress": Kind(
        409, "A request with this key is under way", "ask again after Retry-After seconds"
    ),
    "session.purged": Kind(410, "The session is over and purged", "use another session id"),
    "cursor.expired": Kind(
        410, "The list has changed since the cursor was made", "begin with the first page again"
    ),
    "body.too_large": Kind(
        413, "The body is too large", "JSON manifests may have 64 MiB, YAML 16 MiB, commands 64 KiB"
    ),
    "media_type.unsupported": Kind(
        415, "The media type is not supported", "use one of those in the header Accept-Post"
    ),
    "host.refused": Kind(
        421, "This host name is not served here", "use the address, or allow the name with PLANTER_HTTP_HOSTS"
    ),
    "request.invalid": Kind(422, "The request is not valid", "mend what `errors` lists"),
    "idempotency.reused": Kind(422, "The idempotency key was used for another request", "use a new key"),
    "planner.broken": Kind(500, "The planner failed on this request", "the log of the planner says why"),
    "reply.too_large": Kind(500, "The answer does not fit a message", "ask for less at a time"),
    "planner.unavailable": Kind(503, "No planner answers", "start one with `planter serve` or `planter dev`"),
    "nats.unavailable": Kind(
        503, "NATS does not answer", "see `planter doctor`; ask again after Retry-After seconds"
    ),
}
"""By code. The ``type`` of a problem is ``/problems/`` and the code with hyphens."""

_BY_STATUS = {
    400: "request.malformed",
    401: "auth.required",
    403: "origin.refused",
    404: "not_found",
    405: "method.not_allowed",
    409: "conflict",
    410: "cursor.expired",
    413: "body.too_large",
    415: "media_type.unsupported",
    422: "request.invalid",
    503: "nats.unavailable",
}
_REFUSALS = {
    "manifest.missing": "manifest.invalid",
    "request.invalid": "request.malformed",
    "phase.missing": "request.invalid",
    "journal.broken": "planner.broken",
}


class Problem(Exception):
    """An answer that is no. ``code`` may be one that only the planner knows; ``kind`` is then its family."""

    def __init__(  # noqa: PLR0913 (the members of a problem)
        self,
        code: str,
        detail: str,
        *,
        kind: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.kind = kind or (code if code in KINDS else "conflict")
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        super().__init__(detail)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The members, as RFC 9457 and our extensions (``code``, ``remedy``, ``errors``) name them."""
        kind = KINDS[self.kind]
        document: dict[str, Any] = {
            "type": type_of(self.kind),
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "code": self.code,
            "remedy": kind.remedy,
        }
        if self.errors:
            document["errors"] = self.errors
        if request_id:
            document["requestId"] = request_id
        return document | self.extra

    def response(self, request_id: str | None = None) -> Response:
        """The answer."""
        headers = dict(self.headers)
        if self.status == 503:
            headers.setdefault("retry-after", str(RETRY_SECONDS))
        if self.status == 401:
            headers.setdefault("www-authenticate", 'Bearer realm="planter"')
        content = msgspec.json.encode(self.body(request_id))
        return Response(content, self.status, headers, MEDIA_TYPE)


def type_of(code: str) -> str:
    """The ``type`` of a kind of problem: a reference that this server resolves."""
    return f"/problems/{slug(code)}"


def slug(code: str) -> str:
    """A code as it stands in an address."""
    return code.replace(".", "-").replace("_", "-")


def for_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """The problem for an error of the framework, which knows only a status."""
    return Problem(_BY_STATUS.get(status, "request.malformed"), detail, headers=headers)


def explained(error: Exception) -> Problem | None:
    """The problem that an error of NATS or of a planner is; None when it is our own fault."""
    match error:
        case Problem():
            return error
        case errors.RequestRefused():
            return refusal(error)
        case errors.ObjectNotFound():
            return Problem("artifact.unknown", str(error))
        case errors.PlannerUnavailable():
            return Problem("planner.unavailable", "no planner answers on this NATS server")
        case errors.JetStreamUnavailable() | errors.ServerUnreachable():
            return Problem("nats.unavailable", "NATS or its JetStream does not answer")
        case errors.MessageTooLarge():
            return Problem("body.too_large", str(error))
        case InvalidName():
            return Problem("request.invalid", str(error))
        case NatsError() | TimeoutError():
            return Problem("nats.unavailable", "NATS does not answer")
        case _:
            return None


def refusal(error: errors.RequestRefused) -> Problem:
    """A planner's no; what is wrong with a manifest stays as the planner gives it."""
    kind = _REFUSALS.get(error.code, error.code)
    if kind not in KINDS:
        kind = "conflict"
    return Problem(error.code, str(error), kind=kind, errors=error.problems)
