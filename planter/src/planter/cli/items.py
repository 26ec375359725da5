"""Items of phases with ``x-foreach``, for people: beneath the phase that they are items of."""

from collections.abc import Callable, Collection, Container, Iterable
from typing import TypeVar

from planter_protocol.names import is_of_phase

T = TypeVar("T")


def whole_of(name: str, names: Container[str]) -> str | None:
    """The phase among ``names`` that this one is an item of, if it is one."""
    whole = name.rpartition("[")[0]
    return whole if whole and whole in names and is_of_phase(name, whole) else None


def by_whole(names: Collection[str]) -> dict[str, list[str]]:
    """The items among the names, by the phase that they are of."""
    found: dict[str, list[str]] = {}
    for name in names:
        whole = whole_of(name, names)
        if whole is not None:
            found.setdefault(whole, []).append(name)
    return found


def beneath(listed: Iterable[T], name_of: Callable[[T], str]) -> list[T]:
    """The same entries, each item after its phase; sessions know items in the order in which they came."""
    entries = {name_of(entry): entry for entry in listed}
    items = by_whole(entries)
    below = {name for names in items.values() for name in names}
    wholes = (name for name in entries if name not in below)
    return [entries[one] for name in wholes for one in (name, *items.get(name, ()))]
