"""What phases run: real processes of a real runtime, reported over a real server."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from planter_runtime.executors.isolation import problem
from planter_testkit.pids import until_gone
from planter_testkit.runtimes import planner_and_runtime, target


async def written(path: Path) -> str:
    """The text of a file, once there is some."""
    async with asyncio.timeout(10):
        while not (path.exists() and path.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    return path.read_text().strip()


def python(code: str) -> dict:
    return {"exec": ["python", "-c", code]}


async def test_exec_and_shell_tell_output_arguments_and_identity(tmp_path) -> None:
    script = (
        'echo "$GREETING $PLANTER_SESSION $PLANTER_PHASE $PLANTER_ATTEMPT $PLANTER_FENCE $PLANTER_WITH"; pwd'
    )
    run = {"shell": script, "env": {"GREETING": "hello"}, "with": {"a": [1]}, "cwd": "sub"}
    (tmp_path / "sub").mkdir()
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("say", run, attempt=2, fence=7))
        report = await planner.report("say")

    assert report["status"] == "complete"
    assert (report["attempt"], report["fence"], report["dispatchId"], report["runtimeId"]) == (
        2,
        7,
        "proof",
        "r1",
    )
    assert report["started"] <= report["finished"]
    # Before the final report, all output was confirmed.
    assert planner.output("say", "stdout") == ['hello s1 say 2 7 {"a": [1]}', str(tmp_path / "sub")]


async def test_the_environment_is_not_inherited_and_python_is_our_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NATS_URL", "nats://user:secret@elsewhere")
    code = (
        "import json, os, sys; print(json.dumps(dict(os.environ))); print(sys.executable, sys.stdin.read())"
    )
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("env", python(code)))
        await planner.report("env")

    environment, executable = planner.output("env")
    names = set(json.loads(environment)) - {"LC_CTYPE"}
    allowed = "PATH HOME LANG LC_ALL TZ TMPDIR USER LOGNAME SHELL VIRTUAL_ENV".split()  # noqa: SIM905
    assert {name for name in names if not name.startswith("PLANTER_")} <= set(allowed)
    assert Path(executable.rstrip()).parent == Path(sys.executable).parent


@pytest.mark.parametrize("isolation", ["none", "strict"])
async def test_a_program_leaves_its_result_in_a_file(tmp_path, isolation) -> None:
    run = {"shell": """printf '{ "rows": [1,\\n 2] }' > "$PLANTER_RESULT" """, "isolation": isolation}
    if problem(isolation) is not None:
        pytest.skip(str(problem(isolation)))
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        report = await planner.report("a")

    assert (report["status"], report["result"]) == ("complete", {"rows": [1, 2]})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo nonsense > "$PLANTER_RESULT"', "it is not JSON: "),
        ('ln -s /etc/passwd "$PLANTER_RESULT"', "Too many levels of symbolic links"),
        ('mkfifo "$PLANTER_RESULT"', "it is no file"),
        ('mkdir "$PLANTER_RESULT"', "it is no file"),
        (
            """{ printf '"'; head -c 16777216 /dev/zero | tr '\\0' x; printf '"'; } > "$PLANTER_RESULT" """,
            "the result has 16,777,218 bytes as JSON",
        ),
    ],
)
async def test_a_result_that_is_none_fails_the_phase(tmp_path, script, message) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"shell": script}))
        report = await planner.report("a")

    assert message in report["error"]["message"]
    assert report["error"]["retryable"] is False


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (
            {"shell": "echo oops >&2; exit 3"},
            {"message": "the shell script exited with code 3: oops", "kind": "exit", "exitCode": 3},
        ),
        (
            {"shell": "kill -SEGV $$"},
            {"message": "the shell script was ended by SIGSEGV", "kind": "signal", "signal": "SIGSEGV"},
        ),
        (
            {"exec": ["no-such"]},
            {
                "message": "command 'no-such' was not found: install it, or correct `PATH` or the name",
                "kind": "refused",
                "retryable": False,
            },
        ),
        (
            {"exec": ["/"]},
            {
                "message": "command '/' may not be executed: check its permissions (chmod +x)",
                "kind": "refused",
                "retryable": False,
            },
        ),
    ],
)
async def test_exit_codes_signals_and_missing_commands_are_told_apart(tmp_path, run, error) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        report = await planner.report("a")

    assert (report["status"], report["error"]) == ("failed", error)


async def test_a_missing_folder_is_refused_with_its_name(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"shell": "true", "cwd": "nowhere"}))
        report = await planner.report("a")

    assert report["error"]["kind"] == "refused"
    assert "nowhere" in report["error"]["message"]


async def test_a_timeout_ends_the_whole_group_even_when_it_ignores_sigterm(tmp_path) -> None:
    script = "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! > grandchild; echo stuck >&2; wait"
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("slow", {"shell": script}, timeoutMs=300))
        report = await planner.report("slow")
        await until_gone(int(await written(tmp_path / "grandchild")))

    assert report["status"] == "failed"
    assert report["error"] == {"message": "timed out after 300 ms: stuck", "kind": "timeout"}


async def test_last_words_after_sigterm_are_in_the_log(tmp_path) -> None:
    script = "trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("slow", {"shell": script}))
        await planner.until(lambda: planner.output("slow") == ["up"])
        await planner.control(
            "r1", command="cancel", sessionId="s1", phaseId="slow", fence=1, reason="enough"
        )
        report = await planner.report("slow")

    assert (report["status"], report["error"]["message"]) == ("cancelled", "enough")
    assert planner.output("slow", "stdout") == ["up", "tidied"]


async def test_what_a_phase_leaves_behind_is_killed(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"shell": "sleep 1000 & echo $! > left; echo done"}))
        report = await planner.report("a", seconds=5)
        await until_gone(int(await written(tmp_path / "left")))

    assert report["status"] == "complete"


async def test_a_grandchild_that_escaped_and_holds_the_pipe_is_ended_with_the_attempt(tmp_path) -> None:
    code = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    with open("escaped", "w") as file:
        print(os.getpid(), file=file)
    time.sleep(1000)
while not os.path.exists("escaped"):
    time.sleep(0.01)
print("done")
"""
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", python(code)))
        report = await planner.report("a", seconds=5)
        await until_gone(int(await written(tmp_path / "escaped")))

    assert report["status"] == "complete"
    assert planner.output("a") == ["done"]


async def test_big_output_arrives_whole_and_in_order(tmp_path) -> None:
    code = "for n in range(50_000): print(f'{n:06} ' + 'x' * 60)"
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("big", python(code)))
        await planner.report("big", seconds=60)

    assert [int(line[:6]) for line in planner.output("big")] == list(range(50_000))
    assert planner.messages["log"] < 400


async def test_binary_output_is_readable_and_bounded(tmp_path) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4000 + b'\\nend\\n')"
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("binary", python(code)))
        report = await planner.report("binary")

    assert report["status"] == "complete"
    assert planner.output("binary")[-1] == "end"


# -- python ------------------------------------------------------------------------------------

STEPS = """
import asyncio, os, sys
from planter_runtime import PermanentFailure, TemporaryFailure

def add(a, b=1):
    print("adding")
    print("to stderr", file=sys.stderr)
    return {"sum": a + b}

async def later(n):
    await asyncio.sleep(0)
    return n

def nothing(): pass
def broken(): raise ValueError("bad value")
def never(): raise PermanentFailure("give up")
def again(): raise TemporaryFailure("come back")
def strange(): return {1, 2}
def large(): return "x" * 16_777_216
def leaves(): sys.exit(3)
def vanishes(): os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add", {"a": 2}, {"status": "complete", "result": {"sum": 3}}),
        ("later", {"n": 5}, {"status": "complete", "result": 5}),
        ("nothing", {}, {"status": "complete"}),
        ("broken", {}, {"message": "ValueError: bad value", "kind": "exception"}),
        ("never", {}, {"message": "give up", "kind": "exception", "retryable": False}),
        ("again", {}, {"message": "come back", "kind": "exception"}),
        ("strange", {}, {"message": "returned something that is not JSON", "retryable": False}),
        ("large", {}, {"message": "the result has 16,777,218 bytes", "retryable": False}),
        ("leaves", {}, {"message": "SystemExit: 3"}),
        ("vanishes", {}, {"message": "ended without a result"}),
        ("absent", {}, {"message": "has no function 'absent'", "kind": "refused", "retryable": False}),
        ("add", {"c": 1}, {"message": "cannot be called with these arguments", "retryable": False}),
    ],
)
async def test_python_functions_answer_through_their_own_pipe(tmp_path, name, arguments, expected) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user must not meet ours')")
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("p", {"python": f"steps:{name}", "with": arguments}))
        report = await planner.report("p")

    if expected.get("status") == "complete":
        assert {key: report.get(key) for key in expected} == expected
        assert report.get("result") == expected.get("result")
    else:
        assert report["status"] == "failed"
        assert expected["message"] in report["error"]["message"]
        assert report["error"].get("retryable", True) is expected.get("retryable", True)
    if name == "broken":
        assert planner.output("p", "stderr")[-1] == "ValueError: bad value"
        assert not any("child.py" in line for line in planner.output("p"))


async def test_a_missing_module_is_named_with_a_remedy(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("p", {"python": "absent.module:f"}))
        report = await planner.report("p")

    assert report["error"]["kind"] == "refused"
    assert "there is no module 'absent'" in report["error"]["message"]
    assert str(tmp_path) in report["error"]["message"]


async def test_noop_completes_and_may_name_a_result(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"noop": {}}), target("b", {"noop": {"result": {"x": 1}}}))
        first, second = await planner.report("a"), await planner.report("b")

    assert "result" not in first
    assert second["result"] == {"x": 1}
    assert planner.acks == []  # the final report says it all


async def test_what_cannot_be_executed_is_rejected(tmp_path) -> None:
    async with planner_and_runtime(tmp_path, "--no-executor", "shell") as (planner, _):
        await planner.offer("r1", target("a", {"shell": "true"}), target("b"), target("c", {"container": {}}))
        reasons = [(await planner.ack(phase, accepted=False))["reason"] for phase in "abc"]

    assert reasons[0] == "no executor for shell here, only for noop, exec, python, http"
    assert reasons[1] == "no handler here for the labels (none), and the phase has no x-run"
    assert reasons[2].startswith("no executor for container")
