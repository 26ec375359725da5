"""``{noop: {}}``: nothing runs, the phase is complete at once."""

import msgspec

from planter_runtime.executors.executor import Execution
from planter_runtime.outcomes import Completed, Outcome, completed
from planter_runtime.work import Work


def noop_outcome(work: Work) -> Outcome:
    """Complete, with the ``result`` that the work names, if it names one."""
    given = work.run.noop if work.run else None
    return completed(msgspec.json.encode(given["result"])) if given and "result" in given else Completed()


class NoopExecutor:
    """Needs no task and no log: the agent may call ``noop_outcome`` itself."""

    def unfit(self, work: Work) -> str | None:
        """Nothing is always possible."""
        del work

    async def execute(self, execution: Execution) -> Outcome:
        """Complete."""
        return noop_outcome(execution.work)
