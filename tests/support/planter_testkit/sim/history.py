"""One seed, one history: play it, let it settle, judge it."""

import gc
import logging
import random
import sys
import zlib
from dataclasses import dataclass, field
from typing import Any

import structlog

import planter.shell.clock
import planter.shell.journal
import planter.shell.partitions
import planter.shell.retention
import planter.shell.snapshots
import planter_protocol.names
import planter_runtime.agent
import planter_runtime.phase_log
from planter_protocol import assets
from planter_testkit.sim.judging import asking, has_settled, is_listed, paused, violations
from planter_testkit.sim.loop import PROCESS, Stalled, VirtualLoop
from planter_testkit.sim.scenario import WALL_CLOCK, Scenario
from planter_testkit.sim.world import PARTITIONS, World

SETTLE_SECONDS = 200.0
"""After the last fault every session must be over within this time; Planter's longest grace is a minute."""
LOSS_SECONDS = 30.0
"""Where the key is lost that reports are signed with, sessions may never end."""
_LOOKS_SECONDS = 0.5
_LOOKS_QUIET = 3
_RESUME_SECONDS = 5.0
_LOOKS_WATCHED = 30
"""A watcher whose read is lost asks again after five seconds."""


@dataclass
class History:
    """What one seed gave."""

    seed: int
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    seconds: float = 0.0
    commits: int = 0
    executions: int = 0
    digest: int = 0


class _Time:
    """Stands in for the module ``time``."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time_ns(self) -> int:
        process = PROCESS.get()
        skew = process.skew_ms if process is not None else 0
        return int((WALL_CLOCK + self._loop.now) * 1e9) + skew * 1_000_000

    def time(self) -> float:
        return self.time_ns() / 1e9

    def clock_gettime_ns(self, _: int) -> int:
        return self.monotonic_ns()

    def monotonic_ns(self) -> int:
        return int(self._loop.now * 1e9)

    def monotonic(self) -> float:
        return self._loop.now


class _Secrets:
    """Stands in for the module ``secrets``."""

    def __init__(self, draw: random.Random) -> None:
        self.choice = draw.choice
        self.token_bytes = draw.randbytes


class _Log:
    """Errors that Planter logs are violations; everything is in the trace when it is asked for."""

    def __init__(self) -> None:
        self.world: World | None = None

    def __call__(self, _: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        if self.world is not None:
            process = PROCESS.get()
            text = f"{process.name if process else '-'}: {method} {event.pop('event')} {event}"
            if method in ("error", "critical", "exception") or event.get("exc_info"):
                error = sys.exc_info()[1]
                text += f" {type(error).__name__}: {error}"
                if "connection.blind" not in text:
                    self.world.seen_wrong.append(f"logged: {text}")
            self.world.note(text)
        raise structlog.DropEvent


_log = _Log()


def configure(*, verbose: bool) -> None:
    """Once a process: put the virtual world under Planter's feet."""
    level = logging.DEBUG if verbose else logging.ERROR
    structlog.configure(processors=[_log], wrapper_class=structlog.make_filtering_bound_logger(level))
    logging.disable(logging.CRITICAL)
    planter.shell.retention.SWEEP_SECONDS = 1.0
    planter.shell.snapshots.RECORDS = planter.shell.journal.RECORDS = 3  # histories are short
    planter.shell.partitions.PARTITIONS = PARTITIONS
    assets.PARTITIONS = PARTITIONS
    sys.unraisablehook = lambda _: None  # generators of processes that were killed
    gc.collect()
    gc.freeze()
    gc.disable()  # so that nothing is finalized at a moment that the seed does not know


def play(seed: int) -> History:
    """The history of a seed."""
    draw = random.Random(seed)
    loop = VirtualLoop()
    clock: Any = _Time(loop)
    for module in (planter.shell.clock, planter_runtime.agent, planter_runtime.phase_log):
        module.time = clock  # type: ignore[attr-defined]
    planter_protocol.names.secrets = _Secrets(random.Random(draw.random()))  # type: ignore[attr-defined]
    inner, replicated, sync_always = random.Random(draw.random()), draw.random() < 0.4, draw.random() < 0.85
    world = World(loop, inner, replicated=replicated, sync_always=sync_always)
    scenario = Scenario(world, draw)
    history = History(seed)
    _log.world = world
    world.slots = (1,) if scenario.is_crowded else (1, 2, 4)
    try:
        loop.run_until_complete(_tell(world, scenario))
        history.violations = violations(world, scenario)
    except Stalled as error:
        history.violations = [*world.seen_wrong, f"stalled: {error}"]
    finally:
        history.seconds = loop.now - 1_000
        world.end()
        _log.world = None
    history.trace = world.trace
    history.executions = len(world.executions)
    journal = world.server.streams[assets.JOURNAL]
    history.commits = len(journal.messages)
    for kept in journal.messages.values():
        history.digest = zlib.crc32(kept.data, zlib.crc32(kept.subject.encode(), history.digest))
    return history


async def _tell(world: World, scenario: Scenario) -> None:
    loop = world.loop
    scenario.begin()
    while loop.now < scenario.until:  # a fault may put its end on the calendar
        await _sleep(loop, scenario.until - loop.now + 0.01)
    scenario.calm()
    scenario.resume(paused(world))
    scenario.answer(asking(world))
    deadline = loop.now + (LOSS_SECONDS if world.has_lost_key else SETTLE_SECONDS)
    quiet, resume_at = 0, loop.now + _RESUME_SECONDS
    while loop.now < deadline and quiet < (_LOOKS_WATCHED if scenario.watched else _LOOKS_QUIET):
        await _sleep(loop, _LOOKS_SECONDS)
        quiet = quiet + 1 if has_settled(world, scenario) else 0
        if quiet >= _LOOKS_QUIET and not is_listed(world):
            quiet = 0
        if loop.now > resume_at:
            scenario.resume(paused(world))
            scenario.answer(asking(world))
            if world.has_lost:
                scenario.look()
            resume_at = loop.now + _RESUME_SECONDS


async def _sleep(loop: VirtualLoop, seconds: float) -> None:
    future = loop.create_future()
    loop.call_at(loop.now + seconds, future.set_result, None)
    await future
