"""A session's state as plain data, and back: so that a long journal need not be folded from its beginning.

``restore(take(session))`` followed by the rest of the journal is the same as folding all of it. Only what the
journal determines is in it: soft fields begin anew, as after a fold. What follows from the phases is computed
when it is restored. The plan is not in it either: it stands in the journal.

Phases are stored by column, every field of ``PhaseState`` by its name, whichever there are: a snapshot with
other fields is not ours to read. It is a cache; whoever cannot use one folds the journal.
"""

from heapq import heapify
from operator import attrgetter
from typing import Any

import msgspec

from planter.core.counting import count_in, occupy
from planter.core.events import HandlerCalled
from planter.core.graph import Graph
from planter.core.items import Slot, slots, with_slots
from planter.core.plan import PhaseSpec
from planter.core.session import PhaseState, Session, Stopping
from planter.core.status import PHASE_OPEN, PhaseStatus, SessionStatus

VERSION = 3
_FIELDS = msgspec.structs.fields(PhaseState)
_NAMES = tuple(field.name for field in _FIELDS)
_JSON = frozenset(field.name for field in _FIELDS if field.default is msgspec.UNSET)
_NAMES_BEFORE_GATES = tuple(name for name in _NAMES if name != "gate")
"""Of snapshots that were taken before there were gates: no phase of theirs is one."""


class Snapshot(msgspec.Struct, frozen=True):
    """The state after one commit."""

    version: int
    id: str
    #: Which record it includes last.
    sequence: int
    record: str
    commits: int
    #: Of the plan, and where in the journal it stands; None and 0 before the first.
    plan_digest: str | None
    plan_at: int
    status: SessionStatus
    reason: str | None
    revision: int
    failing: str | None
    cancelling: bool
    paused_at: int
    created: int
    updated: int
    cancel_due: int
    stopping: dict[str, Stopping]
    stop_due: int
    arrivals: int
    known: list[str]
    #: Sorted, each as its distance from the one before.
    taken: list[int]
    ready: list[list[tuple[int, int, int]]]
    timers: list[tuple[int, int]]
    to_demand: list[tuple[int, int]]
    to_settle: list[int]
    #: Field of ``PhaseState`` to its value for each phase; JSON as bytes, None when there is none.
    phases: dict[str, list[Any]]
    untold: list[HandlerCalled] = []
    calls: int = 0
    aside: bytes = b""
    """JSON: pairs of what the plan had of a phase and its state."""
    items: list[Slot] = []


def take(session: Session) -> Snapshot | None:
    """The state of a session between two steps; None when there is nothing to keep."""
    if session.commits == 0 or session.tombstone:
        return None
    return Snapshot(
        version=VERSION,
        id=session.id,
        sequence=session.sequence,
        record=session.record,
        commits=session.commits,
        plan_digest=session.plan_digest,
        plan_at=session.plan_at,
        status=session.status,
        reason=session.reason,
        revision=session.revision,
        failing=session.failing,
        cancelling=session.cancelling,
        paused_at=session.paused_at,
        created=session.created,
        updated=session.updated,
        cancel_due=session.cancel_due,
        stopping=session.stopping,
        stop_due=session.stop_due,
        arrivals=session.arrivals,
        known=sorted(session.known),
        taken=_distances(session.taken),
        ready=session.ready,
        timers=sorted({entry for entry in session.timers if session.is_set(*entry)}),
        to_demand=session.to_demand,
        to_settle=list(session.to_settle),
        phases={name: _column(session, name) for name in _NAMES},
        untold=list(session.untold.values()),
        calls=session.calls,
        aside=msgspec.json.encode(list(session.aside.values())) if session.aside else b"",
        items=slots(session.graph),
    )


def restore(session: Session, snapshot: Snapshot, graph: Graph) -> None:
    """Make a new session what it was when the snapshot was taken.

    Args:
        session: nothing may have been folded into it yet.
        snapshot: of this session; the caller has made sure that the journal has its record.
        graph: of the plan that the snapshot names.

    Raises:
        ValueError: the snapshot does not fit this session, this plan or this version.
    """
    names = tuple(snapshot.phases)
    if snapshot.version != VERSION or names not in (_NAMES, _NAMES_BEFORE_GATES):
        raise ValueError("another version of Planter has taken it")
    if snapshot.id != session.id or (graph.plan.digest or None) != snapshot.plan_digest:
        raise ValueError(f"it is of session {snapshot.id} and plan {snapshot.plan_digest}")
    if snapshot.items:
        graph = with_slots(graph.plan, snapshot.items)
    phases = [PhaseState(*row) for row in zip(*_columns(snapshot), strict=True)]
    if len(phases) != len(graph.plan.phases):
        raise ValueError(f"it has {len(phases)} phases, the plan has {len(graph.plan.phases)}")
    session.phases = phases
    session.graph = graph
    session.status = snapshot.status
    session.reason = snapshot.reason
    session.revision = snapshot.revision
    session.failing = snapshot.failing
    session.cancelling = snapshot.cancelling
    session.paused_at = snapshot.paused_at
    session.created = snapshot.created
    session.updated = snapshot.updated
    session.cancel_due = snapshot.cancel_due
    session.stopping = snapshot.stopping
    session.stop_due = snapshot.stop_due
    session.arrivals = snapshot.arrivals
    session.known = set(snapshot.known)
    session.aside = {spec.id: (spec, phase) for spec, phase in _pairs(snapshot.aside)}
    session.taken = _sums(snapshot.taken)
    session.ready = snapshot.ready
    session.timers = snapshot.timers
    heapify(session.timers)
    session.to_demand = snapshot.to_demand
    session.to_settle = dict.fromkeys(snapshot.to_settle)
    session.untold = {called.number: called for called in snapshot.untold}
    session.calls = snapshot.calls
    session.plan_at = snapshot.plan_at
    session.sequence = snapshot.sequence
    session.record = snapshot.record
    session.commits = snapshot.commits
    session.looking = {
        index: False
        for index, phase in enumerate(phases)
        if phase.status is PhaseStatus.READY and not phase.not_before and phase.wants_earlier
    }
    _derive(session)


def _derive(session: Session) -> None:
    """What follows from the phases."""
    session.counts = dict.fromkeys(PhaseStatus, 0)
    session.unmet = [0] * len(session.phases)
    for index, phase in enumerate(session.phases):
        session.counts[phase.status] += 1
        if not phase.satisfies:
            for dependent in session.graph.dependents[index]:
                session.unmet[dependent] += 1
        if phase.status not in PHASE_OPEN:
            continue
        occupy(session, index)
        if phase.stands:
            continue
        if phase.instance is None:
            session.offered.add(index)
        elif phase.runtime_id is not None:
            session.load[phase.runtime_id] = session.load.get(phase.runtime_id, 0) + session.spec(index).slots
    for name, one in session.stopping.items():
        count_in(session, one.key)
        if name in session.graph.index:
            session.unmet[session.graph.index[name]] += 1
        if one.instance is not None and one.runtime_id is not None:
            session.load[one.runtime_id] = session.load.get(one.runtime_id, 0) + one.slots
    for name, waiters in session.graph.waiters.items():
        if name not in session.known:
            for index in waiters:
                session.unmet[index] += 1


def _pairs(data: bytes) -> list[tuple[PhaseSpec, PhaseState]]:
    return _aside_decoder.decode(data) if data else []


def _columns(snapshot: Snapshot) -> list[list[Any]]:
    """The values of each field, as they were."""
    found: list[list[Any]] = []
    for field in _FIELDS:
        column = snapshot.phases.get(field.name)
        if column is None:
            column = [None] * len(found[0])
        if field.name in _JSON:
            found.append([msgspec.UNSET if value is None else msgspec.Raw(value) for value in column])
        else:
            found.append(msgspec.convert(column, list[field.type]))
    return found


def _column(session: Session, name: str) -> list[Any]:
    """The values of a field, as they are stored."""
    values = list(map(attrgetter(name), session.phases))
    if name not in _JSON:
        return values
    return [None if value is msgspec.UNSET else bytes(value) for value in values]


def _distances(numbers: set[int]) -> list[int]:
    ordered = sorted(numbers)
    return [number - before for number, before in zip(ordered, [0, *ordered], strict=False)]


def _sums(distances: list[int]) -> set[int]:
    found: set[int] = set()
    number = 0
    for distance in distances:
        number += distance
        found.add(number)
    return found


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)
_aside_decoder = msgspec.json.Decoder(list[tuple[PhaseSpec, PhaseState]])


def encode(snapshot: Snapshot) -> bytes:
    """As bytes (msgpack)."""
    return _encoder.encode(snapshot)


def decode(data: bytes) -> Snapshot:
    """From bytes.

    Raises:
        ValueError: they are not a snapshot (``msgspec.DecodeError`` is one).
    """
    return _decoder.decode(data)
