"""Expressions of manifests: CEL (the Common Expression Language), hidden behind this one module.

``x-when`` is an expression; strings in ``x-run`` hold them as ``${{ ... }}``. An expression sees ``phases``
(by id: ``status``, ``attempt``, ``result``), ``session`` (``id``, ``revision``) and, in a phase with
``x-foreach``, ``item`` and ``index``; and nothing else: no clock, no environment, no files. Google's library
bounds what an evaluation may cost; see docs/adr/0003.
"""

import re
from collections.abc import Container, Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from planter.core.conditions import ExpressionFailed
from planter.core.large import LargeResult

if TYPE_CHECKING:
    from cel_expr_python import cel

_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_STRING = r"""r?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_REFERENCE = re.compile(
    rf"""(?<![\w.])phases\s*(?:\.\s*(?P<name>[A-Za-z_]\w*)|\[\s*(?P<quoted>{_STRING})\s*\])|(?P<text>{_STRING})"""
)
_OF_RESULT = re.compile(r"""(?!\s*(?:\.\s*|\[\s*["'])(?:status|attempt)\b)""")
"""What follows a phase in an expression, unless it is harmless."""
_WHOLE_RESULT = re.compile(r"""\s*(?:\.\s*result|\[\s*["']result["']\s*\])\s*""")
_MESSAGE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
EXPRESSION_LENGTH_MAX = 4_096
_CACHED = 4_096
_encoder = msgspec.json.Encoder(order="sorted")  # the library's objects have no order of their own


class Fault(NamedTuple):
    """Why a text is no expression."""

    message: str


def fault_of(text: str, *, of_item: bool = False) -> Fault | None:
    """What is wrong with an expression, None when nothing can be said before it is evaluated.

    ``of_item``: it may use ``item`` and ``index``.
    """
    if len(text) > EXPRESSION_LENGTH_MAX:
        return Fault(f"it has {len(text):,} characters, {EXPRESSION_LENGTH_MAX:,} are allowed")
    try:
        _compiled(text) if of_item else _environment(of_item=False).compile(text)
    except RuntimeError as error:
        return Fault(_first_line(error))
    return None


def is_condition(text: str) -> bool:
    """Whether a (faultless) expression can be true or false."""
    from cel_expr_python import cel  # noqa: PLC0415  (50 MB that most manifests do not need)

    return _compiled(text).return_type() in (cel.Type.BOOL, cel.Type.DYN)


def is_list(text: str) -> bool:
    """Whether a (faultless) expression can be a list."""
    from cel_expr_python import cel  # noqa: PLC0415

    found = _compiled(text).return_type()
    return found == cel.Type.DYN or str(found).startswith("LIST")


def named_phases(text: str) -> tuple[str, ...]:
    """Ids of the phases that an expression names: ``phases.ID`` or ``phases["ID"]``, in order, once each."""
    found: dict[str, None] = {}
    for match in _REFERENCE.finditer(text):
        if (name := _named(match)) is not None:
            found[name] = None
    return tuple(found)


def strings(value: object) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from strings(item)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list | tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from strings(item)  # pyright: ignore[reportUnknownArgumentType]


def templates(value: object) -> Iterator[str]:
    """Every expression in the strings of a JSON value."""
    for text in strings(value):
        for match in _TEMPLATE.finditer(text):
            yield match[1].strip()


class CelReckoner:
    """Evaluates expressions for the core."""

    def condition(self, text: str, variables: Mapping[str, object]) -> bool:
        """The value of an ``x-when``."""
        value = _value(text, variables)
        if not isinstance(value, bool):
            raise ExpressionFailed(f"x-when is neither true nor false but {_shown(value)}: {text}")
        return value

    def value(self, text: str, variables: Mapping[str, object]) -> object:
        """The value of an expression, as JSON knows it."""
        return _value(text, variables)

    def listed(self, items: bytes, variables: Mapping[str, object]) -> bytes:
        """The items of an ``x-foreach``, as JSON."""
        given = msgspec.json.decode(items)
        if not isinstance(given, str):
            return items
        value = _value(given, variables)
        if not isinstance(value, list):
            raise ExpressionFailed(f"x-foreach is no list but {_shown(value)}: {given}")
        return _encoder.encode(value)

    def filled(self, run: bytes, variables: Mapping[str, object]) -> bytes:
        """``x-run`` with its expressions replaced.

        In ``with`` and ``noop`` a string that is nothing but an expression becomes its value, of any type,
        and a large result its reference.
        """
        given: dict[str, Any] = msgspec.json.decode(run)
        for key, value in given.items():
            given[key] = _filled(value, variables, keeps_type=key in ("with", "noop"))
        return _encoder.encode(given)


RECKONER = CelReckoner()


def _filled(value: Any, variables: Mapping[str, object], *, keeps_type: bool) -> Any:
    match value:
        case str():
            return _filled_text(value, variables, keeps_type=keeps_type)
        case dict():
            return {key: _filled(item, variables, keeps_type=keeps_type) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [_filled(item, variables, keeps_type=keeps_type) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def _filled_text(text: str, variables: Mapping[str, object], *, keeps_type: bool) -> object:
    if "${{" not in text:
        return text
    whole = _TEMPLATE.fullmatch(text)
    if whole is not None and whole[1].count("${{") == 0 and keeps_type:
        text = whole[1].strip()
        large = _large_results(variables)
        return large[name].value if (name := _handed_on(text)) in large else _value(text, variables)
    return _TEMPLATE.sub(lambda match: _as_text(_value(match[1].strip(), variables)), text)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def _value(text: str, variables: Mapping[str, object]) -> object:
    """The value of an expression, as JSON knows it."""
    from cel_expr_python import cel  # noqa: PLC0415

    if large := _large_results(variables):
        _refuse_large(text, large)
        variables = {**variables, "phases": _without_results(variables, large)}
    try:
        found = _compiled(text).eval(data=variables)
        failed = found.type() == cel.Type.ERROR
        value = found.plain_value()
        _encoder.encode(None if failed else value)
    except Exception as error:
        raise ExpressionFailed(f"{text}: {_first_line(error)}") from error
    if failed:
        raise ExpressionFailed(f"{text}: {_reason(str(found.value()))}")
    return value


def _large_results(variables: Mapping[str, object]) -> dict[str, LargeResult]:
    phases = cast("dict[str, dict[str, object]]", variables.get("phases", {}))
    found = ((name, phase.get("result")) for name, phase in phases.items())
    return {name: result for name, result in found if isinstance(result, LargeResult)}


def _without_results(variables: Mapping[str, object], large: Container[str]) -> dict[str, object]:
    phases = cast("dict[str, dict[str, object]]", variables["phases"])
    return {
        name: {key: value for key, value in phase.items() if key != "result" or name not in large}
        for name, phase in phases.items()
    }


def _refuse_large(text: str, large: Mapping[str, LargeResult]) -> None:
    """It would be evaluated as if there were nothing: that must never look like an answer."""
    for match in _REFERENCE.finditer(text):
        name = _named(match)
        if name is not None and name in large and _OF_RESULT.match(text, match.end()):
            raise ExpressionFailed(
                f"{text}: the result of {name} has {large[name].bytes:,} bytes, too many for expressions; "
                f"it can be handed on whole, as a value of `with`. Let {name} return what is asked for, and "
                f"keep the rest as an artifact"
            )


def _handed_on(text: str) -> str | None:
    """The phase whose result an expression is, and nothing else."""
    match = _REFERENCE.match(text)
    if match is None or _WHOLE_RESULT.fullmatch(text, match.end()) is None:
        return None
    return _named(match)


def _named(match: re.Match[str]) -> str | None:
    if match["name"] is not None:
        return match["name"]
    return None if match["quoted"] is None else str(_compiled(match["quoted"]).eval(data={}).plain_value())


@lru_cache(_CACHED)
def _compiled(text: str) -> "cel.Expression":
    return _environment(of_item=True).compile(text)


@cache
def _environment(*, of_item: bool) -> "cel.Env":
    from cel_expr_python import cel  # noqa: PLC0415

    any_object = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    of_one = {"item": cel.Type.DYN, "index": cel.Type.INT} if of_item else {}
    return cel.NewEnv(variables={"phases": any_object, "session": any_object, **of_one})


def _first_line(error: Exception) -> str:
    """The first complaint, without the library's own frame."""
    match = _MESSAGE.search(str(error))
    return f"{match[3]} (column {match[2]})" if match else str(error).split("\n", 1)[0]


def _reason(text: str) -> str:
    """``NOT_FOUND: Key not found in map : "x"`` in the words of a manifest's author."""
    kind, _, rest = text.partition(": ")
    return rest.replace(" : ", ": ") if kind.isupper() and rest else text


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:37]}..."
