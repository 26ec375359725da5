"""Random histories of one session: whatever comes, in whatever order, over the core alone."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from planter.compile.target import up_to
from planter.core import inputs as i
from planter.core.deadlines import clocks, gate_ends_at, run_out
from planter.core.fleet import can_take, requirement
from planter.core.plan import (
    Affinity,
    Backoff,
    Cache,
    Concurrency,
    Constraint,
    FailureAction,
    Handler,
    PhaseSpec,
    PlacementRules,
    Plan,
    TriggerRule,
)
from planter.core.status import PHASE_OPEN, SESSION_TERMINAL
from planter_testkit.builders import World, approval, foreach, phase, plan, runtime, wait

STEPS = 60
_ROUNDS = 100


def random_plan(draw: random.Random) -> Plan:
    """Up to a dozen phases with random needs and policies."""
    count = draw.randint(0, 12)
    names = [f"p{n}" for n in range(count)]
    has_conditions = draw.random() < 0.5
    make = partial(_phase, draw, gates=draw.random() < 0.4)
    rules = [random_rules(draw) for _ in range(draw.choice([0, 1, 2]))]
    phases = [
        make(
            name,
            *(needs := sorted(draw.sample(names[:n], min(n, draw.randint(0, 3))))),
            **(_conditions(draw, needs) if has_conditions else {}),
            max_attempts=draw.choice([1, 1, 2, 3]),
            backoff=Backoff(initial_ms=draw.choice([0, 10, 1_000])),
            on_use=draw.random() < 0.15,
            on_failure=draw.choice([*FailureAction, FailureAction.CONTINUE]),
            wait_timeout_ms=draw.choice([None, None, None, 2_000]),
            timeout_ms=draw.choice([None, 5_000]),
            schedule_to_start_ms=draw.choice([None, None, None, 1_000, 7_000]),
            schedule_to_close_ms=draw.choice([None, None, 500, 10_000, 50_000]),
            heartbeat_ms=draw.choice([None, None, 100, 4_000]),
            priority=draw.choice([0, 0, 1]),
            placement=draw.choice([None, *rules]),
            success=draw.choice([None, None, None, Handler(message=("well",))]),
            failure=draw.choice([None, Handler(notify={"email": "a@example.com"})]),
        )
        for n, name in enumerate(names)
    ]
    whole = plan(*phases)
    return up_to(whole, draw.choice(names)) or whole if names and draw.random() < 0.3 else whole


def _phase(
    draw: random.Random,
    name: str,
    *needs: str,
    gates: bool,
    placement: PlacementRules | None,
    **fields: Any,
) -> PhaseSpec:
    """Work for a runtime, or now and then something that the planner decides itself."""
    if not gates or draw.random() < 0.5 or "run" in fields:
        kind = draw.choice(["noop", "noop", "noop", "exotic"])
        return phase(name, *needs, kind=kind, placement=placement, **fields)
    if draw.random() < 0.5:
        until = draw.choice([None, None, "1970-01-01T00:16:40Z", "1970-01-01T00:17:05Z"])
        return wait(name, *needs, span=draw.choice(["0s", "100ms", "2s", "30s"]), until=until, **fields)
    asked = draw.choice(
        [{}, {"needed": 2}, {"approvers": ["ann", "bob"], "needed": 2}, {"approvers": ["bob"]}]
    )
    expires = draw.choice([{}, {"expires": "3s"}, {"expires": "3s", "onExpiry": "approve"}])
    return approval(name, *needs, asked={**asked, **expires}, **fields)


def _conditions(draw: random.Random, needs: list[str]) -> dict[str, Any]:
    """Now and then a rule, a condition, a limit, or arguments that come from another phase."""
    found: dict[str, Any] = {}
    if draw.random() < 0.4:
        found["trigger"] = draw.choice(list(TriggerRule))
    if draw.random() < 0.3:
        found["when"] = draw.choice(["true", "false", "1 / 0 == 1"])
    if needs and draw.random() < 0.3:
        found["when"] = f'phases.{needs[0]}.status == "complete"'
        found["uses"] = (needs[0],)
    if needs and draw.random() < 0.2:
        found["run"] = msgspec.Raw(b'{"noop":{"seen":"${{ phases.%b.attempt }}"}}' % needs[-1].encode())
        found["templated"], found["uses"] = True, (needs[0], needs[-1])
    if needs and draw.random() < 0.3:
        size = f"phases.{needs[0]}.attempt"
        items = draw.choice([[], ["a"], [1, 2, 3], f"[0, 1, 2, 3].filter(n, n < {size})"])
        found["foreach"] = foreach(items, draw.choice([None, None, 1]))
        found["uses"] = tuple(dict.fromkeys((*found.get("uses", ()), needs[0])))
    if draw.random() < 0.2:
        found["cache"] = Cache(max_age_ms=draw.choice([None, 1_000]))
    if draw.random() < 0.3:
        found["concurrency"] = Concurrency(key=draw.choice("xy"), max=draw.choice([1, 2]))
    return found


def random_rules(draw: random.Random) -> PlacementRules:
    """Constraints and preferences over the labels a and b and the host, and what an attempt costs."""
    constraints = [
        Constraint("a", "=", "1"),
        Constraint("a", "!=", "1"),
        Constraint("a", ">=", draw.choice(["1", "2"])),
        Constraint("b", "is_set"),
        Constraint("b", "is_not_set"),
        Constraint("a", "regexp", "^[12]$"),
        Constraint("a", "version", "~> 1"),
        Constraint("a", "set_contains_any", "2,3"),
        Constraint("planter.host", "=", "h1"),
    ]
    weights = draw.sample([-100, -30, 30, 50, 100], draw.randint(0, 3))
    affinity = tuple(
        Affinity(one.label, one.operator, one.value, weight)
        for one, weight in zip(draw.sample(constraints, len(weights)), weights, strict=True)
    )
    chosen = tuple(draw.sample(constraints, draw.choice([0, 0, 1, 2])))
    return PlacementRules(chosen, affinity, draw.choice([1, 2, 3]))


def random_input(draw: random.Random, world: World, old: list[i.AnyInput]) -> i.AnyInput | None:
    """Something that a runtime, a user or the platform could say now; honest, stale or wrong."""
    if old and draw.random() < 0.15:
        return draw.choice(old)  # delivered again, or late
    if any(one.stands for one in world.session.phases) and draw.random() < 0.15:
        return random_answer(draw, world)
    names = [spec.id for spec in world.session.graph.plan.phases] or ["nothing"]
    name = draw.choice(world.open() or names)
    echo = world.echo(name) if name != "nothing" else {"phase_id": name, "sequence": world._number()}
    if world.session.stopping and draw.random() < 0.3:
        return random_end(draw, world)
    roll = draw.random()
    if roll < 0.45:
        return i.ReportComplete(**echo)
    if roll < 0.55:
        return i.ReportFailed(**echo, message="broken", retryable=draw.random() < 0.8)
    if roll < 0.61:
        return i.ReportRunning(**echo)
    if roll < 0.65:
        details = draw.choice([msgspec.UNSET, msgspec.Raw(b"1"), msgspec.Raw(b"2")])
        return i.ReportHeartbeat(**echo, details=details)
    if roll < 0.72:
        retry = draw.choice([None, None, 0, 3_000])
        return i.Acknowledge(
            **echo, accepted=draw.random() < 0.7, queued=draw.random() < 0.5, retry_after_ms=retry
        )
    if roll < 0.75:
        return i.ReportCancelled(**echo)
    if roll < 0.80:
        return i.RuntimeLost(runtime_id="r1", instance="r1-1", reason="silence")
    if roll < 0.92:
        verb = draw.choice(["pause", "resume", "resume", "cancel", "retry", "skip", "rerun"])
        chosen = draw.choice([*names, None, "unknown"])
        return i.Command(sequence=world._number(), verb=verb, phase_id=chosen)
    if draw.random() < 0.3:
        return i.StartPlan(sequence=world._number(), plan=random_plan(draw))
    expected = draw.choice([None, None, None, world.session.revision, world.session.revision + 1])
    return i.StartPlan(
        sequence=world._number(),
        plan=edited(draw, world.session.graph.manifest),
        replan=draw.random() < 0.8,
        expect_revision=expected,
    )


def random_answer(draw: random.Random, world: World) -> i.AnyInput:
    """Somebody approves or rejects, whether or not that was asked."""
    names = [spec.id for spec in world.session.graph.plan.phases]
    standing = [name for name in world.open() if world.session.phases[world.session.graph.index[name]].stands]
    return i.Command(
        sequence=world._number(),
        verb=draw.choice(["approve", "approve", "approve", "reject"]),
        phase_id=draw.choice([*names, *standing, *standing]),
        by=draw.choice(["ann", "bob", "eve", None]),
        plan_digest=draw.choice([None, None, None, world.session.plan_digest, "another"]),
        data=draw.choice([msgspec.UNSET, msgspec.UNSET, msgspec.Raw(b'{"x":1}')]),
    )


def random_end(draw: random.Random, world: World) -> i.AnyInput:
    """What a runtime says of an attempt that a replan wants stopped."""
    name, one = draw.choice(sorted(world.session.stopping.items()))
    echo = {
        "phase_id": name,
        "fenced": one.instance is not None,
        "attempt": one.attempt,
        "fence": one.fence,
        "runtime_id": one.runtime_id,
        "sequence": world._number(),
    }
    return draw.choice(
        [
            i.ReportCancelled(**echo),
            i.ReportComplete(**echo),
            i.ReportFailed(**echo, message="broken"),
            i.ReportRunning(**echo),
            i.Acknowledge(**echo, accepted=False),
        ]
    )


def edited(draw: random.Random, before: Sequence[PhaseSpec]) -> Plan:
    """The plan with phases changed, removed, added and put into another order."""
    gone = {spec.id for spec in before if draw.random() < 0.15}
    phases: list[PhaseSpec] = []
    for spec in before:
        if spec.id in gone:
            continue
        if gone & set(spec.needs) or draw.random() < 0.15:
            left = tuple(need for need in spec.needs if need not in gone)
            edit = f"edit-{draw.randint(0, 2)}"
            digest = f"{spec.id}-{left}-{edit}"
            phases.append(msgspec.structs.replace(spec, needs=left, digest=digest))
        else:
            phases.append(spec)
    taken = {spec.id for spec in phases}
    for name in ("p3", "n1", "n2"):
        if name not in taken and draw.random() < 0.3:
            needs = sorted(draw.sample(sorted(taken), min(len(taken), draw.randint(0, 2))))
            phases.append(phase(name, *needs, digest=f"{name}-{needs}"))
            taken.add(name)
    draw.shuffle(phases)
    return plan(*phases)


def check_counts(world: World) -> None:
    """Everything that is counted agrees with what it counts."""
    session = world.session
    for status, count in session.counts.items():
        assert count == sum(1 for state in session.phases if state.status is status)
    for index, needs in enumerate(session.graph.needs):
        unmet = sum(1 for need in needs if not session.phases[need].satisfies)
        unmet += sum(1 for name in session.spec(index).external if name not in session.known)
        unmet += session.spec(index).id in session.stopping
        unmet += sum(not session.phases[item].satisfies for item in session.graph.items.get(index, ()))
        assert session.unmet[index] == unmet
    at_work: dict[str, int] = {}
    for spec, state in zip(session.graph.plan.phases, session.phases, strict=True):
        if spec.concurrency is not None and state.status in PHASE_OPEN:
            at_work[spec.concurrency.key] = at_work.get(spec.concurrency.key, 0) + 1
            assert at_work[spec.concurrency.key] <= 2
    for one in session.stopping.values():
        if one.key is not None:
            at_work[one.key] = at_work.get(one.key, 0) + 1
    assert at_work == {key: count for key, count in session.at_work.items() if count}
    for runtime_id, count in session.load.items():
        assert count <= world.fleet.runtimes[runtime_id].slots
        assert count == sum(
            spec.slots
            for spec, state in zip(session.graph.plan.phases, session.phases, strict=True)
            if state.runtime_id == runtime_id
            and state.instance
            and state.status.value in ("targeted", "running")
        ) + sum(
            one.slots for one in session.stopping.values() if one.runtime_id == runtime_id and one.instance
        )
    check_placement(world)


def check_placement(world: World) -> None:
    """Whatever was addressed to a runtime fits it: nothing here changes a runtime."""
    for spec, state in zip(world.session.graph.plan.phases, world.session.phases, strict=True):
        if state.status in PHASE_OPEN and state.instance is not None and state.runtime_id is not None:
            assert can_take(world.fleet.runtimes[state.runtime_id], requirement(spec))


def check_clocks(world: World) -> None:
    """After a step nothing has run out, and a timer stands for the first thing that will."""
    session = world.session
    for index, state in enumerate(session.phases):
        assert run_out(session, index, world.now) is None or session.status in SESSION_TERMINAL
        first = min((at for _, at in clocks(session, index)), default=0)
        if first and session.status not in SESSION_TERMINAL:
            assert 0 < state.due <= first
            assert (state.due, index) in session.timers
        ends = gate_ends_at(session, index)
        if ends and session.status not in SESSION_TERMINAL:
            assert world.now < ends
            assert 0 < state.due <= ends


def play(seed: int) -> World:
    """One random history."""
    draw = random.Random(seed)
    world = World(
        runtime("r1", slots=draw.choice([1, 2, 10]), host="h1"),
        runtime("r2", slots=draw.choice([2, 2, 3]), labels={"*": "*", "a": "1", "b": "2"}),
    )
    world.start(random_plan(draw))
    old: list[i.AnyInput] = []
    for _ in range(STEPS):
        if draw.random() < 0.2:
            world.pass_time(draw.choice([1, 100, 1_900, 5_000, 40_000]))
        elif draw.random() < 0.3 and (due := world.session.next_due()) is not None:
            world.pass_time(max(0, due - world.now))
        if draw.random() < 0.03:
            world.session = world.replayed()  # another planner takes over, by its own clock
            world.now += draw.choice([0, 0, 10_000, -10_000])
        given = [random_input(draw, world, old) for _ in range(draw.randint(0, 3))]
        inputs = [one for one in given if one is not None]
        old += inputs
        if draw.random() < 0.5:
            inputs += world.stored()
        inputs += _answers(draw, world)
        world.step(*inputs)
        check_counts(world)
        check_clocks(world)
    return world


def _answers(draw: random.Random, world: World) -> list[i.LookedUp]:
    """Now and then the answer that there is no earlier result, or that there is one, or an old one."""
    found = [one for one in world.unknown() if draw.random() < 0.5]
    made = world.now - draw.choice([0, 10_000])
    known = {"result": msgspec.Raw(b'"earlier"'), "source": "other/x", "made": made}
    return [msgspec.structs.replace(one, **known) if draw.random() < 0.5 else one for one in found]


def work_off(world: World) -> None:
    """From now on every runtime does what it is asked for, and somebody resumes what is paused."""
    if world.session.revision:
        world.command("resume")
    for _ in range(_ROUNDS):
        if world.session.status in SESSION_TERMINAL:
            return
        for name, one in list(world.session.stopping.items()):
            echo = {
                "phase_id": name,
                "attempt": one.attempt,
                "fence": one.fence,
                "runtime_id": one.runtime_id,
            }
            is_fenced = one.instance is not None
            world.step(i.ReportCancelled(**echo, fenced=is_fenced, sequence=world._number()))
        for name in world.open():
            world.complete(name)
            for by in ("ann", "bob") if world.session.phases[world.session.graph.index[name]].stands else ():
                world.command("approve", name, by=by)
        world.pass_time(2_000)
        world.settle()
