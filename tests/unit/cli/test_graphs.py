"""Graphs as text, and the order of phases."""

import json

from planter.cli.graphs import as_json, dot, graph_of_plan, graph_of_state, levels, mermaid
from planter_protocol.messages import PhaseState, SessionState
from planter_testkit.builders import diamond, phase, plan


def test_the_order_has_what_can_run_at_the_same_time_together():
    assert levels(diamond()) == [["a"], ["b", "c"], ["d"]]


def test_an_empty_plan_has_no_order():
    assert levels(plan()) == []


def test_mermaid_draws_what_is_outside_differently():
    text = mermaid(graph_of_plan(plan(phase("a"), phase("b", "a", external=("dns",)))))

    assert text.splitlines()[:6] == [
        "flowchart LR",
        '    p0["a"]',
        '    p1["b"]',
        '    p2(["dns"]):::external',
        "    p0 --> p1",
        "    p2 -.-> p1",
    ]


def test_names_cannot_break_out_of_the_drawing():
    nasty = plan(phase('a"]; evil --> x'))

    assert "#34;#93;#59; evil --#62; x" in mermaid(graph_of_plan(nasty))
    assert '"a\\"]; evil --> x";' in dot(graph_of_plan(nasty))


def test_dot_draws_what_is_outside_dashed():
    text = dot(graph_of_plan(plan(phase("b", external=("dns",)))))

    assert '"dns" [shape=ellipse, style="dashed"];' in text
    assert '"dns" -> "b" [style=dashed];' in text


def test_the_graph_of_a_session_has_all_needs_and_each_status():
    state = SessionState(
        session_id="s",
        status="running",
        phases=(
            PhaseState(phase_id="a", status="complete"),
            PhaseState(phase_id="b", status="pending", needs=("a", "dns"), waits_for=("dns",)),
        ),
    )

    document = json.loads(as_json(graph_of_state(state)))

    assert document == {
        "nodes": [
            {"id": "a", "external": False, "status": "complete"},
            {"id": "b", "external": False, "status": "pending"},
            {"id": "dns", "external": True},
        ],
        "edges": [{"from": "a", "to": "b"}, {"from": "dns", "to": "b"}],
    }


def test_items_stand_between_what_comes_before_their_phase_and_the_phase_itself():
    state = SessionState(
        session_id="s",
        status="running",
        phases=(
            PhaseState(phase_id="list", status="complete"),
            PhaseState(phase_id="fetch", status="running", needs=("list",)),
            PhaseState(phase_id="report", status="pending", needs=("fetch",)),
            PhaseState(phase_id="fetch[0]", status="running"),
            PhaseState(phase_id="fetch[1]", status="pending"),
        ),
    )

    assert set(graph_of_state(state).edges) == {
        ("list", "fetch[0]"),
        ("list", "fetch[1]"),
        ("fetch[0]", "fetch"),
        ("fetch[1]", "fetch"),
        ("fetch", "report"),
    }
