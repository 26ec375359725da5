"""What applying another plan would do, phase by phase: the answer to ``diff``, by the rule that does it."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from planter.core.graph import Graph
from planter.core.items import is_busy
from planter.core.plan import PhaseSpec
from planter.core.replan import Cause, Fate, fates, is_out
from planter.core.session import PhaseState, Session
from planter.core.status import PHASE_OPEN, SESSION_ACTIVE, PhaseStatus


class Action(StrEnum):
    """What happens to one phase; several may happen, in this order."""

    KEEP = "keep"
    CANCEL = "cancel"
    """Its attempt is out, and is stopped."""
    DROP = "drop"
    """The new plan has no such phase."""
    ADD = "add"
    UPDATE = "update"
    """Its definition changes."""
    RERUN = "rerun"
    """It runs again: it has run before, or was to."""


class Change(NamedTuple):
    """What becomes of one phase."""

    phase_id: str
    actions: tuple[Action, ...]
    cause: Cause | None = None
    root: str | None = None
    """The phase with which this begins, when that is another one."""
    root_cause: Cause | None = None
    before: PhaseSpec | None = None
    after: PhaseSpec | None = None
    state: PhaseState | None = None
    """Where it stands now."""
    renamed: str | None = None
    """A phase with the same content that comes (of one that is dropped) or goes (of one that is added)."""


class Difference(NamedTuple):
    """The whole of it."""

    live: bool
    """The session is running or paused: applying this is a replan."""
    changes: tuple[Change, ...]
    """Every phase of the new plan in its order, then those that go, in the order of the old one."""

    @property
    def counts(self) -> dict[Action, int]:
        """Phases by action; one phase may count under several."""
        found = dict.fromkeys(Action, 0)
        for change in self.changes:
            for action in change.actions:
                found[action] += 1
        return found

    @property
    def is_empty(self) -> bool:
        """Whether nothing would happen."""
        return all(change.actions == _KEEP for change in self.changes)


def difference(session: Session | None, graph: Graph) -> Difference:
    """Compare a plan with what the session has applied, done and under way."""
    if session is None or not session.revision:
        added = tuple(Change(spec.id, _ADD, Cause.ADDED, after=spec) for spec in graph.plan.phases)
        return Difference(live=False, changes=added)
    live = session.status in SESSION_ACTIVE
    if live and session.plan_digest == graph.plan.digest:
        found = [Fate()] * len(graph.plan.phases)  # it executes this: a start would only be repeated
    else:
        found = fates(session, graph, live=live)
    changes = [_change(session, graph, number, found) for number in range(len(found))]
    for index, (spec, phase) in enumerate(zip(session.graph.plan.phases, session.phases, strict=True)):
        if spec.id not in graph.index and index not in session.graph.whole_of:
            out = is_out(phase) or is_busy(session, index)
            actions = (Action.CANCEL, Action.DROP) if out else (Action.DROP,)
            changes.append(Change(spec.id, actions, before=spec, state=phase))
    return Difference(live, tuple(_with_renames(changes)))


_KEEP = (Action.KEEP,)
_ADD = (Action.ADD,)


def _change(session: Session, graph: Graph, number: int, found: list[Fate]) -> Change:
    spec, fate = graph.plan.phases[number], found[number]
    at = session.graph.index.get(spec.id)
    if at is None:
        return Change(spec.id, _ADD, Cause.ADDED, after=spec)
    before, phase = session.spec(at), session.phases[at]
    root = graph.plan.phases[fate.root].id if fate.cause is Cause.DEPENDS else None
    return Change(
        spec.id,
        _actions(fate, phase, out=is_out(phase) or is_busy(session, at)),
        fate.cause,
        root,
        found[fate.root].cause if fate.cause is Cause.DEPENDS else None,
        before,
        spec,
        phase,
    )


def _actions(fate: Fate, phase: PhaseState, *, out: bool) -> tuple[Action, ...]:
    if fate.keeps:
        return _KEEP
    actions: list[Action] = [Action.CANCEL] if out else []
    if fate.cause is Cause.CHANGED:
        actions.append(Action.UPDATE)
        if has_run(phase) or phase.items:
            actions.append(Action.RERUN)
    else:
        actions.append(Action.RERUN)
    return tuple(actions)


def has_run(phase: PhaseState) -> bool:
    """Whether there is anything of it that running it again would repeat."""
    is_waiting = phase.status in (PhaseStatus.PENDING, PhaseStatus.READY)
    return not is_waiting and not (phase.status in PHASE_OPEN and not is_out(phase))


def _with_renames(changes: Iterable[Change]) -> list[Change]:
    """A phase that goes and one that comes with the same content are probably one with a new name."""
    found = list(changes)
    gone: dict[object, list[int]] = {}
    for number, change in enumerate(found):
        if change.after is None and change.before is not None:
            gone.setdefault(_content(change.before), []).append(number)
    if not gone:
        return found
    for number, change in enumerate(found):
        if change.actions == _ADD and change.after is not None:
            same = gone.get(_content(change.after))
            if same:
                other = same.pop(0)
                found[number] = change._replace(renamed=found[other].phase_id)
                found[other] = found[other]._replace(renamed=change.phase_id)
    return found


def _content(spec: PhaseSpec) -> object:
    """Everything but its name, and the digest that includes the name."""
    return _encoder.encode(msgspec.structs.replace(spec, id="", digest=""))


_encoder = msgspec.json.Encoder(order="deterministic")
