"""Why a phase is not running: every condition that is not met, since when, and what would meet it.

A function of the session, the fleet and the time, as ``decide`` is. What the fleet is, and who rejected what
a moment ago, is what this planner has heard; all else is the journal's.
"""

from shlex import quote
from typing import NamedTuple

import msgspec

from planter.core.conditions import needs_ended
from planter.core.fleet import Fleet, slots_of
from planter.core.gate import Gate, asks, is_gate, listed
from planter.core.items import listed_items
from planter.core.placement import Preferred, Removed, no_match, preferences, sift, wish
from planter.core.plan import TriggerRule
from planter.core.session import PhaseState, Session
from planter.core.status import PHASE_TERMINAL, SESSION_TERMINAL, PhaseStatus, SessionStatus
from planter.core.step import full_limit, parallel_of

CONDITIONS_MAX = 50
GROUPS_MAX = 50
SAMPLE_MAX = 10


class Condition(NamedTuple):
    """One thing that keeps a phase from running."""

    code: str
    text: str
    since: int = 0
    """When it began, in milliseconds since 1970; 0: not known."""
    until: int = 0
    """When it ends by itself; 0: it does not, or nobody knows."""
    unblock: str = ""
    """What would end it."""
    phase_id: str | None = None
    """The phase that is waited for."""


class Placement(NamedTuple):
    """What becomes of the registered runtimes on the way to a choice."""

    considered: int
    removed: tuple[Removed, ...]
    free: int
    """Runtimes that could take the phase now."""
    preferred: tuple[Preferred, ...] = ()
    """Of the runtimes that match, full or not, the first in the order of the phase's affinities."""


class Explanation(NamedTuple):
    """Where one phase stands, and why."""

    phase_id: str
    status: PhaseStatus
    text: str
    since: int
    conditions: tuple[Condition, ...] = ()
    more: int = 0
    """Conditions that are not listed."""
    placement: Placement | None = None


class Group(msgspec.Struct, frozen=True):
    """Phases that do not run for the same reason."""

    code: str
    text: str
    count: int
    phases: tuple[str, ...]
    """The first of them."""
    since: int
    unblock: str
    placement: Placement | None = None


class Overview(NamedTuple):
    """Every phase that neither runs nor is done."""

    text: str
    groups: tuple[Group, ...]
    waiting: int
    """Phases in all groups, listed or not."""
    more: int
    """Groups that are not listed."""


def explain(session: Session, fleet: Fleet, index: int, now: int) -> Explanation:
    """Why the phase is not running; for one that runs or is done, that."""
    return _explain(session, fleet, index, now, _of_session(session))


def _explain(
    session: Session, fleet: Fleet, index: int, now: int, of_session: list[Condition]
) -> Explanation:
    spec, phase = session.spec(index), session.phases[index]
    found: list[Condition] = []
    placement = None
    if phase.status is PhaseStatus.PENDING:
        found = [*of_session, *_pending(session, index)]
    elif phase.status is PhaseStatus.BACKING_OFF:
        found = [*of_session, _backing_off(session, index)]
    elif phase.status is PhaseStatus.READY and is_gate(spec):
        found = [*of_session, *_limited(session, index)]
    elif phase.gate is not None and phase.stands:
        found = [_standing(session, index, phase.gate)]
    elif phase.status is PhaseStatus.READY:
        placement, why = _placed(session, fleet, index, now)
        found = [*of_session, *why]
    elif phase.status is PhaseStatus.TARGETED:
        found = [_targeted(session, index)]
        if phase.instance is None and not phase.accepted:
            placement, why = _placed(session, fleet, index, now)
            found += [one for one in why if one.code == "placement.no_match"]
    text = _head(spec.id, phase)
    if session.may_start(index):
        found = [one for one in found if one.code != "session.failing"]
    if found:
        text = f"{text}: {'; '.join(one.text for one in found[:3])}"
    shown = tuple(found[:CONDITIONS_MAX])
    since = phase.since if phase.status in _WAITING and phase.since else phase.updated
    if phase.gate is not None and phase.stands:
        since = phase.gate.since
    return Explanation(spec.id, phase.status, text, since, shown, len(found) - len(shown), placement)


def overview(session: Session, fleet: Fleet, now: int) -> Overview:
    """All phases that neither run nor are done, grouped by what keeps them, most numerous first."""
    members: dict[tuple[str, int | str], list[int]] = {}
    roots: dict[int, int] = {}
    for index in session.graph.order:
        key = _key(session, index, roots)
        if key is not None:
            members.setdefault(key, []).append(index)
    ordered = sorted(members.items(), key=lambda item: -len(item[1]))
    of_session = _of_session(session)
    groups = tuple(
        _group(session, key[0], indices, roots, _explain(session, fleet, indices[0], now, of_session))
        for key, indices in ordered[:GROUPS_MAX]
    )
    waiting = sum(len(indices) for indices in members.values())
    text = "; ".join(one.text for one in of_session) or f"session {session.id} is {session.status}"
    return Overview(text, groups, waiting, len(ordered) - len(groups))


# -- one phase ---------------------------------------------------------------------------------

_WAITING = (PhaseStatus.PENDING, PhaseStatus.READY, PhaseStatus.TARGETED)


def _head(phase_id: str, phase: PhaseState) -> str:
    where = f" on {phase.runtime_id}" if phase.runtime_id else ""
    match phase.status:
        case PhaseStatus.RUNNING if phase.stands:
            return f"phase {phase_id} is waiting"
        case PhaseStatus.RUNNING:
            return f"phase {phase_id} is running: attempt {phase.attempt}{where}"
        case PhaseStatus.COMPLETE:
            if phase.reason:
                return f"phase {phase_id} is complete: {phase.reason}"
            return f"phase {phase_id} is complete: attempt {phase.attempt}{where}"
        case PhaseStatus.FAILED | PhaseStatus.SKIPPED | PhaseStatus.CANCELLED:
            return f"phase {phase_id} is {phase.status}: {phase.reason or 'no reason was given'}"
        case PhaseStatus.BACKING_OFF:
            return f"phase {phase_id} is backing off"
        case _:
            return f"phase {phase_id} is {phase.status}"


def _of_session(session: Session) -> list[Condition]:
    """What keeps every phase of the session from being started."""
    name = session.id
    if session.status in SESSION_TERMINAL:
        text = f"session {name} is over: {session.status}"
        return [Condition("session.ended", text, session.updated, unblock="apply a manifest to it again")]
    found: list[Condition] = []
    if session.cancelling:
        text = f"session {name} is being cancelled" + (f": {session.reason}" if session.reason else "")
        found.append(Condition("session.cancelling", text, until=session.cancel_due))
    if session.status is SessionStatus.PAUSED:
        text = f"session {name} is paused" + (f": {session.reason}" if session.reason else "")
        unblock = f"`planter control {name} resume`"
        found.append(Condition("session.paused", text, session.paused_at, unblock=unblock))
    if session.failing is not None:
        text = f"session {name} starts nothing more: {session.failing}"
        unblock = "retry or skip the failed phase, or replan"
        found.append(Condition("session.failing", text, _failed_at(session), unblock=unblock))
    return found


def _failed_at(session: Session) -> int:
    failed = [phase.updated for phase in session.phases if phase.status is PhaseStatus.FAILED]
    return min(failed, default=0)


def _pending(session: Session, index: int) -> list[Condition]:
    spec, phase = session.spec(index), session.phases[index]
    if phase.cleared:
        return _items(session, index)
    if (whole := session.graph.whole_of.get(index)) is not None:
        return _pending(session, whole)
    found: list[Condition] = []
    if spec.on_use and not phase.demanded:
        unblock = "a phase that needs it and waits for nothing else"
        text = "it is onUse, and nothing needs it yet"
        found.append(Condition("on_use.not_demanded", text, phase.since, unblock=unblock))
    if spec.trigger is TriggerRule.ALL_SUCCESS:
        unmet = [need for need in session.graph.needs[index] if not session.phases[need].satisfies]
    else:
        unmet = [
            need for need in session.graph.needs[index] if session.phases[need].status not in PHASE_TERMINAL
        ]
        ended = needs_ended(session, index)
        text = (
            f"x-trigger is {spec.trigger}: {ended.succeeded} of its needs succeeded, {ended.failed} failed, "
            f"{ended.skipped} were skipped, {ended.open} are open"
        )
        found.append(Condition("trigger.open", text, phase.since, unblock="the ends of its needs"))
    found += [_need(session, need) for need in unmet]
    for name in spec.external:
        if name not in session.known:
            text = f"waits for {name}, which is outside this manifest"
            unblock = f"a report that {name} is complete, on plan.session.{session.id}.state"
            found.append(Condition("external.unmet", text, phase.since, unblock=unblock, phase_id=name))
    stopping = session.stopping.get(spec.id)
    if stopping is not None:
        where = f" on {stopping.runtime_id}" if stopping.runtime_id else ""
        text = f"its attempt {stopping.attempt} by the plan of before still has to stop{where}"
        found.append(
            Condition("attempt.stopping", text, phase.since, stopping.due, "its runtime reports the end")
        )
    return found


def _items(session: Session, index: int) -> list[Condition]:
    """What a phase waits for whose list is known."""
    phase = session.phases[index]
    items = listed_items(session, index)
    still_open = [item for item in items if not session.phases[item].satisfies]
    text = f"{len(items) - len(still_open)} of its {len(items)} items have ended (x-foreach)"
    one = quote(session.spec(still_open[0] if still_open else index).id)
    unblock = f"the end of {len(still_open)} items; `planter explain {session.id} {one}` explains one"
    return [
        Condition("items.open", text, phase.since, unblock=unblock),
        *(_need(session, n) for n in still_open),
    ]


def _need(session: Session, need: int) -> Condition:
    spec, phase = session.spec(need), session.phases[need]
    text = f"waits for {spec.id}, which is {phase.status.replace('_', ' ')}"
    unblock = f"{spec.id} completes"
    if phase.status in (PhaseStatus.FAILED, PhaseStatus.CANCELLED, PhaseStatus.SKIPPED):
        unblock = f"`planter control {session.id} retry {spec.id}`, or skip it"
    return Condition("need.unmet", text, phase.updated, unblock=unblock, phase_id=spec.id)


def _backing_off(session: Session, index: int) -> Condition:
    spec, phase = session.spec(index), session.phases[index]
    text = f"attempt {phase.attempt} failed ({phase.reason or 'no reason'}), the next one waits for its time"
    unblock = f"time, or `planter control {session.id} retry {spec.id}`"
    return Condition("backing_off", text, phase.updated, phase.due, unblock)


def _targeted(session: Session, index: int) -> Condition:
    phase = session.phases[index]
    since = phase.updated
    if phase.queued:
        text = f"runtime {phase.runtime_id} has taken it, and has no slot free yet"
        return Condition("runtime.queued", text, since, unblock="a phase that runs there ends, or more slots")
    if phase.accepted:
        text = f"{phase.runtime_id or 'somebody'} has taken it, and has not said yet that it runs"
        return Condition("runtime.starting", text, since, unblock="its report")
    if phase.instance is not None:
        text = f"it is offered to runtime {phase.runtime_id}, which has not answered yet"
        return Condition("runtime.silent", text, since, phase.due, "its answer, or the end of its lease")
    text = f"it is offered openly on plan.session.{session.id}.target, and nobody has taken it"
    return Condition(
        "offered.openly", text, since, unblock="any client that takes it, or a runtime that matches"
    )


def _standing(session: Session, index: int, gate: Gate) -> Condition:
    """What a phase waits for that no runtime works on: time, or people."""
    name = session.spec(index).id
    if gate.kind == "wait":
        unblock = f"time, or `planter control {session.id} skip {quote(name)}`"
        return Condition("wait.open", "it waits for its time (x-run: wait)", gate.since, gate.due, unblock)
    who = listed(gate.approvers) if gate.approvers else "anybody who may send commands"
    text = f"{asks(gate)}; {who} may answer, {gate.needed} must approve"
    if gate.due:
        text += f"; else it {'fails' if gate.on_expiry == 'fail' else 'counts as approved'}"
    control, options = f"planter control {session.id}", " --by NAME" if gate.approvers else ""
    data = ""
    if outputs := session.spec(index).outputs:
        text += f"; the answers have to bring {', '.join(outputs)}"
        data = " --data JSON"
    unblock = (
        f"`{control} approve {quote(name)}{options}{data}`, or `{control} reject {quote(name)}{options}`"
    )
    return Condition("approval.open", text, gate.since, gate.due, unblock)


def _placed(session: Session, fleet: Fleet, index: int, now: int) -> tuple[Placement, list[Condition]]:
    """The way of the runtimes through the constraints, and what is missing at its end."""
    phase, wanted = session.phases[index], session.graph.groups[session.graph.group_of[index]]
    sifted = sift(fleet, wanted)
    if not sifted.left:
        text = no_match(fleet, wanted)
        unblock = f"a runtime with {wish(wanted)}"
        placement = Placement(sifted.considered, sifted.removed, 0)
        return placement, [Condition("placement.no_match", text, phase.since, unblock=unblock)]
    rejected = {
        runtime.id: until
        for runtime in sifted.left
        if (until := session.avoid.get((index, runtime.id), 0)) > now
    }
    cost = slots_of(wanted)
    free = [r for r in sifted.left if fleet.free_for(session.id, session.load, r) >= cost]
    able = [runtime for runtime in free if runtime.id not in rejected]
    removed = list(sifted.removed)
    if len(free) < len(sifted.left):
        removed.append(Removed("slots", len(sifted.left) - len(free), _no_room(cost)))
    if len(able) < len(free):
        removed.append(Removed("rejected", len(free) - len(able), "rejected it a moment ago"))
    preferred = preferences(sifted.left, wanted)[:SAMPLE_MAX]
    placement = Placement(sifted.considered, tuple(removed), len(able), preferred)
    why = _limited(session, index)
    if index in session.looking:
        text = "an earlier result of the same content is looked for (x-cache)"
        why.append(Condition("cache.asked", text, phase.since, unblock="the answer"))
    if not free:
        many = len(sifted.left)
        text = f"every slot of the {many} matching runtime{'s are' if many > 1 else ' is'} in use"
        if cost > 1:
            text = f"it takes {cost} slots, and no matching runtime (of {many}) has so many free"
        why.append(Condition("placement.no_slot", text, phase.since, unblock="a phase ends, or more slots"))
    elif not able:
        until = min(until for name, until in rejected.items() if any(r.id == name for r in free))
        text = f"every runtime that is free rejected it: {phase.reason or 'no reason'}"
        why.append(Condition("placement.rejected", text, phase.since, until, "time, or another runtime"))
    return placement, why


def _no_room(cost: int) -> str:
    return "have no free slot" if cost == 1 else f"have fewer than {cost} free slots"


def _limited(session: Session, index: int) -> list[Condition]:
    """What keeps the phase although runtimes would take it: its limit, or that it was deferred."""
    phase = session.phases[index]
    found: list[Condition] = []
    if (text := full_limit(session, index)) is not None:
        of_items = parallel_of(session, index) is not None
        unblock = f"one of them ends, or a higher `{'x-foreach.parallel' if of_items else 'max'}`"
        found.append(Condition("concurrency.full", text, phase.since, unblock=unblock))
    if phase.not_before:
        text = phase.reason or "its runtime deferred it"
        found.append(Condition("placement.deferred", text, phase.updated, phase.not_before, "time"))
    return found


# -- all phases --------------------------------------------------------------------------------


def _key(session: Session, index: int, roots: dict[int, int]) -> tuple[str, int | str] | None:
    """What phases of one group have in common; None for one that runs or is done."""
    spec, phase = session.spec(index), session.phases[index]
    match phase.status:
        case PhaseStatus.RUNNING if phase.gate is not None:
            return ("approval", index) if phase.gate.kind == "approval" else ("wait", phase.gate.due)
        case PhaseStatus.COMPLETE | PhaseStatus.RUNNING:
            return None
        case PhaseStatus.SKIPPED if phase.satisfies:
            return None
        case PhaseStatus.READY:
            return "ready", session.graph.group_of[index]
        case PhaseStatus.TARGETED if phase.instance is None and not phase.accepted:
            return "offered", session.graph.group_of[index]
        case PhaseStatus.TARGETED:
            return "targeted", f"{phase.runtime_id} {phase.accepted} {phase.queued}"
        case PhaseStatus.PENDING:
            return _pending_key(session, index, roots)
        case PhaseStatus.BACKING_OFF:
            return "backing_off", ""
        case PhaseStatus.FAILED | PhaseStatus.SKIPPED | PhaseStatus.CANCELLED:
            return phase.status.value, phase.reason or spec.id


def _pending_key(session: Session, index: int, roots: dict[int, int]) -> tuple[str, int | str]:
    """By the phase that all this waits for in the end, through however many others."""
    spec, phase = session.spec(index), session.phases[index]
    if spec.id in session.stopping:
        return "stopping", ""
    if phase.cleared:
        return "items", index
    if spec.on_use and not phase.demanded:
        return "on_use", ""
    for need in session.graph.needs[index]:
        if not session.phases[need].satisfies:
            roots[index] = roots.get(need, need)
            return "need", roots[index]
    outside = next((name for name in spec.external if name not in session.known), "")
    return "external", outside


def _group(
    session: Session, code: str, indices: list[int], roots: dict[int, int], first: Explanation
) -> Group:
    text = "; ".join(one.text for one in first.conditions) or first.text
    unblock = "; ".join(one.unblock for one in first.conditions if one.unblock)
    if code == "need":
        root = _need(session, roots[indices[0]])
        text, unblock = f"{root.text}, directly or through others".replace("waits", "wait"), root.unblock
    elif code == "backing_off":
        text, unblock = "an attempt failed, the next one waits for its time", "time, or retry"
    names = tuple(session.spec(index).id for index in indices[:SAMPLE_MAX])
    since = min(session.phases[index].since or session.phases[index].updated for index in indices)
    return Group(code, text, len(indices), names, since, unblock, first.placement)
