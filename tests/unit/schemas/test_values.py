"""Durations, variables, scalars and codes: the small grammars."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import planter_schemas
from planter_schemas.codes import CODES, explain
from planter_schemas.durations import format_duration, parse_duration
from planter_schemas.limits import DURATION_MS_MAX
from planter_schemas.variables import escape, substitute
from planter_schemas.yaml_scalars import plain_tag


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("300ms", 300),
        ("5s", 5_000),
        ("5", 5_000),
        (5, 5_000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("0", 0),
        ("", None),
        ("s", None),
        ("1.5s", None),
        ("-1s", None),
        (-1, None),
        ("1d", None),
        ("1 s", None),
        ("5s\n", None),
        ("٣s", None),
        (True, None),
        (1.0, None),
        (None, None),
        ([], None),
        ("9" * 400, None),
        (10**30, None),
    ],
)
def test_a_duration_is_a_whole_number_with_a_unit(value: object, expected: int | None) -> None:
    assert parse_duration(value) == expected


@given(st.integers(0, DURATION_MS_MAX))
def test_a_written_duration_reads_the_same(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a", None)),
        ("${A}", ("1", None)),
        ("x${A}y${A}", ("x1y1", None)),
        ("${B:2}", ("2", None)),
        ("${A:2}", ("1", None)),
        ("${B:}", ("", None)),
        ("${B:a:b}", ("a:b", None)),
        ("${B}", ("", "B")),
        ("$A", ("$A", None)),
        ("${not a name}", ("${not a name}", None)),
        ("$${A}", ("${A}", None)),
        ("$$${A}", ("$${A}", None)),
    ],
)
def test_placeholders_are_replaced(text: str, expected: tuple[str, str | None]) -> None:
    assert substitute(text, {"A": "1"}) == expected


@given(st.text("${}A:"))
def test_an_escaped_text_is_not_replaced(text: str) -> None:
    assert substitute(escape(text), {"A": "1"}) == (text, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", "bool"),
        ("yes", "str"),
        ("on", "str"),
        ("~", "null"),
        ("", "null"),
        ("12", "int"),
        ("0x1f", "int"),
        ("0o17", "int"),
        ("1_000", "str"),
        ("12:30:45", "str"),
        ("1.5", "float"),
        (".inf", "float"),
        ("2001-01-01", "str"),
        ("<<", "str"),
        ("=", "str"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_one_two(text: str, expected: str) -> None:
    assert plain_tag(text) == f"tag:yaml.org,2002:{expected}"


def test_every_code_that_is_raised_is_explained_and_every_explained_code_is_raised() -> None:
    folder = Path(planter_schemas.__file__).parent
    used: set[str] = set()
    for path in folder.glob("*.py"):
        if path.name != "codes.py":
            used |= set(re.findall(r"PLT-\d{4}", path.read_text()))

    compiler = {
        "PLT-1204",
        "PLT-1310",
        "PLT-1311",
        "PLT-1314",
        "PLT-1316",
        "PLT-1332",
    }  # the planner raises these
    assert set(CODES) - compiler == used


def test_a_code_is_explained_in_any_case() -> None:
    assert explain("plt-1203").startswith("PLT-1203: phase id used twice\n\n")
    with pytest.raises(KeyError):
        explain("PLT-9999")
