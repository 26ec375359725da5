"""Phase manifests: one ``PhaseSpec`` a phase."""

import hashlib
from typing import NamedTuple

import msgspec

import planter_schemas as schemas
from planter.compile.checks import check_expressions, is_templated, used_phases
from planter.compile.cycles import shortest_cycle
from planter.compile.placement import check_placement, placement_rules
from planter.core.plan import (
    DEFAULT_BACKOFF,
    Backoff,
    Cache,
    Concurrency,
    FailureAction,
    Foreach,
    Handler,
    PhaseSpec,
    Plan,
    TriggerRule,
)

_encoder = msgspec.json.Encoder(order="deterministic")


class Compiled(NamedTuple):
    """What became of a manifest."""

    plan: Plan | None
    """None when any problem is an error."""
    problems: tuple[schemas.Problem, ...]


def compile_manifest(loaded: schemas.Loaded, target: str | None = None) -> Compiled:
    """The plan of a manifest, with the problems of reading and those of its graph.

    Phases outside the target phase's needs are left out.

    Args:
        loaded: the manifest.
        target: the target phase; None takes the manifest's own ``targetPhase``, if it has one.
    """
    manifest = loaded.manifest
    if manifest is None:
        return Compiled(None, loaded.problems)
    if target is not None:
        if all(phase.id != target for phase in manifest.phases):
            return Compiled(None, (*loaded.problems, _target_problem(loaded, target)))
        manifest = manifest.model_copy(update={"target_phase": target})
    selected = manifest.selected()
    cycle = shortest_cycle({phase.id: phase.wait_for for phase in selected})
    if cycle is not None:
        return Compiled(None, (*loaded.problems, _cycle_problem(loaded, cycle)))
    problems = [*check_expressions(loaded, selected), *check_placement(loaded, selected)]
    if problems:
        return Compiled(None, (*loaded.problems, *problems))
    external = {phase.id: frozenset(phase.external) for phase in selected}
    phases = tuple(_spec(phase, external[phase.id]) for phase in selected)
    digest = hashlib.sha256(b"".join(phase.digest.encode() for phase in phases)).hexdigest()
    plan = Plan(digest=f"sha256:{digest}", phases=phases, target=manifest.target_phase)
    return Compiled(plan, loaded.problems)


def _spec(phase: schemas.Phase, external: frozenset[str]) -> PhaseSpec:
    spec = PhaseSpec(
        id=phase.id,
        digest="",
        needs=tuple(dict.fromkeys(name for name in phase.wait_for if name not in external)),
        external=tuple(dict.fromkeys(name for name in phase.wait_for if name in external)),
        description=phase.description or None,
        labels=dict(phase.match_labels),
        kind=phase.run.kind if phase.run else None,
        run=msgspec.Raw(msgspec.json.encode(phase.run.to_json())) if phase.run else msgspec.UNSET,
        capabilities=tuple(sorted(set(phase.required_capabilities))),
        on_use=phase.instance_mode == "onUse",
        wait_timeout_ms=phase.wait_timeout_ms,
        timeout_ms=phase.timeout_ms,
        schedule_to_start_ms=phase.schedule_to_start_ms,
        schedule_to_close_ms=phase.schedule_to_close_ms,
        heartbeat_ms=phase.heartbeat_ms,
        max_attempts=phase.max_attempts,
        backoff=_backoff(phase),
        priority=phase.priority,
        on_failure=FailureAction(phase.on_failure.action or "raise")
        if phase.on_failure
        else FailureAction.RAISE,
        failure=_handler(phase.on_failure),
        success=_handler(phase.on_success),
        trigger=TriggerRule(phase.trigger),
        when=phase.when,
        templated=phase.run is not None and is_templated(phase.run),
        outputs=phase.outputs,
        concurrency=Concurrency(key=phase.concurrency.key, max=phase.concurrency.max)
        if phase.concurrency
        else None,
        uses=used_phases(phase),
        foreach=_foreach(phase.foreach),
        cache=Cache(key=phase.cache.key, max_age_ms=phase.cache.max_age_ms) if phase.cache else None,
        placement=placement_rules(phase),
    )
    digest = hashlib.sha256(_encoder.encode([spec, phase.extensions])).hexdigest()
    return msgspec.structs.replace(spec, digest=digest)


def _backoff(phase: schemas.Phase) -> Backoff:
    given = phase.retry_backoff
    found = Backoff(
        initial_ms=given.initial_ms, factor=given.factor, max_ms=given.max_ms, jitter=given.jitter
    )
    return DEFAULT_BACKOFF if found == DEFAULT_BACKOFF else found


def _foreach(given: schemas.Foreach | None) -> Foreach | None:
    if given is None:
        return None
    items = given.items if isinstance(given.items, str) else list(given.items)
    return Foreach(items=msgspec.Raw(_encoder.encode(items)), parallel=given.parallel)


def _handler(handler: schemas.Handler | None) -> Handler | None:
    if handler is None:
        return None
    return Handler(message=tuple(handler.message), labels=dict(handler.labels), notify=dict(handler.notify))


def _target_problem(loaded: schemas.Loaded, target: str) -> schemas.Problem:
    """Of a target phase that was asked for from outside the manifest."""
    from planter_schemas.problems import shown  # noqa: PLC0415  (as all of that package: only for the long way)
    from planter_schemas.references import Lookalikes  # noqa: PLC0415

    assert loaded.manifest is not None
    message = f"target phase {shown(target)} does not exist"
    close = Lookalikes([phase.id for phase in loaded.manifest.phases]).of(target)
    hint = f"did you mean {shown(close)}?" if close is not None else "`planter graph` shows the phases"
    return loaded.problem((), "PLT-1206", message, label="no phase with this id", hint=hint)


def _cycle_problem(loaded: schemas.Loaded, cycle: list[str]) -> schemas.Problem:
    """Placed at the edge that closes the circle, as it stands in the manifest."""
    assert loaded.manifest is not None
    first, second = cycle[0], cycle[1 % len(cycle)]
    phase = next(phase for phase in loaded.manifest.phases if phase.id == first)
    circle = " -> ".join([*cycle, first])
    return loaded.problem(
        loaded.path_of_wait(first, phase.wait_for.index(second)),
        "PLT-1204",
        f"phases wait for each other in a circle: {circle}",
        label="this closes the circle",
        hint="remove one of these waits",
    )
