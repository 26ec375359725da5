"""Thousands of messages that nobody should send, on every subject that planners hear, while sessions run."""

import contextlib
from collections.abc import Sequence

from nats.errors import Error as NatsError

from planter_testkit.faults.accounts import TERMINAL, Account
from planter_testkit.faults.bench import Bench, single_server
from planter_testkit.faults.outcome import Outcome, Setting
from planter_testkit.faults.rubbish import FORGED, Message, Rubbish
from planter_testkit.planners import answering

RESIDENT_MB_MAX = 400.0
_PORTION = 100
_LARGE = 64 * 1024


async def run(setting: Setting) -> Outcome:
    """No planner ends, no session notices, no forgery is believed, and everything is accounted for."""
    async with single_server(setting, planners=2, load={"at_once": 4}) as (_, bench):
        rubbish = Rubbish(bench.draw, lambda: _running(bench), [f"t{n}" for n in range(25)])
        while bench.faults < setting.count:
            portion = [rubbish.message() for _ in range(min(_PORTION, setting.count - bench.faults))]
            await _publish(bench, portion)
            bench.faults += len(portion)
            await answering(bench.client, bench.planners[0])  # no faster than they are read
        await _cancel_strangers(bench)
        resident = bench.planners.resident_mb()

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            text = (
                f"{len(account.buried):,} dead letters, {account.inputs:,} inputs, {resident:.0f} MB at most"
            )
            return text, {"dead letters": len(account.buried), "resident MB": resident}

        outcome = await bench.settle(figures)
        outcome.violations += await _believed(bench)
    if resident > RESIDENT_MB_MAX:
        outcome.violations.append(f"a planner took {resident:.0f} MB")
    return outcome


def _running(bench: Bench) -> list[str]:
    return [name for name, one in bench.load.followers.items() if one.commits and not one.ended]


async def _publish(bench: Bench, messages: Sequence[Message]) -> None:
    for message in messages:
        if len(message.data) > _LARGE:  # confirmed, so that they do not pile up
            with contextlib.suppress(NatsError, TimeoutError):
                await bench.client.js.publish(message.subject, message.data)
        else:
            await bench.client.nc.publish(message.subject, message.data)
    await bench.client.nc.flush()


async def _cancel_strangers(bench: Bench) -> None:
    """What rubbish happened to be valid has started sessions that nothing runs: end them."""
    for record in await bench.client.sessions():
        if record.session_id not in bench.load.followers and record.status not in TERMINAL:
            await bench.client.control(record.session_id, "cancel")


async def _believed(bench: Bench) -> list[str]:
    """Whatever bears the mark of a forgery, in sessions that the forger had no right to."""
    found = []
    for name in bench.load.followers:
        for commit in await bench.client.history(name):
            events = [one for one in commit.events if one["type"] not in ("InputRefused", "InputRepeated")]
            if FORGED in str(events):
                found.append(f"session {name}, commit {commit.n} believes a forgery: {events}")
    return found
