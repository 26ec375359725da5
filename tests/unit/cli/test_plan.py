"""What ``planter plan`` prints, to the letter; and what its options mean."""

import json
from collections.abc import Iterable

import msgspec
import pytest
import typer

from planter.cli.differences import plan_document, plan_lines
from planter.cli.plan import session_of
from planter.core.graph import graph_of
from planter.core.plan import Plan
from planter.shell.diffs import diff
from planter.shell.plans import read_manifest
from planter_protocol import messages
from planter_protocol.codec import MESSAGE_BYTES_MAX, encode
from planter_testkit.builders import World, fleet, phase, plan, runtime

FETCH = {"kind": "Phase", "id": "fetch", "spec": {"x-run": {"shell": "curl"}}}
BUILD = {
    "kind": "Phase",
    "id": "build",
    "spec": {"waitFor": {"phases": ["fetch"]}, "retry": {"maxAttempts": 3}, "x-run": {"shell": "make"}},
}
DEPLOY = {
    "kind": "Phase",
    "id": "deploy",
    "spec": {"waitFor": {"phases": ["build"]}, "x-run": {"exec": ["ship", "it"]}},
}
LINT = {"kind": "Phase", "id": "lint", "spec": {"x-run": {"shell": "ruff"}}}
ALL = [FETCH, BUILD, DEPLOY, LINT]
EVERYTHING = fleet(runtime())


def edited(manifest_phase: dict, **spec: object) -> dict:
    return {**manifest_phase, "spec": {**manifest_phase["spec"], **spec}}


def compiled(manifest: Iterable[dict]) -> Plan:
    reading = read_manifest(json.dumps(list(manifest)).encode())
    assert reading.plan is not None, reading.text
    return reading.plan


def against(applied: list[dict], wanted: list[dict], *, done: bool = True) -> messages.Diff:
    """The difference to a session that has done, or does, what was applied."""
    world = World(runtime())
    world.start(compiled(applied))
    if done:
        world.run_out()
    reply = encode(diff(world.session, "nightly", graph_of(compiled(wanted)), EVERYTHING))
    return msgspec.json.decode(reply, type=messages.Diff)


def text(found: messages.Diff) -> str:
    return "\n".join(plan_lines(found)) + "\n"


def test_what_nobody_takes_is_said_with_the_plan() -> None:
    site = edited(LINT, **{"x-capabilities": ["gpu"]})
    bare = {"kind": "Phase", "id": "train", "spec": {"selector": {"matchLabels": {"phase": "train"}}}}
    graph = graph_of(compiled([FETCH, {**site, "id": "a"}, {**site, "id": "b"}, bare]))
    found = diff(None, "s", graph, fleet(runtime(), runtime("r2", executors=frozenset({"noop"}))))

    assert plan_lines(found)[-4:] == [
        "warning: 2 phases wait for a runtime: a, b",
        "  no registered runtime matches: of 2 runtimes, 2 lack capabilities of gpu",
        "warning: 1 phase waits for a runtime: train",
        "  no registered runtime matches: of 2 runtimes, 2 have no handler for phase=train",
    ]
    assert [one["phases"] for one in plan_document(found)["gaps"]] == [["a", "b"], ["train"]]


def test_constraints_preferences_and_slots_are_compared_field_by_field() -> None:
    first = {"label": "memory", "operator": ">=", "value": 16}
    near = {"label": "zone", "value": "eu", "weight": 80}
    before = edited(LINT, **{"x-constraints": [first], "x-affinity": [near]})
    after = edited(
        LINT,
        **{
            "x-constraints": [{**first, "value": 24}, {"label": "disk", "value": "ssd"}],
            "x-affinity": [{**near, "weight": 10}],
            "x-slots": 3,
        },
    )
    (change,) = against([before], [after]).changes

    assert [(one.path, bytes(one.before or b""), bytes(one.after or b"")) for one in change.changes] == [
        ("x-constraints[0].value", b'"16"', b'"24"'),
        ("x-affinity[0].weight", b"80", b"10"),
        ("x-constraints[1].label", b"", b'"disk"'),
        ("x-constraints[1].value", b"", b'"ssd"'),
        ("x-slots", b"", b"3"),
    ]


def test_a_constraint_that_no_runtime_fulfils_is_said_with_the_plan() -> None:
    wants = edited(LINT, **{"x-constraints": [{"label": "memory", "operator": ">=", "value": 16}]})
    large = {**edited(LINT, **{"x-slots": 50}), "id": "large"}
    found = diff(None, "s", graph_of(compiled([wants, large])), fleet(runtime(labels={"memory": "8"})))

    assert plan_lines(found)[-4:] == [
        "warning: 1 phase waits for a runtime: lint",
        "  no registered runtime matches: of 1 runtime, 1 do not fulfil memory >= 16",
        "warning: 1 phase waits for a runtime: large",
        "  no registered runtime matches: of 1 runtime, 1 have fewer than 50 slots in all",
    ]


def test_what_is_done_waits_for_nobody() -> None:
    world = World(runtime())
    world.start(compiled([FETCH, LINT]))
    world.run_out()
    found = diff(
        world.session, "s", graph_of(compiled([FETCH, edited(LINT, description="x"), DEPLOY])), fleet()
    )

    assert [(gap.reason, gap.phases) for gap in found.gaps] == [
        ("no runtime is registered", ("lint", "deploy"))
    ]


def test_no_change() -> None:
    found = against(ALL, ALL)

    assert text(found) == (
        "session nightly, revision 1 (complete):\nNo changes: session nightly has done all of this.\n"
    )
    assert plan_document(found)["changes"] == []
    assert plan_document(found)["wouldChange"] is False


def test_one_field() -> None:
    changed = edited(LINT, **{"x-run": {"shell": "ruff check"}, "x-timeout": "5s"})
    found = against(ALL, [FETCH, BUILD, DEPLOY, changed])

    assert text(found) == (
        "session nightly, revision 1 (complete):\n"
        "  ~ lint  changed, runs again\n"
        '      x-run.shell: "ruff" -> "ruff check"\n'
        '      x-timeout.startToClose: (none) -> "5000ms"\n'
        "Plan: 0 to add, 1 to change, 0 to remove, 1 to run again; 3 unchanged.\n"
    )


def test_a_removed_phase() -> None:
    found = against(ALL, [FETCH, BUILD, DEPLOY])

    assert text(found) == (
        "session nightly, revision 1 (complete):\n"
        "  - lint  removed\n"
        "Plan: 0 to add, 0 to change, 1 to remove, 0 to run again; 3 unchanged.\n"
    )


def test_a_renamed_phase() -> None:
    found = against(ALL, [FETCH, BUILD, DEPLOY, {**LINT, "id": "style"}])

    assert text(found) == (
        "session nightly, revision 1 (complete):\n"
        "  + style  added; same content as lint, which goes: renamed? A result does not follow a name\n"
        "  - lint   removed; same content as style, which comes: renamed? A result does not follow a name\n"
        "Plan: 1 to add, 0 to change, 1 to remove, 0 to run again; 3 unchanged.\n"
    )


def test_a_changed_dependency() -> None:
    found = against(ALL, [FETCH, edited(BUILD, retry={"maxAttempts": 5}), DEPLOY, LINT])

    assert text(found) == (
        "session nightly, revision 1 (complete):\n"
        "  ~ build   changed, runs again\n"
        "      retry.maxAttempts: 3 -> 5\n"
        "  > deploy  runs again: depends on build, which changed\n"
        "Plan: 0 to add, 1 to change, 0 to remove, 2 to run again; 2 unchanged.\n"
    )
    document = plan_document(found)
    assert document["formatVersion"] == "1.1"
    assert (document["baseRevision"], document["planDigest"][:7]) == (1, "sha256:")
    assert document["counts"] == {"keep": 2, "cancel": 0, "drop": 0, "add": 0, "update": 1, "rerun": 2}
    assert document["unchanged"] == ["fetch", "lint"]
    assert document["changes"] == [
        {
            "phaseId": "build",
            "actions": ["update", "rerun"],
            "reason": "changed",
            "changes": [{"path": "retry.maxAttempts", "before": 3, "after": 5}],
            "status": "complete",
            "attempt": 1,
            "runtimeId": "r1",
        },
        {
            "phaseId": "deploy",
            "actions": ["rerun"],
            "reason": "depends",
            "because": "build",
            "becauseReason": "changed",
            "status": "complete",
            "attempt": 1,
            "runtimeId": "r1",
        },
    ]


def test_a_session_that_runs() -> None:
    found = against(ALL, [edited(FETCH, **{"x-run": {"shell": "wget"}}), BUILD, LINT], done=False)

    assert text(found) == (
        "session nightly, revision 1 (running):\n"
        "  ~ fetch   changed, runs again; attempt 1 on r1 is cancelled\n"
        '      x-run.shell: "curl" -> "wget"\n'
        "  - deploy  removed\n"
        "    lint    goes on: attempt 1 on r1\n"
        "Plan: 0 to add, 1 to change, 1 to remove, 1 to run again, 1 attempt to cancel; 2 unchanged.\n"
    )


def test_nothing_applied_yet() -> None:
    found = diff(None, "nightly", graph_of(compiled([LINT])), EVERYTHING)

    assert text(found) == (
        "session nightly, nothing applied yet:\n"
        "  + lint  added\n"
        "Plan: 1 to add, 0 to change, 0 to remove, 0 to run again; 0 unchanged.\n"
    )


def test_an_extension_that_the_planner_does_not_know_is_a_change_too() -> None:
    found = against([edited(LINT, **{"x-team": "a"})], [edited(LINT, **{"x-team": "b"})])

    assert "      x-*: an extension that is not part of the plan\n" in text(found)


def test_fields_of_lists_and_caches_are_named_as_the_manifest_names_them() -> None:
    many = edited(LINT, **{"x-foreach": {"items": [1, 2], "parallel": 2}, "x-cache": True})
    wanted = edited(LINT, **{"x-foreach": {"items": [1, 3]}, "x-cache": {"key": "item", "maxAge": "1h"}})

    assert plan_lines(against([many], [wanted]))[1:-1] == [
        "  ~ lint  changed, runs again",
        "      x-foreach.items: [1,2] -> [1,3]",
        "      x-foreach.parallel: 2 -> (none)",
        "      x-cache: true -> (none)",
        '      x-cache.key: (none) -> "item"',
        '      x-cache.maxAge: (none) -> "3600000ms"',
    ]


def test_a_handler_without_a_word_is_no_field_of_its_own() -> None:
    tolerant = edited(LINT, onFailure={"action": "continue"})

    assert plan_lines(against([tolerant], [LINT]))[1:-1] == [
        "  ~ lint  changed, runs again",
        '      onFailure.action: "continue" -> (none)',
    ]


def test_control_characters_of_a_manifest_do_not_reach_the_terminal() -> None:
    found = against([LINT], [edited(LINT, description="\u202e\x1b[2J")])

    assert all(char.isprintable() or char == "\n" for char in text(found))


def test_a_hundred_thousand_changes_fit_a_message_and_it_says_that_it_is_cut() -> None:
    count = 100_000
    wanted = plan(*(phase(f"phase-{n:06}", digest=f"d{n}", kind=None) for n in range(count)))

    found = diff(None, "s", graph_of(wanted), EVERYTHING)
    whole = diff(None, "s", graph_of(wanted), EVERYTHING, bounded=False)

    assert found.cut
    assert found.counts["add"] == count
    assert len(encode(found)) < MESSAGE_BYTES_MAX
    assert 1_000 < len(found.changes) < count
    assert "more; --output json lists them" in text(found)
    assert (whole.cut, len(whole.changes), len(whole.add)) == (False, count, count)


def test_wide_changes_of_many_phases_fit_a_message() -> None:
    world = World(runtime())
    before = [phase(f"p{n}", digest="1", labels={f"l{m}": "x" * 90 for m in range(40)}) for n in range(2_000)]
    after = [phase(f"p{n}", digest="2", labels={f"l{m}": "y" * 90 for m in range(40)}) for n in range(2_000)]
    world.start(plan(*before))

    found = diff(world.session, "s", graph_of(plan(*after)), EVERYTHING)

    assert found.cut
    assert len(encode(found)) < MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("file", "session"),
    [("site.planter.yaml", "site"), ("/a/b/my site.yaml", "my-site"), ("nightly", "nightly")],
)
def test_a_file_stands_for_a_session(file: str, session: str) -> None:
    assert session_of(file) == session


def test_standard_input_needs_a_name() -> None:
    with pytest.raises(typer.BadParameter, match="--session"):
        session_of("-")
