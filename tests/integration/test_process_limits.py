"""What a program may use of the machine, and that nothing of it stays: real processes of a real runtime."""

import asyncio
import signal
from pathlib import Path

import pytest

from planter_testkit.pids import until_gone
from planter_testkit.runtimes import planner_and_runtime, target


async def pids_in(path: Path, count: int) -> list[int]:
    """The process ids in a file, once there are so many."""
    async with asyncio.timeout(10):
        while not path.exists() or path.read_text().count("\n") < count:
            await asyncio.sleep(0.01)
    return [int(line) for line in path.read_text().split()]


MEMORY = {"exec": ["python", "-c", "bytearray(2**30)"], "limits": {"memory": 2**28}}
CPU = {"shell": "while :; do :; done", "limits": {"cpu": 1}}
FILE = {"exec": ["dd", "if=/dev/zero", "of=file", "bs=65536", "count=64"], "limits": {"fileSize": 2**20}}
FILES = {"shell": "ulimit -n", "limits": {"openFiles": 64}}
OUTPUT = {"shell": "yes", "limits": {"output": 65_536}}
ABSENT = {"exec": ["no-such"], "limits": {"memory": 2**28}}
HERE = {"exec": ["./own"], "limits": {"memory": 2**30}}


@pytest.mark.parametrize(
    ("run", "kind", "message"),
    [
        (MEMORY, "exit", "`python` exited with code 1: MemoryError"),
        (CPU, "limit", "the shell script used more than 1 s of processor time (limits.cpu)"),
        (FILE, "limit", "`dd` wrote a file of more than 1,048,576 bytes (limits.fileSize)"),
        (OUTPUT, "limit", "it wrote more than 65,536 bytes of output (limits.output), and was ended"),
        (ABSENT, "refused", "command 'no-such' was not found: install it, or correct `PATH` or the name"),
        (HERE, "refused", "command './own' may not be executed: check its permissions (chmod +x)"),
    ],
)
async def test_a_program_that_wants_too_much_fails_and_says_of_what(tmp_path, run, kind, message) -> None:
    (tmp_path / "own").touch()
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        report = await planner.report("a")

    assert (report["status"], report["error"]["kind"], report["error"]["message"]) == (
        "failed",
        kind,
        message,
    )


async def test_what_was_written_up_to_the_limit_is_in_the_log(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", OUTPUT))
        await planner.report("a")

    assert sum(len(line) + 1 for line in planner.output("a")) <= 65_536
    assert set(planner.output("a")) == {"y"}


async def test_a_program_within_its_limits_runs_as_it_would_without(tmp_path) -> None:
    own = tmp_path / "own"
    own.write_text('#!/bin/sh\necho "$0 $1"; ulimit -n; exit 3\n')
    own.chmod(0o755)
    run = {"exec": ["./own", "a b"], "limits": {"openFiles": 64, "cpu": 60, "memory": 2**30}}
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        report = await planner.report("a")

    assert report["error"]["exitCode"] == 3
    assert planner.output("a") == ["./own a b", "64"]


async def test_functions_have_limits_too(tmp_path) -> None:
    (tmp_path / "greedy.py").write_text("def much():\n    bytearray(2**30)\n")
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"python": "greedy:much", "limits": {"memory": 2**29}}))
        report = await planner.report("a")

    assert report["error"]["message"].startswith("MemoryError")


ESCAPES = """
setsid sh -c 'echo $$ >> pids; exec sleep 1000' &
setsid sh -c 'setsid sh -c "echo \\$\\$ >> pids; exec sleep 1000" & sleep 1000' &
while [ "$(wc -l < pids)" -lt 2 ]; do sleep 0.01; done
"""


@pytest.mark.parametrize("end", ["", "exec sleep 1000"])
async def test_processes_that_have_left_their_group_end_with_the_attempt(tmp_path, end) -> None:
    (tmp_path / "pids").touch()
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"shell": ESCAPES + end}, timeoutMs=2_000 if end else None))
        report = await planner.report("a")
        for pid in await pids_in(tmp_path / "pids", 2):
            await until_gone(pid)

    assert report["status"] == ("failed" if end else "complete")


async def test_they_end_with_a_runtime_that_is_killed(tmp_path) -> None:
    (tmp_path / "pids").touch()
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        await planner.offer("r1", target("a", {"shell": f"{ESCAPES}exec sleep 1000"}))
        pids = await pids_in(tmp_path / "pids", 2)
        runtime.signal(signal.SIGKILL)
        for pid in pids:
            await until_gone(pid)
