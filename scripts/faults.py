"""Faults on real processes, and what became of every session.

    python scripts/faults.py                       every scenario with its full figures
    python scripts/faults.py --list                what there is
    python scripts/faults.py --only planner-kill --count 300 --seed 7 --json figures.json

Exit status 0: no violation. A scenario that cannot run here (no namespaces, no nft) is skipped and says why.
"""

import argparse
import asyncio
import json
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
    parser.add_argument("--short", action="store_true", help="as in make test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and stores, instead of removing them")
    return parser.parse_args()


async def run(given: argparse.Namespace) -> list[Outcome]:
    """Play the scenarios, one after the other."""
    outcomes: list[Outcome] = []
    for name in given.only or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix=f"planter-{name}-") as folder:
            at = given.keep / name if given.keep else Path(folder)
            at.mkdir(parents=True, exist_ok=True)
            outcome = await play(name, at, seed=given.seed, count=given.count, short=given.short)
        outcomes.append(outcome)
        print(table([outcome]).splitlines()[1], flush=True)
        for violation in outcome.violations:
            print(f"  {violation}", flush=True)
    return outcomes


def main() -> int:
    """The command."""
    given = arguments()
    if given.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:22} {scenario.full:5} {scenario.unit:8} {scenario.about}")
        return 0
    outcomes = asyncio.run(run(given))
    print(f"\nseed {given.seed}\n{table(outcomes)}")
    if given.json:
        given.json.write_text(json.dumps(msgspec.to_builtins(outcomes), indent=1) + "\n")
    return 1 if any(outcome.violations for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
