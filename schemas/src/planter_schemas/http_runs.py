"""Reading ``x-run: {http: ...}``: a request, and which answers mean that it was done."""

import re
from typing import Any
from urllib.parse import urlsplit

from planter_schemas.findings import Finding
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import Fields, KeyTable, read_fields
from planter_schemas.values import Context, flag, given_values, object_of, string, string_map, usable_text

HTTP = KeyTable("http", ["url", "method", "headers", "query", "body", "expect", "followRedirects"])
METHOD = re.compile(r"[A-Z]{1,20}")
EXPECT = re.compile(r"[1-5]([0-9]{2}|xx)")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_EXPRESSION = "${{"


def read_http(context: Context, value: object, path: Path) -> dict[str, Any] | None:
    """The request in canonical spelling, with what was given only; None after a finding.

    Strings that hold expressions are not looked into: the runtime does, once they are filled in.
    """
    source = object_of(context, value, path, "`http`")
    if source is None:
        return None
    fields = read_fields(context.findings, source, path, HTTP)
    found = given_values(context, fields, HTTP, _value)
    if "url" not in fields:
        _unusable(context, fields, "`http` has no `url`", "give the address: url: https://...")
        return None
    return None if any(item is None for item in found.values()) else found | fields.extensions


def _value(context: Context, name: str, value: object, path: Path) -> object:
    match name:
        case "url":
            return _url(context, value, path)
        case "method":
            return _method(context, value, path)
        case "headers":
            return _headers(context, value, path)
        case "query":
            return string_map(context, value, path, "query")
        case "expect":
            return _expect(context, value, path)
        case "followRedirects":
            return flag(context, value, path, "`followRedirects`")
        case _:
            return string(context, value, path, f"`{name}`")


def _unusable(context: Context, at: Path | Fields, message: str, hint: str) -> None:
    path = at.path if isinstance(at, Fields) else at
    context.findings.add(Finding(path, "PLT-1318", message, label="not usable", hint=hint))


def _url(context: Context, value: object, path: Path) -> str | None:
    text = usable_text(context, value, path, "`url`")
    if text is None or _EXPRESSION in text:
        return text
    problem = url_problem(text)
    if problem is None:
        return text
    _unusable(context, path, f"`url` {problem}", "write an absolute address: https://host/path")
    return None


def url_problem(text: str) -> str | None:
    """What is wrong with the address of a request; None when it can be used."""
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in text):
        return "holds a blank or a control character"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return f"cannot be read: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "is not an http or https address"
    if parts.username is not None or parts.password is not None:
        return "has a name or password in it, which every listing and log would show: use a header"
    return None


def _method(context: Context, value: object, path: Path) -> str | None:
    text = string(context, value, path, "`method`")
    if text is None or _EXPRESSION in text:
        return text
    if METHOD.fullmatch(text.upper()):
        return text.upper()
    _unusable(context, path, f"{shown(text)} is not a method", "such as GET, POST, PUT, PATCH, DELETE")
    return None


def _headers(context: Context, value: object, path: Path) -> dict[str, str] | None:
    headers = string_map(context, value, path, "headers")
    for name, text in (headers or {}).items():
        if not HEADER.fullmatch(name) or any(char in text for char in "\r\n\0"):
            message = f"header {shown(name)} has a character that no header may have"
            _unusable(
                context, (*path, name), message, "names are letters, digits and `-`; a value is one line"
            )
            return None
    return headers


def _expect(context: Context, value: object, path: Path) -> list[str] | None:
    items: list[object] = list(value) if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownArgumentType]
    found: list[str] = []
    for item in items or [""]:
        text = str(item) if isinstance(item, int) and not isinstance(item, bool) else item
        if not isinstance(text, str) or not EXPECT.fullmatch(text):
            message = f"`expect` holds {shown(str(item))}, which is no status"
            _unusable(
                context, path, message, "a number such as 201, or a class such as 2xx; or a list of them"
            )
            return None
        found.append(text)
    return found
