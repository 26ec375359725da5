"""Calling functions with arguments from a manifest: read as their annotations say, and the result as JSON.

What an annotation may be: anything that msgspec reads from JSON (numbers, strings, lists, enums, dates,
data classes, ``TypedDict``, its own structs, attrs), paths, and classes with ``model_validate`` (pydantic),
also inside of those.
"""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec

from planter_runtime.context import PhaseContext
from planter_runtime.errors import HandlerUnusable, PermanentFailure

_CONTEXT_NAMES = ("ctx", "context")


class Parameter(NamedTuple):
    """One argument that a manifest gives."""

    decoder: "msgspec.json.Decoder[Any]"
    is_required: bool


class Signature(NamedTuple):
    """How a function wants to be called."""

    name: str
    context: str | None
    """The parameter that takes the ``PhaseContext``."""
    is_by_place: bool
    """It can only be given by its place, which is the first."""
    parameters: Mapping[str, Parameter]
    takes_rest: bool
    """``**arguments``: whatever else there is."""


def signature_of(function: Callable[..., Any]) -> Signature:
    """The parameters of a function.

    Raises:
        HandlerUnusable: an annotation is nothing that JSON can become, or a parameter can have no name.
    """
    name = getattr(function, "__qualname__", repr(function))
    found = list(inspect.signature(function).parameters.values())
    hints = _hints(function, name)
    context = _context(found, hints)
    parameters: dict[str, Parameter] = {}
    takes_rest = False
    for parameter in found:
        match parameter.kind:
            case parameter.VAR_POSITIONAL:
                continue
            case parameter.VAR_KEYWORD:
                takes_rest = True
            case parameter.POSITIONAL_ONLY if parameter.name != context:
                raise HandlerUnusable(name, f"argument {parameter.name!r} can only be given by its place")
            case _ if parameter.name != context:
                wanted = hints.get(parameter.name, Any)
                parameters[parameter.name] = Parameter(
                    _decoder(wanted, name, parameter.name), parameter.default is parameter.empty
                )
            case _:
                continue
    by_place = any(p.name == context and p.kind is p.POSITIONAL_ONLY for p in found)
    return Signature(name, context, by_place, parameters, takes_rest)


def bound(
    signature: Signature, arguments: bytes, context: PhaseContext
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the function is called with: by place, and by name.

    Args:
        signature: of the function.
        arguments: a JSON object, ``with`` of the manifest.
        context: for the parameter that takes it.

    Raises:
        PermanentFailure: an argument is missing, unknown, or not what its annotation says.
    """
    given = msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    values: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if name in given:
            values[name] = _read(parameter, given.pop(name), name)
        elif parameter.is_required:
            raise PermanentFailure(f"`{signature.name}` needs the argument {name!r}: give it in `x-run.with`")
    if given and not signature.takes_rest:
        known = ", ".join(signature.parameters) or "none"
        unknown = ", ".join(repr(name) for name in given)
        raise PermanentFailure(f"`{signature.name}` knows no argument {unknown}: it takes {known}")
    values.update((name, msgspec.json.decode(value)) for name, value in given.items())
    if signature.context is None:
        return (), values
    return ((context,), values) if signature.is_by_place else ((), {**values, signature.context: context})


def result_json(result: Any) -> bytes:
    """What a function returned, as JSON.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: it cannot be.
    """
    data = msgspec.json.encode(result, enc_hook=_plain)
    if b"null" in data:  # which is what msgspec makes of a number that JSON does not have
        _check_numbers(msgspec.to_builtins(result, str_keys=True, enc_hook=_plain_but_raw), "")
    return data


def _check_numbers(value: Any, place: str) -> None:
    match value:
        case float() if not math.isfinite(value):
            where = f"`{place.removeprefix('.')}`" if place else "the result"
            raise ValueError(
                f"{where} is {value}, and JSON has no such number: return None or a string for it"
            )
        case dict():
            for key, item in value.items():
                _check_numbers(item, f"{place}.{key}")
        case list() | tuple():
            for index, item in enumerate(value):
                _check_numbers(item, f"{place}[{index}]")
        case _:
            pass


def _context(found: list[inspect.Parameter], hints: Mapping[str, Any]) -> str | None:
    """The parameter for the context: by its annotation, by its name, or the only one there is."""
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for parameter in named:
        if hints.get(parameter.name) is PhaseContext:
            return parameter.name
    unannotated = [p.name for p in named if p.name not in hints]
    for name in unannotated:
        if name in _CONTEXT_NAMES:
            return name
    is_only = len(named) == 1 and named[0].default is inspect.Parameter.empty
    return unannotated[0] if unannotated and is_only else None


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The annotations; ``PhaseContext`` may be imported for type checkers only, the rest has to be there."""
    target = function if inspect.isroutine(function) else type(function).__call__
    found: dict[str, Any] = {}
    for parameter, wanted in getattr(target, "__annotations__", {}).items():
        if parameter == "return":
            continue
        if isinstance(wanted, str) and wanted.strip("'\"").rpartition(".")[2] == PhaseContext.__name__:
            found[parameter] = PhaseContext
            continue
        alone = types.SimpleNamespace(__annotations__={parameter: wanted})
        variables = getattr(inspect.unwrap(target), "__globals__", {})
        try:
            found |= typing.get_type_hints(alone, globalns=variables)
        except (NameError, TypeError, SyntaxError) as error:
            raise HandlerUnusable(name, f"the annotation of {parameter!r} cannot be read: {error}") from error
    return found


def _decoder(wanted: Any, function: str, name: str) -> "msgspec.json.Decoder[Any]":
    try:
        return msgspec.json.Decoder(wanted, dec_hook=_of_model)
    except TypeError as error:
        raise HandlerUnusable(function, f"argument {name!r} cannot come from JSON: {error}") from error


def _read(parameter: Parameter, value: msgspec.Raw, name: str) -> Any:
    try:
        return parameter.decoder.decode(value)
    except (msgspec.DecodeError, ValueError) as error:  # pydantic's complaint is a ValueError
        raise PermanentFailure(f"argument {name!r}: {error}") from error


def _of_model(wanted: type[Any], value: Any) -> Any:
    validate = getattr(wanted, "model_validate", None)
    if validate is not None:
        return validate(value)
    if issubclass(wanted, PurePath) and isinstance(value, str):
        return wanted(value)
    raise TypeError(f"a {wanted.__name__} is nothing that JSON can become")


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _plain_but_raw(value: Any) -> Any:
    """``Raw`` is JSON already, so nothing in it can be anything else."""
    return None if isinstance(value, msgspec.Raw) else _plain(value)
