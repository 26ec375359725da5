"""Run workflow graphs as manifests of no-op phases, and judge each run from its journal alone.

    python scripts/run_graph.py GRAPH.json[.gz]... [--kill-planner]

A graph is ``{"tasks": [{"id": "a", "deps": ["b", ...]}, ...]}``. NATS, planner and runtime are started as
processes of their own. ``--kill-planner`` ends the planner with kill -9 in the middle of each run and starts
another. Exit status 0: every session completed and the judge found nothing.
"""

import argparse
import asyncio
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

from planter.local.stack import Stack, StackOptions, planner_argv, running_stack
from planter_protocol import PlanClient

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from planter_testkit.graphs import Tasks, as_manifest
from planter_testkit.planners import judged


def read_tasks(path: Path) -> Tasks:
    """The tasks of a graph file."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(text)["tasks"]


async def replace_planner(
    client: PlanClient, stack: Stack, session: str, after: int
) -> asyncio.subprocess.Process:
    """Kill the planner once a third of the session's phases are complete, and start another."""
    total = (await client.get_state(session)).total
    done = 0
    async for commit in client.watch(session, after=after):
        done += sum(1 for event in commit.events if event["type"] == "PhaseCompleted")
        if done >= total // 3:
            break
    stack.planner.kill()
    print(f"  planner {stack.planner.pid} killed with kill -9 after {done} of {total} phases")
    return await asyncio.create_subprocess_exec(*planner_argv(stack.url), stderr=asyncio.subprocess.DEVNULL)


async def run_one(path: Path, *, kill: bool) -> bool:
    """Run one graph on a stack of its own; True when all is well."""
    tasks = read_tasks(path)
    session = path.name.partition(".")[0]
    with tempfile.TemporaryDirectory(prefix="planter-graph-") as folder:
        options = StackOptions(data_dir=Path(folder), workdir=Path(folder), slots=1_000)
        async with running_stack(options) as stack, PlanClient.connected(stack.url) as client:
            began = time.perf_counter()
            submitted = await client.submit(as_manifest(tasks), session=session, confirm=60)
            accepted = time.perf_counter()
            other = await replace_planner(client, stack, session, submitted.after) if kill else None
            verdict = await judged(client, session)
            ended = time.perf_counter()
            if other is not None:
                other.terminate()
                await other.wait()
    good = verdict.status == "complete" and verdict.completed == len(tasks) == verdict.attempts
    print(
        f"{session:16} {verdict.status}: {verdict.completed:,} phases, each once, in order; "
        f"{verdict.commits:,} commits by {len(verdict.planners)} planner(s); "
        f"accepted in {accepted - began:.2f} s, ran {ended - accepted:.2f} s, "
        f"{len(tasks) / (ended - accepted):,.0f} phases/s"
    )
    return good


async def main() -> int:
    """Run every graph that is named."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("graphs", nargs="+", type=Path)
    parser.add_argument("--kill-planner", action="store_true")
    arguments = parser.parse_args()
    results = [await run_one(path, kill=arguments.kill_planner) for path in arguments.graphs]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
