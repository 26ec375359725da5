"""The quick way of compiling gives what the long way gives, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planter_schemas as schemas
from planter.compile.phases import compile_manifest
from planter.compile.plain import compile_plain
from planter.core.plan import Plan

PLAIN = [
    {"kind": "Phase", "id": "a", "spec": {}},
    {"id": "b", "spec": {"description": "", "waitFor": {}, "retry": {}, "selector": {}}},
    {
        "kind": "Phase",
        "id": "c ü",
        "spec": {
            "description": 'it says: "x": 1',
            "selector": {"matchLabels": {"os": "linux", "gpu": "yes"}},
            "instanceMode": "onUse",
            "waitFor": {"phases": ["a", "b"]},
            "retry": {"maxAttempts": 3},
            "x-run": {"exec": ["make", "all"], "env": {"A": "1"}, "cwd": "src"},
            "x-priority": -3,
        },
    },
    {"id": "d", "spec": {"x-run": {"shell": "true"}, "instanceMode": "immediate"}},
    {"id": "e", "spec": {"x-run": {"python": "reports.daily:build", "env": {}}}},
    {"id": "f", "spec": {"x-run": {"noop": {}}, "x-priority": 0}},
]


def long_way(data: bytes) -> Plan | None:
    """The plan by way of all dialects and findings."""
    return compile_manifest(schemas.load_manifest(data, format="json")).plan


def fields_of(plan: Plan) -> list[dict[str, Any]]:
    """Everything in it, the opaque parts as bytes."""
    return [
        {name: bytes(value) if name == "run" and value else value for name, value in phase_fields(phase)}
        for phase in plan.phases
    ]


def phase_fields(phase: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(phase, name)) for name in phase.__struct_fields__]


def same_or_nothing(data: bytes) -> Plan | None:
    """The quick way's plan, which must be the long way's."""
    quick = compile_plain(data)
    if quick is not None:
        slow = long_way(data)
        assert slow is not None, data
        assert quick.digest == slow.digest
        assert fields_of(quick) == fields_of(slow)
    return quick


@pytest.mark.parametrize("layout", [{"separators": (",", ":")}, {}, {"indent": 2}])
def test_a_plain_manifest_takes_the_quick_way(layout: dict[str, Any]) -> None:
    plain = [phase for phase in PLAIN if "says" not in phase["spec"].get("description", "")]
    data = json.dumps(plain, ensure_ascii=False, **layout).encode()

    assert same_or_nothing(data) is not None


def test_text_that_looks_like_a_key_takes_the_long_way() -> None:
    data = json.dumps(PLAIN, ensure_ascii=False, separators=(",", ":")).encode()

    assert same_or_nothing(data.replace(b'": 1', b'":1')) is None


@pytest.mark.parametrize(
    "text",
    [
        '[{"id":"a","id":"b","spec":{}}]',
        '[{"id":"a","spec":{"x-run":{"noop":{}},"x-run":{"shell":"rm"}}}]',
        '[{"id" :"a","spec":{"retry":{"maxAttempts":1,"maxAttempts":2}}}]',
        '[{"id":"a","spec":{}},{"id":"a","spec":{}}]',
        '[{"id":"a","spec":{"waitFor":{"phases":["b"]}}},{"id":"b","spec":{"waitFor":{"phases":["a"]}}}]',
        '[{"id":"a","spec":{"waitFor":{"phases":["a"]}}}]',
        '[{"id":"a","spec":{"waitFor":{"phases":["elsewhere"]}}}]',
        '[{"id":"a","spec":{"waitFor":["b"]}},{"id":"b","spec":{}}]',
        '[{"id":"a","spec":{"wait_for":{"phases":[]}}}]',
        '[{"id":"a","spec":{"retry":{"maxAttempts":0}}}]',
        '[{"id":"a","spec":{"retry":{"maxAttempts":"3"}}}]',
        '[{"id":"a","spec":{"x-priority":1001}}]',
        '[{"id":"a","spec":{"x-run":{}}}]',
        '[{"id":"a","spec":{"x-run":{"noop":{},"shell":"true"}}}]',
        '[{"id":"a","spec":{"x-run":{"noop":{"result":1}}}}]',
        '[{"id":"a","spec":{"x-run":{"exec":[]}}}]',
        '[{"id":"a","spec":{"x-run":{"python":"no function"}}}]',
        '[{"id":"a","spec":{"x-run":{"shell":"a","env":{"A=B":""}}}}]',
        '[{"id":"a","spec":{"x-timeout":"5s"}}]',
        '[{"id":"a","spec":{"selector":{"matchLabels":{"a":"${B:c}"}}}}]',
        '[{"id":"a","spec":{"selector":{"matchLabels":{"a":1}}}}]',
        '[{"id":" a","spec":{}}]',
        '[{"id":"","spec":{}}]',
        '[{"id":"a\\u0000","spec":{}}]',
        '[{"id":"a","spec":{},}]',
        '{"phases":[]}',
        "[1e5]",
        "[",
        "",
    ],
)
def test_what_is_not_plain_takes_the_long_way(text: str) -> None:
    assert compile_plain(text.encode()) is None


NAMES = st.sampled_from(["a", "b", "c", "é", "x y", ""])
TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(['":', "a", "${X:1}", "1"]))
RUNS = st.fixed_dictionaries(
    {},
    optional={
        "noop": st.dictionaries(TEXTS, st.integers(), max_size=1),
        "exec": st.lists(TEXTS, max_size=2),
        "shell": TEXTS,
        "python": st.sampled_from(["a:b", "a"]),
        "env": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "cwd": TEXTS,
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "description": TEXTS,
        "selector": st.fixed_dictionaries({}, optional={"matchLabels": st.dictionaries(TEXTS, TEXTS)}),
        "instanceMode": st.sampled_from(["immediate", "onUse", "parallel"]),
        "waitFor": st.fixed_dictionaries({}, optional={"phases": st.lists(NAMES, max_size=3)}),
        "retry": st.fixed_dictionaries({}, optional={"maxAttempts": st.integers(-1, 1_002)}),
        "x-run": RUNS,
        "x-priority": st.one_of(st.integers(-1_002, 1_002), st.floats(-2, 2), st.booleans()),
        "x-other": st.none(),
    },
)
PHASES = st.fixed_dictionaries(
    {"id": NAMES, "spec": SPECS}, optional={"kind": st.sampled_from(["Phase", "phase", None])}
)


@settings(max_examples=600, deadline=None)
@given(st.lists(PHASES, max_size=4), st.booleans())
def test_the_quick_way_agrees_with_the_long_way(phases: list[Any], escaped: bool) -> None:
    same_or_nothing(json.dumps(phases, ensure_ascii=escaped, allow_nan=False).encode(errors="replace"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_text_is_never_taken_for_another_manifest(data: st.DataObject) -> None:
    plain = [phase for phase in PLAIN if "says" not in phase["spec"].get("description", "")]
    text = bytearray(json.dumps(plain, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(at, min(len(text), at + 12)))
        text[at:end] = data.draw(
            st.sampled_from([b"", b'"', b":", b",", b"{}", b'"id":"a",', b" ", b"\\", b"1"])
        )
    same_or_nothing(bytes(text))
