"""What a program leaves as its result: JSON in a file, whose path it finds in ``PLANTER_RESULT``."""

import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from planter_runtime.outcomes import RESULT_BYTES_MAX, Completed, Outcome, completed, failed

VARIABLE = "PLANTER_RESULT"
_READ_BYTES_MAX = 16 * RESULT_BYTES_MAX


@contextmanager
def result_file() -> Generator[Path]:
    """A place for a result, in a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="planter-result-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "result.json"


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
