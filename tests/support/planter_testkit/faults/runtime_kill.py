"""kill -9 of real runtimes whose handler appends each effect to a ledger."""

from planter_testkit.faults.accounts import Account
from planter_testkit.faults.bench import pause_between, single_server
from planter_testkit.faults.outcome import Outcome, Setting, spread
from planter_testkit.faults.timings import longest_pauses


async def run(setting: Setting) -> Outcome:
    """Kill runtimes; no fence is applied twice, and what was lost is done again under a higher one.

    A phase that lost five attempts fails, as it is meant to; such sessions are counted, not hidden.
    """
    async with single_server(setting, planners=2, runtimes=3, load={"length": 15}) as (_, bench):
        assert bench.runtimes is not None
        for _ in range(setting.count):
            await pause_between(bench.draw)
            slot = bench.draw.choice(bench.runtimes.slots)
            bench.runtimes.kill(slot)
            bench.runtimes.start(slot)
            bench.faults += 1
        kills = bench.runtimes.kills

        def figures(account: Account) -> tuple[str, dict[str, float]]:
            text, numbers = spread("pause of all", longest_pauses(account, [kill.at_ms for kill in kills]))
            lost = _count(account, "AttemptLost")
            failed = account.statuses.get("failed", 0)
            numbers |= {"attempts lost": lost, "sessions failed after five losses": failed}
            return f"{lost} attempts lost, {failed} sessions failed; {text}", numbers

        return await bench.settle(figures)


def _count(account: Account, kind: str) -> int:
    return sum(
        event["type"] == kind
        for commits in account.journals.values()
        for _, commit in commits
        for event in commit.events
    )
