"""Phases that are containers, on a real engine."""

import asyncio
import signal
import tempfile
from pathlib import Path

import pytest

from planter_runtime.executors.engine import Engine
from planter_testkit.engine import IMAGE, running_engine
from planter_testkit.runtimes import planner_and_runtime, target


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with running_engine(tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture(autouse=True)
def _found_by_the_runtime(engine, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine)


def container(*command: str, **more) -> dict:
    wanted = {"image": IMAGE, "command": list(command), "network": "none", "pull": "never"}
    return {"container": {**wanted, **more}}


def script(text: str, **more) -> dict:
    return container("sh", "-c", text, **more)


async def report_of(
    tmp_path: Path, run: dict, *arguments: str, **fields
) -> tuple[dict, list[str], list[str]]:
    """The report of one phase, and what it wrote to stdout and stderr."""
    async with planner_and_runtime(tmp_path, *arguments) as (planner, _):
        await planner.offer("r1", target("a", run, **fields))
        report = await planner.report("a")
    return report, planner.output("a", "stdout"), planner.output("a", "stderr")


async def names(engine: str) -> list[str]:
    """The containers that there are, running or not."""
    async with Engine(engine) as asked:
        return [container for container, _ in await asked.labelled("planter.runtime")]


async def test_it_has_arguments_environment_secrets_and_a_result(tmp_path, engine) -> None:
    (tmp_path / "token").write_text("correct-horse")
    text = (
        'echo "$GREETING $PLANTER_SESSION $PLANTER_PHASE $PLANTER_ATTEMPT $PLANTER_WITH $TOKEN"; '
        """echo err >&2; printf '{"n": 1}' > "$PLANTER_RESULT"; pwd"""
    )
    run = {
        **script(text),
        "env": {"GREETING": "hello"},
        "with": {"a": 1},
        "secrets": {"TOKEN": "t"},
        "cwd": "/tmp",
    }
    report, out, err = await report_of(tmp_path, run, "--secret", f"t={tmp_path}/token", attempt=2)

    assert (report["status"], report["result"]) == ("complete", {"n": 1})
    assert out == ['hello s1 a 2 {"a": 1} ***', "/tmp"]
    assert err == ["err"]
    assert await names(engine) == []


async def test_the_work_folder_is_there_when_it_is_mounted(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "in").write_text("inside\n")
    run = {**script("cat in; echo out > out", mount="/work"), "cwd": "sub"}
    report, out, _ = await report_of(tmp_path, run)

    assert (report["status"], out) == ("complete", ["inside"])
    assert (tmp_path / "sub" / "out").read_text() == "out\n"


@pytest.mark.parametrize(
    ("run", "kind", "message"),
    [
        (script("echo oops >&2; exit 3"), "exit", f"the container of {IMAGE} exited with code 3: oops"),
        (
            script("sh -c 'kill -SEGV $$'; exit $?"),
            "signal",
            f"the container of {IMAGE} was ended by SIGSEGV",
        ),
        (container("no-such"), "refused", "no-such"),
        (container("true", image="localhost/absent:1"), "refused", "localhost/absent:1"),
        (
            {**script("yes"), "limits": {"output": 65_536}},
            "limit",
            "it wrote more than 65,536 bytes of output (limits.output), and was ended",
        ),
        (
            {**script("sh -c 'while :; do :; done'; exit $?"), "limits": {"cpu": 1}},
            "limit",
            f"the container of {IMAGE} used more than 1 s of processor time (limits.cpu)",
        ),
    ],
)
async def test_why_it_failed_is_told_apart(tmp_path, engine, run, kind, message) -> None:
    report, _, _ = await report_of(tmp_path, run)

    assert report["error"]["kind"] == kind, report["error"]
    assert message in report["error"]["message"]
    assert await names(engine) == []


async def test_one_that_takes_too_much_memory_is_killed_and_the_limit_named(tmp_path, engine) -> None:
    text = "x=0123456789abcdef; while :; do x=$x$x; done"
    report, _, _ = await report_of(tmp_path, {**script(text), "limits": {"memory": 2**26}})

    assert report["error"]["kind"] in {"limit", "signal"}  # as far as the engine knows
    assert "used more than 67,108,864 bytes of memory (limits.memory)" in report["error"]["message"]
    assert await names(engine) == []


async def test_memory_and_open_files_are_limited(tmp_path) -> None:
    files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"  # of versions 1 and 2
    text = f"ulimit -n; cat {files} 2>/dev/null; true"
    run = {**script(text), "limits": {"memory": 2**26, "openFiles": 64}}
    report, out, _ = await report_of(tmp_path, run)

    assert report["status"] == "complete"
    assert out == ["64", str(2**26)]


async def test_a_timeout_and_a_cancellation_stop_and_remove_it(tmp_path, engine) -> None:
    run = script("trap 'echo last words; exit 0' TERM; echo begun; while :; do sleep 0.1; done")
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run, timeoutMs=5_000), target("b", run))
        late = await planner.report("a")
        await planner.until(lambda: "begun" in planner.output("b"))
        await planner.control("r1", command="cancel", sessionId="s1", phaseId="b", reason="enough")
        cancelled = await planner.report("b")

    assert late["error"]["kind"] == "timeout"
    assert cancelled["status"] == "cancelled"
    assert planner.output("a") == planner.output("b") == ["begun", "last words"]
    assert await names(engine) == []


class SlowEngine:
    """Stands before an engine; the answer to a creation comes only when the test lets it."""

    def __init__(self, engine: str) -> None:
        self._engine = engine.removeprefix("unix://")
        self.asked = asyncio.Event()
        self.released = asyncio.Event()

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What asyncio calls."""
        answers, questions = await asyncio.open_unix_connection(self._engine)
        held = asyncio.Event()

        async def ask() -> None:
            while data := await reader.read(65_536):
                questions.write(data)
                if b"/containers/create" in data:
                    held.set()
                    self.asked.set()
            questions.close()

        async def answer() -> None:
            while data := await answers.read(65_536):
                if held.is_set():
                    await self.released.wait()
                writer.write(data)
            writer.close()

        await asyncio.gather(ask(), answer(), return_exceptions=True)


async def test_one_that_is_cancelled_while_it_is_made_is_removed(tmp_path, engine, monkeypatch) -> None:
    slow = SlowEngine(engine)
    with tempfile.TemporaryDirectory() as short:
        async with await asyncio.start_unix_server(slow.on_connection, f"{short}/engine.sock"):
            monkeypatch.setenv("DOCKER_HOST", f"unix://{short}/engine.sock")
            async with planner_and_runtime(tmp_path) as (planner, _):
                await planner.offer("r1", target("a", script("sleep 1000")))
                await asyncio.wait_for(slow.asked.wait(), 20)
                await planner.control("r1", command="cancel", sessionId="s1", phaseId="a", reason="enough")
                beats = len(planner.beats)
                await planner.nc.publish("plan.runtime.discover", b"")
                await planner.until(lambda: len(planner.beats) > beats)  # it has had the control by now
                slow.released.set()
                report = await planner.report("a")

    assert report["status"] == "cancelled"
    assert await names(engine) == []


async def test_what_a_killed_runtime_left_is_removed_by_the_next_one(tmp_path, engine) -> None:
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        await planner.offer("r1", target("a", script("echo begun; sleep 1000")))
        await planner.until(lambda: "begun" in planner.output("a"))
        runtime.signal(signal.SIGKILL)
    assert len(await names(engine)) == 1

    report, _, _ = await report_of(tmp_path / "next", container("true"))

    assert report["status"] == "complete"
    assert await names(engine) == []


async def test_what_a_container_cannot_do_is_rejected(tmp_path) -> None:
    runs = {
        "a": {**container("true"), "isolation": "strict"},
        "b": {**container("true"), "cwd": "sub"},
        "c": {"container": {}},
        "e": {**container("true"), "venv": ".venv"},
    }
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", *(target(phase, run) for phase, run in runs.items()))
        reasons = [(await planner.ack(phase, accepted=False))["reason"] for phase in "abce"]

    assert reasons == [
        "x-run.container takes no `isolation`: it is isolated by its engine",
        "x-run.cwd is no folder of the container: write an absolute one, or `mount` the work folder",
        "x-run.container cannot be read: Object missing required field `image`",
        "x-run.container takes no `venv`: its Python is that of its image",
    ]


async def test_an_engine_that_is_not_there_may_come_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    report, _, _ = await report_of(tmp_path, container("true"))

    assert report["error"]["message"].startswith(
        f"the container engine does not answer at unix://{tmp_path}/absent.sock"
    )
    assert report["error"].get("retryable", True)
