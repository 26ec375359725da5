"""Regular expressions over labels: what they match, and that none takes long."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planter.core.patterns import PATTERN_LENGTH_MAX, TEXT_LENGTH_MAX, _compiled, matches, pattern_fault

_ATOMS = ["a", "b", ".", "1", r"\d", r"\W", r"\.", "[ab]", "[^a]", r"[\w.]", r"[^\d-]", "[a-c1]", "-"]
_REPEATS = ["*", "+", "?", "*?", "{2}", "{0}", "{1,2}", "{2,}"]
_inner = st.recursive(
    st.sampled_from(_ATOMS),
    lambda part: st.one_of(
        st.tuples(part, part).map("".join),
        st.tuples(part, part).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(part, st.sampled_from(_REPEATS)).map(lambda two: f"(?:{two[0]}){two[1]}"),
        part.map(lambda one: f"({one}|)"),
    ),
    max_leaves=8,
)
_branch = st.tuples(st.sampled_from(["", "^"]), _inner, st.sampled_from(["", "$"])).map("".join)
_patterns = st.lists(_branch, min_size=1, max_size=2).map("|".join)


@given(_patterns, st.lists(st.text("ab1.-\n", max_size=6), min_size=3, max_size=3))
def test_patterns_match_what_the_standard_library_says(pattern: str, texts: list[str]) -> None:
    assert pattern_fault(pattern) is None
    wanted = re.compile(
        re.sub(r"\$(?=$|\|)", r"\\Z", pattern), re.ASCII
    )  # `$` of re is before a line end, too
    for text in texts:
        assert matches(pattern, text) == (wanted.search(text) is not None), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(x*)*y",
        "(a|a)*b",
        "(a|b)*a(a|b){120}",
        "(?:(?:a?){15}){15}b",
        "[^b]{250}b",
        ".*.*.*.*.*.*.*.*.*.*b",
        "((){256}){256}",
    ],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    assert pattern_fault(pattern) is None
    before = time.process_time()
    matches(pattern, "a" * TEXT_LENGTH_MAX)
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a**", "two repetitions in a row"),
        ("a{2}{3}", "two repetitions in a row"),
        ("*a", "nothing before it"),
        ("^*", "nothing before it"),
        ("(^a)", "may stand only at the start"),
        ("a$b", "may stand only at the end"),
        ("a)", "has no `(`"),
        ("(a", "has no `)`"),
        ("[a", "inside of a class"),
        ("[]", "inside of a class"),
        ("[b-a]", "wrong way round"),
        ("[[:alpha:]]", "not supported"),
        ("a{2,1}", "wrong way round"),
        ("a{,2}", "needs one or two numbers"),
        ("a{1", "inside of `{}`"),
        ("a{9999999999}", "needs one or two numbers"),
        ("\\", "inside of an escape"),
        (r"\pL", "not supported"),
        (r"(a)\1", "not supported"),
        ("(?=a)", "only `(?:...)`"),
        ("(?i)a", "only `(?:...)`"),
        ("(((a{10}){10}){10})", "too large"),
        ("x" * (PATTERN_LENGTH_MAX + 1), "256 are allowed"),
        ("(" * 60 + ")" * 60, "nested"),
    ],
)
def test_what_is_no_pattern_is_said_and_matches_nothing(pattern: str, why: str) -> None:
    assert why in str(pattern_fault(pattern))
    assert not matches(pattern, "a")


def test_a_text_that_is_too_long_matches_nothing() -> None:
    assert matches("a", "a" * TEXT_LENGTH_MAX)
    assert not matches("a", "a" * (TEXT_LENGTH_MAX + 1))


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_has_a_fault(text: str) -> None:
    if pattern_fault(text) is not None:
        assert not matches(text, "a")


def test_a_large_class_in_each_position_costs_little_a_character() -> None:
    pattern = f"^[{'!' * 200}a-z0-9.-]{{1,240}}$"

    assert matches(pattern, "a" * 240)
    assert not matches(pattern, "".join(map(chr, range(0x100, 0x300))))
    assert len(_compiled(pattern).classes) == 1
