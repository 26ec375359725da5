"""Durations, times and JSON."""

from datetime import UTC, datetime

import pytest
import typer

from planter.cli.output import ago, duration, one_line, parse_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.419, "0.42s"), (12.34, "12.3s"), (245, "4m05s"), (3_725, "1h02m"), (273_600, "3d04h"), (-1, "0.00s")],
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5_400), ("500ms", 0.5), ("7", 7), ("1.5s", 1.5)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 m", "10x", "1h30", "-5s"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="10m"):
        parse_duration(text)


def test_how_long_ago_something_was():
    now = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)

    assert ago("2026-01-01T00:09:57.5Z", now) == "2s ago"
    assert ago("2026-01-01T00:00:00Z", now) == "10m00s ago"
    assert ago(None) == "-"


def test_long_text_is_cut_and_flattened():
    assert one_line("a\n  b") == "a b"
    assert one_line("x" * 200, 10) == "xxxxxxx..."
