"""Control commands in every situation: given twice, refused with a reason, crossed by reports."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from planter.core import inputs as i
from planter.core.plan import Backoff
from planter.core.status import SESSION_TERMINAL
from planter_protocol.codec import timestamp
from planter_protocol.messages import Commit
from planter_testkit.builders import World, phase, picture, plan, runtime
from planter_testkit.checker import judge

VERBS = ["pause", "resume", "cancel", "retry", "skip", "rerun"]
PHASES = [None, "a", "b", "unknown"]
CHAIN = plan(phase("a", max_attempts=2, backoff=Backoff(initial_ms=1_000, jitter=0.0)), phase("b", "a"))


def started(*, slots: int = 4) -> World:
    world = World(runtime(slots=slots))
    world.start(CHAIN)
    return world


def after(*steps: Callable[[World], Any]) -> Callable[[], World]:
    def situation() -> World:
        world = started()
        for step in steps:
            step(world)
        return world

    return situation


def fail_for_good(world: World) -> None:
    world.fail("a", retryable=False)


SITUATIONS: dict[str, Callable[[], World]] = {
    "no session": lambda: World(runtime()),
    "ready": lambda: started(slots=0),
    "targeted": started,
    "running": after(lambda w: w.running("a")),
    "backing off": after(lambda w: w.fail("a")),
    "half done": after(lambda w: w.complete("a")),
    "paused": after(lambda w: w.command("pause")),
    "cancelling": after(lambda w: w.command("cancel")),
    "failed": after(fail_for_good),
    "complete": after(lambda w: w.run_out()),
    "cancelled": after(lambda w: w.command("cancel"), lambda w: w.pass_time(30_000)),
    "replanned": after(lambda w: w.replan(plan(phase("a", digest="edited"), phase("b", "a")))),
}


def hold(world: World) -> None:
    """The judge finds nothing, and the journal gives the state."""
    commits: list[tuple[int, Commit]] = []
    for number, (sequence, at, events, taken) in enumerate(world.journal, start=1):
        record = {"v": 1, "n": number, "at": timestamp(at), "by": "test", "inputs": taken, "events": events}
        commits.append((sequence, msgspec.json.decode(msgspec.json.encode(record), type=Commit)))
    judge("test", commits, {})
    assert picture(world.replayed()) == picture(world.session)


def answers(events: Iterable[Any], number: int) -> list[Any]:
    """Events that answer the input."""
    return [event for event in events if getattr(event, "input", None) == number]


@pytest.mark.parametrize("phase_id", PHASES)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_command_given_twice_acts_once_and_every_refusal_says_why(
    situation: str, verb: str, phase_id: str | None
) -> None:
    world = SITUATIONS[situation]()
    first = world.command(verb, phase_id)
    second = world.command(verb, phase_id)

    assert first.events  # an answer, or what was done
    (answer,) = answers(second.events, world.inputs)
    assert len(second.events) == 1
    for event in (*answers(first.events, world.inputs - 1), answer):
        if type(event).__name__ == "InputRefused":
            assert event.code.partition(".")[0] in ("session", "phase")
            assert len(event.text) > 20
    hold(world)


def reports(world: World, name: str) -> list[i.AnyInput]:
    echo = world.echo(name)
    return [
        i.ReportComplete(**echo),
        i.ReportFailed(**echo, message="broken", retryable=False),
        i.ReportFailed(**echo, message="broken"),
        i.ReportCancelled(**echo),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("is_first", [True, False], ids=["command-first", "report-first"])
@pytest.mark.parametrize("phase_id", ["a", "b"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_that_crosses_a_report_leaves_a_session_that_comes_to_its_end(
    verb: Any, phase_id: str, is_first: bool, kind: int
) -> None:
    world = started()
    world.running("a")
    report = reports(world, "a")[kind]
    command = i.Command(sequence=world._number(), verb=verb, phase_id=phase_id)

    world.step(*((command, report) if is_first else (report, command)))
    hold(world)
    world.command("resume")
    for _ in range(6):
        world.pass_time(31_000)
        world.run_out()

    assert world.session.status in SESSION_TERMINAL
    hold(world)


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("is_first", [True, False], ids=["replan-first", "report-first"])
@pytest.mark.parametrize("wanted", ["same", "edited", "without"])
def test_a_replan_that_crosses_a_report_leaves_a_session_that_comes_to_its_end(
    wanted: str, is_first: bool, kind: int
) -> None:
    world = started()
    world.running("a")
    report = reports(world, "a")[kind]
    specs = {
        "same": [CHAIN.phases[0], phase("b", "a", digest="edited")],
        "edited": [phase("a", digest="edited"), phase("b", "a")],
        "without": [phase("c")],
    }
    start = i.StartPlan(sequence=world._number(), plan=plan(*specs[wanted]), replan=True)

    world.step(*((start, report) if is_first else (report, start)))
    hold(world)
    for _ in range(6):
        world.pass_time(31_000)
        world.run_out()

    assert world.session.status in SESSION_TERMINAL
    assert not world.session.stopping
    hold(world)
