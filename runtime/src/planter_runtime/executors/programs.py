"""Programs of phases: what all executors that start processes share."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from planter_runtime.executors import isolation
from planter_runtime.executors.command import Command, is_there, refused
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.process import (
    ProcessGroups,
    environment,
    interpreter,
    run_child,
    unwrapped,
)
from planter_runtime.executors.pump import Consumer
from planter_runtime.secrets import Secrets, SecretUnusable
from planter_runtime.work import Isolation, Work


class Programs:
    """Starts programs for attempts.

    Args:
        groups: where started processes are noted.
        least: the isolation that every program gets, whatever its manifest says.
        secrets: those of this runtime.
    """

    def __init__(self, groups: ProcessGroups, least: Isolation, secrets: Secrets) -> None:
        self._groups = groups
        self._least: Isolation = least
        self._secrets = secrets

    def unfit(self, work: Work) -> str | None:
        """Why no program of this work can be started here; that it exists is found out by starting it."""
        assert work.run is not None
        level = isolation.stronger(work.run.isolation, self._least)
        return isolation.problem(level) or self._secrets.problem(work.run.secrets.values())

    def command(
        self,
        execution: Execution,
        argv: tuple[str, ...],
        more: Mapping[str, str],
        writable: tuple[Path, ...] = (),
    ) -> Command:
        """The command of an attempt, with ``more`` environment variables; its secrets are masked from now on.

        Isolated, it may write into the work folder and ``writable``.

        Raises:
            CannotStart: a secret cannot be read, or there is no such virtual environment.
        """
        work = execution.work
        assert work.run is not None
        if work.venv is not None and not is_there(interpreter(work.venv)):
            remedy = "make it in an earlier phase (`python -m venv`), or correct `venv`"
            raise refused(f"there is no virtual environment in {work.venv}: {remedy}")
        try:
            secrets = self._secrets.of_attempt(work.run.secrets, execution.log.mask)
        except SecretUnusable as error:
            raise refused(str(error), retryable=True) from None
        return Command(
            argv,
            work.folder,
            {**more, **environment(work, os.environ), **secrets},
            (work.workdir, *writable),
            limits=work.run.limits,
            isolation=isolation.stronger(work.run.isolation, self._least),
        )

    async def run(
        self,
        command: Command,
        execution: Execution,
        *,
        pass_fds: tuple[int, ...] = (),
        hand_over: tuple[int, ...] = (),
        extra: Mapping[int, Consumer] | None = None,
    ) -> int:
        """Run it to its end, see ``process.run_process``; returns its status.

        Raises:
            NotDone: it was not started, or not let go on.
        """
        command = msgspec.structs.replace(command, pass_fds=pass_fds, hand_over=hand_over)
        status = await run_child(command, execution, self._groups, extra)
        return status if command.isolation == "none" else unwrapped(status)
