"""What a plain YAML scalar means, by the core schema of YAML 1.2.

``yes``, ``no``, ``on`` and ``12:30:45`` are texts; YAML 1.1 made booleans and a number of them. The tables of
patterns are yamlcore's.
"""

import math
from typing import Any, cast

import yamlcore

from planter_schemas import limits

_PREFIX = "tag:yaml.org,2002:"
STRING, INTEGER, REAL, BOOLEAN, NULL = (
    f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null")
)
MAPPING, SEQUENCE = f"{_PREFIX}map", f"{_PREFIX}seq"
SCALAR_TAGS = frozenset({STRING, INTEGER, REAL, BOOLEAN, NULL})

_RESOLVERS = cast("dict[str, list[tuple[str, Any]]]", yamlcore.CCoreLoader.yaml_implicit_resolvers)


class NotRepresentable(ValueError):
    """A number that is infinite, not a number, or wider than 64 bits."""


class NotOfTag(ValueError):
    """A text that its explicit tag does not fit, such as ``!!int many``."""


def plain_tag(text: str) -> str:
    """The tag of a plain scalar."""
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return tag
    return STRING


def scalar(text: str, tag: str) -> str | int | float | bool | None:
    """The value of a scalar.

    Raises:
        NotRepresentable: see there.
        NotOfTag: see there.
    """
    if tag == STRING:
        return text
    if plain_tag(text) != tag and not (tag == REAL and plain_tag(text) == INTEGER):
        raise NotOfTag(text)
    if tag == NULL:
        return None
    if tag == BOOLEAN:
        return text[0] in "tT"
    if tag == INTEGER:
        return _integer(text)
    number = math.nan if text.lower().endswith(("inf", "nan")) else float(text)
    if not math.isfinite(number):
        raise NotRepresentable(text)
    return number


def _integer(text: str) -> int:
    base = {"0x": 16, "0o": 8}.get(text[:2], 10)
    if (
        len(text) > 30
    ):  # leading zeros aside, 64 bits have 22 octal digits; int() of a long text is slow or raises
        raise NotRepresentable(text)
    number = int(text[2:] if base != 10 else text, base)
    if not limits.INTEGER_MIN <= number <= limits.INTEGER_MAX:
        raise NotRepresentable(text)
    return number
