"""A runtime from its registration to its end, through lost servers, on a real one."""

import asyncio
import contextlib
import json
import signal
import time
from pathlib import Path

import nats
import pytest

from planter_testkit.nats import end, publish_raw, running_nats_server
from planter_testkit.runtimes import (
    RuntimeProcess,
    plain_planner,
    planner_and_runtime,
    runtime_process,
    target,
)

HANDLERS = """
import time
from pathlib import Path
from planter_runtime import PermanentFailure, PhaseContext, Runtime

runtime = Runtime(labels={"zone": "x"})

@runtime.handler(phase="hello")
async def hello(ctx: PhaseContext) -> dict:
    ctx.log("first\\nsecond")
    ctx.logger.warning("careful %s", ctx.phase)
    return {"deadline": ctx.deadline is not None, "labels": ctx.labels}

@runtime.handler(phase="hello", loud="yes")
def loud(ctx):
    for n in range(500):
        ctx.log(f"line {n}")
    return "LOUD"

@runtime.handler(phase="sum")
def total(ctx: PhaseContext, numbers: list[int], factor: int = 1) -> int:
    ctx.log(f"{len(numbers)} numbers")
    return sum(numbers) * factor

@runtime.handler(phase="broken")
def broken():
    raise KeyError("missing")

@runtime.handler(phase="never")
async def never():
    raise PermanentFailure("not here")

@runtime.handler(phase="sleepy")
async def sleepy(ctx):
    import anyio
    try:
        await anyio.sleep(1000)
    finally:
        ctx.log("woken")

@runtime.handler(phase="stuck")
def stuck(ctx):
    while not ctx.is_cancelled:
        time.sleep(0.005)
    while not Path("let-go").exists():
        time.sleep(0.005)

if __name__ == "__main__":
    runtime.run()
"""


async def test_it_registers_with_all_that_a_planner_needs(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    flags = (
        "--module",
        "handlers.py",
        "--label",
        "a=b",
        "--any-selector",
        "--slots",
        "3",
        "--capability",
        "gpu",
    )
    async with planner_and_runtime(tmp_path, *flags, "--lease", "1.5") as (planner, runtime):
        beat = planner.beats[0]
        await planner.until(lambda: len(planner.beats) >= 4)  # every half second

    assert (beat["runtimeId"], beat["slots"], beat["leaseMs"]) == ("r1", 3, 1500)
    assert beat["labels"] == {"a": "b", "zone": "x", "*": "*"}
    assert {"phase": "hello", "loud": "yes"} in beat["handlers"]
    assert beat["executors"] == ["noop", "exec", "shell", "python", "http"]
    assert beat["capabilities"] == ["gpu"]
    assert beat["pid"] == runtime.process.pid


async def test_handlers_are_chosen_by_labels_and_report(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    async with planner_and_runtime(tmp_path, "--module", "handlers.py") as (planner, _):
        await planner.offer(
            "r1",
            target("a", labels={"phase": "hello"}, timeoutMs=60_000),
            target("b", labels={"phase": "hello", "loud": "yes", "more": "x"}),
            target("c", labels={"phase": "broken"}),
            target("d", labels={"phase": "never"}),
        )
        a, b, c, d = [await planner.report(phase) for phase in "abcd"]

    assert a["result"] == {"deadline": True, "labels": {"phase": "hello"}}
    assert planner.output("a", "log") == ["first", "second", "careful a"]
    assert [entry["level"] for entry in planner.logs if entry["phaseId"] == "a"] == ["info", "warning"]
    assert b["result"] == "LOUD"
    assert planner.output("b") == [f"line {n}" for n in range(500)]
    assert c["error"] == {"message": "KeyError: 'missing'", "kind": "exception"}
    assert planner.output("c")[0].startswith("Traceback")
    assert d["error"] == {"message": "not here", "kind": "exception", "retryable": False}
    assert planner.output("d") == []


async def test_handlers_take_arguments_as_they_are_annotated(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    labels = {"phase": "sum"}
    async with planner_and_runtime(tmp_path, "--module", "handlers.py") as (planner, _):
        await planner.offer(
            "r1",
            target("a", {"with": {"numbers": [1, 2], "factor": 2}}, labels=labels),
            target("b", {"with": {"numbers": ["x"]}}, labels=labels),
        )
        a, b = await planner.report("a"), await planner.report("b")

    assert (a["result"], planner.output("a")) == (6, ["2 numbers"])
    assert b["error"]["message"] == "argument 'numbers': Expected `int`, got `str` - at `$[0]`"
    assert b["error"]["retryable"] is False


async def test_progress_of_handlers_functions_and_programs_is_told_to_who_watches(tmp_path) -> None:
    (tmp_path / "token").write_text("correct-horse")
    (tmp_path / "work.py").write_text(
        "from planter_runtime import report_progress\n"
        "def run():\n    report_progress(1, 4, 'rows')\n    report_progress(4, 4, 'rows')\n"
    )
    shell = {"shell": 'echo "2/3 $T" > "$PLANTER_PROGRESS"', "secrets": {"T": "t"}}
    heard: dict[str, dict] = {}
    async with planner_and_runtime(tmp_path, "--secret", f"t={tmp_path}/token") as (planner, _):

        async def hear(message) -> None:
            told = json.loads(message.data)
            heard[told["phaseId"]] = told

        await planner.nc.subscribe("plan.session.s1.progress", cb=hear)
        await planner.nc.flush()
        await planner.offer("r1", target("a", {"python": "work:run"}), target("b", shell, attempt=2))
        for phase in "ab":
            await planner.report(phase)
        async with asyncio.timeout(10):
            while len(heard) < 2:
                await asyncio.sleep(0.01)

    common = {"attempt": 1, "runtimeId": "r1"}
    assert heard["a"] == {"phaseId": "a", "done": 4.0, "total": 4.0, "message": "rows", **common}
    assert heard["b"] == {"phaseId": "b", "done": 2.0, "total": 3.0, "message": "***", **common, "attempt": 2}


async def test_a_late_async_handler_is_cancelled(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    async with planner_and_runtime(tmp_path, "--module", "handlers.py") as (planner, _):
        await planner.offer("r1", target("a", labels={"phase": "sleepy"}, timeoutMs=200))
        report = await planner.report("a")

    assert report["error"] == {"message": "timed out after 200 ms", "kind": "timeout"}
    assert planner.output("a") == ["woken"]


async def test_a_thread_that_cannot_be_stopped_is_reported_and_keeps_its_slot(tmp_path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    async with planner_and_runtime(tmp_path, "--module", "handlers.py", "--slots", "1") as (planner, _):
        await planner.offer("r1", target("a", labels={"phase": "stuck"}, timeoutMs=100))
        report = await planner.report("a")
        await planner.offer("r1", target("b", {"noop": {}}))
        ack = await planner.ack("b")
        (tmp_path / "let-go").touch()
        after = await planner.report("b")

    assert report["error"]["kind"] == "timeout"
    assert ack["queued"] is True
    assert after["status"] == "complete"


async def test_slots_limit_what_runs_and_the_rest_waits(tmp_path) -> None:
    async with planner_and_runtime(tmp_path, "--slots", "2") as (planner, _):
        wait = {"shell": "until [ -e go ]; do sleep 0.01; done"}
        await planner.offer("r1", *(target(phase, wait) for phase in "abc"))
        await planner.report("a", "running")
        await planner.report("b", "running")
        queued = await planner.ack("c")
        (tmp_path / "go").touch()
        reports = [await planner.report(phase) for phase in "abc"]

    assert queued["queued"] is True
    assert [report["status"] for report in reports] == ["complete"] * 3


async def test_fences_hold_over_the_wire(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        count = {"shell": "echo run >> count; until [ -e go ]; do sleep 0.01; done"}
        await planner.offer("r1", target("a", count, fence=5))
        async with asyncio.timeout(20):  # the report says that it runs; the script may not have begun yet
            while not ((tmp_path / "count").exists() and (tmp_path / "count").read_text()):
                await asyncio.sleep(0.01)
        await planner.offer("r1", target("a", count, fence=5), target("a", count, fence=4))
        await planner.offer("r1", target("a", {"shell": "echo new"}, fence=9, attempt=2))
        new = await planner.report("a")
        await planner.offer("r1", target("a", {"shell": "echo new"}, fence=9, attempt=2))
        await planner.until(lambda: len([r for r in planner.reports if r.get("status") == "complete"]) == 2)

    assert (tmp_path / "count").read_text() == "run\n"
    assert (new["fence"], new["attempt"]) == (9, 2)
    assert {r["fence"] for r in planner.reports if r.get("status", "running") != "running"} == {9}
    assert planner.output("a") == ["new"]


async def test_bad_messages_do_not_stop_it(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        for data in (b"", b"{", b'{"targets": 1}', b"\xff", b'{"targets":[{"phaseId":"x","reason":"r"}]}'):
            await planner.nc.publish("plan.runtime.r1.target", data)
            await planner.nc.publish("plan.runtime.r1.control", data)
        await planner.offer("r1", target("x", {"noop": {}}, runtimeId="other", sessionId="a.b"))
        await planner.offer("r1", target("a", {"noop": {}}))
        await planner.report("a")

    assert b"target.unreadable" in runtime.log.read_bytes()


async def test_a_thousand_noops_at_once_are_few_messages(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        targets = [target(f"phase-{n}", {"noop": {}}, fence=n + 1) for n in range(1_000)]
        begun = time.perf_counter()
        await planner.offer("r1", *targets)
        await planner.until(lambda: len(planner.reports) == 1_000)
        seconds = time.perf_counter() - begun

    print(f"1,000 noop targets in {seconds * 1000:.0f} ms, messages: {planner.messages}")
    assert sum(planner.messages.values()) < 100
    assert {report["status"] for report in planner.reports} == {"complete"}


async def test_a_thousand_handlers_at_once_are_few_messages(tmp_path) -> None:
    (tmp_path / "quick.py").write_text(
        "from planter_runtime import Runtime\nruntime = Runtime(slots=50)\n"
        "@runtime.handler(phase='quick')\nasync def quick(ctx): return ctx.fence\n"
    )
    async with planner_and_runtime(tmp_path, "--module", "quick.py") as (planner, _):
        targets = [target(f"p{n}", labels={"phase": "quick"}, fence=n + 1) for n in range(1_000)]
        begun = time.perf_counter()
        await planner.offer("r1", *targets)
        await planner.until(lambda: sum(r.get("status") == "complete" for r in planner.reports) == 1_000)
        seconds = time.perf_counter() - begun

    print(f"1,000 async handlers in {seconds * 1000:.0f} ms, messages: {planner.messages}")
    assert sum(planner.messages.values()) < 100


# -- the end -----------------------------------------------------------------------------------


async def test_sigterm_drains(tmp_path) -> None:
    async with planner_and_runtime(tmp_path, "--slots", "1") as (planner, runtime):
        wait = {"shell": "until [ -e go ]; do sleep 0.01; done; echo done"}
        await planner.offer("r1", target("a", wait), target("b", wait))
        await planner.report("a", "running")
        runtime.signal(signal.SIGTERM)
        await planner.until(lambda: any(beat.get("state") == "draining" for beat in planner.beats))
        await planner.offer("r1", target("c", {"noop": {}}))
        reasons = [(await planner.ack(phase, accepted=False))["reason"] for phase in "bc"]
        (tmp_path / "go").touch()
        report = await planner.report("a")
        status = await runtime.ended()
        await planner.until(lambda: planner.beats[-1].get("state") == "gone")

    assert reasons == ["draining", "draining"]
    assert report["status"] == "complete"
    assert planner.output("a") == ["done"]
    assert status == 0


async def test_what_does_not_end_within_the_drain_timeout_is_cancelled_and_told(tmp_path) -> None:
    async with planner_and_runtime(tmp_path, "--drain-timeout", "0.2") as (planner, runtime):
        await planner.offer("r1", target("a", {"exec": ["sleep", "1000"]}))
        await planner.report("a", "running")
        await planner.control("r1", command="drain")
        report = await planner.report("a")
        status = await runtime.ended()

    assert (report["status"], report["error"]["message"]) == ("cancelled", "the runtime is shutting down")
    assert status == 0


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_it_and_what_it_runs_at_once(tmp_path, number, expected) -> None:
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        await planner.offer("r1", target("a", {"shell": "sleep 1000 & echo $!; wait"}))
        await planner.until(lambda: planner.output("a"))
        grandchild = int(planner.output("a")[0])
        runtime.signal(signal.SIGTERM)
        await planner.until(lambda: any(beat.get("state") == "draining" for beat in planner.beats))
        runtime.signal(number)
        status = await runtime.ended()
        await ended(grandchild)

    assert status == expected


async def test_children_and_grandchildren_die_with_a_runtime_that_is_killed(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        await planner.offer("r1", target("a", {"shell": "sleep 1000 & echo $$ $!; wait"}))
        await planner.until(lambda: planner.output("a"))
        runtime.signal(signal.SIGKILL)
        await runtime.ended()
        for pid in planner.output("a")[0].split():
            await ended(int(pid))


async def test_it_ends_under_load(tmp_path) -> None:
    """Python 3.11 swallows cancellations around NATS requests; the drain must not hang on one."""
    async with planner_and_runtime(tmp_path, "--slots", "8", "--drain-timeout", "1") as (planner, runtime):
        for session in range(20):
            shells = [
                target(
                    f"p{n}", {"shell": "while :; do echo line; sleep 0.001; done"}, sessionId=f"s{session}"
                )
                for n in range(3)
            ]
            noops = [target(f"n{n}", {"noop": {}}, sessionId=f"s{session}") for n in range(50)]
            await planner.offer("r1", *shells, *noops)
        await planner.until(lambda: sum(planner.messages.values()) > 100)
        runtime.signal(signal.SIGTERM)
        status = await runtime.ended(20)

    assert status == 0


async def test_without_a_server_it_says_so_and_ends_with_4(tmp_path) -> None:
    runtime = RuntimeProcess("nats://127.0.0.1:1", tmp_path, "r1")

    assert await runtime.ended(20) == 4
    text = runtime.log.read_text()
    assert "nats://127.0.0.1:1" in text
    assert "planter dev" in text
    assert "Traceback" not in text


async def test_replies_to_subjects_that_are_no_text_are_wanted_in_vain(tmp_path) -> None:
    async with (
        running_nats_server(tmp_path / "nats") as server,
        plain_planner(server.url) as planner,
        runtime_process(planner, server.url, tmp_path, "r1"),
    ):
        subjects = (b"plan.runtime.r1.target", b"plan.runtime.r1.control", b"plan.runtime.discover")
        for odd in (b"_INBOX.\xff", b"_INBOX.a\x0bb"):
            await publish_raw(server.url, *subjects, b"$SRV.PING", b"$SRV.INFO.planter-runtime.r1", reply=odd)
        await planner.offer("r1", target("a", {"noop": {}}))
        assert (await planner.report("a"))["status"] == "complete"


async def test_a_second_runtime_of_a_name_is_refused_and_the_first_goes_on(tmp_path) -> None:
    async with (
        running_nats_server(tmp_path / "nats") as server,
        plain_planner(server.url) as planner,
        runtime_process(planner, server.url, tmp_path, "r1"),
    ):
        await planner.offer("r1", target("a", {"shell": "until [ -e go ]; do sleep 0.01; done"}))
        await planner.report("a", "running")
        other = RuntimeProcess(server.url, tmp_path / "nats", "r1")
        assert await other.ended(20) == 5
        (tmp_path / "go").touch()
        assert (await planner.report("a"))["status"] == "complete"

    text = other.log.read_text()
    assert "runtime 'r1' is running already, on host " in text
    assert "--id" in text
    assert "Traceback" not in text
    assert len({beat["instance"] for beat in planner.beats}) == 1  # no planner has ever heard of it


async def test_a_name_is_free_again_when_who_had_it_has_drained_or_was_killed_or_stands_still(
    tmp_path,
) -> None:
    with contextlib.ExitStack() as stack:

        def start() -> RuntimeProcess:
            runtime = RuntimeProcess(server.url, tmp_path / "nats", "r1")
            stack.callback(end, runtime.process, signal.SIGKILL)
            return runtime

        async def registered(lives: int) -> None:
            await planner.until(lambda: len({beat["instance"] for beat in planner.beats}) == lives)

        async with (
            running_nats_server(tmp_path / "nats") as server,
            plain_planner(server.url) as planner,
            runtime_process(planner, server.url, tmp_path, "r1") as draining,
        ):
            await planner.offer("r1", target("a", {"shell": "until [ -e go ]; do sleep 0.01; done"}))
            await planner.report("a", "running")
            draining.signal(signal.SIGTERM)
            await planner.until(lambda: any(beat.get("state") == "draining" for beat in planner.beats))
            second = start()
            async with asyncio.timeout(20):
                while "runtime.waiting" not in second.log.read_text():
                    await asyncio.sleep(0.01)
            (tmp_path / "go").touch()
            assert await draining.ended() == 0
            await registered(2)
            second.signal(signal.SIGKILL)
            await second.ended()
            third = start()
            await registered(3)
            third.signal(signal.SIGSTOP)
            start()
            await registered(4)


@pytest.mark.parametrize(
    "arguments",
    [["--slots", "0"], ["--label", "x"], ["--id", "a.b"], ["--module", "absent.py"], ["--workdir", "no"]],
)
async def test_wrong_usage_ends_with_2_and_one_line(tmp_path, arguments) -> None:
    runtime = RuntimeProcess("nats://127.0.0.1:1", tmp_path, "r1", arguments)

    assert await runtime.ended() == 2
    assert "Traceback" not in runtime.log.read_text()


# -- lost servers ------------------------------------------------------------------------------


async def test_a_report_survives_a_killed_server(tmp_path) -> None:
    async with (
        running_nats_server(tmp_path / "nats") as server,
        plain_planner(server.url) as planner,
        runtime_process(planner, server.url, tmp_path, "r1", ["--lease", "2"]) as runtime,
    ):
        wait = {"shell": "echo before; until [ -e go ]; do sleep 0.01; done; echo after; exit 7"}
        await planner.offer("r1", target("a", wait))
        await planner.until(lambda: planner.output("a") == ["before"])
        server.kill()
        (tmp_path / "go").touch()
        await until_log(runtime, b"publish.unconfirmed", b"publish.given_up", b"connection.failed")
        await server.start()
        report = await stored(planner, "PLANTER_IN", "plan.session.s1.report", "failed")
        beats = len(planner.beats)
        await planner.until(lambda: len(planner.beats) > beats)

    assert report["error"]["exitCode"] == 7


async def test_logs_that_cannot_be_sent_do_not_fail_the_phase(tmp_path) -> None:
    async with running_nats_server(tmp_path / "nats") as server, plain_planner(server.url) as planner:
        await planner.nc.jetstream().delete_stream("PLANTER_LOGS")
        async with runtime_process(planner, server.url, tmp_path) as runtime:
            await planner.offer("r1", target("a", {"shell": "seq 1 200000"}))
            report = await planner.report("a", seconds=30)

    assert report["status"] == "complete"
    assert b"given_up" in runtime.log.read_bytes()


async def test_reports_wait_for_a_stream_that_does_not_exist_yet(tmp_path) -> None:
    async with running_nats_server(tmp_path / "nats") as server, plain_planner(server.url) as planner:
        js = planner.nc.jetstream()
        config = (await js.stream_info("PLANTER_IN")).config
        await js.delete_stream("PLANTER_IN")
        async with runtime_process(planner, server.url, tmp_path) as runtime:
            await planner.offer("r1", target("a", {"noop": {}}))
            await until_log(runtime, b"publish.unconfirmed")
            await js.add_stream(config)
            report = await stored(planner, "PLANTER_IN", "plan.session.s1.report", "complete")

    assert report["phaseId"] == "a"


async def ended(pid: int) -> None:
    """Wait until a process is gone (a zombie of somebody else counts as gone)."""
    async with asyncio.timeout(10):
        while running(pid):
            await asyncio.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_log(runtime: RuntimeProcess, *events: bytes) -> None:
    """Wait until the runtime's log names one of the events."""
    async with asyncio.timeout(20):
        while not any(event in runtime.log.read_bytes() for event in events):
            await asyncio.sleep(0.01)


async def stored(planner, stream: str, subject: str, status: str) -> dict:
    """The newest report in the stream, once it has the status."""
    js = planner.nc.jetstream()
    async with asyncio.timeout(30):
        while True:
            reports = []
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                body = json.loads((await js.get_last_msg(stream, subject)).data)
                reports = body.get("reports") or [body]
            for report in reports:
                if report.get("status") == status:
                    return report
            await asyncio.sleep(0.02)
