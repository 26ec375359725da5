"""``{shell: "text"}``: a script for ``/bin/sh``."""

from planter_runtime.executors.exec import run_command
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.process import ProcessGroups
from planter_runtime.outcomes import Outcome
from planter_runtime.work import Work


class ShellExecutor:
    """Runs ``/bin/sh -c text``; the arguments under ``with`` are in ``PLANTER_WITH``, as JSON."""

    def __init__(self, groups: ProcessGroups) -> None:
        self._groups = groups

    def unfit(self, work: Work) -> str | None:
        """A shell is everywhere."""
        del work

    async def execute(self, execution: Execution) -> Outcome:
        """Run the script; complete when it exits with 0."""
        run = execution.work.run
        assert run is not None
        assert run.shell is not None
        return await run_command(execution, ("/bin/sh", "-c", run.shell), "the shell script", self._groups)
