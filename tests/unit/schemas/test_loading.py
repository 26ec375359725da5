"""What is accepted, in all forms and spellings, and what is refused, with its place."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from planter_schemas import Handler, Manifest, Phase, load_manifest, load_manifest_file

PASCAL = """
[{"Kind": "Phase", "Id": "preflight", "Spec": {
  "description": "Ensure dependencies are met",
  "selector": {"match_labels": {"phase": "preflight"}},
  "instance_mode": "onUse",
  "wait_for": {"phases": ["network"], "timeout": "300ms"},
  "retry": {"max_attempts": "3"},
  "on_failure": {"action": "raise", "spec": {"message": ["Preflight failed"],
                                              "notify": {"email": "ops@example.com"}}}}}]
"""
CAMEL = """
[{"kind": "Phase", "id": "preflight", "spec": {
  "description": "Ensure dependencies are met",
  "selector": {"matchLabels": {"phase": "preflight"}},
  "instanceMode": "onUse",
  "waitFor": {"phases": ["network"], "timeout": "300ms"},
  "retry": {"maxAttempts": 3},
  "onFailure": {"action": "raise", "spec": {"message": "Preflight failed",
                                             "notify": {"email": "ops@example.com"}}},
  "onSuccess": {}}}]
"""
METADATA = """
phases:
  - metadata: {name: preflight}
    spec:
      Description: Ensure dependencies are met
      Selector: {MatchLabels: {phase: preflight}}
      InstanceMode: onUse
      WaitFor: {dependsOn: [network], timeout: 300ms}
      Retry: {MaxAttempts: 3}
      OnFailure:
        action: raise
        spec: {message: [Preflight failed], notify: {email: ops@example.com}}
      on_success: null
"""
BY_NAME = """
plan:
  defaultInstanceMode: onUse
  preflight:
    description: Ensure dependencies are met
    selector: {matchLabels: {phase: preflight}}
    waitFor: {phases: network, timeout: 300ms}
    retry: {maxAttempts: 3}
    onFailure: {action: raise, spec: {message: [Preflight failed], notify: {email: ops@example.com}}}
"""
PREFLIGHT = Phase(
    id="preflight",
    description="Ensure dependencies are met",
    match_labels={"phase": "preflight"},
    instance_mode="onUse",
    wait_for=("network",),
    external=("network",),
    wait_timeout_ms=300,
    max_attempts=3,
    on_failure=Handler(action="raise", message=("Preflight failed",), notify={"email": "ops@example.com"}),
)


@pytest.mark.parametrize("text", [PASCAL, CAMEL, METADATA, BY_NAME])
def test_every_dialect_of_the_protocol_means_the_same(text: str) -> None:
    loaded = load_manifest(text)

    assert Manifest(phases=(PREFLIGHT,)) == loaded.manifest
    assert [problem.code for problem in loaded.problems] == ["PLT-1202"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("[]", []),
        ('{"id": "a", "spec": {}}', ["a"]),
        ("id: a\nspec: {}", ["a"]),
        ("- {id: a, spec: {}}\n- {id: b, spec: {}}", ["a", "b"]),
        ("phases: []", []),
        ("plan: {b: {}, a: {}}", ["b", "a"]),
        ("id: a\nspec: {}\n---\n- {id: b, spec: {}}\n---\nid: c\nspec: {}", ["a", "b", "c"]),
        ("---\n---\nid: a\nspec: {}", ["a"]),
        ("\ufeff[]", []),
        ("%YAML 1.2\n---\nid: on\nspec: {}", ["on"]),
        ("kind: PhaseManifest\napiVersion: planter/v1\nphases: [{id: a, spec: {}}]", ["a"]),
        ("x-base: &base {spec: {}}\nphases: [{<<: *base, id: a}]", ["a"]),
        ("plan: {12:30:45: {}, no: {}}", ["12:30:45", "no"]),
    ],
)
def test_every_form_is_read(text: str, ids: list[str]) -> None:
    loaded = load_manifest(text)

    assert loaded.errors == ()
    assert loaded.manifest is not None
    assert ids == [phase.id for phase in loaded.manifest.phases]


def spec(text: str) -> str:
    """A manifest with the spec of one phase, which starts at line 1, column 17."""
    return "{id: a, spec: {" + text + "}}"


# text, code, line, column, and a part of the message, label or hint
REFUSED = [
    ("", "PLT-1005", 1, 1, "written []"),
    ("# only a comment", "PLT-1005", 1, 1, "empty"),
    ("~", "PLT-1005", 1, 1, "empty"),
    ("[1,", "PLT-1006", 1, 4, "not closed"),
    ('[{"id": "a",}]', "PLT-1006", 1, 12, "remove this comma"),
    ("[\n  // no\n]", "PLT-1006", 2, 3, "no comments"),
    ("['a']", "PLT-1006", 1, 2, "double quotes"),
    ("a: b: c", "PLT-1007", 1, 5, "quotes"),
    ("phases:\n\t- id: a", "PLT-1007", 2, 1, "spaces"),
    ("id: a\nspec:\n  x-a: 1\n x-b: 2", "PLT-1007", 4, 2, "indentation"),
    ("id: a\x01", "PLT-1007", 1, 6, "U+0001"),
    (b"[]\0", "PLT-1006", 1, 3, "extra data"),
    (b'["\xc3\xa9\xff"]', "PLT-1004", 1, 4, "0xff"),
    ("id: a".encode("utf-16"), "PLT-1004", 1, 1, "UTF-16"),
    ("[\ud800]", "PLT-1004", 1, 2, "surrogate"),
    ('[{"id": "\\udc00", "spec": {}}]', "PLT-1004", 1, 9, "surrogate"),
    ('[{"id": "a",\n "spec": {},\n "id": "b"}]', "PLT-1008", 3, 2, "first given at 1:3"),
    ("id: a\nspec: {}\nid: b", "PLT-1008", 3, 1, "first given at 1:1"),
    ("{id: a, spec: {x-a: " + "[" * 100 + "]" * 100 + "}}", "PLT-1009", 1, 83, "64"),
    ('{"id": "a", "spec": {"x-a": ' + "[" * 100 + "]" * 100 + "}}", "PLT-1009", 1, 22, "64"),
    ('{"id": "a", "spec": {"x-a": NaN}}', "PLT-1010", 1, 29, "NaN"),
    ('{"id": "a", "spec": {"x-a": 1e999}}', "PLT-1010", 1, 29, "1e999"),
    ('{"id": "a", "spec": {"x-a": ' + "9" * 5000 + "}}", "PLT-1010", 1, 29, "64 bits"),
    ("{id: a, spec: {x-a: " + "9" * 5000 + "}}", "PLT-1010", 1, 21, "64 bits"),
    ("{id: a, spec: {x-a: -.inf}}", "PLT-1010", 1, 21, "quotes"),
    ("id: *a", "PLT-1012", 1, 5, "&a"),
    ("x: &a [*a]", "PLT-1013", 1, 8, "endless"),
    ("id: !!python/object/apply:os.system [ls]", "PLT-1015", 1, 5, "!!python"),
    ("id: !env NAME", "PLT-1015", 1, 5, "!env"),
    ("id: !!int many", "PLT-1015", 1, 5, "!!int"),
    ("{[a]: b}", "PLT-1006", 1, 2, "double quotes"),
    ("id: a\n? [a]\n: b", "PLT-1016", 2, 3, "text"),
    ("id: a\nspec: {<<: 3}", "PLT-1017", 2, 8, "*name"),
    ("3", "PLT-1101", 1, 1, "list of phases"),
    ("openapi: 3.1.0", "PLT-1101", 1, 1, "no phase manifest"),
    ("- 3", "PLT-1104", 1, 3, "an object, found a number"),
    (spec("wait_fro: {}"), "PLT-1102", 1, 16, "`waitFor`"),
    (spec("colour: red"), "PLT-1102", 1, 16, "allowed here: `description`"),
    (spec("id: b"), "PLT-1102", 1, 16, "beside `spec`"),
    ("{id: a, description: b, spec: {}}", "PLT-1102", 1, 9, "inside of `spec`"),
    ("plan: {a: {spec: {}}}", "PLT-1102", 1, 12, "without `spec:`"),
    ("plan: {}\ntargetPhase: a", "PLT-1102", 2, 1, "inside of `plan`"),
    (spec("waitFor: [b], wait_for: [b]"), "PLT-1103", 1, 30, "`waitFor` stands at 1:16"),
    (spec("waitFor: {phases: [], dependsOn: []}"), "PLT-1103", 1, 38, "two spellings"),
    ("Id: a\nid: a\nspec: {}", "PLT-1103", 2, 1, "`Id` stands at 1:1"),
    (spec("description: [a]"), "PLT-1104", 1, 16, "a string, found a list"),
    (spec("description: 3"), "PLT-1104", 1, 29, "a string, found a number"),
    (spec("waitFor: {phases: [b, 3]}"), "PLT-1104", 1, 38, "an entry"),
    (spec("waitFor: true"), "PLT-1104", 1, 25, "found a boolean"),
    (spec("selector: {matchLabels: {a: null}}"), "PLT-1104", 1, 44, "found null"),
    (spec("selector: {matchLabels: {a: [b]}}"), "PLT-1104", 1, 41, "found a list"),
    ("spec: {}", "PLT-1105", 1, 1, "no id"),
    ("id: a", "PLT-1105", 1, 5, "no `spec`"),
    ("id: a\nspec:", "PLT-1105", 1, 5, "`spec: {}`"),
    ("kind: Role\nname: x", "PLT-1106", 1, 7, "phases only"),
    ("Kind: phase\nId: a\nSpec: {}", "PLT-1106", 1, 7, "did you mean `Phase`"),
    ("kind: Phase\nphases: []", "PLT-1106", 1, 7, "PhaseManifest"),
    (spec("instanceMode: onuse"), "PLT-1107", 1, 30, "did you mean `onUse`"),
    (spec("onFailure: {action: retry}"), "PLT-1107", 1, 36, "`abort`"),
    (spec("waitFor: {timeout: 1.5s}"), "PLT-1108", 1, 35, "300ms"),
    (spec("waitFor: {timeout: 1.5}"), "PLT-1108", 1, 35, "`1.5`"),
    (spec("waitFor: {timeout: 99999h}"), "PLT-1108", 1, 35, "duration"),
    (spec("retry: {maxAttempts: 0}"), "PLT-1109", 1, 37, "1 to 1000"),
    (spec("retry: {maxAttempts: 1001}"), "PLT-1109", 1, 37, "1 to 1000"),
    (spec("retry: {maxAttempts: '3x'}"), "PLT-1109", 1, 37, "`3x`"),
    (spec("retry: {maxAttempts: true}"), "PLT-1109", 1, 37, "boolean"),
    (spec("retry: {maxAttempts: '\u0663'}"), "PLT-1109", 1, 37, "1 to 1000"),
    ("{id: ' a', spec: {}}", "PLT-1110", 1, 6, "blank"),
    ('{id: "a\\nb", spec: {}}', "PLT-1110", 1, 6, "printed"),
    ("{id: '', spec: {}}", "PLT-1110", 1, 6, "empty"),
    ("plan: {" + "a" * 129 + ": {}}", "PLT-1110", 1, 8, "129"),
    ("id: 3\nspec: {}", "PLT-1104", 1, 5, "a string, found a number"),
    (spec("retry: {maxAttempts: '${N}'}"), "PLT-1111", 1, 37, "${N:default}"),
    (spec("selector: {matchLabels: {a: '${N}'}}"), "PLT-1111", 1, 44, "`N`"),
    (spec("waitFor: {timeout: '${N}'}"), "PLT-1111", 1, 35, "`N`"),
    ("{id: a, metadata: {name: b}, spec: {}}", "PLT-1114", 1, 26, "differ"),
    ("phases: []\nplan: {}", "PLT-1115", 2, 1, "keep one"),
    ("phases: []\n---\nid: a\nspec: {}", "PLT-1115", 1, 1, "list of phases"),
    (spec("onFailure: {message: a}"), "PLT-1102", 1, 28, "handler's `spec`"),
    (spec("onFailure: {spec: {notify: {emial: a}}}"), "PLT-1102", 1, 44, "`email`"),
    (spec("onFailure: {spec: {message: 3}}"), "PLT-1104", 1, 44, "list of strings"),
]


@pytest.mark.parametrize(("text", "code", "line", "column", "part"), REFUSED)
def test_what_is_wrong_is_refused_with_its_place(text, code, line, column, part) -> None:
    """A text that starts with braces is YAML here unless it is meant as broken JSON."""
    is_yaml = isinstance(text, str) and text.startswith(("{id", "{kind", "Kind", "plan"))

    loaded = load_manifest(text, source="a.yaml" if is_yaml else "<manifest>")

    assert loaded.manifest is None
    found = [(each.code, each.line, each.column) for each in loaded.problems]
    assert (code, line, column) in found
    problem = loaded.problems[found.index((code, line, column))]
    assert part in f"{problem.message}\n{problem.label}\n{problem.hint}"


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    text = """\
- id: build
  spec: {retry: {maxAttempts: 0}, wait_fro: x}
- id: build
  spec:
    waitFor: [biuld, build]
    instanceMode: parallel
"""

    found = [(problem.line, problem.code) for problem in load_manifest(text).problems]

    expected = [
        (2, "PLT-1109"),
        (2, "PLT-1102"),
        (3, "PLT-1203"),
        (5, "PLT-1201"),
        (5, "PLT-1205"),
        (6, "PLT-1113"),
    ]
    assert expected == found


def test_warnings_leave_the_manifest_usable() -> None:
    loaded = load_manifest(spec("instanceMode: sequential, waitFor: [b, b]"), source="a.yaml")

    assert loaded.manifest is not None
    assert loaded.errors == ()
    assert sorted(each.code for each in loaded.warnings) == ["PLT-1113", "PLT-1202", "PLT-1207"]
    assert loaded.manifest.phases[0].wait_for == ("b", "b")
    assert loaded.manifest.phases[0].external == ("b",)


def test_an_error_behind_many_warnings_still_counts() -> None:
    phases = [{"id": f"p{i}", "spec": {"instanceMode": "parallel"}} for i in range(1500)]
    text = json.dumps([*phases, {"id": "last", "spec": {"waitFor": ["p12345678"]}}])

    loaded = load_manifest(text)

    assert loaded.manifest is None
    assert [problem.code for problem in loaded.errors] == ["PLT-1201"]
    assert len(loaded.warnings) == 1001


def test_more_than_a_thousand_errors_are_counted_not_listed() -> None:
    loaded = load_manifest(json.dumps([{"id": "a", "spex": {}}] * 2000))

    assert loaded.manifest is None
    assert len(loaded.problems) == 1001
    assert loaded.problems[-1].code == "PLT-1018"


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("${N}", {"N": "4"}, 4),
        ("${N:5}", {}, 5),
        ("${N:5}", {"N": "6"}, 6),
        ("1${N}", {"N": "2"}, 12),
    ],
)
def test_variables_come_from_the_caller_or_their_default(text, variables, expected) -> None:
    loaded = load_manifest(spec(f"retry: {{maxAttempts: '{text}'}}"), source="a.yaml", variables=variables)

    assert loaded.manifest is not None
    assert expected == loaded.manifest.phases[0].max_attempts


def test_the_environment_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "3")

    assert load_manifest(spec("retry: {maxAttempts: '${N}'}"), source="a.yaml").manifest is None


def test_dollar_signs_outside_of_labels_counts_and_durations_stay() -> None:
    text = spec("description: '${A}', x-run: {shell: 'echo ${B} $${C}', env: {D: '${E}'}}, x-own: '${F}'")

    loaded = load_manifest(text, source="a.yaml")

    assert loaded.manifest is not None
    phase = loaded.manifest.phases[0]
    assert phase.run is not None
    assert (
        phase.description,
        phase.run.shell,
        phase.run.env,
        phase.extensions["x-own"],
    ) == ("${A}", "echo ${B} $${C}", {"D": "${E}"}, "${F}")


@pytest.mark.parametrize("quote", ["", '"'])
def test_numbers_in_labels_stay_as_they_are_written(quote: str) -> None:
    labels = '{"a": 1.10, "b": 007, "c": 0x1F, "d": true, "e": 1e3}'
    yaml_text = spec(f"selector: {{matchLabels: {labels.replace(chr(34), quote)}}}")

    loaded = load_manifest(yaml_text, source="a.yaml")

    assert loaded.manifest is not None
    expected = {"a": "1.10", "b": "007", "c": "0x1F", "d": "true", "e": "1e3"}
    assert expected == loaded.manifest.phases[0].match_labels


def test_yaml_words_of_version_one_one_are_text() -> None:
    text = "id: a\nspec:\n  x-list: [on, off, yes, no, 12:30:45, 0777, 1_000, 0b1, 2001-01-01, =]"

    loaded = load_manifest(text)

    assert loaded.manifest is not None
    expected = ["on", "off", "yes", "no", "12:30:45", 777, "1_000", "0b1", "2001-01-01", "="]
    assert expected == loaded.manifest.phases[0].extensions["x-list"]


def test_an_own_key_wins_over_a_merged_one_and_the_first_merged_over_the_second() -> None:
    text = """
x-one: &one {description: one, x-a: 1}
x-two: &two {description: two, x-a: 2, x-b: 2}
phases:
  - {id: a, spec: {<<: [*one, *two], description: own}}
"""
    loaded = load_manifest(text)

    assert loaded.manifest is not None
    phase = loaded.manifest.phases[0]
    assert (phase.description, phase.extensions) == ("own", {"x-a": 1, "x-b": 2})


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    assert load_manifest("\ufeff[]", format="json").manifest is not None
    assert load_manifest(b"\xef\xbb\xbf[]", source="a.json").manifest is not None
    assert load_manifest("\ufeffid: 1").problems[0].column == 5


def test_a_yaml_file_that_starts_with_a_bracket_is_still_yaml() -> None:
    assert load_manifest("[{id: a, spec: {}},]", source="a.yaml").manifest is not None
    assert load_manifest("[{id: a, spec: {}},]", source="a.json").manifest is None
    assert load_manifest("[{id: a, spec: {}},]", format="yaml").manifest is not None


def test_problems_of_later_checks_are_placed_in_the_document() -> None:
    loaded = load_manifest("plan:\n  a: {waitFor: [b]}\n  b:\n    wait_for:\n      phases:\n        - a\n")

    at_phase = loaded.problem(loaded.path_of_phase("b"), "PLT-1204", "a circle", label="here")
    at_wait = loaded.problem(loaded.path_of_wait("b", 0), "PLT-1204", "a circle", hint="cut it")

    assert (at_phase.line, at_phase.column, at_phase.length, at_phase.path) == (3, 3, 1, "/plan/b")
    assert (
        at_wait.line,
        at_wait.column,
        at_wait.length,
        at_wait.path,
    ) == (6, 11, 1, "/plan/b/wait_for/phases/0")
    more = loaded.with_problems(at_wait, at_phase)
    assert more.manifest is None
    assert (at_phase, at_wait) == more.problems
    assert loaded.manifest is not None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"id": "a", "spec": {"waitFor": ["x", "y"]}}]', (1, 40)),
        ('[{"id": "a", "spec": {"waitFor": {"dependsOn": "y"}}}]', (1, 48)),
        ("id: a\nspec:\n  waitFor: y", (3, 12)),
        ("id: a\nspec:\n  waitFor:\n  - x\n  - y", (5, 5)),
    ],
)
def test_each_wait_has_its_place(text: str, place: tuple[int, int]) -> None:
    loaded = load_manifest(text)
    assert loaded.manifest is not None
    index = loaded.manifest.phases[0].wait_for.index("y")

    problem = loaded.problem(loaded.path_of_wait("a", index), "PLT-1204", "")

    assert place == (problem.line, problem.column)


def test_files_are_read_and_their_trouble_is_a_problem(tmp_path: Path) -> None:
    good, folder, large = tmp_path / "a.yaml", tmp_path / "folder.yaml", tmp_path / "large.json"
    good.write_text("id: a\nspec: {}\n")
    folder.mkdir()
    with large.open("wb") as file:
        file.truncate(100 * 1024 * 1024)

    assert load_manifest_file(good).manifest is not None
    assert [each.code for each in load_manifest_file(tmp_path / "none").problems] == ["PLT-1001"]
    assert [each.code for each in load_manifest_file(folder).problems] == ["PLT-1002"]
    assert [each.code for each in load_manifest_file("a\0b").problems] == ["PLT-1002"]
    assert [each.code for each in load_manifest_file(large).problems] == ["PLT-1003"]


def test_a_large_file_is_refused_without_reading_it(tmp_path: Path, monkeypatch) -> None:
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was opened"))

    problem = load_manifest_file(large).problems[0]

    assert (problem.code, problem.length) == ("PLT-1003", 0)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"id: a\nspec: {}")))

    loaded = load_manifest_file("-")

    assert loaded.manifest is not None
    assert loaded.source == "<stdin>"


def test_importing_the_package_loads_neither_pydantic_nor_yaml() -> None:
    code = (
        "import sys, planter_schemas; print(*({'pydantic', 'yaml', 'planter_protocol'} & set(sys.modules)))"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.strip() == ""


def test_the_public_names_are_these() -> None:
    import planter_schemas

    expected = [
        "Backoff",
        "Cache",
        "Foreach",
        "Handler",
        "Loaded",
        "Manifest",
        "Path",
        "Phase",
        "Problem",
        "Run",
        "explain",
        "json_schema",
        "load_manifest",
        "load_manifest_file",
        "render_line",
        "render_problems",
    ]
    assert expected == planter_schemas.__all__
    assert all(getattr(planter_schemas, name) is not None for name in expected)
