"""Break Planter in known ways, one at a time, and see whether the simulation finds it.

    python scripts/mutants.py                 every mutant; writes docs/mutants.md
    python scripts/mutants.py NAME...         these; writes nothing

A mutant is a piece of source text and what stands in its place. Each is tried on a copy, for at most --seeds
histories. Exit status 0: every mutant was found.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PARTS = ("protocol", "schemas", "runtime", "planter")
TABLE = ROOT / "docs" / "mutants.md"
HOST = "planter/src/planter/shell/host.py"
JOURNAL = "planter/src/planter/shell/journal.py"


class Mutant(NamedTuple):
    """One way to be wrong."""

    name: str
    meaning: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "no-compare-and-set",
        "the journal is appended to without comparing the subject's last sequence",
        JOURNAL,
        "headers.EXPECTED_LAST_SUBJECT_SEQUENCE: str(before.sequence),",
        "",
    ),
    Mutant(
        "ack-before-commit",
        "inputs are acknowledged before they are in the journal",
        HOST,
        '                passing("journal.append")\n',
        "                for _, delivery in taken:\n"
        "                    await self._around.acknowledge(delivery)\n",
    ),
    Mutant(
        "effects-before-append",
        "targets are published before the commit that orders them",
        HOST,
        '                passing("journal.append")\n',
        "                await self._performer.perform(session, decision.effects, now)\n",
    ),
    Mutant(
        "timeout-taken-for-success",
        "an append that was not confirmed in time counts as done",
        JOURNAL,
        "                found = await self._find(subject, record_id, before, error)\n",
        "                found = before.sequence + 1\n",
    ),
    Mutant(
        "fenced-planner-goes-on",
        "a planner that lost against another appends after it, on its old state",
        JOURNAL,
        "                found = await self._find(subject, record_id, before, error)\n",
        "                try:\n"
        "                    found = await self._find(subject, record_id, before, error)\n"
        "                except Fenced:\n"
        "                    before = Appended(await self.last(session_id), '')\n"
        "                    continue\n",
    ),
    Mutant(
        "input-taken-twice",
        "a redelivered input acts again",
        JOURNAL,
        "        session.taken.update(inputs)\n",
        "",
    ),
    Mutant(
        "fence-ignored-by-planner",
        "a report counts although its attempt was given to somebody else",
        "planter/src/planter/core/decide.py",
        "        if (echo.attempt, echo.fence) != (phase.attempt, phase.fence):\n",
        "        if False:\n",
    ),
    Mutant(
        "fence-ignored-by-runtime",
        "a runtime executes a target that it has executed before",
        "runtime/src/planter_runtime/attempts.py",
        "            return self._repeat(phase, target)\n",
        "            pass\n",
    ),
    Mutant(
        "slots-not-counted",
        "a runtime counts attempts, whatever slots they take",
        "runtime/src/planter_runtime/attempts.py",
        "    return max(1, target.slots)\n",
        "    return 1\n",
    ),
    Mutant(
        "constraint-ignored",
        "a phase is given to runtimes that do not fulfil its constraints",
        "planter/src/planter/core/fleet.py",
        "    return all(holds(one, attributes) for one in rules.constraints)\n",
        "    return True\n",
    ),
    Mutant(
        "another-life-executes",
        "a restarted runtime executes what was addressed to its earlier life",
        "runtime/src/planter_runtime/agent.py",
        "        if target.instance not in (None, self.instance):\n",
        "        if False:\n",
    ),
    Mutant(
        "retry-counted-twice",
        "each failed attempt uses up two of the retry budget",
        "planter/src/planter/core/attempts.py",
        "tried = phase.attempt - phase.budget_from",
        "tried = 2 * (phase.attempt - phase.budget_from)",
    ),
    Mutant(
        "lease-never-expires",
        "a runtime that is silent keeps its attempts for ever",
        "planter/src/planter/shell/fleet_watch.py",
        "            if until < now:\n                self._lose(",
        "            if False:\n                self._lose(",
    ),
    Mutant(
        "offer-said-once",
        "a target that was lost on its way is not published again",
        "planter/src/planter/core/timeouts.py",
        '        step.effects.append(f.PublishTarget(index, "offered again"))\n',
        "",
    ),
    Mutant(
        "no-handover",
        "commits for another planner's session are not told to it",
        HOST,
        "            self._around.hand_over(entry.id, session.sequence)\n",
        "            pass\n",
    ),
    Mutant(
        "load-kept-for-ever",
        "a planner goes on counting the load of sessions that it has given away",
        HOST,
        "                self._count(entry.id, {})  # its load is its new planner's to count\n",
        "",
    ),
    Mutant(
        "wake-up-lost",
        "a slot that comes free while a step is under way wakes nobody",
        HOST,
        "        if self._chances != chances and is_waiting(session) and self._fleet.has_room():\n",
        "        if False:\n",
    ),
    Mutant(
        "torn-read-trusted",
        "a batch of direct gets with a hole is taken for the whole",
        "protocol/src/planter_protocol/reading.py",
        "                raise _Torn\n",
        "                pass\n",
    ),
    Mutant(
        "old-record-wins",
        "a planner that was overtaken writes its old record into the listing",
        "planter/src/planter/shell/records.py",
        "                self._known[record.session_id] = int(found.seq or 0), included\n",
        "                self._known[record.session_id] = int(found.seq or 0), 0\n",
    ),
    Mutant(
        "stale-listing-trusted",
        "a planner takes over what a replica that lags has in its listing",
        "planter/src/planter/shell/assignment.py",
        "        if reached < newest:\n",
        "        if False:\n",
    ),
    Mutant(
        "clock-trusted",
        "waits hang on the wall clock of the planner that began them",
        "planter/src/planter/core/decide.py",
        "        step.emit(e.ClockSetBack(by=session.updated - now))\n",
        "        pass\n",
    ),
    Mutant(
        "approval-counted-twice",
        "the same person's second approval counts as another one",
        "planter/src/planter/core/gates.py",
        "    return next((one for one in gate.answers if (one.by, one.approves) == (by, approves)), None)\n",
        "    return None\n",
    ),
    Mutant(
        "wait-cut-short",
        "a wait is over when half of its time is",
        "planter/src/planter/core/deadlines.py",
        '    return phase.gate.due if phase.gate.kind == "wait" else',
        '    return (phase.gate.since + phase.gate.due) // 2 if phase.gate.kind == "wait" else',
    ),
    Mutant(
        "pulls-not-renewed",
        "after a reconnection a planner goes on waiting for pulls that the server has forgotten",
        "planter/src/planter/shell/intake.py",
        "            silent = loop.time() - self._heard > patience\n",
        "            silent = False\n",
    ),
)


class Verdict(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    seed: int | None
    violation: str
    seconds: float


def main() -> int:
    """Try them."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=6_000)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if mutant.name in arguments.names or not arguments.names]
    verdicts = []
    for mutant in chosen:
        verdicts.append(attempt(mutant, arguments.seeds))
        print(line(verdicts[-1]), flush=True)
    found = sum(verdict.seed is not None for verdict in verdicts)
    print(f"{found} of {len(verdicts)} found")
    if not arguments.names:
        TABLE.write_text(table(verdicts, arguments.seeds))
    return 0 if found == len(verdicts) else 1


def attempt(mutant: Mutant, seeds: int) -> Verdict:
    """Run the simulation on a copy that is broken this way."""
    with tempfile.TemporaryDirectory(prefix="planter-mutant-") as folder:
        for part in PARTS:
            shutil.copytree(ROOT / part / "src", Path(folder) / part / "src")
        path = Path(folder) / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(
                f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file}"
            )
        path.write_text(text.replace(mutant.old, mutant.new))
        sources = os.pathsep.join(str(Path(folder) / part / "src") for part in PARTS)
        command = [sys.executable, str(ROOT / "scripts" / "sim.py"), "--until-found", "--seeds", str(seeds)]
        began = time.monotonic()
        played = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": sources},
            capture_output=True,
            text=True,
            check=False,
        )
    seconds = time.monotonic() - began
    match = re.search(r"^seed (\d+): (.*)$", played.stdout, re.MULTILINE)
    if match is None:
        return Verdict(mutant, None, played.stderr.strip()[-200:], seconds)
    return Verdict(mutant, int(match[1]), match[2], seconds)


def line(verdict: Verdict) -> str:
    """One line for people who wait."""
    where = "NOT FOUND" if verdict.seed is None else f"seed {verdict.seed}"
    return f"{verdict.mutant.name:26} {where:10} {verdict.seconds:5.0f} s  {verdict.violation[:90]}"


def table(verdicts: list[Verdict], seeds: int) -> str:
    """The page for the docs."""
    found = sum(verdict.seed is not None for verdict in verdicts)
    rows = "\n".join(
        f"| `{v.mutant.name}` | {v.mutant.meaning} | {'**no**' if v.seed is None else v.seed} | "
        f"{kind_of(v.violation)} |"
        for v in verdicts
    )
    return (
        "# Planted bugs\n\n"
        "Generated by `make mutants`: each row is a change that makes Planter wrong, the first seed of "
        f"`make sim` (of {seeds:,}) whose history shows it, and the invariant that is violated there.\n\n"
        f"{found} of {len(verdicts)} found.\n\n"
        "| mutant | what is wrong | seed | violated |\n| --- | --- | --- | --- |\n"
        f"{rows}\n"
    )


def kind_of(violation: str) -> str:
    """The invariant's name."""
    return json.dumps(violation.partition(":")[0])[1:-1] if violation else ""


if __name__ == "__main__":
    sys.exit(main())
