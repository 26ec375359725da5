"""The typed manifest: canonical spelling, digest, selection, and the way through text and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from planter_schemas import Manifest, Phase, load_manifest
from planter_schemas.spelling import spellings

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.text("abcxyz $\u007b\u007d:-_.\u00e9\u65e5", max_size=10)
NAME = st.text("abcdefgh-_ 0123456789\u00e9", min_size=1, max_size=12).map(str.strip).filter(bool)
KEY = st.text("abcdef-/.", min_size=1, max_size=6)
FREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=6,
)
DURATION = st.sampled_from(["300ms", "5s", "90m", "2h", "7", 7, 60])
ATTEMPTS = st.integers(1, 1000) | st.integers(1, 1000).map(str)
EXTENSIONS = st.dictionaries(st.sampled_from(["x-own", "X-Own", "x-other"]), FREE, max_size=2)
LABELS = st.dictionaries(KEY, PLAIN.map(lambda text: text.replace("${", "$${")), max_size=2)


def an_object(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of these keys, in any of their three spellings, and extensions."""

    def spelled(drawn: tuple[dict[str, Any], list[int], dict[str, Any]]) -> dict[str, Any]:
        values, choices, extensions = drawn
        names = zip(values, choices, strict=False)
        return {spellings(name)[choice]: values[name] for name, choice in names} | extensions

    choices = st.lists(st.integers(0, 2), min_size=len(parts), max_size=len(parts))
    return st.tuples(st.fixed_dictionaries({}, optional=parts), choices, EXTENSIONS).map(spelled)


HANDLER = an_object(
    action=st.sampled_from(["raise", "continue", "abort", "log"]),
    spec=an_object(message=PLAIN | st.lists(PLAIN, max_size=2), labels=LABELS).map(
        lambda spec: {key: value for key, value in spec.items() if not key.lower().startswith("x-")}
    ),
)
RUN = st.one_of(
    st.just({"noop": {}}),
    st.builds(lambda script: {"shell": script}, st.text("abc $", min_size=1, max_size=5)),
    st.builds(
        lambda more, env: {"exec": ["make", *more], "env": env, "timeout": "30s"},
        st.lists(PLAIN, max_size=2),
        st.dictionaries(KEY, PLAIN | st.integers(-(2**63), 2**63) | st.booleans(), max_size=2),
    ),
    st.builds(lambda args: {"python": "a.b:c", "with": args}, st.dictionaries(KEY, FREE, max_size=2)),
)
SPEC = an_object(
    description=PLAIN,
    selector=an_object(matchLabels=LABELS),
    instanceMode=st.sampled_from(["immediate", "onUse", "parallel"]),
    waitFor=an_object(phases=st.lists(NAME.map("wait ".__add__), max_size=3), timeout=DURATION),
    retry=an_object(maxAttempts=ATTEMPTS),
    onFailure=HANDLER,
    onSuccess=HANDLER,
)
KNOWN_EXTENSIONS = st.fixed_dictionaries(
    {},
    optional={
        "x-run": RUN,
        "x-retry": st.fixed_dictionaries({}, optional={"initial": DURATION, "factor": st.integers(1, 9)}).map(
            lambda each: each | {"max": "10h"}
        ),
        "X-Priority": st.integers(-1000, 1000),
        "x-capabilities": st.lists(NAME, max_size=3),
        "x-when": st.sampled_from(["true", "${{ 1 == 1 }}", True, "phases.a.result > 1"]),
        "X-Trigger": st.sampled_from(["all_done", "one_failed"]),
        "x-outputs": st.lists(NAME, max_size=2, unique=True),
        "x-concurrency": st.sampled_from(["k", {"key": "k"}, {"Key": "k", "max": 3, "x-why": 1}]),
    },
)
PHASES = st.lists(st.tuples(SPEC, KNOWN_EXTENSIONS, st.dictionaries(KEY, PLAIN, max_size=2)), max_size=3).map(
    lambda specs: [
        {"id": f"p {i}", "metadata": {"annotations": notes}, "spec": spec | extensions}
        for i, (spec, extensions, notes) in enumerate(specs)
    ]
)


@given(PHASES, st.booleans())
def test_the_canonical_document_loads_as_an_equal_manifest(
    phases: list[dict[str, Any]], targeted: bool
) -> None:
    target = {"targetPhase": "p 0"} if targeted and phases else {}
    first = load_manifest(json.dumps({"phases": phases, **target, "x-kept": [1]}))
    assert first.errors == ()
    assert first.manifest is not None

    again = load_manifest(json.dumps(first.manifest.to_document(), ensure_ascii=False))

    assert first.manifest == again.manifest
    assert first.manifest.digest() == again.manifest.digest()
    assert load_manifest(json.dumps(first.manifest.to_json())).errors == ()


@given(PHASES)
def test_json_and_yaml_readers_agree(phases: list[dict[str, Any]]) -> None:
    text = json.dumps(phases, ensure_ascii=True).replace("\\ud", "\\u0")  # YAML has no surrogate pairs

    assert load_manifest(text, format="json").manifest == load_manifest(text, format="yaml").manifest


@given(st.text() | st.binary(), st.sampled_from(["auto", "json", "yaml"]))
def test_no_text_raises(text: str | bytes, format_: Any) -> None:
    loaded = load_manifest(text, format=format_)

    assert (loaded.manifest is None) == bool(loaded.errors)


@given(
    st.text("{}[]:,-\"'\n\t #&*!|>%@`?~ab0x<.", max_size=40)
    | st.lists(
        st.sampled_from(
            [
                "id: a",
                "spec:",
                "phases:",
                "plan:",
                "- ",
                "  ",
                "\n",
                "&a ",
                "*a",
                "<<: ",
                "x-run: ",
                "{",
                "}",
                "kind: ",
            ]
        ),
        max_size=14,
    ).map("".join)
)
def test_no_text_that_looks_like_yaml_raises(text: str) -> None:
    loaded = load_manifest(text, format="yaml")

    assert (loaded.manifest is None) == bool(loaded.errors)


@given(
    FREE | st.dictionaries(st.sampled_from(["id", "spec", "phases", "plan", "kind", "metadata", "x-a"]), FREE)
)
def test_no_json_value_raises(value: object) -> None:
    loaded = load_manifest(json.dumps(value), format="json")

    assert (loaded.manifest is None) == bool(loaded.errors)


@given(st.sampled_from(["spec", "metadata", "waitFor", "x-run", "x-retry", "onFailure", "env", "exec"]), FREE)
def test_no_value_of_a_wrong_type_raises(key: str, value: object) -> None:
    inside = {"x-run": {key: value}} if key in ("env", "exec") else {key: value}

    loaded = load_manifest(json.dumps({"id": "a", "spec": inside} | inside))

    assert (loaded.manifest is None) == bool(loaded.errors)


def test_the_canonical_phase_keeps_every_field_and_extension() -> None:
    text = """
id: build
x-outer: 1
metadata: {name: build, labels: {team: web}, annotations: {displayName: Build}, x-meta: 2}
spec:
  description: Build it
  selector: {match_labels: {phase: build}, x-sel: 3}
  instance_mode: onUse
  wait_for: {phases: [fetch], timeout: 90000ms, x-wait: 4}
  retry: {max_attempts: "4", x-retrying: 5}
  on_failure: {action: abort, x-h: 6, spec: {message: no, labels: {a: b}, notify: {slack: "#x"}, x-s: 7}}
  on_success: {spec: {}}
  X-RUN: {exec: [make], env: {N: 1, YES: true}, with: {a: [1]}, timeout: 60, cwd: /srv, x-own: 8}
  x-retry: {initial: 2s, max: 1m, jitter: 0, x-b: 9}
  x-priority: 5
  x-capabilities: [gpu]
  x-inner: {deep: [null]}
"""
    expected = {
        "kind": "Phase",
        "id": "build",
        "metadata": {"labels": {"team": "web"}, "annotations": {"displayName": "Build"}, "x-meta": 2},
        "spec": {
            "description": "Build it",
            "selector": {"matchLabels": {"phase": "build"}, "x-sel": 3},
            "instanceMode": "onUse",
            "waitFor": {"phases": ["fetch"], "timeout": "90s", "x-wait": 4},
            "retry": {"maxAttempts": 4, "x-retrying": 5},
            "onFailure": {
                "action": "abort",
                "spec": {"message": ["no"], "notify": {"slack": "#x"}, "labels": {"a": "b"}},
                "x-h": 6,
                "x-s": 7,
            },
            "onSuccess": {"spec": {}},
            "x-run": {
                "exec": ["make"],
                "with": {"a": [1]},
                "env": {"N": "1", "YES": "true"},
                "timeout": "1m",
                "cwd": "/srv",
                "x-own": 8,
            },
            "x-retry": {"initial": "2s", "max": "1m", "jitter": 0.0, "x-b": 9},
            "x-priority": 5,
            "x-capabilities": ["gpu"],
            "x-inner": {"deep": [None]},
            "x-outer": 1,
        },
    }

    manifest = load_manifest(text).manifest

    assert manifest is not None
    assert [expected] == manifest.to_json()
    assert manifest == load_manifest(json.dumps(manifest.to_json())).manifest


def test_the_digest_does_not_depend_on_spelling_form_or_order() -> None:
    first = load_manifest(
        "phases: [{id: a, spec: {description: x, waitFor: [b], retry: {maxAttempts: '2'}}}]"
    )
    second = load_manifest(
        "# same\nplan:\n  a:\n    Retry: {max_attempts: 2}\n    wait_for: b\n    Description: x"
    )
    other = load_manifest("id: a\nspec: {description: x, waitFor: [b]}")

    assert first.manifest is not None
    assert second.manifest is not None
    assert other.manifest is not None
    assert first.manifest.digest() == second.manifest.digest()
    assert first.manifest.digest() != other.manifest.digest()
    assert len(first.manifest.digest()) == 71


def test_the_digest_of_an_empty_manifest_never_changes() -> None:
    expected = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"

    assert expected == Manifest().digest()


@pytest.mark.parametrize(
    ("target", "expected"), [(None, ["d", "c", "b", "a", "e"]), ("c", ["c", "b", "a"]), ("e", ["e"])]
)
def test_the_target_phase_selects_what_it_waits_for(target: str | None, expected: list[str]) -> None:
    waits = {"d": ["c"], "c": ["b", "outside"], "b": ["a"], "a": ["c"], "e": []}
    phases = [{"id": id_, "spec": {"waitFor": names}} for id_, names in waits.items()]

    manifest = load_manifest(json.dumps({"phases": phases, "targetPhase": target})).manifest

    assert manifest is not None
    assert target == manifest.target_phase
    assert expected == [phase.id for phase in manifest.selected()]


def test_a_manifest_cannot_be_changed() -> None:
    phase = Phase(id="a")

    with pytest.raises(ValidationError):
        phase.id = "b"


def test_a_literal_placeholder_in_a_label_survives_the_way_through_text() -> None:
    text = "id: a\nspec: {selector: {matchLabels: {a: '$${NAME}'}}}"
    manifest = load_manifest(text).manifest
    assert manifest is not None

    again = load_manifest(json.dumps(manifest.to_json()), variables={"NAME": "wrong"}).manifest

    assert manifest.phases[0].match_labels == {"a": "${NAME}"}
    assert again == manifest
