"""Items of phases with ``x-foreach``, for people: beneath the phase that they are items of."""

from collections.abc import Callable, Container, Iterable
from typing import TypeVar

from planter_protocol.names import is_of_phase

T = TypeVar("T")


def whole_of(name: str, names: Container[str]) -> str | None:
    """The phase among ``names`` that this one is an item of, if it is one."""
    whole = name.rpartition("[")[0]
    return whole if whole and whole in names and is_of_phase(name, whole) else None


def beneath(listed: Iterable[T], name_of: Callable[[T], str]) -> list[T]:
    """The same entries, each item after its phase; sessions know items in the order in which they came."""
    entries = {name_of(entry): entry for entry in listed}
    items: dict[str, list[T]] = {}
    for name, entry in entries.items():
        whole = whole_of(name, entries)
        if whole is not None:
            items.setdefault(whole, []).append(entry)
    ordered: list[T] = []
    for name, entry in entries.items():
        if whole_of(name, entries) is None:
            ordered += [entry, *items.get(name, ())]
    return ordered
