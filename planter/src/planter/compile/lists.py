"""Checking what a manifest says about phases that are done once for each item of a list."""

from collections.abc import Iterator, Mapping

import planter_schemas as schemas
from planter.compile import expressions


def check_lists(
    loaded: schemas.Loaded, phase: schemas.Phase, by_id: Mapping[str, schemas.Phase]
) -> Iterator[schemas.Problem]:
    """What is wrong with the lists of a phase, and with what it says about items of other phases."""
    whole = _whole_of(phase.id, by_id)
    if whole is not None:
        message = f"phase {phase.id!r} has the id of an item of {whole!r}, which has `x-foreach`"
        yield loaded.problem(loaded.path_of_phase(phase.id), "PLT-1316", message, label="this id")
    for index, name in enumerate(phase.wait_for):
        if name not in by_id and (whole := _whole_of(name, by_id)) is not None:
            yield loaded.problem(
                loaded.path_of_wait(phase.id, index),
                "PLT-1316",
                f"phase {phase.id!r} waits for {name!r}, an item of {whole!r}",
                label="an item",
                hint=f"wait for {whole!r}, which ends with the last of its items",
            )
    if phase.foreach is not None:
        yield from _of_list(loaded, phase, phase.foreach)


def _of_list(
    loaded: schemas.Loaded, phase: schemas.Phase, foreach: schemas.Foreach
) -> Iterator[schemas.Problem]:
    path = loaded.path_of_extension(phase.id, "x-foreach")
    is_literal = not isinstance(foreach.items, str)
    if is_literal and any("${{" in text for text in expressions.strings(foreach.items)):
        message = "`x-foreach` holds an expression, which is not evaluated there"
        hint = "give one expression instead of the list: `x-foreach: '[phases.a.result, phases.b.result]'`"
        yield loaded.problem(path, "PLT-1314", message, label="in this list", hint=hint)
    if foreach.parallel is not None and phase.concurrency is not None:
        message = "`x-foreach.parallel` and `x-concurrency` are two limits, and a phase has one"
        hint = "leave one out; without `parallel`, `x-concurrency` limits the items"
        yield loaded.problem(path, "PLT-1315", message, label="with `parallel`", hint=hint)
    key = None if phase.cache is None else phase.cache.key
    if key is not None and expressions.fault_of(key) is None:  # it can do without an item
        message = f"`{key}` is the same for all items, which would all get one result"
        hint = "use `item` or `index` in the key"
        place = loaded.path_of_extension(phase.id, "x-cache")
        yield loaded.problem(place, "PLT-1317", message, label="in this x-cache", hint=hint)


def _whole_of(name: str, by_id: Mapping[str, schemas.Phase]) -> str | None:
    """The phase of whose items one has this name."""
    whole, bracket, number = name.rpartition("[")
    is_item = bracket and number.endswith("]") and whole in by_id and by_id[whole].foreach is not None
    return whole if is_item else None
