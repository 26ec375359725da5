"""Lines for pipes and CI: statuses to stderr, output of phases to stdout."""

import pytest

from planter.cli.output import Output
from planter.cli.render import PlainLines, log_lines, printable, summary
from planter.cli.tree import tree_lines
from planter.cli.view import PhaseView, View
from planter_protocol.messages import Commit, Log, Progress


def a_commit(*events: dict) -> Commit:
    return Commit(v=1, n=1, at="1970-01-01T00:00:02Z", by="p", events=events)


def feed(lines: PlainLines, view: View, at: int, *events: dict) -> None:
    lines.commit(view, a_commit(*events), view.apply(events, at))


def a_view(*names: str) -> View:
    return View("s", [PhaseView(name) for name in names])


def test_one_line_a_status_change_with_the_elapsed_time(capsys):
    view = a_view("a", "build")
    lines = PlainLines(view)
    feed(lines, view, 1_000, {"type": "PlanApplied", "revision": 1, "digest": "d"})
    feed(lines, view, 1_500, {"type": "PhaseStarted", "phaseId": "a", "attempt": 1, "runtimeId": "r1"})
    feed(lines, view, 3_000, {"type": "PhaseCompleted", "phaseId": "a", "attempt": 1})

    out, err = capsys.readouterr()

    assert out == ""
    assert [" ".join(line.split()[0:1] + line.split()[2:]) for line in err.splitlines()] == [
        "0.50s a running on r1",
        "2.00s a complete 1.50s",
    ]


def test_items_have_room_for_their_names(capsys):
    view = a_view("a")
    lines = PlainLines(view)
    feed(lines, view, 1_000, {"type": "PhaseExpanded", "phaseId": "a", "attempt": 1, "items": [1, 2]})
    lines.log(Log(level="info", message="one", timestamp="t", phase_id="a"))
    lines.log(Log(level="info", message="two", timestamp="t", phase_id="a[0]"))

    assert capsys.readouterr().out == "a    | one\na[0] | two\n"


def test_progress_is_a_line_for_each_tenth_and_stands_in_the_tree(capsys):
    view = a_view("a")
    lines = PlainLines(view)
    feed(lines, view, 1_000, {"type": "PlanApplied", "revision": 1, "digest": "d"})
    feed(lines, view, 1_000, {"type": "PhaseStarted", "phaseId": "a", "attempt": 1, "runtimeId": "r1"})
    capsys.readouterr()
    for done in range(1, 26):
        told = Progress(phase_id="a", attempt=1, done=done, total=100, message="rows")
        view.note_progress(told)
        lines.progress(view, told)
    err = capsys.readouterr().err
    tree = [line.plain for line in tree_lines(view, 2_000, height=20, width=80)]

    assert [line.partition("running")[2].strip() for line in err.splitlines()] == [
        "10 % (10/100 rows)",
        "20 % (20/100 rows)",
    ]
    assert "25 % (25/100 rows)" in tree[1]


def test_output_of_phases_goes_to_stdout_with_their_names(capsys):
    PlainLines(a_view("a", "build")).log(Log(level="info", message="one\ntwo", timestamp="t", phase_id="a"))

    assert capsys.readouterr() == ("a     | one\na     | two\n", "")


@pytest.mark.parametrize("output", [Output.JSON, Output.NDJSON])
def test_where_stdout_carries_json_output_of_phases_goes_to_stderr(capsys, output):
    PlainLines(a_view("a"), output).log(Log(level="info", message="one", timestamp="t", phase_id="a"))

    assert capsys.readouterr() == ("", "a | one\n")


def test_ndjson_is_one_line_a_commit(capsys):
    view = a_view("a")
    feed(PlainLines(view, Output.NDJSON), view, 1, {"type": "SomethingNew"})

    out, _ = capsys.readouterr()

    assert out.count("\n") == 1
    assert out.startswith('{"v":1,"n":1,')


def test_control_characters_of_a_phase_never_reach_the_terminal():
    assert printable("a\x1b[2Jb\tc\x07") == "a\N{REPLACEMENT CHARACTER}[2Jb\tc\N{REPLACEMENT CHARACTER}"
    line = Log(level="info", message="\x1b]0;x", timestamp="t", phase_id="p")
    assert all("\x1b" not in text for text in log_lines(line))


def test_the_summary_names_each_failed_phase_and_how_to_see_more():
    view = a_view("a b", "c")
    view.apply([{"type": "PlanApplied", "revision": 1, "digest": "d"}], 1_000)
    view.apply([{"type": "PhaseFailed", "phaseId": "a b", "attempt": 2, "message": "exit 1"}], 2_000)
    view.apply([{"type": "PhaseSkipped", "phaseId": "c", "reason": "a b failed"}], 2_000)
    view.apply([{"type": "SessionEnded", "status": "failed", "reason": "phase a b failed"}], 2_500)

    lines = summary(view, 9_000, logs_command="planter logs s")

    assert lines[0].endswith("session s failed: 2 phases in 1.50s (1 failed, 1 skipped)")
    assert lines[1] == "  because: phase a b failed"
    assert lines[2].endswith("a b: exit 1")
    assert lines[3] == "      see: planter logs s 'a b'"


def test_a_rejected_approval_sends_nobody_to_a_log_that_is_empty():
    view = a_view("release")
    asked = {
        "type": "ApprovalRequested",
        "phaseId": "release",
        "attempt": 1,
        "message": "Deploy?",
        "needed": 1,
    }
    view.apply([asked], 1_000)
    failed = {"type": "PhaseFailed", "phaseId": "release", "attempt": 1, "message": "rejected by ann"}
    view.apply([failed], 2_000)

    lines = summary(view, 9_000, logs_command="planter logs s")

    assert lines[-1].endswith("release: rejected by ann")


def test_the_tree_shows_every_phase_where_they_fit():
    view = View("s", [PhaseView("a"), PhaseView("b", needs=("a",))])
    view.apply([{"type": "PhaseStarted", "phaseId": "a", "attempt": 1, "runtimeId": "r"}], 1_000)

    lines = [line.plain for line in tree_lines(view, 2_500, height=20, width=100)]

    assert len(lines) == 3
    assert lines[1].split()[1:] == ["a", "1.50s", "r"]
    assert lines[2].split()[1:] == ["b", "waits", "for", "a"]


def test_the_tree_is_compact_where_they_do_not_fit():
    view = View("s", [PhaseView(f"p{number}") for number in range(200)])
    view.apply([{"type": "PhaseFailed", "phaseId": "p7", "attempt": 1, "message": "boom"}], 1_000)
    for number in range(20, 60):
        view.apply([{"type": "PhaseStarted", "phaseId": f"p{number}", "attempt": 1}], 1_000)

    lines = [line.plain for line in tree_lines(view, 2_500, height=10, width=60)]

    assert len(lines) == 10
    assert "159 pending" in lines[1]
    assert "p7" in lines[2]
    assert "boom" in lines[2]
    assert lines[-1].strip() == "and 34 more"
    assert all(len(line) <= 60 for line in lines)
