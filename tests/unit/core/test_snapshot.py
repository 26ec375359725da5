"""A snapshot and the rest of the journal give what the whole journal gives, wherever it is cut."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planter.core import Session, decide
from planter.core.evolve import apply
from planter.core.graph import EMPTY
from planter.core.session import PhaseState
from planter.core.snapshot import Snapshot, decode, encode, restore, take
from planter_testkit.builders import World, bare, diamond, picture, runtime
from planter_testkit.histories import play, random_input

SOFT = {"avoid", "declined", "heard", "listening_since", "looking", "telling"} | {
    "timers",
    "ready",
    "phases",
    "graph",
}
"""Not journalled, or compared in another way."""


def fold(session: Session, world: World, start: int, end: int | None = None) -> Session:
    """The commits of a world's journal, folded into the session."""
    for sequence, at, events, taken in world.journal[start:end]:
        for event in events:
            apply(session, event, at)
        session.taken.update(taken)
        session.seal(sequence)
    return session


def copied(session: Session) -> Session:
    """Through bytes and back."""
    taken = take(session)
    assert taken is not None
    found = Session(session.id)
    restore(found, decode(encode(taken)), bare(session.graph))
    return found


def everything(session: Session) -> dict[str, Any]:
    """All that a session has, apart from what begins anew after a fold."""
    found = {name: value for name, value in vars(session).items() if name not in SOFT}
    found["phases"] = [
        [
            bytes(v) if isinstance(v := getattr(phase, name), msgspec.Raw) else v
            for name in phase.__struct_fields__
        ]
        for phase in session.phases
    ]
    found["ready"] = [sorted(heap) for heap in session.ready]
    found["timers"] = sorted({entry for entry in session.timers if session.is_set(*entry)})
    return found


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_at_every_cut_a_snapshot_and_the_tail_are_the_whole_journal(seed: int) -> None:
    world = play(seed)
    whole = fold(Session("test"), world, 0)
    session = Session("test")
    for cut in range(1, len(world.journal) + 1):
        fold(session, world, cut - 1, cut)
        if session.tombstone:
            break
        found = copied(session)
        assert everything(found) == everything(session)
        assert everything(fold(found, world, cut)) == everything(whole)
        assert picture(found) == picture(whole)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_decided_after_a_snapshot_is_what_is_decided_after_a_fold(seed: int) -> None:
    world = play(seed)
    folded = fold(Session("test"), world, 0)
    if folded.tombstone:
        return
    restored = copied(folded)
    draw = random.Random(seed)
    world.session = folded
    inputs = [one for one in (random_input(draw, world, []) for _ in range(5)) if one is not None]
    for now in (world.now, world.now + 10_000, world.now + 100_000):
        one = decide(folded, inputs, now, world.fleet)
        other = decide(restored, inputs, now, world.fleet)
        assert one.events == other.events
        assert one.effects == other.effects
        for session in (folded, restored):
            session.seal(session.sequence + 1)


def test_every_field_of_a_phase_is_stored() -> None:
    """Whoever adds a field need not think of snapshots."""
    world = World(runtime())
    world.start(diamond())

    taken = take(world.session)

    assert taken is not None
    assert tuple(taken.phases) == PhaseState.__struct_fields__


def test_a_session_without_commits_has_no_snapshot() -> None:
    assert take(Session("s")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"id": "other"},
        {"plan_digest": "sha256:other"},
        {"phases": {}},
        {"phases": {name: [] for name in PhaseState.__struct_fields__}},
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    world = World(runtime())
    world.start(diamond())
    taken = take(world.session)
    assert isinstance(taken, Snapshot)

    with pytest.raises(ValueError, match=r"it (is|has)|another"):
        restore(Session("test"), msgspec.structs.replace(taken, **change), world.session.graph)


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    for data in (b"", b"\x80", b"{}", encode(take_of_a_diamond())[:-3]):
        with pytest.raises(ValueError):  # noqa: PT011  (its text is msgspec's)
            decode(data)


def take_of_a_diamond() -> Snapshot:
    """A snapshot."""
    world = World(runtime())
    world.start(diamond())
    taken = take(world.session)
    assert taken is not None
    assert world.session.graph is not EMPTY
    return taken
