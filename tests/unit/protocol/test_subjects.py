"""Subjects: the builders, the way back, and ids that must not become subjects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planter_protocol import subjects
from planter_protocol.names import InvalidName, is_of_phase, is_token, new_session_id


@pytest.mark.parametrize(
    "verb",
    ["start", "control", "ack", "report", "target", "state", "events", "log", "get_state", "diff", "explain"],
)
def test_session_subjects_are_those_of_the_protocol_and_parse_back(verb: str) -> None:
    subject = getattr(subjects, verb)("nightly-7")

    assert subject == f"plan.session.nightly-7.{verb}"
    assert subjects.parse_session(subject) == ("nightly-7", verb)


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "*", ">", "a\n", "ä", "x" * 65, "$SYS"])
def test_an_id_that_is_not_one_token_never_becomes_a_subject(bad: str) -> None:
    with pytest.raises(InvalidName):
        subjects.start(bad)


@pytest.mark.parametrize(
    "subject",
    [
        "plan.session.a",
        "plan.session.a.b.c",
        "plan.session..start",
        "plan.run.a.start",
        "",
        "plan.session.*.start",
    ],
)
def test_other_subjects_do_not_parse(subject: str) -> None:
    assert subjects.parse_session(subject) is None


def test_runtime_and_journal_subjects_parse_back() -> None:
    assert subjects.parse_runtime(subjects.runtime_heartbeat("r-1")) == ("r-1", "heartbeat")
    assert subjects.parse_journal(subjects.journal("s-1")) == "s-1"


@given(st.text(max_size=80))
def test_a_new_session_id_is_valid_whatever_it_is_named_after(prefix: str) -> None:
    assert is_token(new_session_id(prefix))


@pytest.mark.parametrize(
    ("phase", "wanted", "is_of_it"),
    [
        ("a", "a", True),
        ("a[0]", "a", True),
        ("a[12]", "a", True),
        ("a[0]", "a[0]", True),
        ("a[0][3]", "a[0]", True),
        ("a", "a[0]", False),
        ("a[10]", "a[1]", False),
        ("a[x]", "a", False),
        ("a[0][3]", "a", False),
        ("ab", "a", False),
        ("", "a", False),
    ],
)
def test_what_is_asked_of_a_phase_includes_its_items(phase: str, wanted: str, is_of_it: bool) -> None:
    assert is_of_phase(phase, wanted) is is_of_it
