"""Isolated programs: real bubblewrap, where the machine allows it."""

import asyncio
from pathlib import Path

import pytest

from planter_runtime.executors import isolation
from planter_runtime.executors.isolation import problem, stronger
from planter_testkit.runtimes import planner_and_runtime, target

pytestmark = pytest.mark.skipif(problem("files") is not None, reason=str(problem("files")))


def isolated(script: str, level: str = "files") -> dict:
    return {"shell": script, "isolation": level}


async def output_of(tmp_path: Path, run: dict, *arguments: str, **fields: int) -> tuple[dict, list[str]]:
    """The report of one phase, and its output."""
    async with planner_and_runtime(tmp_path, *arguments) as (planner, _):
        await planner.offer("r1", target("a", run, **fields))
        report = await planner.report("a")
    return report, planner.output("a", "stdout")


@pytest.mark.parametrize("level", ["files", "strict"])
async def test_the_work_folder_can_be_written_and_nothing_else(tmp_path, level) -> None:
    outside = tmp_path / "outside"
    work = tmp_path / "work"
    outside.mkdir()
    work.mkdir()
    writes = f"echo in > here; echo out > {outside}/there; echo own > /tmp/mine"
    script = f"{writes}; cat here /tmp/mine; ls /proc | grep -c '^[0-9]'"
    report, lines = await output_of(tmp_path, isolated(script, level), "--workdir", str(work))

    assert report["status"] == "complete"
    assert lines[:2] == ["in", "own"]
    assert int(lines[2]) < 10  # it sees its own processes only
    assert (work / "here").exists()
    assert not (outside / "there").exists()
    assert not Path("/tmp/mine").exists()


async def test_strict_has_no_network_and_sees_no_files_of_others(tmp_path) -> None:
    work, secret = tmp_path / "work", tmp_path / "secret"
    work.mkdir()
    secret.write_text("key")
    script = f"cat {secret} /etc/shadow; tail -n +3 /proc/net/dev | cut -d: -f1; ls -d /home /var; true"
    _, lines = await output_of(tmp_path, isolated(script, "strict"), "--workdir", str(work))

    assert [line.strip() for line in lines] == ["lo"]


async def test_functions_are_isolated_and_answer_and_give_heartbeats(tmp_path) -> None:
    (tmp_path / "work.py").write_text(
        "import os, socket\n"
        "from planter_runtime.progress import heartbeat\n"
        "def run(n):\n"
        "    heartbeat({'at': n})\n"
        "    return {'n': n, 'interfaces': [name for _, name in socket.if_nameindex()], 'pid': os.getpid()}\n"
    )
    run = {"python": "work:run", "with": {"n": 3}, "isolation": "strict"}
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run, heartbeatMs=5_000))
        report = await planner.report("a")
        beats = [one["details"] for one in planner.reports if one.get("status") == "heartbeat"]

    assert report["status"] == "complete"
    assert report["result"]["n"] == 3
    assert report["result"]["interfaces"] == ["lo"]
    assert report["result"]["pid"] < 10
    assert beats in ([{"at": 3}], [])  # an end that comes first makes it needless


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 3", {"message": "the shell script exited with code 3", "kind": "exit", "exitCode": 3}),
        (
            "kill -SEGV $$",
            {"message": "the shell script was ended by SIGSEGV", "kind": "signal", "signal": "SIGSEGV"},
        ),
    ],
)
async def test_exit_codes_and_signals_are_told_apart(tmp_path, script, error) -> None:
    # A shell of its own below: the first process of a namespace does not die of its own signals.
    report, _ = await output_of(tmp_path, isolated(script))

    assert report["error"] == error


async def test_a_missing_command_is_told_as_without_isolation(tmp_path) -> None:
    report, _ = await output_of(tmp_path, {"exec": ["no-such"], "isolation": "strict"})

    assert report["error"]["message"].startswith("command 'no-such' was not found")


async def test_it_has_its_time_for_last_words_and_limits_hold(tmp_path) -> None:
    script = "trap 'echo last words; exit 0' TERM; ulimit -n; sleep 1000 & wait"
    run = {**isolated(script), "limits": {"openFiles": 64}}
    report, lines = await output_of(tmp_path, run, timeoutMs=500)

    assert report["error"]["kind"] == "timeout"
    assert lines == ["64", "last words"]


async def test_nothing_outlives_it_whatever_it_does(tmp_path) -> None:
    argument = "98765.4321"
    script = f"env -i setsid sleep {argument} & echo started"
    report, lines = await output_of(tmp_path, isolated(script))

    assert (report["status"], lines) == ("complete", ["started"])
    async with asyncio.timeout(10):
        while any(argument in command for command in _commands()):
            await asyncio.sleep(0.01)


async def test_the_runtime_may_ask_for_more_than_the_manifest(tmp_path) -> None:
    script = "tail -n +3 /proc/net/dev | cut -d: -f1"
    _, lines = await output_of(tmp_path, isolated(script, "none"), "--isolation", "strict")

    assert [line.strip() for line in lines] == ["lo"]
    assert (stronger("files", "none"), stronger("files", "strict")) == ("files", "strict")


def test_where_it_cannot_be_had_the_phase_is_rejected_with_the_reason(monkeypatch) -> None:
    monkeypatch.setattr(isolation, "_bubblewrap", lambda: ("", "install bubblewrap"))

    assert problem("strict") == "isolation strict cannot be had here: install bubblewrap"
    assert problem("none") is None


def _commands() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text().replace("\0", " "))
        except OSError:
            continue
    return found
