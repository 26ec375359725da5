"""Play simulated histories: the real planner and the real runtime in a world where everything goes wrong.

    python scripts/sim.py --seed 42              one history, with its trace
    python scripts/sim.py --seeds 10000          so many, from --first on, in --processes processes
    python scripts/sim.py --seconds 60           as many as fit

A seed gives the same history every time, as long as the code is the same. Exit status 0: no violation.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
_REPORT_SECONDS = 10.0
_SHOWN_MAX = 20
_COLLECT = 25


def main() -> int:
    """Play what was asked for."""
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a history
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
    if arguments.seed is not None:
        return _one(arguments.seed)
    if arguments.stride:
        return _worker(arguments)
    return _many(arguments)


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--seed", type=int, help="play this one and print its trace")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed of many (default 0)")
    parser.add_argument("--seconds", type=float, help="stop after this long")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--until-found", action="store_true", help="stop at the first violation")
    parser.add_argument("--stride", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _one(seed: int) -> int:
    from planter_testkit.sim import history  # noqa: PLC0415  (after the hash seed is set)

    history.configure(verbose=True)
    found = history.play(seed)
    print("\n".join(found.trace))
    print(
        f"\nseed {seed}: {found.seconds:.1f} s of virtual time, {found.commits} commits, "
        f"{found.executions} executions, digest {found.digest:08x}"
    )
    for violation in found.violations:
        print(f"VIOLATION {violation}")
    return 1 if found.violations else 0


def _worker(arguments: argparse.Namespace) -> int:
    """Every ``stride``-th seed; a line of JSON for each violation, and now and then one with the counts."""
    from planter_testkit.sim import history  # noqa: PLC0415

    history.configure(verbose=False)
    began = told = time.monotonic()
    count = {"histories": 0, "commits": 0, "executions": 0, "virtual": 0.0}
    for seed in _seeds(arguments):
        found = history.play(seed)
        count["histories"] += 1
        if count["histories"] % _COLLECT == 0:
            gc.collect()  # between histories only: see history.configure
        count["commits"] += found.commits
        count["executions"] += found.executions
        count["virtual"] += found.seconds
        if found.violations:
            print(json.dumps({"seed": seed, "violations": found.violations}), flush=True)
        now = time.monotonic()
        if now - told > 1:
            told = now
            print(json.dumps({"count": count}), flush=True)
        if arguments.seconds is not None and now - began > arguments.seconds:
            break
    print(json.dumps({"count": count}), flush=True)
    return 0


def _seeds(arguments: argparse.Namespace) -> Iterator[int]:
    seed = arguments.first
    last = None if arguments.seeds is None else seed + arguments.seeds
    while last is None or seed < last:
        yield seed
        seed += arguments.stride


def _many(arguments: argparse.Namespace) -> int:
    if arguments.seeds is None and arguments.seconds is None:
        arguments.seeds = 1_000
    began = time.monotonic()
    counts: dict[int, dict[str, float]] = {}
    bad: dict[int, list[str]] = {}
    reported = [began]
    running: list[subprocess.Popen[str]] = []

    def follow(number: int) -> None:
        command = _command(arguments, number)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            running.append(process)
            assert process.stdout is not None
            for line in process.stdout:
                message = json.loads(line)
                if "count" in message:
                    counts[number] = message["count"]
                else:
                    bad[message["seed"]] = message["violations"]
                    print(f"seed {message['seed']}: {message['violations'][0][:200]}", flush=True)
                    if arguments.until_found:
                        for other in running:
                            other.terminate()
                if time.monotonic() - reported[0] > _REPORT_SECONDS:
                    reported[0] = time.monotonic()
                    print(_summary(counts, bad, began), file=sys.stderr, flush=True)
            if process.wait() != 0 and not (arguments.until_found and bad):
                raise SystemExit(f"a worker ended with {process.returncode}")

    with ThreadPoolExecutor(arguments.processes) as threads:
        for _ in threads.map(follow, range(arguments.processes)):
            pass
    print(_summary(counts, bad, began))
    for seed in sorted(bad)[:_SHOWN_MAX]:
        print(f"  make sim SEED={seed}")
    return 1 if bad else 0


def _command(arguments: argparse.Namespace, number: int) -> list[str]:
    command = [sys.executable, __file__, "--first", str(arguments.first + number)]
    command += ["--stride", str(arguments.processes)]
    if arguments.seeds is not None:
        command += ["--seeds", str(arguments.seeds - number)]
    if arguments.seconds is not None:
        command += ["--seconds", str(arguments.seconds)]
    return [*command, "--until-found"] if arguments.until_found else command


def _summary(counts: dict[int, dict[str, float]], bad: dict[int, list[str]], began: float) -> str:
    def total(name: str) -> float:
        return sum(count[name] for count in counts.values())

    hours = total("virtual") / 3600
    return (
        f"{total('histories'):,.0f} histories, {len(bad)} with violations; {hours:,.1f} h of virtual time, "
        f"{total('commits'):,.0f} commits, {total('executions'):,.0f} executions "
        f"in {time.monotonic() - began:,.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
