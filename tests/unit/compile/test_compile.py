"""From a manifest to a plan: graph, digests, cycles."""

import time

import msgspec
import pytest

from planter.compile.cycles import shortest_cycle
from planter.compile.phases import compile_manifest
from planter.core.plan import FailureAction, Plan
from planter_schemas import load_manifest

DIAMOND = """
- {id: a, spec: {}}
- id: b
  spec: {waitFor: {phases: [a]}, retry: {maxAttempts: 3}}
- id: c
  spec: {waitFor: {phases: [a, elsewhere]}, onFailure: {action: continue, spec: {message: [so be it]}}}
- id: d
  spec: {waitFor: {phases: [b, c], timeout: 5m}, x-run: {shell: echo, env: {A: 1}}, x-timeout: 30s}
- id: e
  spec: {x-timeout: {scheduleToStart: 1s, startToClose: 2s, scheduleToClose: 3s, heartbeat: 1500ms}}
"""


def compiled(text: str) -> Plan:
    """The plan of a manifest that has to be valid."""
    plan = compile_manifest(load_manifest(text)).plan
    assert plan is not None
    return plan


def test_a_plan_has_what_the_manifest_says() -> None:
    a, b, c, d, e = compiled(DIAMOND).phases

    assert (a.needs, b.needs, b.max_attempts) == ((), ("a",), 3)
    assert (c.needs, c.external, c.on_failure) == (("a",), ("elsewhere",), FailureAction.CONTINUE)
    assert c.failure is not None
    assert c.failure.message == ("so be it",)
    assert (d.kind, d.timeout_ms, d.wait_timeout_ms) == ("shell", 30_000, 300_000)
    assert (e.schedule_to_start_ms, e.timeout_ms) == (1_000, 2_000)
    assert (e.schedule_to_close_ms, e.heartbeat_ms) == (3_000, 1_500)
    assert msgspec.json.decode(bytes(d.run)) == {"shell": "echo", "env": {"A": "1"}}


def test_arguments_for_a_handler_need_no_executor_and_are_filled_in() -> None:
    text = """
- {id: a, spec: {selector: {matchLabels: {phase: train}}, x-run: {with: {n: 1}}}}
- {id: b, spec: {waitFor: {phases: [a]}, x-run: {with: {n: "${{ phases.a.result }}"}}}}
"""
    a, b = compiled(text).phases

    assert (a.kind, a.templated, a.labels) == (None, False, {"phase": "train"})
    assert (b.kind, b.templated) == (None, True)
    assert msgspec.json.decode(bytes(a.run)) == {"with": {"n": 1}}


def test_the_digest_follows_the_meaning_and_not_the_spelling() -> None:
    camel = '[{"kind": "Phase", "id": "a", "spec": {"selector": {"matchLabels": {"x": "y"}}, "waitFor": {}}}]'
    snake = '[{"Kind": "Phase", "Id": "a", "Spec": {"selector": {"match_labels": {"x": "y"}}}}]'
    other = '[{"id": "a", "spec": {"selector": {"matchLabels": {"x": "z"}}}}]'

    assert compiled(camel).digest == compiled(snake).digest
    assert compiled(camel).digest != compiled(other).digest


def test_only_what_the_target_phase_needs_is_compiled() -> None:
    text = "plan: {targetPhase: b, a: {}, b: {waitFor: {phases: [a]}}, lazy: {instanceMode: onUse}}"

    assert [spec.id for spec in compiled(text).phases] == ["a", "b"]


def test_a_cycle_is_refused_at_its_place_with_the_whole_circle() -> None:
    text = "- id: a\n  spec: {waitFor: {phases: [c]}}\n- id: b\n  spec: {waitFor: {phases: [a]}}\n"
    text += "- id: c\n  spec: {waitFor: {phases: [b]}}\n"
    result = compile_manifest(load_manifest(text, source="x.yaml"))

    (problem,) = result.problems
    assert result.plan is None
    assert (problem.code, problem.line, problem.column) == ("PLT-1204", 2, 29)
    assert problem.message.endswith("a -> c -> b -> a")


def test_the_shortest_of_several_cycles_is_named() -> None:
    needs = {"a": ["b"], "b": ["c"], "c": ["d"], "d": ["a", "e"], "e": ["d"], "f": ["a"]}

    assert sorted(shortest_cycle(needs) or ()) == ["d", "e"]


@pytest.mark.parametrize("size", [2, 3, 1_000])
def test_a_ring_is_found_whatever_its_size(size: int) -> None:
    ring = {str(n): [str((n + 1) % size)] for n in range(size)}

    assert len(shortest_cycle(ring) or ()) == size


def test_a_tangle_of_ten_thousand_phases_is_refused_in_bounded_time() -> None:
    dense = {str(n): [str((n * 7 + k) % 10_000) for k in range(1, 4)] for n in range(10_000)}

    began = time.perf_counter()
    cycle = shortest_cycle(dense)

    assert cycle is not None
    assert time.perf_counter() - began < 10


def test_an_acyclic_graph_has_no_cycle() -> None:
    assert shortest_cycle({"a": [], "b": ["a"], "c": ["a", "b", "outside"]}) is None


def test_the_patterns_of_a_manifest_are_bounded_together_and_the_same_one_counts_once() -> None:
    def problems(patterns: list[str]) -> list[str]:
        text = "".join(
            f"- {{id: p{n}, spec: {{x-constraints: [{{label: a, operator: regexp, value: '{one}'}}]}}}}\n"
            for n, one in enumerate(patterns)
        )
        return [problem.message for problem in compile_manifest(load_manifest(text)).problems]

    different = [f"[a-z]{{200}}{n:02}" for n in range(12)]

    assert problems(["[a-z]{200}"] * 30) == []
    assert problems(different[:9]) == []
    assert problems(different) == [
        "with it the patterns of the manifest have more than 2,000 characters, repetitions written out"
    ]
