"""What every request passes first: host, origin, token. And what every answer carries.

The listener is meant for this machine, so its dangers are those of a local service: a page in the browser
that rebinds a name to 127.0.0.1 or posts across sites, and another user of the machine without the token.
"""

import hmac
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planter.api.options import HttpOptions
from planter.api.problems import Problem, explained
from planter_protocol.names import random_token

log = structlog.get_logger(__name__)

_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/livez", "/readyz", "/startupz", "/healthz")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_ALWAYS = {
    "cache-control": "private, no-cache",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

Observe = Callable[[Scope, int, float], None]
"""Told of every answer: the scope, the status, seconds until it began."""


class Guard:
    """The outermost application."""

    def __init__(self, app: ASGIApp, options: HttpOptions, token: str, observe: Observe) -> None:
        self._app = app
        self._options = options
        self._token = token.encode()
        self._observe = observe
        own = options.address.host
        names = (*_LOOPBACK, *options.hosts, f"[{own}]" if ":" in own else own)
        self._hosts = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            return  # lifespan and web sockets are off
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else random_token(12)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, scope, self._observe)
        if scope["method"] == "HEAD":
            answer.without_body = True
            # A stream would never end without a body: a page answers instead.
            kept = [(name, value) for name, value in scope["headers"] if name != b"accept"]
            scope = {**scope, "method": "GET", "headers": kept}
            answer.scope = scope
        try:
            self._check(scope["method"], scope["path"], headers)
            await self._app(scope, receive, answer.send)
        except Problem as problem:
            await problem.response(request_id)(scope, receive, answer.send)
        except Exception as error:
            await self._broken(error, answer, receive)

    async def _broken(self, error: Exception, answer: "_Answer", receive: Receive) -> None:
        """The framework has answered, if it could; here the error ends."""
        if explained(error) is None:
            log.error(
                "http.broken",
                path=answer.scope["path"],
                request=answer.request_id,
                exc_info=error,
            )
        if not answer.begun:
            problem = Problem("planner.broken", "the request could not be answered")
            await problem.response(answer.request_id)(answer.scope, receive, answer.send)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        self._check_host(headers)
        _check_origin(method, headers)
        if path in _OPEN:
            return
        if method not in _SAFE or self._options.reads_need_token:
            self._check_token(headers)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None or found[1].lower() not in self._hosts:
            raise Problem("host.refused", "the header Host names no host that is served here")

    def _check_token(self, headers: Headers) -> None:
        given = headers.getlist("authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem("auth.required", "the request carries no bearer token")
        if not hmac.compare_digest(token.strip().encode("latin-1", "replace"), self._token):
            raise Problem(
                "auth.required",
                "the bearer token is not the one of this server",
                headers={"www-authenticate": 'Bearer realm="planter", error="invalid_token"'},
            )


def _check_origin(method: str, headers: Headers) -> None:
    """Nothing that a page of another origin asks for is answered; only a link to us may be followed."""
    site = headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if method not in _SAFE or not followed:
            raise Problem("origin.refused", f"the browser says that the request is {site[:20]!r}")
    origin = headers.get("origin")
    if origin is None:
        return
    try:
        named = urlsplit(origin).netloc
    except ValueError:
        named = ""
    if not named or named.lower() != headers.get("host", "").lower():
        raise Problem("origin.refused", "the request comes from another origin")


class _Answer:
    """Completes what the application sends."""

    def __init__(self, send: Send, request_id: str, scope: Scope, observe: Observe) -> None:
        self.begun = False
        self.without_body = False
        self.request_id = request_id
        self.scope = scope
        self._send = send
        self._observe = observe
        self._since = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Pass it on."""
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
            headers["date"] = formatdate(usegmt=True)
            headers["x-request-id"] = self.request_id
            self._observe(self.scope, message["status"], time.perf_counter() - self._since)
        elif self.without_body and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
