"""``{http: {url: ..., ...}}``: a request, and the answer as the phase's result.

The phase is complete when the status is an expected one (any 2xx, unless ``expect`` says otherwise). Another
attempt may help after a network error, a 5xx, 408, 425 or 429; after anything else it cannot. The request's
headers name the attempt, so that a server can tell a repetition from another order.

Needs the extra ``http`` (httpx2); without it a runtime does not offer this executor.
"""

import ssl
import time
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread
import msgspec

from planter_protocol.messages import Failure
from planter_runtime.executors.executor import Execution
from planter_runtime.outcomes import Failed, Outcome, completed, cut, failed
from planter_runtime.secrets import Secrets, SecretUnusable
from planter_runtime.work import NO_LIMITS, Work

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
REDIRECTS_MAX = 5
ANSWER_BYTES_MAX = 256 * 1024
"""Of an answer this much is read; JSON with blanks in it may become a result that is small enough."""
_SHOWN_CHARACTERS_MAX = 300
_RETRYABLE = (408, 425, 429)
_LEFT_OUT = ("set-cookie", "set-cookie2", "authentication-info", "proxy-authentication-info")
"""Headers that carry secrets: results are stored and shown."""


class HttpRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The request, expressions filled in. Keys with ``x-`` are somebody else's."""

    url: str
    method: str | None = None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    body: str | None = None
    expect: tuple[str | int, ...] = ("2xx",)
    follow_redirects: bool = False


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # such as http://[
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class HttpExecutor:
    """Makes requests; each attempt has a connection of its own."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def unfit(self, work: Work) -> str | None:
        """What is wrong with the request, if it cannot even be made."""
        assert work.run is not None
        run = work.run
        if run.env or run.cwd or run.venv or run.limits != NO_LIMITS or run.isolation != "none":
            return "x-run.http runs no program: it takes no `env`, `cwd`, `venv`, `limits` or `isolation`"
        try:
            request = msgspec.convert(work.run.http, HttpRequest)
        except msgspec.ValidationError as error:
            return f"x-run.http cannot be read: {error}"
        if not _is_address(request.url):
            return f"x-run.http.url is not an http or https address: {request.url[:200]!r}"
        return self._secrets.problem(run.secrets.values())

    async def execute(self, execution: Execution) -> Outcome:
        """Make the request; cancelled, it closes the connection."""
        tls = await anyio.to_thread.run_sync(
            _tls
        )  # the first time it takes a while, and others have to go on
        import httpx2  # noqa: PLC0415  (only a runtime that makes requests needs it)

        work = execution.work
        assert work.run is not None
        request = msgspec.convert(work.run.http, HttpRequest)
        try:
            request = self._with_secrets(request, execution)
        except SecretUnusable as error:
            return failed(str(error), "refused")
        method, headers, content = _given(work, request)
        shown = f"{method} {_shown(request.url)}"
        began = time.perf_counter()
        try:
            url = httpx2.URL(request.url).copy_merge_params(request.query)
            async with (
                httpx2.AsyncClient(
                    verify=tls,
                    timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
                    follow_redirects=request.follow_redirects,
                    max_redirects=REDIRECTS_MAX,
                ) as client,
                client.stream(method, url, headers=headers, content=content) as response,
            ):
                answer = await _read(response, execution)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            return _failure(f"{shown}: {error}", retryable=False)
        except httpx2.TooManyRedirects:
            return _failure(f"{shown}: more than {REDIRECTS_MAX} redirects", retryable=False)
        except (httpx2.HTTPError, OSError, ssl.SSLError) as error:
            return _failure(f"{shown}: {error or type(error).__name__}", retryable=True)
        took = f"{(time.perf_counter() - began) * 1000:.0f} ms"
        execution.log.say(f"{shown}: {_status(response)}, {len(answer):,} bytes, {took}")
        return _outcome(shown, response, answer, request)

    def _with_secrets(self, request: HttpRequest, execution: Execution) -> HttpRequest:
        """``$(NAME)`` in headers and body replaced, as containers have it in Kubernetes."""
        run = execution.work.run
        assert run is not None
        for variable, secret in self._secrets.of_attempt(run.secrets, execution.log.mask).items():
            mark = f"$({variable})"
            headers = {key: text.replace(mark, secret) for key, text in request.headers.items()}
            body = None if request.body is None else request.body.replace(mark, secret)
            request = msgspec.structs.replace(request, headers=headers, body=body)
        return request


def _given(work: Work, request: HttpRequest) -> tuple[str, dict[str, str], str | None]:
    """Method, headers and body."""
    assert work.run is not None
    target = work.target
    content, kind = request.body, None
    if content is None and bytes(work.run.arguments).strip() != b"{}":
        content, kind = bytes(work.run.arguments).decode(), "application/json"
    headers = {
        "User-Agent": f"planter-runtime/{version('planter-runtime')}",
        "Planter-Session": target.session_id,
        "Planter-Phase": quote(target.phase_id, safe="[]"),
        "Planter-Attempt": str(target.attempt),
        "Planter-Fence": str(target.fence),
        **({} if kind is None else {"Content-Type": kind}),
    }
    theirs = {name.lower() for name in request.headers}
    ours = {name: text for name, text in headers.items() if name.lower() not in theirs}
    return request.method or ("GET" if content is None else "POST"), {**ours, **request.headers}, content


async def _read(response: "httpx2.Response", execution: Execution) -> bytes:
    answer = bytearray()
    async for chunk in response.aiter_bytes():
        execution.beat(None)
        answer += chunk
        if len(answer) > ANSWER_BYTES_MAX:
            break
    return bytes(answer)


def _outcome(shown: str, response: "httpx2.Response", answer: bytes, request: HttpRequest) -> Outcome:
    status = response.status_code
    if not any(str(wanted) in (str(status), f"{status // 100}xx") for wanted in request.expect):
        text = answer[:_SHOWN_CHARACTERS_MAX].decode(errors="replace").strip()
        message = f"{shown} was answered with {_status(response)}" + (f": {text}" if text else "")
        return _failure(message, retryable=status >= 500 or status in _RETRYABLE)
    if len(answer) > ANSWER_BYTES_MAX:
        message = f"{shown}: the answer has more than {ANSWER_BYTES_MAX:,} bytes"
        return _failure(message, retryable=False)
    headers = {name: text for name, text in response.headers.items() if name.lower() not in _LEFT_OUT}
    return completed(msgspec.json.encode({"status": status, "headers": headers, **_body(response, answer)}))


def _body(response: "httpx2.Response", answer: bytes) -> dict[str, Any]:
    """JSON as it is, text as a string, of anything else only the size."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return {"body": msgspec.json.decode(answer)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        return {"body": answer.decode(response.charset_encoding or "utf-8")}
    except (UnicodeDecodeError, LookupError):
        return {"bodyBytes": len(answer)}


def _failure(message: str, *, retryable: bool) -> Failed:
    return Failed(Failure(message=cut(message), kind="http", retryable=retryable))


def _status(response: "httpx2.Response") -> str:
    return f"{response.status_code} {response.reason_phrase}".rstrip()


def _shown(url: str) -> str:
    """Without what stands behind ``?``: it may be a secret, and this is logged."""
    return url.partition("?")[0].partition("#")[0]


@lru_cache
def _tls() -> ssl.SSLContext:
    """The library, and the system's certificates: to read them takes longer than a request."""
    import httpx2  # noqa: PLC0415

    return httpx2.create_ssl_context()
