"""Problems as text."""

from planter_schemas import load_manifest, render_line, render_problems

TEXT = """\
phases:
  - id: build
    spec: {}
  - id: deploy
    spec:
      waitFor:
        phases: [fetch-all, bild]
"""
EXPECTED = """\
warning[PLT-1202]: phase `deploy` waits for `fetch-all`, which is external: no phase here has this id
 --> site.yaml:7:18
  |
7 |         phases: [fetch-all, bild]
  |                  ^^^^^^^^^ external
  = help: it waits until the session knows this id as complete

error[PLT-1201]: phase `deploy` waits for unknown phase `bild`
 --> site.yaml:7:29
  |
7 |         phases: [fetch-all, bild]
  |                             ^^^^ no phase with this id
  = help: did you mean `build`?
  = help: `build` stands at 2:9
"""


def test_a_problem_is_shown_under_its_line() -> None:
    loaded = load_manifest(TEXT, source="site.yaml")

    assert render_problems(loaded.problems, text=loaded.texts, color=False) == EXPECTED


def test_no_problems_are_no_text() -> None:
    assert render_problems([], text={}, color=True) == ""


def test_without_the_text_the_place_remains() -> None:
    loaded = load_manifest(TEXT, source="site.yaml")

    rendered = render_problems(loaded.errors, text=None, color=False)

    assert rendered.splitlines()[:3] == [
        "error[PLT-1201]: phase `deploy` waits for unknown phase `bild`",
        " --> site.yaml:7:29",
        "  = no phase with this id",
    ]


def test_one_line_suits_an_editor() -> None:
    loaded = load_manifest(TEXT, source="site.yaml")

    expected = "site.yaml:7:29: error[PLT-1201]: phase `deploy` waits for unknown phase `bild`"
    assert render_line(loaded.errors[0]) == expected


def test_colour_adds_nothing_but_colour() -> None:
    import re

    loaded = load_manifest(TEXT, source="site.yaml")

    coloured = render_problems(loaded.problems, text=loaded.texts, color=True)

    assert "\x1b[1;31merror[PLT-1201]" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == EXPECTED


def test_carets_stand_below_wide_characters() -> None:
    loaded = load_manifest('[{"id": "日本", "spec": {"日本": 1}}]')

    lines = render_problems(loaded.errors, text=loaded.texts).splitlines()

    assert lines[3] == '1 | [{"id": "日本", "spec": {"日本": 1}}]'
    assert lines[4] == "  | " + " " * 25 + "^^^^^^ unknown key"


def test_a_long_line_is_shown_around_the_place() -> None:
    loaded = load_manifest(
        '[{"id": "a", "spec": {"x-a": "' + "y" * 500 + '", "b": 1, "x-c": "' + "z" * 500 + '"}}]'
    )

    lines = render_problems(loaded.errors, text=loaded.texts).splitlines()

    assert max(len(line) for line in lines[:5]) < 140
    assert lines[3][lines[4].index("^") :].startswith('"b"')


def test_control_characters_never_reach_the_terminal() -> None:
    loaded = load_manifest("id: a\nspec: {x: 1} # \u009b2J\u202e\tend", source="a\x1b[2J.yaml")

    rendered = render_problems(loaded.errors, text=loaded.texts)

    assert all(line.isprintable() for line in rendered.split("\n"))
    assert "\x1b" not in render_line(loaded.errors[0])


def test_a_problem_as_json_has_camel_case_keys() -> None:
    problem = load_manifest(TEXT, source="site.yaml").errors[0]

    assert problem.to_json() == {
        "severity": "error",
        "code": "PLT-1201",
        "message": "phase `deploy` waits for unknown phase `bild`",
        "source": "site.yaml",
        "line": 7,
        "column": 29,
        "endColumn": 33,
        "path": "/phases/1/spec/waitFor/phases/1",
        "label": "no phase with this id",
        "hint": "did you mean `build`?\n`build` stands at 2:9",
    }
