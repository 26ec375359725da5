"""Checking the expressions of a manifest before anything runs: their grammar, and what they name."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import planter_schemas as schemas
from planter.compile import expressions
from planter.compile.lists import check_lists

_FILLED = ("with", "env", "noop", "exec", "wait", "approval")
"""Parts of ``x-run`` in which ``${{ }}`` is filled in."""


class _Place(NamedTuple):
    """An expression, and the extension that it stands in."""

    text: str
    extension: str
    kind: Literal["condition", "list", "value"]
    of_item: bool = False
    """It is evaluated once an item, and may use ``item`` and ``index``."""


def is_templated(run: schemas.Run) -> bool:
    """Whether ``x-run`` has to be filled in before it can be run."""
    given = run.to_json()
    return any("${{" in text for key in _FILLED for text in expressions.strings(given.get(key)))


def used_phases(phase: schemas.Phase) -> tuple[str, ...]:
    """Ids of the phases that the phase's expressions name, in order, once each."""
    names = (name for place in _places(phase) for name in expressions.named_phases(place.text))
    return tuple(dict.fromkeys(names))


def check_expressions(loaded: schemas.Loaded, phases: Sequence[schemas.Phase]) -> list[schemas.Problem]:
    """Everything that is wrong with the expressions of these phases."""
    by_id = {phase.id: phase for phase in phases}
    found: list[schemas.Problem] = []
    for phase in phases:
        found += check_lists(loaded, phase, by_id)
        if (phase.when, phase.run, phase.foreach, phase.cache) == (None, None, None, None):
            continue
        found += _misplaced(loaded, phase)
        before: set[str] | None = None
        for place in _places(phase):
            path = loaded.path_of_extension(phase.id, place.extension)
            if fault := _fault(place):
                message = f"`{place.text}` {fault}"
                found.append(loaded.problem(path, "PLT-1310", message, label="in this expression"))
                continue
            for name in expressions.named_phases(place.text):
                if name in phase.wait_for and name in by_id:
                    continue
                before = _before(phase, by_id) if before is None else before
                if name not in before:
                    message = f"`{place.text}` names phase {name!r}, which need not be over by then"
                    hint = f"add {name!r} to `waitFor` of {phase.id!r}"
                    if name not in by_id:
                        message, hint = f"`{place.text}` names phase {name!r}, and there is none", None
                    found.append(
                        loaded.problem(path, "PLT-1311", message, label="in this expression", hint=hint)
                    )
    return found


def _places(phase: schemas.Phase) -> Iterator[_Place]:
    if phase.when is not None:
        yield _Place(phase.when, "x-when", "condition")
    if phase.foreach is not None and isinstance(phase.foreach.items, str):
        yield _Place(phase.foreach.items, "x-foreach", "list")
    if phase.cache is not None and phase.cache.key is not None:
        yield _Place(phase.cache.key, "x-cache", "value", phase.foreach is not None)
    if phase.run is not None:
        given = phase.run.to_json()
        for key in _FILLED:
            for text in expressions.templates(given.get(key)):
                yield _Place(text, "x-run", "value", phase.foreach is not None)


def _misplaced(loaded: schemas.Loaded, phase: schemas.Phase) -> Iterator[schemas.Problem]:
    """``${{ }}`` where it would become part of a program."""
    if phase.run is None:
        return
    given = phase.run.to_json()
    parts = {key: value for key, value in given.items() if key not in _FILLED}
    parts["exec[0]"] = given["exec"][0] if given.get("exec") else None
    for key, value in parts.items():
        if any("${{" in text for text in expressions.strings(value)):
            yield loaded.problem(
                loaded.path_of_extension(phase.id, "x-run"),
                "PLT-1314",
                f"`{key}` holds an expression, which is not evaluated there",
                label="in this x-run",
                hint='put the expression into `env`, and use the variable: "$NAME"',
            )


def _fault(place: _Place) -> str | None:
    fault = expressions.fault_of(place.text, of_item=place.of_item)
    if fault is not None:
        return f"cannot be read: {fault.message}"
    if place.kind == "condition" and not expressions.is_condition(place.text):
        return "is neither true nor false"
    if place.kind == "list" and not expressions.is_list(place.text):
        return "is no list"
    return None


def _before(phase: schemas.Phase, by_id: dict[str, schemas.Phase]) -> set[str]:
    """Ids of all phases that have ended when the phase may start, whichever way they ended."""
    found: set[str] = set()
    left = list(phase.wait_for)
    while left:
        name = left.pop()
        if name not in found and name in by_id:
            found.add(name)
            left.extend(by_id[name].wait_for)
    return found
