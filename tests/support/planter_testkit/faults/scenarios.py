"""Every scenario by name, with its full figure and the one that fits into ``make test``."""

import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from planter_testkit.faults import (
    bad_messages,
    cluster_kill,
    full_store,
    mixed,
    partition,
    planner_failpoints,
    planner_kill,
    planner_stop,
    runtime_kill,
    server_kill,
    slow_consumer,
)
from planter_testkit.faults.outcome import Outcome, Setting, Skipped


class Scenario(NamedTuple):
    """One kind of fault."""

    run: Callable[[Setting], Awaitable[Outcome]]
    full: int
    short: int
    unit: str
    about: str


SCENARIOS: dict[str, Scenario] = {
    "planner-kill": Scenario(planner_kill.run, 300, 8, "kills", "kill -9 of one of three planners"),
    "planner-failpoints": Scenario(
        planner_failpoints.run, 5, 1, "rounds", "kill -9 and SIGSTOP at every named place of a step"
    ),
    "planner-stop": Scenario(planner_stop.run, 30, 2, "stops", "SIGSTOP of planners for 3.5 s: zombies"),
    "runtime-kill": Scenario(runtime_kill.run, 300, 8, "kills", "kill -9 of one of three runtimes"),
    "server-kill": Scenario(server_kill.run, 100, 2, "kills", "kill -9 of the only nats-server"),
    "cluster-leader-kill": Scenario(
        cluster_kill.run, 50, 1, "kills", "kill -9 of the leader of journal or inputs, three replicas"
    ),
    "partition": Scenario(
        partition.run,
        30,
        1,
        "times",
        "one of three nodes is cut off for seconds (needs namespaces, nft, root)",
    ),
    "full-store": Scenario(full_store.run_limit, 5, 1, "times", "the server's limit for files is reached"),
    "full-disk": Scenario(full_store.run_disk, 5, 1, "times", "the disk of the server is full (needs mount)"),
    "slow-consumer": Scenario(
        slow_consumer.run, 10, 1, "rounds", "a listener and a runtime that never read what they are sent"
    ),
    "bad-messages": Scenario(
        bad_messages.run, 20_000, 1_500, "messages", "broken, forged and huge messages on every subject"
    ),
    "mixed": Scenario(mixed.run, 600, 6, "seconds", "planners, runtimes and server, everything at once"),
}


async def play(
    name: str, folder: Path, *, seed: int, count: int | None = None, short: bool = False
) -> Outcome:
    """Run a scenario and say how it went."""
    scenario = SCENARIOS[name]
    number = count if count is not None else scenario.short if short else scenario.full
    setting = Setting(folder=folder, count=number, seed=seed, short=short)
    began = time.monotonic()
    try:
        outcome = await scenario.run(setting)
    except Skipped as reason:
        outcome = Outcome(skipped=str(reason))
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome(violations=[f"the scenario broke: {error!r}"])
    outcome.scenario, outcome.seed = name, seed
    outcome.seconds = time.monotonic() - began
    return outcome
