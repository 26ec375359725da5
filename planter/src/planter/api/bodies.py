"""Bodies of requests: media types, sizes, encodings, before anybody reads them as something."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request

from planter.api.problems import Problem
from planter_schemas import limits, load_manifest

T = TypeVar("T")

PHASE_MANIFEST = "application/vnd.phase-manifest+json"
JSON_TYPES = (PHASE_MANIFEST, "application/json")
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
MANIFEST_TYPES = (*JSON_TYPES, *YAML_TYPES)
COMMAND_BYTES_MAX = 64 * 1024
_DISCARD_BYTES_MAX = 64 * 1024 * 1024
_DISCARD_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
"""Who writes nothing for so long has stopped, or waits for the answer."""


async def manifest_body(request: Request) -> str:
    """The manifest as its author has written it.

    Raises:
        Problem: another media type, too large, not UTF-8, or nothing at all.
    """
    kind = _media_type(request, MANIFEST_TYPES)
    yaml = kind in YAML_TYPES
    data = await _read(request, limits.YAML_BYTES_MAX if yaml else limits.JSON_BYTES_MAX)
    if not data.strip():
        raise Problem("manifest.invalid", "the body is empty: send a manifest, a list of phases")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Problem(
            "manifest.invalid", f"the body is not UTF-8: byte {error.start} cannot be read"
        ) from None
    if not yaml:
        await _check_json(data, text)
    return text


async def json_body(request: Request, kind: type[T], default: T | None = None) -> T:
    """A small JSON body as the struct; ``default`` stands for no body at all.

    Raises:
        Problem: another media type, too large, no JSON, or not what the struct wants.
    """
    if default is not None and "content-type" not in request.headers and not await _read(request, 0):
        return default
    _media_type(request, ("application/json",))
    data = await _read(request, COMMAND_BYTES_MAX)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        pointer = place.rstrip("`").replace(".", "/")
        raise Problem(
            "request.invalid",
            f"the body is not valid: {message}",
            errors=[{"pointer": pointer, "message": message}],
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("request.malformed", f"the body is not JSON: {error}") from None


async def _check_json(data: bytes, text: str) -> None:
    """What says that it is JSON must not be taken for YAML, which forgives more."""
    if text.lstrip()[:1] not in ("[", "{"):
        raise Problem(
            "manifest.invalid",
            "the body is no JSON array or object; for YAML send Content-Type: application/yaml",
        )
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        loaded = await anyio.to_thread.run_sync(partial(load_manifest, data, format="json"))
        found = [problem for problem in loaded.problems if problem.severity == "error"]
        first = found[0].message if found else str(error)
        raise Problem(
            "manifest.invalid",
            f"the manifest is not valid JSON: {first}",
            errors=[problem.to_json() for problem in found],
        ) from None


def _media_type(request: Request, allowed: tuple[str, ...]) -> str:
    _refuse_encoding(request)
    given = request.headers.get("content-type", "")
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
    accepted = {"accept-post": ", ".join(allowed)}
    if kind not in allowed:
        shown = f"`{kind}`" if kind else "none"
        raise Problem(
            "media_type.unsupported", f"the content type is {shown}; use {allowed[0]}", headers=accepted
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise Problem("media_type.unsupported", f"charset {value} is not UTF-8", headers=accepted)
    return kind


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            "media_type.unsupported",
            f"content encoding `{encoding}` is not supported: send the body as it is",
            headers={"accept-encoding": "identity"},
        )


async def _read(request: Request, bytes_max: int) -> bytes:
    """The whole body; refused as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "")
    is_too_large = declared.isdecimal() and int(declared) > bytes_max
    stream = request.stream()
    chunks: list[bytes] = []
    size = 0
    while not is_too_large and (chunk := await anext(stream, None)) is not None:
        chunks.append(chunk)
        size += len(chunk)
        is_too_large = size > bytes_max
    if is_too_large:
        await _discard(stream)
        text = f"the body has more than {bytes_max:,} bytes"
        raise Problem("body.too_large", text, headers={"connection": "close"})
    return b"".join(chunks)


async def _discard(stream: AsyncGenerator[bytes]) -> None:
    """Let a body that is refused come to its end, within bounds.

    A connection that is closed while somebody writes is reset, and takes the answer with it.
    """
    left = _DISCARD_BYTES_MAX
    with anyio.move_on_after(_DISCARD_SECONDS):
        while left > 0:
            chunk: bytes | None = None
            with anyio.move_on_after(_PAUSE_SECONDS):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            left -= len(chunk)
