"""Lines and columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planter_schemas.text_lines import TextLines


@given(st.text("ab\r\n", max_size=20), st.data())
def test_a_place_names_the_character(text: str, data: st.DataObject) -> None:
    """Asked in any order, lines and columns lead back to the offset."""
    lines = TextLines(text)
    for offset in data.draw(st.lists(st.integers(0, max(0, len(text) - 1)), max_size=5)):
        line, column = lines.place(offset)
        if text and text[offset] not in "\r\n":
            assert (lines.line(line) or "")[column - 1] == text[offset]
        assert 1 <= line <= len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


@pytest.mark.parametrize(
    ("number", "expected"), [(0, None), (1, "a"), (2, ""), (3, "b c"), (4, ""), (5, None)]
)
def test_lines_are_counted_from_one_and_end_anyhow(number: int, expected: str | None) -> None:
    assert TextLines("a\r\n\rb c\n").line(number) == expected


def test_a_length_ends_with_its_line() -> None:
    lines = TextLines("ab cd  \nef")

    assert lines.length_on_line(1, 10) == 4
    assert lines.length_on_line(1, 2) == 1
    assert lines.length_on_line(7, 8) == 1
