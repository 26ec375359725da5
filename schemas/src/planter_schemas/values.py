"""Reading single values: each function gives the value, or None and a finding that says what is wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from planter_schemas import limits
from planter_schemas.documents import Document
from planter_schemas.durations import parse_duration
from planter_schemas.findings import Finding, Findings
from planter_schemas.problems import Path, shown, shown_list
from planter_schemas.spelling import Fields, KeyTable, closest
from planter_schemas.variables import substitute

_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


@dataclass(slots=True)
class Context:
    """What every reader needs: the document, the caller's variables, and where findings go."""

    document: Document
    variables: Mapping[str, str]
    findings: Findings

    def wrong_type(self, path: Path, what: str, expected: str, value: object) -> None:
        """Report a value of another type than its key takes."""
        found = _TYPE_NAMES.get(type(value), "another type")
        message = f"{what} must be {expected}, found {found}"
        self.findings.add(Finding(path, "PLT-1104", message, label=f"expected {expected}"))


def given_values(
    context: Context, fields: Fields, table: KeyTable, read: Callable[[Context, str, object, Path], object]
) -> dict[str, Any]:
    """The value of each key that is there, as ``read`` makes it: None after a finding."""
    return {
        name: read(context, name, fields.get(name), fields.path_of(name))
        for name in table.names
        if name in fields
    }


def object_of(context: Context, value: object, path: Path, what: str) -> dict[str, object] | None:
    """The value when it is an object."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    context.wrong_type(path, what, "an object", value)
    return None


def flag(context: Context, value: object, path: Path, what: str) -> bool | None:
    """The value when it is a boolean."""
    if isinstance(value, bool):
        return value
    context.wrong_type(path, what, "a boolean", value)
    return None


def string(context: Context, value: object, path: Path, what: str) -> str | None:
    """The value when it is a string."""
    if isinstance(value, str):
        return value
    context.wrong_type(path, what, "a string", value)
    return None


def usable_text(context: Context, value: object, path: Path, what: str) -> str | None:
    """A string that is not empty and has no NUL character."""
    text = string(context, value, path, what)
    if text is None:
        return None
    if not text or "\0" in text:
        message = f"{what} must not be empty" if not text else f"{what} holds a NUL character"
        context.findings.add(Finding(path, "PLT-1116", message, label="not allowed"))
        return None
    return text


def string_list(context: Context, value: object, path: Path, what: str) -> tuple[str, ...] | None:
    """A list of strings, or one string for a list of one; None when any part is not a string."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        context.wrong_type(path, what, "a list of strings", value)
        return None
    items = cast("list[object]", value)
    if all(type(item) is str for item in items):
        return tuple(cast("list[str]", items))
    for index, item in enumerate(items):
        if not isinstance(item, str):
            context.wrong_type((*path, index), f"an entry of {what}", "a string", item)
    return None


def string_map(
    context: Context, value: object, path: Path, what: str, *, substituted: bool = False
) -> dict[str, str] | None:
    """An object of strings with free keys; numbers and booleans become the text that is written.

    Args:
        context: see there.
        value: the value.
        path: where it stands.
        what: what it is, for messages: ``env``.
        substituted: whether ``${NAME}`` in the values is replaced.
    """
    items = object_of(context, value, path, what)
    if items is None:
        return None
    result: dict[str, str] = {}
    for key, item in items.items():
        text = item if type(item) is str else _text_of(context, item, (*path, key))
        if text is None:
            context.wrong_type((*path, key), f"{shown(key)} in {what}", "a string", item)
        elif substituted and "${" in text:
            result[key] = substituted_text(context, text, (*path, key)) or ""
        else:
            result[key] = text
        if not key:
            message = f"an empty key in {what}"
            context.findings.add(Finding((*path, key), "PLT-1116", message, at_key=True))
    return result


def _text_of(context: Context, value: object, path: Path) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return context.document.places.written(path)  # 1.10 is a version, not the number 1.1
    return None


def substituted_text(context: Context, text: str, path: Path) -> str | None:
    """The text with its variables replaced; None when one has no value, which is a finding."""
    result, missing = substitute(text, context.variables)
    if missing is not None:
        message = f"variable {shown(missing)} has no value and no default"
        hint = f"pass it, or write a default: ${{{missing}:default}}"
        context.findings.add(Finding(path, "PLT-1111", message, label="no value", hint=hint))
        return None
    return result


def choice(context: Context, value: object, path: Path, what: str, allowed: tuple[str, ...]) -> str | None:
    """One of a few strings."""
    if isinstance(value, str) and value in allowed:
        return value
    text = string(context, value, path, what)
    if text is None:
        return None
    close = closest(text, allowed)
    hint = f"did you mean {shown(close)}?" if close else f"allowed: {shown_list(list(allowed))}"
    message = f"{what} cannot be {shown(text)}"
    context.findings.add(Finding(path, "PLT-1107", message, label="not allowed", hint=hint))
    return None


def duration_ms(context: Context, value: object, path: Path, what: str) -> int | None:
    """A duration in milliseconds, variables replaced."""
    if isinstance(value, str) and "${" in value:
        value = substituted_text(context, value, path)
        if value is None:
            return None
    milliseconds = parse_duration(value)
    if milliseconds is None:
        found = (
            shown(str(value)) if isinstance(value, (str, int, float)) else _TYPE_NAMES.get(type(value), "")
        )
        message = f"{what} must be a duration, found {found}"
        hint = "a whole number with ms, s, m or h, such as 300ms or 5m; a number alone is seconds"
        context.findings.add(Finding(path, "PLT-1108", message, label="not a duration", hint=hint))
    return milliseconds


def _as_found(value: object) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return shown(str(value))
    return _TYPE_NAMES.get(type(value), "another type")


def attempts(context: Context, value: object, path: Path) -> int | None:
    """A number of attempts: an integer or digits, variables replaced (protocol, `retry.maxAttempts`)."""
    text = value
    if isinstance(value, str):
        text = substituted_text(context, value, path)
        if text is None:
            return None
    number = None
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 9:
        number = int(text)
    elif isinstance(text, int) and not isinstance(text, bool):
        number = text
    if number is not None and 1 <= number <= limits.ATTEMPTS_MAX:
        return number
    found = _as_found(text)
    message = f"maxAttempts must be a number from 1 to {limits.ATTEMPTS_MAX}, found {found}"
    hint = "it counts all attempts: 1 means no retry"
    context.findings.add(Finding(path, "PLT-1109", message, label="not a count", hint=hint))
    return None


def free_value(context: Context, value: object, path: Path) -> Any:
    """A value that is kept as it stands, when it is not nested too deeply."""
    if not isinstance(value, (dict, list)):
        return value
    stack: list[tuple[object, int]] = [(cast("object", value), len(path) + 1)]
    while stack:
        part, depth = stack.pop()
        if depth > limits.DEPTH_MAX:
            message = f"objects and lists are nested more than {limits.DEPTH_MAX} deep"
            context.findings.add(Finding(path, "PLT-1009", message, label="too deep inside"))
            return None
        if isinstance(part, dict):
            below = cast("dict[str, object]", part).values()
        else:
            below = cast("list[object]", part)
        stack.extend((item, depth + 1) for item in below if isinstance(item, (dict, list)))
    return value


def free_object(context: Context, value: object, path: Path, what: str) -> dict[str, Any] | None:
    """An object that is kept as it stands."""
    found = object_of(context, value, path, what)
    return None if found is None else free_value(context, found, path)
