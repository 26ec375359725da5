"""Reading ``x-run: {container: ...}``: an image, and what runs in it."""

from typing import Any

from planter_schemas.findings import Finding
from planter_schemas.problems import Path, shown
from planter_schemas.spelling import Fields, KeyTable, read_fields
from planter_schemas.values import Context, choice, flag, given_values, object_of, string_list, usable_text

CONTAINER = KeyTable(
    "container", ["image", "command", "entrypoint", "mount", "network", "user", "pull", "readOnly"]
)
PULL = ("missing", "always", "never")


def read_container(context: Context, value: object, path: Path) -> dict[str, Any] | None:
    """The container in canonical spelling, with what was given only; None after a finding."""
    source = object_of(context, value, path, "`container`")
    if source is None:
        return None
    fields = read_fields(context.findings, source, path, CONTAINER)
    found = given_values(context, fields, CONTAINER, _value)
    if "image" not in fields:
        _unusable(context, fields, "`container` has no `image`", "name one: image: python:3.12-slim")
        return None
    return None if any(item is None for item in found.values()) else found | fields.extensions


def _value(context: Context, name: str, value: object, path: Path) -> object:
    match name:
        case "command" | "entrypoint":
            return _command(context, value, path, name)
        case "mount":
            return _mount(context, value, path)
        case "pull":
            return choice(context, value, path, "`pull`", PULL)
        case "readOnly":
            return flag(context, value, path, "`readOnly`")
        case _:
            return _word(context, value, path, name)


def _unusable(context: Context, at: Path | Fields, message: str, hint: str) -> None:
    path = at.path if isinstance(at, Fields) else at
    context.findings.add(Finding(path, "PLT-1321", message, label="not usable", hint=hint))


def _word(context: Context, value: object, path: Path, name: str) -> str | None:
    text = usable_text(context, value, path, f"`{name}`")
    if text is None or "${{" in text or not any(char.isspace() for char in text):
        return text
    _unusable(context, path, f"`{name}` holds a blank: {shown(text)}", "write it as the engine knows it")
    return None


def _command(context: Context, value: object, path: Path, name: str) -> list[str] | None:
    if isinstance(value, str):
        hint = "write the program and each argument as an entry: [sh, -c, 'make site']"
        _unusable(context, path, f"`{name}` must be a list of strings, found a string", hint)
        return None
    found = string_list(context, value, path, f"`{name}`")
    if found is None:
        return None
    if not found or any("\0" in part for part in found):
        _unusable(
            context, path, f"`{name}` is empty or holds a NUL character", "leave it out for the image's own"
        )
        return None
    return list(found)


def _mount(context: Context, value: object, path: Path) -> str | None:
    text = _word(context, value, path, "mount")
    if text is None or (text.startswith("/") and ":" not in text and text.strip("/")):
        return text
    _unusable(context, path, f"`mount` is no folder of the container: {shown(text)}", "such as /work")
    return None
