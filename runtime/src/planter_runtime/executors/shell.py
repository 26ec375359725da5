"""``{shell: "text"}``: a script for ``/bin/sh``."""

from planter_runtime.executors.exec import ExecExecutor
from planter_runtime.executors.executor import Execution
from planter_runtime.outcomes import Outcome


class ShellExecutor(ExecExecutor):
    """Runs ``/bin/sh -c text``; the arguments under ``with`` are in ``PLANTER_WITH``, as JSON."""

    async def execute(self, execution: Execution) -> Outcome:
        """Run the script; complete when it exits with 0."""
        run = execution.work.run
        assert run is not None
        assert run.shell is not None
        return await self.run(execution, ("/bin/sh", "-c", run.shell), "the shell script")
