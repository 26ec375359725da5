"""``{exec: [program, argument, ...]}``: a program without a shell."""

import os

from planter_runtime.executors.command import Command, NotDone
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.isolation import problem, stronger
from planter_runtime.executors.process import ProcessGroups, environment, outcome_of, run_child
from planter_runtime.outcomes import Outcome, with_last_line
from planter_runtime.work import Isolation, Work


class ExecExecutor:
    """The arguments under ``with`` are in ``PLANTER_WITH``, as JSON.

    Args:
        groups: where started processes are noted.
        isolation: the least that every program gets, whatever its manifest says.
    """

    def __init__(self, groups: ProcessGroups, isolation: Isolation) -> None:
        self._groups = groups
        self._isolation: Isolation = isolation

    def unfit(self, work: Work) -> str | None:
        """Whether the program exists is found out by starting it."""
        assert work.run is not None
        return problem(stronger(work.run.isolation, self._isolation))

    async def execute(self, execution: Execution) -> Outcome:
        """Run the program; complete when it exits with 0."""
        run = execution.work.run
        assert run is not None
        assert run.exec is not None
        return await self.run(execution, run.exec, f"`{run.exec[0]}`")

    async def run(self, execution: Execution, argv: tuple[str, ...], shown: str) -> Outcome:
        """Run a program for an attempt; ``shown`` names it in messages."""
        work = execution.work
        assert work.run is not None
        command = Command(
            argv,
            work.folder,
            {"PLANTER_WITH": bytes(work.run.arguments).decode(), **environment(work, os.environ)},
            work.workdir,
            limits=work.run.limits,
            isolation=stronger(work.run.isolation, self._isolation),
        )
        try:
            status = await run_child(command, execution, self._groups)
        except NotDone as error:
            return error.failure
        return with_last_line(outcome_of(status, shown, command), execution.log.last_error_line)
