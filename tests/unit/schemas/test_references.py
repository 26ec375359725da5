"""Checks between phases, and what counts as a typing error."""

import json

import pytest

from planter_schemas import load_manifest
from planter_schemas.references import Lookalikes


@pytest.mark.parametrize(
    ("name", "ids", "expected"),
    [
        ("bild", ["fetch", "build"], "build"),
        ("Build", ["build"], "build"),
        ("BUILD-SITE", ["build-site"], "build-site"),
        ("t99999", ["t00001", "t00002"], "t00001"),
        ("stage-3", ["stage-1", "stage-2"], "stage-1"),
        ("initialisation", ["initialization"], "initialization"),
        ("a", ["b"], None),
        ("lint", ["link"], None),
        ("test", ["rest"], None),
        ("ab", ["abc"], None),
        ("tst", ["test"], "test"),
        ("preflight", ["initialization", "deployment"], None),
        ("network", ["work", "net"], None),
        ("a", [], None),
        ("x" * 10_000, ["x" * 128], None),
    ],
)
def test_a_lookalike_is_found_when_it_was_likely_meant(name, ids, expected) -> None:
    assert Lookalikes(ids).of(name) == expected


def test_the_most_similar_id_is_suggested_among_thousands() -> None:
    ids = [f"task-{i:05d}" for i in range(10_000)]

    assert Lookalikes([*ids, "deploy-website"]).of("deploy-wbsite") == "deploy-website"
    assert Lookalikes(ids).of("tsk-04711") in ids


def test_a_wait_for_a_likely_typing_error_is_refused_and_shows_what_was_meant() -> None:
    text = "- {id: build, spec: {}}\n- id: deploy\n  spec:\n    waitFor: {phases: [bild]}\n"

    loaded = load_manifest(text, source="site.yaml")

    problem = loaded.problems[0]
    assert loaded.manifest is None
    assert (problem.code, problem.line, problem.column, problem.length) == ("PLT-1201", 4, 24, 4)
    assert problem.message == "phase `deploy` waits for unknown phase `bild`"
    assert problem.hint == "did you mean `build`?\n`build` stands at 1:8"


def test_a_wait_for_another_plan_is_a_warning_unless_checking_is_strict() -> None:
    text = "id: deploy\nspec: {waitFor: [preflight, preflight]}"

    relaxed, strict = load_manifest(text), load_manifest(text, strict=True)

    assert relaxed.manifest is not None
    assert relaxed.manifest.phases[0].external == ("preflight",)
    assert [(each.code, each.severity) for each in relaxed.problems] == [
        ("PLT-1202", "warning"),
        ("PLT-1207", "warning"),
    ]
    assert strict.manifest is None
    assert [each.code for each in strict.errors] == ["PLT-1202"]


def test_unknown_waits_are_not_judged_while_a_phase_has_no_id() -> None:
    loaded = load_manifest("- {spec: {}}\n- {id: a, spec: {waitFor: [b]}}")

    assert [each.code for each in loaded.problems] == ["PLT-1105"]


def test_a_target_that_no_phase_has_is_refused() -> None:
    loaded = load_manifest("targetPhase: biuld\nphases: [{id: build, spec: {}}]")

    problem = loaded.problems[0]
    assert (problem.code, problem.line, problem.column) == ("PLT-1206", 1, 14)
    assert problem.hint == "did you mean `build`?"


def test_circles_are_left_to_the_planner() -> None:
    text = json.dumps([{"id": "a", "spec": {"waitFor": ["b"]}}, {"id": "b", "spec": {"waitFor": ["a"]}}])

    assert load_manifest(text).problems == ()


def test_both_places_of_a_duplicate_id_are_named() -> None:
    loaded = load_manifest("phases:\n  - {id: a, spec: {}}\n  - {metadata: {name: a}, spec: {}}")

    problem = loaded.problems[0]
    assert (problem.code, problem.line, problem.column) == ("PLT-1203", 3, 23)
    assert problem.hint == "first used at 2:10"


def test_a_flood_of_wrong_names_is_compared_by_case_and_number_only(monkeypatch) -> None:
    monkeypatch.setattr("planter_schemas.references._COMPARISONS_MAX", 1)
    lookalikes = Lookalikes(["build-7"])

    found = [lookalikes.of(name) for name in ("biuld-7", "buidl-7", "BUILD-8", "biuld-7")]

    assert found == ["build-7", None, "build-7", "build-7"]
