"""``{exec: [program, argument, ...]}``: a program without a shell."""

from planter_runtime.executors.command import NotDone
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.process import outcome_of
from planter_runtime.executors.programs import Programs
from planter_runtime.executors.results import exchange
from planter_runtime.outcomes import Outcome, with_last_line
from planter_runtime.work import Work


class ExecExecutor:
    """Arguments are in ``PLANTER_WITH``, as JSON; a result goes into the file named by ``PLANTER_RESULT``,

    and files that are to be kept go into the folder named by ``PLANTER_ARTIFACTS``.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    def unfit(self, work: Work) -> str | None:
        """Whether the program exists is found out by starting it."""
        return self._programs.unfit(work)

    async def execute(self, execution: Execution) -> Outcome:
        """Run the program; complete when it exits with 0."""
        run = execution.work.run
        assert run is not None
        assert run.exec is not None
        return await self.run(execution, run.exec, f"`{run.exec[0]}`")

    async def run(self, execution: Execution, argv: tuple[str, ...], shown: str) -> Outcome:
        """Run a program for an attempt; ``shown`` names it in messages."""
        run = execution.work.run
        assert run is not None
        async with exchange(execution, execution.work.folder) as files:
            try:
                command = self._programs.command(execution, argv, files.variables(), writable=(files.folder,))
                status = await self._programs.run(command, execution)
            except NotDone as error:
                await files.collect()
                return error.failure
            await files.collect()
            if status == 0:
                return files.result()
        return with_last_line(outcome_of(status, shown, run.limits), execution.log.last_error_line)
