"""Every way to run a phase and every property: the cells of the table in docs/executors.md, each a test."""

import asyncio
import functools
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from planter_runtime.executors.engine import Engine
from planter_runtime.executors.isolation import problem
from planter_testkit.answering import Server, answer, answering
from planter_testkit.engine import running_engine
from planter_testkit.executors.cells import EXECUTORS, HEARD, Cell, Seen, cells_of, table, write_work
from planter_testkit.pids import until_gone
from planter_testkit.runtimes import PlainPlanner, planner_and_runtime, target

DOCUMENT = Path(__file__).parents[2] / "docs" / "executors.md"
BEGIN, END = "<!-- executors by property: begin -->", "<!-- executors by property: end -->"
BEGIN_PROCESSES = ("shell", "exec", "python")
"""What their phases begin is processes of this machine, whose ids are in the file ``left``."""
SECONDS = 60.0
"""All phases of an executor run at once."""


def answer_of(head: str, body: bytes) -> bytes:
    """What the server of the test says, by the last part of the address."""
    as_json = "Content-Type: application/json"
    match head.split()[1]:
        case "/echo":
            return answer("200 OK", body, *[as_json] * body.startswith(b"{"))
        case "/rows":
            return answer("200 OK", b'{"rows": [1, 2]}', as_json)
        case "/binary":
            return answer("200 OK", b"\xff\xfe\x00")
        case "/large":
            return answer("200 OK", b"x" * 300_000)
        case "/broken":
            return answer("503 Service Unavailable")
        case "/slow":
            return b""
        case _:
            return answer("404 Not Found")


class Run:
    """All phases of one executor on one runtime."""

    def __init__(self, folder: Path, planner: PlainPlanner, server: Server) -> None:
        self.folder = folder
        self.planner = planner
        self.server = server
        self.told: dict[str, list[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Hear of progress and heartbeats, and tell the phases that they were heard."""
        await self.planner.nc.subscribe("plan.session.*.progress", cb=self._on_progress)
        await self.planner.nc.subscribe("plan.session.*.report", cb=self._on_report)

    async def carry_out(self, cells: dict[str, Cell]) -> dict[str, Seen]:
        """What came of each."""
        phases = {f"p{number}": name for number, name in enumerate(cells)}
        targets = []
        for phase, name in phases.items():
            run = json.loads(json.dumps(cells[name].run).replace("URL", self.server.url))
            targets.append(target(phase, run, **cells[name].fields))
        await self.planner.offer("r1", *targets)
        await asyncio.gather(*(self._cancelled(phase, cells[name].cancel) for phase, name in phases.items()))
        async with asyncio.timeout(SECONDS):
            reports = {phase: await self.planner.report(phase, seconds=SECONDS) for phase in phases}
        return {name: self._seen(phase, reports[phase]) for phase, name in phases.items()}

    async def _cancelled(self, phase: str, line: str | None) -> None:
        if line is None:
            return
        if line:
            await self.planner.until(lambda: line in self.planner.output(phase), SECONDS)
        await self.planner.control("r1", command="cancel", sessionId="s1", phaseId=phase, reason="enough")

    def _seen(self, phase: str, report: dict[str, Any]) -> Seen:
        lines = [*self.planner.output(phase, "stdout"), *self.planner.output(phase, "log")]
        requests = [
            head + body.decode("latin-1")
            for head, body in zip(self.server.heads, self.server.bodies, strict=True)
        ]
        return Seen(report, lines, self.told.get(phase, []), requests)

    async def _on_progress(self, message: Msg) -> None:
        said = json.loads(message.data)
        self._hear(said["phaseId"], {name: said[name] for name in ("done", "total", "message")})

    async def _on_report(self, message: Msg) -> None:
        body = json.loads(message.data)
        for report in body.get("reports") or [body]:
            if report.get("status") == "heartbeat":
                self._hear(report["phaseId"], report["details"])

    def _hear(self, phase: str, said: dict[str, Any]) -> None:
        self.told.setdefault(phase, []).append(said)
        (self.folder / HEARD.format(phase)).touch()


async def ran(folder: Path, executor: str, engine: str | None) -> dict[str, Seen]:
    """All phases of an executor; nothing of them is left when it returns."""
    folder.mkdir()
    write_work(folder)
    cells = {name: cell for name, cell in cells_of(executor).items() if _lacks(executor, name) is None}
    arguments = ["--slots", "50", "--module", "handlers.py", "--secret", f"token={folder}/token"]
    async with (
        answering(answer_of) as server,
        planner_and_runtime(folder, *arguments) as (planner, _),
    ):
        run = Run(folder, planner, server)
        await run.listen()
        seen = await run.carry_out(cells)
        if executor == "http":
            await server.left_alone()
        elif engine is not None:
            async with Engine(engine) as asked:
                assert await asked.labelled("planter.runtime") == []
        elif executor in BEGIN_PROCESSES:
            for pid in (folder / "left").read_text().split():
                await until_gone(int(pid))
        return seen


def _lacks(executor: str, name: str) -> str | None:
    """Why this machine cannot show it."""
    return problem("strict") if "isolation" in name and executor != "container" else None


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of the phases of an executor; they run when the first of them is asked for."""

    @functools.cache
    def of(executor: str) -> dict[str, Seen] | Exception:
        folder = tmp_path_factory.mktemp("table")
        with ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("SECRET_OF_THE_RUNTIME", "x")
            engine = None
            if executor == "container":
                engine = stack.enter_context(running_engine(folder))
                patch.setenv("DOCKER_HOST", engine)
            try:
                return asyncio.run(ran(folder / executor, executor, engine))
            except Exception as error:
                return error  # to be raised by every test of the executor

    return of


@pytest.mark.parametrize(
    ("executor", "name"),
    [
        pytest.param(executor, name, marks=pytest.mark.xdist_group(executor))
        for executor in EXECUTORS
        for name in cells_of(executor)
    ],
)
def test_cell(outcomes, executor: str, name: str) -> None:
    if (lack := _lacks(executor, name)) is not None:
        pytest.skip(lack)
    found = outcomes(executor)
    if isinstance(found, Exception):
        raise found
    seen = found[name]
    assert cells_of(executor)[name].check(seen), seen


def test_the_document_shows_the_table() -> None:
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    assert rest.partition(END)[0].strip() == table(), f"write the table between {BEGIN} and {END}"
