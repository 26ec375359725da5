"""``x-constraints``, ``x-affinity`` and ``x-slots``: what is read, and what is said of slips of the pen."""

import json
from typing import Any

import pytest

from planter.compile.phases import compile_manifest
from planter.core.plan import Affinity, Constraint, PlacementRules
from planter_schemas import Loaded, Problem, load_manifest


def loaded(spec: str) -> Loaded:
    return load_manifest(f"- id: a\n  spec:\n    {spec}\n", source="x.yaml")


def rules(spec: str) -> PlacementRules | None:
    plan = compile_manifest(loaded(spec)).plan
    assert plan is not None
    return plan.phases[0].placement


def problems(spec: str) -> tuple[Problem, ...]:
    found = compile_manifest(loaded(spec))
    assert found.plan is None
    return found.problems


def constraint(text: str) -> str:
    return f"x-constraints: [{{{text}}}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label: zone, value: eu", Constraint("zone", "=", "eu")),
        ("label: memory, operator: '>=', value: 16", Constraint("memory", ">=", "16")),
        ("label: v, operator: '=', value: 1.10", Constraint("v", "=", "1.10")),
        ("label: gpu, value: true", Constraint("gpu", "=", "true")),
        ("label: x, operator: is_set", Constraint("x", "is_set")),
        ("label: x, operator: is_not_set, value: null", Constraint("x", "is_not_set")),
        ("label: t, operator: set_contains, value: [a, ' b', 3]", Constraint("t", "set_contains", "a,b,3")),
        ("label: t, operator: set_contains_any, value: 'a, b'", Constraint("t", "set_contains_any", "a,b")),
        ("label: v, operator: version, value: '>= 1.2, < 2'", Constraint("v", "version", ">= 1.2, < 2")),
        (
            "label: z, operator: regexp, value: '^eu-[0-9]{1,2}$'",
            Constraint("z", "regexp", "^eu-[0-9]{1,2}$"),
        ),
        ("label: planter.host, value: build-7", Constraint("planter.host", "=", "build-7")),
        ("label: z, value: '${ZONE:eu}'", Constraint("z", "=", "eu")),
    ],
)
def test_a_constraint_is_read(text: str, expected: Constraint) -> None:
    assert rules(constraint(text)) == PlacementRules((expected,))


def test_an_affinity_has_a_weight_and_a_phase_its_slots() -> None:
    text = "x-affinity: [{label: a, value: 1, weight: -100}, {label: b, operator: is_set}]\n    x-slots: 4"
    affinity = (Affinity("a", "=", "1", -100), Affinity("b", "is_set", "", 50))

    assert rules(text) == PlacementRules((), affinity, 4)


@pytest.mark.parametrize("text", ["x-slots: 1", "x-constraints: []", "x-affinity: []", "x-priority: 1"])
def test_a_phase_that_asks_for_nothing_has_no_rules(text: str) -> None:
    assert rules(text) is None


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        (constraint("label: x, operator: @'=>', value: 1"), "no operator `=>`", "mean `>=`"),
        (constraint("label: x, operator: @regex, value: 1"), "no operator `regex`", "mean `regexp`"),
        (constraint("label: x, operator: @is_sett"), "no operator", "mean `is_set`"),
        (constraint("label: x, operator: @nearby, value: 1"), "no operator", "allowed: `=`"),
        (constraint("label: x, operator: @distinct_hosts"), "no operator", "one by one"),
        (constraint("label: x, operator: @3, value: 1"), "must be a string", None),
        (constraint("@lable: x, value: 1"), "unknown key `lable`", "mean `label`"),
        (constraint("label: x, @weight: 3, value: 1"), "unknown key `weight`", None),
        ("x-constraints: [@{value: 1}]", "has no `label`", None),
        (constraint("label: @'', value: 1"), "must not be empty", None),
        (constraint("label: @planter.hots, value: 1"), "no attribute", "mean `planter.host`"),
        (constraint("label: @planter.zzz, value: 1"), "no attribute", "there are `planter.runtime`"),
        ("x-constraints: [@{label: x, operator: '>'}]", "needs a `value`", "is_set"),
        (constraint("label: x, operator: is_set, value: @1"), "takes no `value`", "remove"),
        (constraint("label: x, @value: {a: 1}"), "must be a string", None),
        (constraint("label: x, @value: [a]"), "must be a string", None),
        (constraint("label: x, operator: set_contains, @value: ['a,b']"), "holds a comma", None),
        (constraint("label: x, operator: set_contains, @value: []"), "a list of names", None),
        (constraint("label: x, operator: regexp, value: @'a(?=b)'"), "only `(?:...)`", None),
        (constraint("label: x, operator: regexp, value: @'(a'"), "has no `)`", None),
        (constraint("label: x, operator: version, value: @'>> 1'"), "no comparison", None),
        ("x-affinity: [{label: v, operator: version, value: @x}]", "no comparison", None),
        (constraint(f"label: x, value: @{'y' * 300}"), "256 are allowed", None),
        ("@x-constraints: {label: x}", "must be a list", "[{label"),
        ("x-constraints: [@zone]", "must be an object", None),
        ("x-affinity: [{label: x, value: 1, weight: @0}]", "and not 0", "avoid"),
        ("x-affinity: [{label: x, value: 1, weight: @101}]", "-100 to 100", None),
        ("x-affinity: [{label: x, value: 1, weight: @high}]", "-100 to 100", None),
        ("x-slots: @0", "from 1 to 1,000", None),
        ("x-slots: @1001", "from 1 to 1,000", None),
        ("x-slots: @true", "from 1 to 1,000", None),
        ("x-slots: @1.5", "from 1 to 1,000", None),
        ("@slots: 2", "unknown key `slots`", "write `x-slots`"),
        ("@constraints: []", "unknown key `constraints`", "write `x-constraints`"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(spec: str, message: str, hint: str | None) -> None:
    """The place stands behind the `@`."""
    found = problems(spec.replace("@", ""))
    fitting = [one for one in found if message in one.message]

    assert fitting, found
    assert (fitting[0].line, fitting[0].column) == (3, spec.index("@") + 5)
    assert hint is None or hint in str(fitting[0].hint)


def test_many_constraints_are_refused_at_once() -> None:
    (found,) = problems(f"x-constraints: [{', '.join(['{label: x, value: 1}'] * 65)}]")

    assert "has 65 entries, 64 are allowed" in found.message


def test_the_canonical_document_gives_the_same_phase_again() -> None:
    text = (
        "x-constraints: [{label: v, value: 1.10}, {label: t, operator: set_contains, value: [a, b]},"
        " {label: d, x-why: c, value: '$${x}'}, {label: s, operator: is_set}]\n"
        "    x-affinity: [{label: zone, value: eu, weight: 80}]\n    x-slots: 2"
    )
    first = loaded(text)
    assert first.manifest is not None
    document: Any = first.manifest.to_document()
    again = load_manifest(json.dumps(document))

    assert again.manifest == first.manifest
    assert document[0]["spec"]["x-constraints"][0] == {"label": "v", "operator": "=", "value": "1.10"}
    assert rules(text) == PlacementRules(
        (
            Constraint("v", "=", "1.10"),
            Constraint("t", "set_contains", "a,b"),
            Constraint("d", "=", "${x}"),
            Constraint("s", "is_set"),
        ),
        (Affinity("zone", "=", "eu", 80),),
        2,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x-slots: 2", "x-slots: 3"),
        (constraint("label: a, value: 1"), constraint("label: a, value: 2")),
        (constraint("label: a, value: 1"), constraint("label: a, operator: '!=', value: 1")),
        ("x-affinity: [{label: a, value: 1}]", "x-affinity: [{label: a, value: 1, weight: 51}]"),
    ],
)
def test_a_change_of_what_is_asked_is_a_change_of_the_phase(one: str, other: str) -> None:
    before, after, same = (compile_manifest(loaded(text)).plan for text in (one, other, one))
    assert before is not None
    assert after is not None

    assert before == same
    assert before.digest != after.digest
