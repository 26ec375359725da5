"""Faults on real processes, and what became of every session.

    python scripts/faults.py                       every scenario with its full figures
    python scripts/faults.py --list                what there is
    python scripts/faults.py --only planner-kill --count 300 --seed 7 --json figures.json
    python scripts/faults.py --short --jobs 4      as in make test

Exit status 0: no violation. A scenario that cannot run here (no namespaces, no nft) is skipped and says why.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from planter_testkit.faults.outcome import Outcome, table
from planter_testkit.faults.scenarios import SCENARIOS, play


def arguments() -> argparse.Namespace:
    """What was asked for."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), metavar="NAME", default=[])
    parser.add_argument("--count", type=int, help="faults in each scenario, instead of its full figure")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="smoke: a few faults each")
    parser.add_argument("--jobs", type=int, default=1, help="so many scenarios at a time, as processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and stores there; a new folder")
    return parser.parse_args()


async def run_here(given: argparse.Namespace, name: str) -> Outcome:
    """Play a scenario in this process."""
    with tempfile.TemporaryDirectory(prefix=f"planter-{name}-") as folder:
        at = given.keep / name if given.keep else Path(folder)
        at.mkdir(parents=True, exist_ok=not given.keep)
        return await play(name, at, seed=given.seed, count=given.count, short=given.short)


async def run_apart(given: argparse.Namespace, name: str, free: asyncio.Semaphore) -> Outcome:
    """Play a scenario in a process of its own."""
    with tempfile.TemporaryDirectory(prefix=f"planter-{name}-") as folder:
        figures = Path(folder) / "figures.json"
        options = ["--only", name, "--seed", str(given.seed), "--json", str(figures)]
        options += ["--count", str(given.count)] if given.count is not None else []
        options += ["--short"] if given.short else []
        options += ["--keep", str(given.keep)] if given.keep else []
        async with free:
            process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, *options, stdout=asyncio.subprocess.DEVNULL
            )
            status = await process.wait()
        if not figures.exists():
            return Outcome(scenario=name, violations=[f"the scenario's process ended with {status}"])
        outcome = msgspec.json.decode(figures.read_bytes(), type=list[Outcome])[0]
        return show(outcome)


async def run(given: argparse.Namespace) -> list[Outcome]:
    """Play the scenarios: one after the other, or several at a time."""
    names = given.only or list(SCENARIOS)
    if given.jobs == 1:
        return [show(await run_here(given, name)) for name in names]
    free = asyncio.Semaphore(given.jobs)
    return list(await asyncio.gather(*(run_apart(given, name, free) for name in names)))


def show(outcome: Outcome) -> Outcome:
    """Print how it went."""
    print(table([outcome]).splitlines()[1], flush=True)
    for violation in outcome.violations:
        print(f"  {violation}", flush=True)
    return outcome


def main() -> int:
    """The command."""
    given = arguments()
    if given.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:20} {scenario.full:6,} {scenario.unit:9} {scenario.about}")
        return 0
    outcomes = asyncio.run(run(given))
    print(f"\nseed {given.seed}\n{table(outcomes)}")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes), indent=1) + b"\n")
    return 1 if any(outcome.violations for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
