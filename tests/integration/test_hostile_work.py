"""What work does that nobody has foreseen: its phase fails and says why, all others and the runtime go on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from planter_testkit.runtimes import RuntimeProcess, planner_and_runtime, target

DEEP = "[" * 150 + "]" * 150
LARGE = r"""
{ printf '["'; head -c 100000 /dev/zero | tr '\0' x; printf '\\udcff"]'; } > "$PLANTER_RESULT"
"""
HANDLERS = r"""
import asyncio, sys
from planter_runtime import Runtime

runtime = Runtime()

@runtime.handler(do="exit")
async def exits(ctx):
    sys.exit("as a program would")

@runtime.handler(do="interrupt")
async def interrupts(ctx):
    raise KeyboardInterrupt

@runtime.handler(do="cancelled")
async def cancelled(ctx):
    task = asyncio.ensure_future(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task

@runtime.handler(do="name")
async def name(ctx):
    ctx.progress(1, 2, "\udcff")
    ctx.heartbeat(["\udcff"])
    raise ValueError("bad file \udcff")

@runtime.handler(do="deep")
def deep(ctx):
    found = []
    for _ in range(150):
        found = [found]
    return found

@runtime.handler(do="well")
async def well(ctx):
    return {"ok": True}
"""


def children(pid: int) -> list[str]:
    """The states of the processes that a process has to wait for."""
    pids = [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in pids]


async def test_a_handler_can_end_its_attempt_and_never_its_runtime(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    names = ("exit", "interrupt", "cancelled", "name", "deep", "well")
    async with planner_and_runtime(tmp_path, "--module", "handlers.py") as (planner, runtime):
        asked = [target(one, labels={"do": one}, heartbeatMs=60_000) for one in names]
        await planner.offer("r1", *asked)
        reports = {one: await planner.report(one) for one in names}
        still_there = runtime.process.poll() is None

    told = {one: reports[one]["error"]["message"] for one in names[:-1]}
    assert told == {
        "exit": "the handler raised SystemExit",
        "interrupt": "the handler raised KeyboardInterrupt",
        "cancelled": "the handler raised CancelledError",
        "name": "ValueError: bad file ?",
        "deep": "the result cannot be used as JSON: objects and lists are more than 100 deep",
    }
    assert reports["deep"]["error"]["retryable"] is False
    assert (reports["well"]["result"], still_there) == ({"ok": True}, True)


@pytest.mark.parametrize(
    "run",
    [
        {"shell": f"""printf '%s' '{DEEP}' > "$PLANTER_RESULT" """},
        {"shell": """printf '%s' '["\\udcff"]' > "$PLANTER_RESULT" """},
        {"shell": """printf '%s' '{"n": 1e999}' > "$PLANTER_RESULT" """},
        {"python": "work:name"},
        {"python": "work:deep"},
        {"shell": LARGE},
    ],
    ids=["deep", "surrogate", "number", "name", "function", "large"],
)
async def test_a_result_that_no_planner_could_read_fails_its_phase_for_good(
    tmp_path: Path, run: dict[str, Any]
) -> None:
    (tmp_path / "work.py").write_text(
        "def name():\n    return ['\\udcff']\n"
        "def deep():\n    found = []\n    for _ in range(150): found = [found]\n    return found\n"
    )
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        report = await planner.report("a")

    assert report["status"] == "failed"
    assert "JSON" in report["error"]["message"]
    assert report["error"]["retryable"] is False


async def test_an_address_that_is_none_is_refused_and_what_came_with_it_runs(tmp_path: Path) -> None:
    bad = {"http": {"url": "http://[oops/"}}
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("bad", bad), target("good", {"noop": {}}))
        refused = await planner.ack("bad", accepted=False)
        good = await planner.report("good")

    assert "is not an http or https address" in refused["reason"]
    assert good["status"] == "complete"


async def test_folders_without_rights_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    """As the user that we are; root may do everything, so that for root only the links are of interest."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o750)
    script = f"""
cd "$PLANTER_ARTIFACTS" && mkdir -p a/b && ln -s {elsewhere} a/link && chmod 500 a/b a
echo "$PLANTER_ARTIFACTS"
"""
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"shell": script}))
        report = await planner.report("a")
        folder = Path(planner.output("a", "stdout")[0])
        async with asyncio.timeout(10):
            while folder.parent.exists():
                await asyncio.sleep(0.01)

    assert report["error"]["message"].startswith("artifact 'a/link' cannot be kept")
    assert elsewhere.stat().st_mode & 0o777 == 0o750


async def test_orphans_that_end_by_themselves_leave_no_zombies(tmp_path: Path) -> None:
    scripts = (
        "(true &); sleep 0.1",
        "setsid sh -c 'setsid true &' & sleep 0.1",
        "(sleep 60 &); (sleep 0.01; exec true) & exit 0",
    )
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        for number, script in enumerate(scripts):
            await planner.offer("r1", target(f"p{number}", {"shell": script}))
            report = await planner.report(f"p{number}")
            assert report["status"] == "complete"
        left = children(runtime.process.pid)

    assert left == ["S"]  # the guard


async def test_a_limit_is_named_when_the_shell_has_gone_on_after_it(tmp_path: Path) -> None:
    run = {"shell": "dd if=/dev/zero of=big bs=1M count=5; exit $?", "limits": {"fileSize": 1024 * 1024}}
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        report = await planner.report("a")

    assert report["error"]["kind"] == "limit"
    assert "limits.fileSize" in report["error"]["message"]


async def test_a_secret_is_in_no_name_and_in_no_line_of_json(tmp_path: Path) -> None:
    (tmp_path / "token").write_text('tok\u00e9n"1')
    script = "import json, os; [print(json.dumps(os.environ['T'], ensure_ascii=x)) for x in (True, False)]"
    named = {"shell": 'echo x > "$PLANTER_ARTIFACTS/$T"', "secrets": {"T": "t"}}
    said = {"exec": ["python", "-c", script], "secrets": {"T": "t"}}
    async with planner_and_runtime(tmp_path, "--secret", f"t={tmp_path}/token") as (planner, _):
        await planner.offer("r1", target("named", named), target("said", said))
        refused = await planner.report("named")
        await planner.report("said")

    assert refused["error"]["message"] == "an artifact's name holds a secret"
    assert planner.output("said", "stdout") == ['"***"', '"***"']


async def test_starts_that_fail_leave_no_descriptors(tmp_path: Path) -> None:
    def descriptors(runtime: RuntimeProcess) -> int:
        return len(list(Path(f"/proc/{runtime.process.pid}/fd").iterdir()))

    bad: list[dict[str, Any]] = [
        {"shell": "true", "cwd": "x" * 300},
        {"python": "work:f", "cwd": "y" * 300},
        {"python": "work:f", "venv": "z" * 300},
        {"exec": ["/nowhere/at/all"]},
        {"exec": ["/" + "x" * 300]},
        {"shell": 'mkdir "$PLANTER_RESULT"'},
    ]
    async with planner_and_runtime(tmp_path) as (planner, runtime):
        await planner.offer("r1", *(target(f"first{n}", run) for n, run in enumerate(bad)))
        for n in range(len(bad)):
            await planner.report(f"first{n}")
        before = descriptors(runtime)
        for turn in range(5):
            names = [f"{turn}/{n}" for n in range(len(bad))]
            await planner.offer("r1", *map(target, names, bad))
            reports = [await planner.report(name) for name in names]
        async with asyncio.timeout(10):
            while descriptors(runtime) > before:
                await asyncio.sleep(0.01)

    assert [report["error"]["kind"] for report in reports] == ["refused"] * 5 + ["exception"]
