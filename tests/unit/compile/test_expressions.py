"""Expressions: what they see, what is said about those that are wrong, and what they may cost."""

import msgspec
import pytest

from planter.compile.expressions import RECKONER, fault_of, is_condition, named_phases
from planter.compile.phases import compile_manifest
from planter.core.conditions import ExpressionFailed
from planter.core.plan import Cache, Concurrency, PhaseSpec, TriggerRule
from planter_schemas import load_manifest

PHASES = {
    "build": {"status": "complete", "attempt": 2, "result": {"image": "app:7", "sizes": [1, 2.5], "n": 3}},
    "lint-all": {"status": "failed", "attempt": 1, "result": None},
}
VARIABLES = {"phases": PHASES, "session": {"id": "demo", "revision": 1}}


def problems(text: str) -> list[tuple[str, int | None, str]]:
    """Code, line and message of everything that is wrong with a manifest."""
    found = compile_manifest(load_manifest(text)).problems
    return [(problem.code, problem.line, problem.message) for problem in found]


def only(text: str, name: str) -> PhaseSpec:
    """A phase of a manifest that has to be valid."""
    plan = compile_manifest(load_manifest(text)).plan
    assert plan is not None
    return next(spec for spec in plan.phases if spec.id == name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("phases.build.result.n > 2", True),
        ('phases["lint-all"].status == "failed"', True),
        ("phases.build.result.sizes.exists(s, s > 2.0)", True),
        ('has(phases.build.result.digest) && phases.build.result.digest != ""', False),
        ('phases["lint-all"].result == null', True),
        ('session.id.startsWith("de") && session.revision == 1', True),
        ('"image" in phases.build.result', True),
        ("phases.build.attempt == 1 ? true : false", False),
    ],
)
def test_a_condition_sees_phases_and_session(text: str, value: bool) -> None:
    assert fault_of(text) is None
    assert is_condition(text)
    assert RECKONER.condition(text, VARIABLES) is value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("phases.build.result.nothing", "Key not found"),
        ("phases.build.result.n", "neither true nor false but 3"),
        ("1 / 0 == 1", "divide by zero"),
        ("[1, 2].map(a, [1, 2, 3].map(b, phases.nobody)) == []", "nobody"),
    ],
)
def test_a_condition_without_a_value_says_why(text: str, why: str) -> None:
    with pytest.raises(ExpressionFailed, match=why):
        RECKONER.condition(text, VARIABLES)


def test_an_expression_that_never_ends_is_given_up() -> None:
    ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    endless = f"{ten}.map(a, {ten}.map(b, {ten}.map(c, {ten}.map(d, {ten}.map(e, {ten}.map(f, a)))))) == []"

    with pytest.raises(ExpressionFailed, match="budget"):
        RECKONER.condition(endless, VARIABLES)


def test_arguments_keep_their_type_in_with_and_become_text_in_env_and_exec() -> None:
    run = {
        "exec": ["run", "--size=${{ phases.build.result.sizes[0] }}", "${{ phases.build.result.image }}"],
        "with": {"all": "${{ phases.build.result.sizes }}", "text": "n is ${{ phases.build.result.n }}"},
        "env": {"N": "${{ phases.build.result.n }}", "PLAIN": "$HOME ${HOME}"},
    }

    filled = msgspec.json.decode(RECKONER.filled(msgspec.json.encode(run), VARIABLES))

    assert filled == {
        "exec": ["run", "--size=1", "app:7"],
        "with": {"all": [1, 2.5], "text": "n is 3"},
        "env": {"N": "3", "PLAIN": "$HOME ${HOME}"},
    }


def test_what_an_expression_brings_in_is_not_evaluated_again() -> None:
    variables = {"phases": {"a": {"result": "${{ session.id }}"}}, "session": {"id": "secret"}}

    filled = RECKONER.filled(b'{"env":{"A":"${{ phases.a.result }}"}}', variables)

    assert msgspec.json.decode(filled) == {"env": {"A": "${{ session.id }}"}}


def test_the_phases_that_an_expression_names_are_found_outside_of_its_strings() -> None:
    text = 'phases.a.result == "phases.no" && phases["b-c"].status == phases[\'d\'].status && x.phases.e == 1'

    assert named_phases(text) == ("a", "b-c", "d")


def test_a_phase_carries_its_conditions() -> None:
    text = """
- {id: build, spec: {x-outputs: [image]}}
- id: deploy
  spec:
    waitFor: [build]
    x-when: ${{ phases.build.result.image != "" }}
    x-trigger: all_done
    x-concurrency: {key: cluster, max: 3}
    x-run: {exec: [deploy, "${{ phases.build.result.image }}"]}
"""

    deploy = only(text, "deploy")

    assert (deploy.when, deploy.trigger) == ('phases.build.result.image != ""', TriggerRule.ALL_DONE)
    assert (deploy.templated, deploy.uses) == (True, ("build",))
    assert deploy.concurrency == Concurrency(key="cluster", max=3)
    assert only(text, "build").outputs == ("image",)


def test_whatever_is_wrong_with_an_expression_is_said_with_its_place() -> None:
    text = """
- {id: a, spec: {}}
- id: b
  spec:
    x-when: phases.a.result.x >
- id: c
  spec:
    x-when: phases.a.status == "complete"
- id: d
  spec:
    waitFor: [a]
    x-when: phases.nobody.status == "complete"
- id: e
  spec:
    waitFor: [a]
    x-when: "'text'"
- id: f
  spec:
    waitFor: [a]
    x-run: {shell: "rm ${{ phases.a.result }}"}
"""

    found = problems(text)

    assert [(code, line) for code, line, _ in found] == [
        ("PLT-1310", 5),
        ("PLT-1311", 8),
        ("PLT-1311", 12),
        ("PLT-1310", 16),
        ("PLT-1314", 20),
    ]
    assert "need not be over" in found[1][2]
    assert "there is none" in found[2][2]
    assert "neither true nor false" in found[3][2]


def test_rules_and_limits_that_do_not_exist_are_refused() -> None:
    text = """
- {id: a, spec: {x-trigger: all_sucess}}
- {id: b, spec: {x-concurrency: {max: 2}}}
- {id: c, spec: {x-concurrency: {key: k, max: 0}}}
- {id: d, spec: {x-outputs: [a, a]}}
- {id: e, spec: {x-when: 5}}
"""

    codes = [code for code, _, _ in problems(text)]

    assert codes == ["PLT-1107", "PLT-1313", "PLT-1313", "PLT-1312", "PLT-1104"]


def test_a_phase_carries_the_list_that_it_is_done_for() -> None:
    text = """
- {id: list, spec: {}}
- id: each
  spec:
    waitFor: [list]
    x-foreach: {items: "${{ phases.list.result.files }}", parallel: 4}
    x-run: {exec: [resize, "${{ item.name }}", "${{ string(index) }}"]}
- {id: fixed, spec: {x-foreach: [1, {a: b}]}}
"""

    each, fixed = only(text, "each"), only(text, "fixed")

    assert each.foreach is not None
    assert fixed.foreach is not None
    assert (bytes(each.foreach.items), each.foreach.parallel) == (b'"phases.list.result.files"', 4)
    assert (each.templated, each.uses) == (True, ("list",))
    assert (bytes(fixed.foreach.items), fixed.foreach.parallel) == (b'[1,{"a":"b"}]', None)
    assert each.digest != only(text.replace("parallel: 4", "parallel: 5"), "each").digest


def test_whatever_is_wrong_with_a_list_is_said_with_its_place() -> None:
    text = """
- {id: a, spec: {x-foreach: 3}}
- {id: b, spec: {x-foreach: {parallel: 3}}}
- {id: c, spec: {x-foreach: {items: [], parallel: 0}}}
- {id: d, spec: {x-foreach: "'text'"}}
- {id: e, spec: {x-foreach: phases.a.result}}
- {id: f, spec: {x-run: {exec: [echo, "${{ item }}"]}}}
- {id: g, spec: {x-foreach: item}}
"""
    name = """
- {id: a, spec: {x-foreach: []}}
- {id: "a[0]", spec: {}}
- {id: "b[0]", spec: {}}
"""

    of_reading = problems(text)
    of_graph = problems("\n".join(line for line in text.splitlines() if line[7:8] not in "abc"))

    assert [(code, line) for code, line, _ in of_reading] == [
        ("PLT-1315", 2),
        ("PLT-1315", 3),
        ("PLT-1315", 4),
    ]
    assert [code for code, _, _ in of_graph] == ["PLT-1310", "PLT-1311", "PLT-1310", "PLT-1310"]
    assert "is no list" in of_graph[0][2]
    assert [(code, line) for code, line, _ in problems(name)] == [("PLT-1316", 3)]


def test_a_phase_carries_which_earlier_result_will_do() -> None:
    text = """
- {id: a, spec: {}}
- {id: plain, spec: {x-cache: true}}
- {id: never, spec: {x-cache: false}}
- id: by
  spec:
    waitFor: [a]
    x-cache: {key: "${{ phases.a.result.etag }}", maxAge: 1h}
"""

    by = only(text, "by")

    assert only(text, "plain").cache == Cache()
    assert only(text, "never").cache is None
    assert by.cache == Cache(key="phases.a.result.etag", max_age_ms=3_600_000)
    assert by.uses == ("a",)
    assert [code for code, _, _ in problems("- {id: a, spec: {x-cache: 3}}")] == ["PLT-1317"]
    assert [code for code, _, _ in problems("- {id: a, spec: {x-cache: {key: phases.b.result}}}")] == [
        "PLT-1311"
    ]


def test_a_phase_that_waits_for_one_item_is_refused_for_it_would_wait_for_ever() -> None:
    text = """
- {id: each, spec: {x-foreach: [1, 2]}}
- id: after
  spec:
    waitFor:
      - each
      - each[0]
"""

    assert [(code, line) for code, line, _ in problems(text) if code != "PLT-1202"] == [("PLT-1316", 7)]


def test_a_list_that_has_a_limit_of_its_own_cannot_share_another_one() -> None:
    both = "- {id: a, spec: {x-concurrency: db, x-foreach: {items: [1], parallel: 2}}}"

    assert [code for code, _, _ in problems(both)] == ["PLT-1315"]
    assert only(both.replace(", parallel: 2", ""), "a").concurrency == Concurrency("db")


def test_expressions_among_the_items_of_a_list_are_refused() -> None:
    text = """
- {id: a, spec: {}}
- {id: b, spec: {waitFor: [a], x-foreach: [{name: "${{ phases.a.result }}"}]}}
"""

    ((code, line, message),) = problems(text)

    assert (code, line) == ("PLT-1314", 3)
    assert message == "`x-foreach` holds an expression, which is not evaluated there"


@pytest.mark.parametrize(
    ("key", "is_refused"),
    [
        ("item.sha", False),
        ("string(index)", False),
        ("phases.a.result + item", False),
        ("phases.a.result", True),
        ("'item'", True),
        ("[1, 2].map(item, item)", True),
    ],
)
def test_a_key_that_is_the_same_for_all_items_is_refused(key: str, is_refused: bool) -> None:
    text = f"""
- {{id: a, spec: {{}}}}
- id: b
  spec:
    waitFor: [a]
    x-foreach: [1, 2]
    x-cache: {{key: "{key}"}}
"""

    assert [(code, line) for code, line, _ in problems(text)] == ([("PLT-1317", 7)] if is_refused else [])
