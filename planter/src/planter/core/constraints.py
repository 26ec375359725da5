"""Whether a runtime's labels fulfil a constraint of a phase (``x-constraints``, ``x-affinity``); as in Nomad.

A constraint is about one attribute: a label of the runtime, or one of ``ATTRIBUTES``. An attribute that
the runtime does not have fulfils ``!=`` and ``is_not_set`` only. The label ``*`` matches every selector, and
fulfils no constraint.
"""

import re
from collections.abc import Mapping

from planter.core.patterns import matches, pattern_fault
from planter.core.plan import Affinity, Constraint
from planter.core.versions import fulfils, version_fault

ATTRIBUTE_PREFIX = "planter."
"""No label of a runtime is looked at under these names: what they say nobody sets by hand."""
ATTRIBUTES = ("planter.runtime", "planter.host", "planter.version")
"""The runtime's id, the host that it runs on, the version of its program."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?P<fraction>(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?)")


def holds(constraint: Constraint | Affinity, attributes: Mapping[str, str]) -> bool:
    """Whether the attributes fulfil the constraint; an operator that is not known here is never fulfilled."""
    operator, wanted = constraint.operator, constraint.value
    found = attributes.get(constraint.label)
    if operator == "is_not_set":
        return found is None
    if operator == "!=":
        return found != wanted
    if found is None:
        return False
    match operator:
        case "is_set":
            return True
        case "=":
            return found == wanted
        case ">" | ">=" | "<" | "<=":
            return _in_order(operator, found, wanted)
        case "regexp":
            return matches(wanted, found)
        case "version":
            return fulfils(found, wanted)
        case "set_contains":
            return _set(found) >= _set(wanted)
        case "set_contains_any":
            return not _set(found).isdisjoint(_set(wanted))
        case _:
            return False


def value_fault(constraint: Constraint | Affinity) -> str | None:
    """What is wrong with a value in the language of its operator; None: nothing, or it has no language."""
    match constraint.operator:
        case "regexp":
            return pattern_fault(constraint.value)
        case "version":
            return version_fault(constraint.value)
        case _:
            return None


def described(constraint: Constraint | Affinity) -> str:
    """The constraint in words."""
    return f"{constraint.label} {constraint.operator} {constraint.value}".rstrip()


def _in_order(operator: str, found: str, wanted: str) -> bool:
    """By size when both are numbers, else by the characters."""
    left, right = _number(found), _number(wanted)
    if left is None or right is None:
        order = (found > wanted) - (found < wanted)
    else:
        order = (left > right) - (left < right)
    return {">": order > 0, ">=": order >= 0, "<": order < 0, "<=": order <= 0}[operator]


def _number(text: str) -> float | None:
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    return float(text) if found["fraction"] else int(text)


def _set(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}
