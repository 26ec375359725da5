"""Random histories: whatever comes, in whatever order, an independent checker finds the journal true."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planter.core.status import SESSION_TERMINAL
from planter_protocol.codec import timestamp
from planter_protocol.messages import Commit
from planter_testkit.builders import World, picture
from planter_testkit.checker import Verdict, judge
from planter_testkit.histories import play, work_off


def verdict(world: World) -> Verdict:
    """What the independent judge says of the world's journal."""
    commits: list[tuple[int, Commit]] = []
    for number, (sequence, at, events, taken) in enumerate(world.journal, start=1):
        record: dict[str, Any] = {"v": 1, "n": number, "at": timestamp(at), "by": "test", "inputs": taken}
        data = msgspec.json.encode({**record, "events": events})
        commits.append((sequence, msgspec.json.decode(data, type=Commit)))
    return judge("test", commits, {})


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_random_histories_keep_the_invariants_and_replay_to_the_same_state(seed: int) -> None:
    world = play(seed)

    verdict(world)
    assert picture(world.replayed()) == picture(world.session)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_every_history_comes_to_an_end_by_itself_once_all_work_is_done(seed: int) -> None:
    world = play(seed)

    work_off(world)

    assert world.session.status in SESSION_TERMINAL or not world.session.revision
    assert verdict(world).status in (world.session.status, None)
    assert picture(world.replayed()) == picture(world.session)


@pytest.mark.parametrize("seed", range(30))
def test_every_history_can_be_brought_to_an_end(seed: int) -> None:
    world = play(seed)

    world.command("resume")
    world.command("cancel")
    world.pass_time(60_000)
    world.settle()

    assert world.session.status in SESSION_TERMINAL
    assert verdict(world).status == world.session.status
