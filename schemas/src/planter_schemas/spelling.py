"""Keys in three spellings: ``waitFor``, ``wait_for`` and ``WaitFor`` are one key.

Protocol, 'Field Naming Conventions'. An object is read into ``Fields``: its known keys under their canonical
(camelCase) names, its ``x-`` keys as they stand, and a finding for every other key, so that none is ever
dropped in silence.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from planter_schemas.findings import Finding, Findings
from planter_schemas.problems import Path, shown, shown_list

_HUMP = re.compile(r"(?<!^)(?=[A-Z])")
_KEY_LENGTH_COMPARED_MAX = 64
_SHAPES_MAX = 256
_SHAPE_KEYS_MAX = 32


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
        self.shapes: dict[tuple[str, ...], _Shape] = {}
        """Most objects of a manifest have the same keys in the same order: each order is sorted out once."""
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

    def __init__(
        self, path: Path, values: Mapping[str, object], written: dict[str, str], extensions: dict[str, object]
    ) -> None:
        self.path = path
        self.values = values
        self.written = written
        self.extensions = extensions

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def get(self, name: str) -> object:
        """The value, or None when it is absent."""
        return self.values.get(name)

    def path_of(self, name: str) -> Path:
        """Where the value stands; the object itself when it is absent."""
        key = self.written.get(name)
        return self.path if key is None else (*self.path, key)


class _Shape(NamedTuple):
    """What the keys of an object mean, when each is an extension or known, and none is there twice."""

    names: tuple[str, ...]
    """Canonical names; extensions as they are written."""
    written: dict[str, str]
    extensions: tuple[str, ...]
    is_canonical: bool


def is_extension(key: str) -> bool:
    """Whether the key is an extension (protocol, 'Compliance')."""
    return key[:2] in ("x-", "X-")


def read_fields(findings: Findings, value: Mapping[str, object], path: Path, table: KeyTable) -> Fields:
    """Sort the keys of an object by a table; each unknown key and each second spelling is a finding."""
    shape = table.shapes.get(tuple(value))
    if shape is not None:
        values: Mapping[str, object] = (
            value if shape.is_canonical else dict(zip(shape.names, value.values(), strict=True))
        )
        extensions = {key: value[key] for key in shape.extensions} if shape.extensions else {}
        return Fields(path, values, shape.written, extensions)
    found: dict[str, object] = {}
    fields = Fields(path, found, {}, {})
    canonical = table.canonical
    for key, item in value.items():
        name = canonical.get(key)
        if name is None:
            if is_extension(key):
                fields.extensions[key] = item
            elif findings.is_full:
                findings.errors_left_out += 1  # finding a suggestion for each would take long
            else:
                findings.add(unknown_key(key, (*path, key), table))
        elif name in fields.written:
            findings.add(_second_spelling(key, name, fields))
        else:
            found[name] = item
            fields.written[name] = key
    is_clean = len(fields.written) + len(fields.extensions) == len(value) <= _SHAPE_KEYS_MAX
    if is_clean and len(table.shapes) < _SHAPES_MAX:
        names = tuple(canonical.get(key, key) for key in value)
        is_canonical = names == tuple(value)
        table.shapes[tuple(value)] = _Shape(names, fields.written, tuple(fields.extensions), is_canonical)
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
