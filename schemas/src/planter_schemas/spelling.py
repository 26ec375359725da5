"""Keys in three spellings: ``waitFor``, ``wait_for`` and ``WaitFor`` are one key (protocol, 'Field Naming Conventions').

An object is read into ``Fields``: its known keys under their canonical (camelCase) names, its ``x-`` keys as they
stand, and a finding for every other key, so that none is ever dropped in silence.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from planter_schemas.findings import Finding, Findings
from planter_schemas.problems import Path, shown, shown_list

_HUMP = re.compile(r"(?<!^)(?=[A-Z])")
_KEY_LENGTH_COMPARED_MAX = 64


def spellings(name: str) -> tuple[str, str, str]:
    """A camelCase name as camelCase, snake_case and PascalCase."""
    return name, _HUMP.sub("_", name).lower(), name[:1].upper() + name[1:]


class KeyTable:
    """The keys that one kind of object may have.

    Args:
        place: what the object is, for messages: ``a phase``.
        names: the canonical names.
        aliases: further words for one of them, canonical name by alias.
        elsewhere: keys that belong to another object, with the advice where.
        is_exact: whether only the canonical spelling is read.
    """

    def __init__(
        self,
        place: str,
        names: Sequence[str],
        *,
        aliases: Mapping[str, str] | None = None,
        elsewhere: Mapping[str, str] | None = None,
        is_exact: bool = False,
    ) -> None:
        self.place = place
        self.names = tuple(names)
        self.canonical: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        for name in names:
            for spelling in (name,) if is_exact else spellings(name):
                self.canonical[spelling] = name
        for alias, name in (aliases or {}).items():
            for spelling in spellings(alias):
                self.canonical[spelling] = name
        for name, advice in (elsewhere or {}).items():
            for spelling in spellings(name):
                self.elsewhere.setdefault(spelling, advice)


class Fields:
    """An object's values under canonical names; an absent key and null are both absent."""

    __slots__ = ("extensions", "path", "values", "written")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, object] = {}
        self.written: dict[str, str] = {}
        self.extensions: dict[str, object] = {}

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def get(self, name: str) -> object:
        """The value, or None when it is absent."""
        return self.values.get(name)

    def path_of(self, name: str) -> Path:
        """Where the value stands; the object itself when it is absent."""
        key = self.written.get(name)
        return self.path if key is None else (*self.path, key)


def is_extension(key: str) -> bool:
    """Whether the key is an extension (protocol, 'Compliance')."""
    return key[:2] in ("x-", "X-")


def read_fields(findings: Findings, value: Mapping[str, object], path: Path, table: KeyTable) -> Fields:
    """Sort the keys of an object by a table; each unknown key and each second spelling is a finding."""
    fields = Fields(path)
    canonical = table.canonical
    for key, item in value.items():
        name = canonical.get(key)
        if name is None:
            if is_extension(key):
                fields.extensions[key] = item
            else:
                findings.add(unknown_key(key, (*path, key), table))
        elif name in fields.written:
            findings.add(_second_spelling(key, name, fields))
        else:
            fields.values[name] = item
            fields.written[name] = key
    return fields


def unknown_key(key: str, path: Path, table: KeyTable) -> Finding:
    """The finding for a key that the table does not have."""
    close = closest(key, tuple(table.canonical))
    advice = table.elsewhere.get(key)
    if advice is not None:
        hint = advice
    elif close is not None:
        hint = f"did you mean {shown(table.canonical[close])}?"
    elif not table.names:
        hint = "own extensions start with x-"
    else:
        hint = f"allowed here: {shown_list(list(table.names))}, and extensions that start with x-"
    message = f"unknown key {shown(key)} in {table.place}"
    return Finding(path, "PLT-1102", message, label="unknown key", hint=hint, at_key=True)


@lru_cache(maxsize=2048)
def closest(word: str, candidates: tuple[str, ...]) -> str | None:
    """The most similar candidate, if one is similar enough to be what was meant."""
    if len(word) > _KEY_LENGTH_COMPARED_MAX:
        return None
    lowered = {candidate.lower().replace("_", "").replace("-", ""): candidate for candidate in candidates}
    flat = word.lower().replace("_", "").replace("-", "")
    found = difflib.get_close_matches(flat, lowered, n=1, cutoff=0.7)
    return lowered[found[0]] if found else None


def _second_spelling(key: str, name: str, fields: Fields) -> Finding:
    first = fields.written[name]
    return Finding(
        (*fields.path, key),
        "PLT-1103",
        f"{shown(first)} and {shown(key)} are two spellings of one key",
        label="second spelling",
        hint="keep one of them",
        at_key=True,
        related=(*fields.path, first),
        related_text=f"{shown(first)} stands at",
    )
