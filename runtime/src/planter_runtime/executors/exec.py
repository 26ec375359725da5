"""``{exec: [program, argument, ...]}``: a program without a shell."""

import os

from planter_runtime.executors.executor import Execution
from planter_runtime.executors.process import (
    Command,
    NotDone,
    ProcessGroups,
    environment,
    outcome_of,
    run_child,
)
from planter_runtime.outcomes import Outcome, with_last_line
from planter_runtime.work import Work


class ExecExecutor:
    """The arguments under ``with`` are in ``PLANTER_WITH``, as JSON."""

    def __init__(self, groups: ProcessGroups) -> None:
        self._groups = groups

    def unfit(self, work: Work) -> str | None:
        """Whether the program exists is found out by starting it."""
        del work

    async def execute(self, execution: Execution) -> Outcome:
        """Run the program; complete when it exits with 0."""
        run = execution.work.run
        assert run is not None
        assert run.exec is not None
        return await run_command(execution, run.exec, f"`{run.exec[0]}`", self._groups)


async def run_command(
    execution: Execution, argv: tuple[str, ...], shown: str, groups: ProcessGroups
) -> Outcome:
    """Run a program for an attempt; ``shown`` names it in messages."""
    work = execution.work
    assert work.run is not None
    variables = {"PLANTER_WITH": bytes(work.run.arguments).decode(), **environment(work, os.environ)}
    try:
        command = Command(argv, work.folder, variables, limits=work.run.limits)
        status = await run_child(command, execution, groups)
    except NotDone as error:
        return error.failure
    return with_last_line(outcome_of(status, shown, work.run.limits), execution.log.last_error_line)
