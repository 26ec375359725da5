"""``{python: "module:function"}``: a function in an interpreter of its own, called with ``with``.

The call goes to the child in an unlinked file, the answer comes back through a pipe that is not stdout:
whatever the function prints is log.
"""

import os
import sys
import tempfile
from typing import IO, Literal

import msgspec

from planter_runtime import child
from planter_runtime.artifacts import FOLDER
from planter_runtime.executors.command import NotDone
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.process import interpreter, outcome_of
from planter_runtime.executors.programs import Programs
from planter_runtime.executors.pump import Consumer
from planter_runtime.executors.results import Exchange, exchange
from planter_runtime.outcomes import RESULT_BYTES_MAX, Completed, Outcome, completed, failed, with_last_line
from planter_runtime.work import Work

_ANSWER_BYTES_MAX = 2 * RESULT_BYTES_MAX


class _Answer(msgspec.Struct, frozen=True):
    """What the child says: a result, or an error, or (an empty object) a function that returned None."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None
    kind: Literal["exception", "refused"] = "exception"
    retryable: bool = True


class PythonExecutor:
    """Runs functions of modules in the work folder, each call in a new process."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    def unfit(self, work: Work) -> str | None:
        """Whether the function exists is found out by the child."""
        return self._programs.unfit(work)

    async def execute(self, execution: Execution) -> Outcome:
        """Call the function; complete with what it returns."""
        work = execution.work
        assert work.run is not None
        answer = bytearray()

        async def take(data: bytes) -> None:
            if len(answer) <= _ANSWER_BYTES_MAX:
                answer.extend(data)

        try:
            async with exchange(execution, work.folder) as files:
                status = await self._call(execution, files, take)
        except NotDone as error:
            return error.failure
        name = f"`{work.run.python}`"
        if status != 0:
            return with_last_line(outcome_of(status, name, work.run.limits), execution.log.last_error_line)
        return _read(bytes(answer), name)

    async def _call(self, execution: Execution, files: Exchange, take: Consumer) -> int:
        """The status of the process that calls the function and writes its answer for ``take``."""
        with _call_file(execution.work) as call:
            reader, writer = os.pipe()
            try:
                argv = _argv(execution.work, call.fileno(), writer)
                folder = {FOLDER: str(files.artifacts)}
                command = self._programs.command(execution, argv, folder, writable=(files.folder,))
            except BaseException:
                os.close(reader)
                os.close(writer)
                raise
            try:
                status = await self._programs.run(
                    command,
                    execution,
                    pass_fds=(call.fileno(),),
                    hand_over=(writer,),
                    extra={reader: take},
                )
            except NotDone:
                await files.collect()
                raise
        await files.collect()
        return status


def _argv(work: Work, call: int, answer: int) -> tuple[str, ...]:
    # -P: a file `json.py` beside the script or in the work folder must not meet our child's own imports.
    # By path and not with -m, which would load runpy and half of importlib first.
    python = sys.executable if work.venv is None else str(interpreter(work.venv))
    return (python, "-P", child.__file__, str(call), str(answer))


def _call_file(work: Work) -> IO[bytes]:
    assert work.run is not None
    folders = [str(work.folder)]
    if work.folder != work.workdir:
        folders.append(str(work.workdir))
    call = {"function": work.run.python, "with": work.run.arguments, "path": folders}
    file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    file.write(msgspec.json.encode(call))
    file.flush()
    file.seek(0)
    return file


def _read(data: bytes, name: str) -> Outcome:
    """The child's answer; one that is missing or broken is a failure, never a success."""
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if len(data) > _ANSWER_BYTES_MAX:
            return completed(data)
        return failed(f"the process of {name} ended without a result", "exception")
    if answer.error is not None:
        return failed(answer.error, answer.kind, retryable=answer.retryable)
    return Completed() if answer.result is msgspec.UNSET else completed(bytes(answer.result))
