"""What a program leaves: JSON in the file ``PLANTER_RESULT``, files in the folder ``PLANTER_ARTIFACTS``."""

import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import msgspec

from planter_runtime.executors.executor import Execution
from planter_runtime.outcomes import RESULT_BYTES_MAX, Completed, Outcome, completed, failed
from planter_runtime.work import Work

VARIABLE = "PLANTER_RESULT"
_READ_BYTES_MAX = 2 * RESULT_BYTES_MAX
"""It may be written with more spaces than are kept."""
_ARGUMENTS_BYTES_MAX = 64 * 1024
"""In a variable: the system has a limit for each, and one for all."""


@contextmanager
def result_file() -> Generator[Path]:
    """A place for a result, and one for artifacts, in a folder of their own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="planter-result-", ignore_cleanup_errors=True) as folder:
        artifact_folder(Path(folder) / "result.json").mkdir()
        yield Path(folder) / "result.json"


def artifact_folder(result: Path) -> Path:
    """Where a program puts files that are to be kept."""
    return result.with_name("artifacts")


def arguments_for(work: Work, result: Path, seen_as: Path | None = None) -> dict[str, str]:
    """How a program gets its arguments: as a variable, or in a file if they are too long for one.

    Args:
        work: the attempt.
        result: its result file.
        seen_as: where the program finds that; None: at the same place.
    """
    assert work.run is not None
    arguments = bytes(work.run.arguments)
    if len(arguments) <= _ARGUMENTS_BYTES_MAX:
        return {"PLANTER_WITH": arguments.decode()}
    file = result.with_name("with.json")
    file.write_bytes(arguments)
    return {"PLANTER_WITH_FILE": str((seen_as or result).with_name(file.name))}


@contextmanager
def base_of(work: Work, folder: Path | None) -> Generator[int | None]:
    """The folder that ``artifacts`` of the work are in, opened before it can put another in its place."""
    assert work.run is not None
    if not work.run.artifacts or folder is None or not folder.is_dir():
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def collect(execution: Execution, result: Path, base: int | None) -> None:
    """Note the artifacts that a program has left, however it ended.

    Args:
        execution: of the program.
        result: its result file.
        base: see ``base_of``.
    """
    run = execution.work.run
    assert run is not None
    folder = artifact_folder(result)
    if not run.artifacts and not _has_entries(folder):
        return
    await anyio.to_thread.run_sync(execution.artifacts.collect, folder, base, run.artifacts)


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return True  # let the search say what is wrong with it


def read_result(path: Path) -> Outcome:
    """The result that was left there; none is fine, one that is no JSON is a failure."""
    try:
        # No links, no pipes: what the program may not read, it must not have us read.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Completed()
    except OSError as error:
        return _unusable(str(error.strerror))
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return _unusable("it is no file")
        data = file.read(_READ_BYTES_MAX)
    if not data.strip():
        return Completed()
    try:
        compact = msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unusable(f"it is not JSON: {error}")
    return completed(compact)


def _unusable(reason: str) -> Outcome:
    return failed(f"the result in {VARIABLE} cannot be used: {reason}", "exception", retryable=False)
