"""Up to a target phase, and stop: which phases that are, however it is asked for."""

import json
from typing import Any

import pytest

import planter_schemas as schemas
from planter.compile.phases import compile_manifest
from planter.compile.plain import compile_plain
from planter.compile.target import read_plain, up_to
from planter.core.plan import Plan
from planter.shell.plans import read_manifest

NOOP = {"x-run": {"noop": {}}}


def document(**needs: str) -> list[dict[str, Any]]:
    """Phases and what each waits for, separated by blanks."""
    return [
        {"kind": "Phase", "id": name, "spec": {**NOOP, "waitFor": {"phases": waits.split()}}}
        for name, waits in needs.items()
    ]


DIAMOND = document(a="", b="a", c="a", d="b c", lone="")


def ids(plan: Plan | None) -> list[str]:
    """The phases of a plan."""
    assert plan is not None
    return [spec.id for spec in plan.phases]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("a", ["a"]), ("b", ["a", "b"]), ("d", ["a", "b", "c", "d"]), ("lone", ["lone"])],
)
def test_the_target_and_what_it_needs_are_left(target: str, expected: list[str]) -> None:
    plan = read_manifest(json.dumps(DIAMOND).encode(), target).plan

    assert ids(plan) == expected
    assert plan is not None
    assert plan.target == target


@pytest.mark.parametrize("target", [None, "a", "b", "c", "d", "lone"])
def test_the_quick_way_and_the_long_way_give_the_same_plan(target: str | None) -> None:
    data = json.dumps(DIAMOND).encode()
    long = compile_manifest(schemas.load_manifest(data, format="json"), target).plan

    assert read_plain(data, target) == long
    assert long is not None
    assert long.target == target


def test_the_phases_are_the_same_with_and_without_a_target() -> None:
    """So that a later start of all phases keeps what the first one has done."""
    whole = compile_plain(json.dumps(DIAMOND).encode())
    assert whole is not None
    part = up_to(whole, "b")
    assert part is not None

    assert list(part.phases) == [spec for spec in whole.phases if spec.id in ("a", "b")]
    assert part.digest != whole.digest


@pytest.mark.parametrize(
    "text",
    [
        '{"targetPhase": "b", "phases": %s}',
        '{"target_phase": "b", "phases": %s}',
        '{"plan": {"targetPhase": "b", "a": {}, "b": {"waitFor": {"phases": ["a"]}}, "lone": {}}}',
    ],
)
def test_a_manifest_may_say_it_itself(text: str) -> None:
    given = text % json.dumps(DIAMOND) if "%s" in text else text
    plan = read_manifest(given.encode()).plan

    assert ids(plan) == ["a", "b"]
    assert plan is not None
    assert plan.target == "b"


def test_who_starts_it_has_the_last_word() -> None:
    data = json.dumps({"targetPhase": "b", "phases": DIAMOND}).encode()

    assert ids(read_manifest(data, "c").plan) == ["a", "c"]


@pytest.mark.parametrize(
    ("given", "target", "hint"),
    [
        (document(setup="", build="setup"), "biuld", "did you mean `build`?"),
        (document(setup="", build="setup"), "Setup", "did you mean `setup`?"),
        (document(setup=""), "entirely else", "`planter graph` shows the phases"),
        (document(setup=""), "", "`planter graph` shows the phases"),
    ],
)
def test_an_unknown_target_is_a_problem_with_the_name_that_was_meant(
    given: list[dict[str, Any]], target: str, hint: str
) -> None:
    read = read_manifest(json.dumps(given).encode(), target)

    assert read.plan is None
    (problem,) = read.problems
    assert (problem["code"], problem["hint"]) == ("PLT-1206", hint)


def test_a_circle_that_the_target_does_not_need_is_in_nobodys_way() -> None:
    data = json.dumps(document(a="", b="c", c="b")).encode()

    assert ids(read_manifest(data, "a").plan) == ["a"]
    assert read_manifest(data, "b").plan is None
    assert read_manifest(data).plan is None


def test_external_phases_of_the_target_stay_external() -> None:
    data = json.dumps(document(a="elsewhere-entirely", b="a", c="")).encode()
    plan = read_manifest(data, "b").plan

    assert plan is not None
    assert [spec.external for spec in plan.phases] == [("elsewhere-entirely",), ()]
