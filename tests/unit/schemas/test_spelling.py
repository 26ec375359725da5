"""Three spellings of each key."""

import pytest

from planter_schemas import limits
from planter_schemas.findings import Findings
from planter_schemas.phases import HANDLER, METADATA, PHASE, RETRY, SELECTOR, SPEC, WAIT
from planter_schemas.problems import pointer, shown
from planter_schemas.spelling import KeyTable, closest, read_fields, spellings


@pytest.mark.parametrize("table", [PHASE, SPEC, METADATA, SELECTOR, WAIT, RETRY, HANDLER])
def test_every_key_of_the_protocol_has_three_spellings(table: KeyTable) -> None:
    for name in table.names:
        for spelling in spellings(name):
            findings = Findings()

            fields = read_fields(findings, {spelling: 1}, (), table)

            assert (fields.get(name), fields.path_of(name), findings.errors) == (1, (spelling,), [])


def test_the_spellings_are_camel_snake_and_pascal() -> None:
    assert spellings("waitFor") == ("waitFor", "wait_for", "WaitFor")
    assert spellings("id") == ("id", "id", "Id")


@pytest.mark.parametrize("key", ["WAITFOR", "wait-for", "waitfor", "waitForr", "wait_For"])
def test_any_other_spelling_is_unknown_and_suggests_the_right_one(key: str) -> None:
    findings = Findings()

    read_fields(findings, {key: {}}, (), SPEC)

    assert [(each.code, each.hint) for each in findings.errors] == [("PLT-1102", "did you mean `waitFor`?")]


def test_objects_with_the_same_keys_are_read_the_same_the_second_time() -> None:
    findings = Findings()
    table = KeyTable("a test", ["one", "twoWords"])

    for _ in range(2):
        fields = read_fields(findings, {"two_words": 2, "x-e": 3, "one": None}, ("p",), table)

        assert (fields.get("twoWords"), fields.path_of("twoWords")) == (2, ("p", "two_words"))
        assert fields.extensions == {"x-e": 3}
        assert "one" not in fields


def test_an_unknown_key_is_told_each_time() -> None:
    findings = Findings()
    table = KeyTable("a test", ["one"])

    for _ in range(3):
        read_fields(findings, {"one": 1, "two": 2}, (), table)

    assert len(findings.errors) == 3


def test_a_word_far_from_all_has_no_closest() -> None:
    assert closest("colour", SPEC.names) is None
    assert closest("k" * 1_000_000, SPEC.names) is None


def test_names_are_shown_short_and_harmless() -> None:
    assert shown("a\x1b[2J") == "`a\\x1b[2J`"
    assert len(shown("x" * 1000)) == 62


def test_a_pointer_escapes_slashes_and_tildes() -> None:
    assert pointer(("spec", "a/b~c", 0)) == "/spec/a~1b~0c/0"


def test_findings_count_what_they_do_not_keep() -> None:
    findings = Findings()
    table = KeyTable("a test", [])

    read_fields(findings, {str(i): 1 for i in range(limits.PROBLEMS_MAX + 5)}, (), table)

    assert (len(findings.errors), findings.errors_left_out) == (limits.PROBLEMS_MAX, 5)
