"""Comparing versions as Nomad's ``version`` constraint does (HashiCorp's go-version): ``>= 1.2, < 2``.

A version is numbers with dots, then a pre-release after ``-``, then metadata after ``+`` that counts for
nothing; missing numbers are 0. A pre-release is older than its release, and fulfils only constraints that
name a pre-release of the same numbers.
"""

import re
from typing import NamedTuple

VERSION_LENGTH_MAX = 256
_NUMBERS_MIN = 3
_VERSION = re.compile(
    r"v?(?P<numbers>[0-9]{1,18}(?:\.[0-9]{1,18})*)(?:-(?P<pre>[0-9A-Za-z~.-]+))?(?:\+[0-9A-Za-z~.-]+)?"
)
_CLAUSE = re.compile(r"(?P<operator>=|!=|>=|<=|>|<|~>|)\s*(?P<version>\S+)")
_Numbers = tuple[int, ...]


class Version(NamedTuple):
    """A version that can be compared."""

    numbers: _Numbers
    """At least three."""
    pre: str
    given: int
    """How many numbers were written."""


class _Clause(NamedTuple):
    operator: str
    version: Version


def read_version(text: str) -> Version | None:
    """The version that the text is, if it is one."""
    found = _VERSION.fullmatch(text) if len(text) <= VERSION_LENGTH_MAX else None
    if found is None:
        return None
    numbers = tuple(int(number) for number in found["numbers"].split("."))
    padding = (0,) * (_NUMBERS_MIN - len(numbers))
    return Version(numbers + padding, found["pre"] or "", len(numbers))


def version_fault(wanted: str) -> str | None:
    """What is wrong with a list of comparisons; None when it can be used."""
    for part in wanted.split(","):
        if _clause(part) is None:
            what = f"`{part.strip()}` is" if part.strip() else "an empty part is"
            return f"{what} no comparison with a version, such as `>= 1.2` or `~> 2.1.0`"
    return None


def fulfils(text: str, wanted: str) -> bool:
    """Whether the text is a version that all the comparisons allow."""
    version = read_version(text.strip())
    return version is not None and all(
        (clause := _clause(part)) is not None and _allows(clause, version) for part in wanted.split(",")
    )


def _clause(text: str) -> _Clause | None:
    found = _CLAUSE.fullmatch(text.strip()) if len(text) <= VERSION_LENGTH_MAX else None
    version = read_version(found["version"]) if found is not None else None
    return _Clause(found["operator"] or "=", version) if found is not None and version is not None else None


def _allows(clause: _Clause, version: Version) -> bool:
    operator, wanted = clause
    difference = compare(version, wanted)
    if operator in ("=", "!="):
        return (difference == 0) is (operator == "=")
    if version.pre and not (wanted.pre and _same_numbers(version, wanted)):
        return False
    match operator:
        case ">":
            return difference > 0
        case "<":
            return difference < 0
        case ">=":
            return difference >= 0
        case "<=":
            return difference <= 0
        case _:  # ~>: from there on, and all but the last of the numbers that are written stay
            kept = wanted.given - 1
            if wanted.pre and not version.pre:
                return False
            return difference >= 0 and version.numbers[:kept] == wanted.numbers[:kept]


def compare(one: Version, other: Version) -> int:
    """Negative, 0 or positive: older, equal or newer."""
    length = max(len(one.numbers), len(other.numbers))
    left, right = _padded(one.numbers, length), _padded(other.numbers, length)
    if left != right:
        return -1 if left < right else 1
    if one.pre == other.pre:
        return 0
    if not one.pre or not other.pre:
        return -1 if one.pre else 1
    first, second = _order_of_pre(one.pre), _order_of_pre(other.pre)
    return (first > second) - (first < second)


def _same_numbers(one: Version, other: Version) -> bool:
    length = max(len(one.numbers), len(other.numbers))
    return _padded(one.numbers, length) == _padded(other.numbers, length)


def _padded(numbers: _Numbers, length: int) -> _Numbers:
    return numbers + (0,) * (length - len(numbers))


def _order_of_pre(pre: str) -> list[tuple[int, int, str]]:
    """Numbers are older than words; of equal beginnings the shorter one is older (semver.org, 11)."""
    return [(0, int(part), "") if _is_number(part) else (1, 0, part) for part in pre.split(".")]


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit()
