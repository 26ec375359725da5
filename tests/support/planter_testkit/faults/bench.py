"""The bench of most scenarios: a server, planners, a runtime, a load, and the account at the end."""

import asyncio
import random
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from planter_protocol import PlanClient
from planter_testkit.faults.accounts import Account, compare, drawn_up, effects_hold, failures
from planter_testkit.faults.ledger import Ledger
from planter_testkit.faults.load import Load, fails_at_first, running_load
from planter_testkit.faults.outcome import Outcome, Setting
from planter_testkit.faults.processes import SAME_RUNTIME, Planners, Runtimes
from planter_testkit.nats import Server, running_nats_server
from planter_testkit.scripted import ScriptedRuntime, scripted_runtime


class Bench:
    """One scenario under way."""

    def __init__(self, setting: Setting, url: str, client: PlanClient) -> None:
        self.setting = setting
        self.url = url
        self.client = client
        self.draw = setting.draw()
        self.ledger = Ledger(setting.folder / "ledger.jsonl")
        self.planners = Planners(url, setting.folder, self.draw)
        self.load = Load(client, self.draw)
        self.faults = 0
        #: Present when the runtimes are processes.
        self.runtimes: Runtimes | None = None
        #: Present when the runtime is a script of this process.
        self.scripted: ScriptedRuntime | None = None

    async def settle(self, figures: Callable[[Account], tuple[str, dict[str, float]]]) -> Outcome:
        """Stop the load, wait until all is over, and draw up the account."""
        late = await self.load.finish()
        account = await drawn_up(self.client)
        text, numbers = figures(account)
        found = [
            *late,
            *account.violations,
            *compare(account, self.load.confirmed, self.load.followers.values()),
            *failures(account, runtimes_die=self.runtimes is not None),
            *effects_hold(account, self.ledger.effects()),
            *self.planners.troubles(),
            *(self.runtimes.troubles() if self.runtimes else ()),
        ]
        numbers |= {
            "inputs": account.inputs,
            "confirmed inputs": len(self.load.confirmed),
            "commits": sum(len(commits) for commits in account.journals.values()),
            "effects": len(self.ledger.effects()),
            "fenced": self.planners.said("step.fenced"),
        }
        if self.scripted is not None:
            numbers["stale targets refused"] = self.scripted.stale
        return Outcome(
            faults=self.faults,
            sessions=len(account.journals),
            phases=account.phases,
            statuses=account.statuses,
            figure=text,
            figures=numbers,
            violations=found,
        )


def work_seconds(target: Mapping[str, Any]) -> float:
    """10 to 60 ms, by the name of session and phase."""
    return 0.01 + zlib.crc32(f"{target['sessionId']}/{target['phaseId']}".encode()) % 50 / 1000


@asynccontextmanager
async def bench(
    setting: Setting,
    url: str,
    *,
    planners: int = 3,
    arguments: Sequence[str] = (),
    runtimes: int = 0,
    same_name: float | None = None,
    load: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Bench]:
    """Planners that answer, runtimes that are registered, and sessions under way.

    Args:
        setting: of the scenario.
        url: of the server.
        planners: how many processes.
        arguments: of each planner.
        runtimes: how many processes; none: one scripted runtime in this process.
        same_name: so many of the runtimes that replace another one bear its name.
        load: further arguments of the load.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(PlanClient.connected(url, role="driver", wait=10))
        made = Bench(setting, url, client)
        made.planners = Planners(url, setting.folder, made.draw, arguments)
        stack.callback(made.planners.close)
        for slot in range(planners):
            made.planners.start(slot)
            if (
                arguments and slot == 0
            ):  # streams with replicas take their time, others must not time out on them
                await made.planners.ready(client)
        labels: dict[str, str] | None = None
        if runtimes:
            labels = {"work": "ledger"}
            share = 1.0 if setting.short else SAME_RUNTIME if same_name is None else same_name
            made.runtimes = Runtimes(url, setting.folder, made.draw, made.ledger, share)
            stack.callback(made.runtimes.close)
            for slot in range(runtimes):
                made.runtimes.start(slot)
        else:
            made.scripted = await stack.enter_async_context(
                scripted_runtime(url, script=_script(made.ledger), duration=work_seconds)
            )
        await made.planners.ready(client)
        if made.runtimes is not None:
            await made.runtimes.ready(client)
        small = {"at_once": 4, "length": 12} if setting.short else {}
        made.load = Load(client, made.draw, labels=labels, **(small | dict(load or {})))
        await stack.enter_async_context(running_load(made.load))
        async with asyncio.timeout(30):
            await made.load.until_sessions(3)
        yield made


@asynccontextmanager
async def single_server(
    setting: Setting, *, server_arguments: Sequence[str] = (), **options: Any
) -> AsyncGenerator[tuple[Server, Bench]]:
    """A bench on one server."""
    async with (
        running_nats_server(setting.folder / "nats", server_arguments) as server,
        bench(setting, server.url, **options) as made,
    ):
        yield server, made


async def pause_between(draw: random.Random, least: float = 0.3, most: float = 0.9) -> None:
    """The time between two faults."""
    await asyncio.sleep(draw.uniform(least, most))


def _script(ledger: Ledger) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def execute(target: dict[str, Any]) -> dict[str, Any]:
        ledger.append(target)
        if target["attempt"] == 1 and fails_at_first(target["phaseId"]):
            return {"status": "failed", "error": {"message": "not yet", "retryable": True}}
        return {"status": "complete", "result": target["fence"]}

    return execute
