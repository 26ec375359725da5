"""What labels fulfil: the operators of ``x-constraints``, with Nomad's meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planter.core.constraints import holds, value_fault
from planter.core.plan import Constraint
from planter.core.versions import compare, fulfils, read_version, version_fault

LABELS = {
    "memory": "16",
    "half": "0.5",
    "zone": "eu-1",
    "tags": "a, b,c",
    "version": "1.10.2",
    "empty": "",
    "*": "*",
}


@pytest.mark.parametrize(
    ("label", "operator", "value", "expected"),
    [
        ("zone", "=", "eu-1", True),
        ("zone", "=", "eu", False),
        ("memory", "=", "16.0", False),  # as text: 1.10 and 1.1 are two versions
        ("none", "=", "", False),
        ("zone", "!=", "us", True),
        ("zone", "!=", "eu-1", False),
        ("none", "!=", "us", True),
        ("memory", ">=", "16", True),
        ("memory", ">", "16", False),
        ("memory", ">", "9", True),  # as numbers, else "16" would come before "9"
        ("memory", "<", "1e2", True),
        ("memory", "<=", "15.999", False),
        ("half", "<", "1", True),
        ("half", ">", "-1", True),
        ("memory", ">", "9 GB", False),  # one of them is no number: as text
        ("zone", ">", "eu-0", True),
        ("zone", "<=", "eu-1", True),
        ("none", ">=", "0", False),
        ("none", "<=", "0", False),
        ("zone", "regexp", "^eu-[0-9]+$", True),
        ("zone", "regexp", "u-", True),
        ("zone", "regexp", "^u", False),
        ("zone", "regexp", "(", False),
        ("none", "regexp", ".*", False),
        ("version", "version", ">= 1.9, < 2", True),
        ("version", "version", ">= 1.11", False),
        ("version", "version", "nonsense", False),
        ("zone", "version", ">= 0", False),
        ("tags", "set_contains", "a,c", True),
        ("tags", "set_contains", "a,d", False),
        ("tags", "set_contains_any", "d,b", True),
        ("tags", "set_contains_any", "d,e", False),
        ("none", "set_contains", "a", False),
        ("none", "set_contains_any", "a", False),
        ("empty", "is_set", "", True),
        ("none", "is_set", "", False),
        ("empty", "is_not_set", "", False),
        ("none", "is_not_set", "", True),
        ("zone", "later", "eu-1", False),  # of a newer version of Planter
    ],
)
def test_what_a_label_fulfils(label: str, operator: str, value: str, expected: bool) -> None:
    assert holds(Constraint(label, operator, value), LABELS) == expected


_texts = st.one_of(st.text(max_size=6), st.integers().map(str), st.floats().map(str))


@given(_texts, _texts)
def test_of_two_values_exactly_one_order_holds(one: str, other: str) -> None:
    labels = {"x": one}
    less, more = (holds(Constraint("x", operator, other), labels) for operator in "<>")
    at_most, at_least = (holds(Constraint("x", operator, other), labels) for operator in ("<=", ">="))

    assert not (less and more)
    assert (at_most, at_least) == (not more, not less)
    assert less == holds(Constraint("x", ">", one), {"x": other})


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("1.2.3", ">= 1.2, < 2", True),
        ("2.0.0", ">= 1.2, < 2", False),
        ("v1.2", "= 1.2.0", True),
        ("1.2", "1.2", True),
        ("1.2.0.1", "> 1.2", True),
        ("1.10", "> 1.9", True),
        ("1.2.3", "!= 1.2.3", False),
        ("1.2.9", "~> 1.2.3", True),
        ("1.3.0", "~> 1.2.3", False),
        ("1.9", "~> 1.2", True),
        ("2.0", "~> 1.2", False),
        ("1.2.3-beta", ">= 1.2", False),  # a pre-release fulfils only what names one
        ("1.2.3-beta.2", ">= 1.2.3-beta.1", True),
        ("1.2.3-beta.10", "> 1.2.3-beta.9", True),
        ("1.2.3-rc", "> 1.2.3-beta", True),
        ("1.2.4-rc", "> 1.2.3-beta", False),
        ("1.2.3", "> 1.2.3-beta", True),
        ("1.2.3", "~> 1.2.3-beta", False),
        ("1.2.3+build.7", "= 1.2.3", True),
        ("1.2.x", ">= 1", False),
        ("", ">= 0", False),
    ],
)
def test_what_a_version_fulfils(version: str, wanted: str, expected: bool) -> None:
    assert version_fault(wanted) is None
    assert fulfils(version, wanted) == expected


@pytest.mark.parametrize("wanted", ["", ">=", ">> 1", ">= 1,", "1.x", "latest", "> 1 < 2", "1" * 300])
def test_what_is_no_comparison_of_versions_is_said(wanted: str) -> None:
    assert "no comparison" in str(version_fault(wanted))
    assert value_fault(Constraint("x", "version", wanted)) == version_fault(wanted)
    assert not fulfils("1.2", wanted)


_versions = st.from_regex(r"\A[0-9]{1,2}(\.[0-9]{1,2}){0,3}(-[a-b0-9](\.[0-9]{1,2})?)?\Z", fullmatch=True)


@given(_versions, _versions, _versions)
def test_versions_have_one_order(one: str, two: str, three: str) -> None:
    a, b, c = (read_version(text) for text in (one, two, three))
    assert a is not None
    assert b is not None
    assert c is not None
    assert compare(a, b) == -compare(b, a)
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0
    assert fulfils(one, f"= {one}")
