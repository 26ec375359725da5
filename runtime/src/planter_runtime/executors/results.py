"""What a program leaves: JSON in the file ``PLANTER_RESULT``, files in the folder ``PLANTER_ARTIFACTS``."""

import os
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog

from planter_runtime.artifacts import FOLDER
from planter_runtime.executors.executor import Execution
from planter_runtime.outcomes import RESULT_BYTES_MAX, Completed, Outcome, completed, failed
from planter_runtime.work import Work

log = structlog.get_logger(__name__)

VARIABLE = "PLANTER_RESULT"
_RESULT, _ARTIFACTS, _ARGUMENTS = "result.json", "artifacts", "with.json"
_READ_BYTES_MAX = 2 * RESULT_BYTES_MAX
"""It may be written with more spaces than are kept."""
_ARGUMENTS_BYTES_MAX = 64 * 1024
"""In a variable: the system has a limit for each, and one for all."""


class Exchange:
    """A folder of one attempt: its program finds long arguments there, and leaves result and artifacts.

    Attributes:
        folder: the program may write there.
        artifacts: the folder in it for files that are to be kept.
    """

    def __init__(self, execution: Execution, folder: Path, base: int | None) -> None:
        self.folder = folder
        self.artifacts = folder / _ARTIFACTS
        self._execution = execution
        self._base = base

    def variables(self, seen_as: Path | None = None) -> dict[str, str]:
        """What tells the program of it, and its arguments, in a file if they are too long for a variable.

        Args:
            seen_as: where the program finds the folder; None: at the same place.
        """
        run = self._execution.work.run
        assert run is not None
        place = seen_as or self.folder
        found = {VARIABLE: str(place / _RESULT), FOLDER: str(place / _ARTIFACTS)}
        arguments = bytes(run.arguments)
        if len(arguments) <= _ARGUMENTS_BYTES_MAX:
            return {**found, "PLANTER_WITH": arguments.decode()}
        (self.folder / _ARGUMENTS).write_bytes(arguments)
        return {**found, "PLANTER_WITH_FILE": str(place / _ARGUMENTS)}

    async def collect(self) -> None:
        """Note the artifacts that the program has left, however it ended."""
        run = self._execution.work.run
        assert run is not None
        if run.artifacts or _has_entries(self.artifacts):
            noted = self._execution.artifacts
            await anyio.to_thread.run_sync(noted.collect, self.artifacts, self._base, run.artifacts)

    def result(self) -> Outcome:
        """The result that was left; none is fine, one that is no JSON is a failure."""
        return _read(self.folder / _RESULT)


@asynccontextmanager
async def exchange(
    execution: Execution, work_folder: Path | None, *, for_everybody: bool = False
) -> AsyncGenerator[Exchange]:
    """An exchange with a program, whose folder is removed afterwards.

    Args:
        execution: of the program.
        work_folder: where the files of ``x-run.artifacts`` are; None: nowhere.
        for_everybody: the program may run as any user.
    """
    private = Path(tempfile.mkdtemp(prefix="planter-result-"))
    try:
        folder = private
        if for_everybody:  # below one that is ours alone
            folder /= "box"
            folder.mkdir()
            folder.chmod(0o777)
        (folder / _ARTIFACTS).mkdir()
        if for_everybody:
            (folder / _ARTIFACTS).chmod(0o777)
        with _opened(execution.work, work_folder) as base:
            yield Exchange(execution, folder, base)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove, private)


def _remove(folder: Path) -> None:
    """What another user owns stays, and is no failure of the phase; no link is followed."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    for place, names, _ in os.walk(folder):  # the program may have taken rights from its folders
        for inner in (os.path.join(place, name) for name in names):  # noqa: PTH118  (os.walk has no paths)
            with suppress(OSError):
                if not os.path.islink(inner):  # noqa: PTH114
                    os.chmod(inner, 0o700)  # noqa: PTH101
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        log.warning("exchange.stays", folder=str(folder))


@contextmanager
def _opened(work: Work, folder: Path | None) -> Generator[int | None]:
    """The folder that ``x-run.artifacts`` are in, opened before the program can put another in its place."""
    assert work.run is not None
    if not work.run.artifacts or folder is None:
        yield None
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield None  # whoever starts the program says what is wrong with it
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return True  # let the search say what is wrong with it


def _read(path: Path) -> Outcome:
    try:
        # No links, no pipes: what the program may not read, it must not have us read.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Completed()
    except OSError as error:
        return _unusable(str(error.strerror))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return _unusable("it is no file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(_READ_BYTES_MAX)
    finally:
        os.close(fd)
    if not data.strip():
        return Completed()
    try:
        compact = msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unusable(f"it is not JSON: {error}")
    return completed(compact)


def _unusable(reason: str) -> Outcome:
    return failed(f"the result in {VARIABLE} cannot be used: {reason}", "exception", retryable=False)
