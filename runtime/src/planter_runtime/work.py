"""One attempt as executors see it, and the reading of ``x-run``."""

import signal
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from planter_protocol.messages import Target
from planter_runtime.artifacts import pattern_problem
from planter_runtime.errors import RunUnusable

RunKind = Literal["noop", "exec", "shell", "python", "http", "container"]
Isolation = Literal["none", "files", "strict"]
"""What a program can see and change, see ``executors.isolation``; each is stronger than the one before."""
HANDLER = "handler"
"""The kind of a target without ``run``: its labels choose a handler."""


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """What a program may use; None: no limit. All but ``output`` hold for each of its processes."""

    memory: int | None = None
    """Bytes of address space."""
    cpu: int | None = None
    """Seconds of processor time."""
    open_files: int | None = None
    file_size: int | None = None
    """Bytes of a file that it writes."""
    output: int | None = None
    """Bytes of stdout and stderr of the whole attempt."""

    def broken_by(self, status: int) -> str | None:
        """Which limit the signal that ended a process tells of, for people; None when it tells of none."""
        if status == -signal.SIGXCPU and self.cpu is not None:
            return f"used more than {self.cpu} s of processor time (limits.cpu)"
        if status == -signal.SIGXFSZ and self.file_size is not None:
            return f"wrote a file of more than {self.file_size:,} bytes (limits.fileSize)"
        return None


NO_LIMITS = Limits()


class Run(msgspec.Struct, frozen=True):
    """``x-run`` of a phase: one of the six kinds, or none for a handler, and its surroundings.

    Source: Planter's design, chapter 5. Keys that are not here belong to the planner or to later versions.
    """

    noop: dict[str, Any] | None = None
    exec: tuple[str, ...] | None = None
    shell: str | None = None
    python: str | None = None
    http: dict[str, Any] | None = None
    container: dict[str, Any] | None = None
    arguments: msgspec.Raw = msgspec.field(name="with", default_factory=lambda: msgspec.Raw(b"{}"))
    """A JSON object, passed on as it is."""
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """Name of a secret by the environment variable that it comes in."""
    cwd: str | None = None
    venv: str | None = None
    """Folder of the Python environment that ``python`` means; None: the runtime's own."""
    limits: Limits = NO_LIMITS
    isolation: Isolation = "none"
    artifacts: tuple[str, ...] = ()
    """Files of the folder that it runs in to be kept, as patterns: ``out/*.csv``."""


class Work(msgspec.Struct, frozen=True):
    """An attempt with what is needed to execute it."""

    target: Target
    run: Run | None
    """None, or without a kind: a handler does it."""
    workdir: Path
    kind: str = HANDLER
    """The kind of ``run``, or ``handler``."""

    @property
    def folder(self) -> Path:
        """Where the work runs: ``cwd`` inside the work folder; an absolute one stands for itself."""
        return self.workdir / self.run.cwd if self.run and self.run.cwd else self.workdir

    @property
    def venv(self) -> Path | None:
        """The Python environment that it runs with; None: the runtime's own."""
        return self.workdir / self.run.venv if self.run and self.run.venv else None

    @property
    def heartbeat_seconds(self) -> float | None:
        """Longest silence, in seconds; None without a limit."""
        return self.target.heartbeat_ms / 1000 if self.target.heartbeat_ms is not None else None

    @property
    def timeout_seconds(self) -> float | None:
        """Start to close, in seconds; None without a limit."""
        return self.target.timeout_ms / 1000 if self.target.timeout_ms is not None else None


_KINDS: tuple[RunKind, ...] = ("noop", "exec", "shell", "python", "http", "container")
_decoder = msgspec.json.Decoder(Run)


def read_work(target: Target, workdir: Path) -> Work:
    """The work of a target.

    Raises:
        RunUnusable: its ``run`` is not an ``x-run`` that any runtime of this version knows.
    """
    if target.run is msgspec.UNSET:
        return Work(target, None, workdir)
    run, kind = _read_run(bytes(target.run), workdir)
    return Work(target, run, workdir, kind)


@lru_cache(maxsize=64)  # each target is read when it is taken and when it starts, and many have the same
def _read_run(data: bytes, workdir: Path) -> tuple[Run, str]:
    """The ``x-run`` and its kind; see ``read_work``."""
    try:
        run = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunUnusable(f"x-run cannot be read: {error}") from error
    given = [kind for kind in _KINDS if getattr(run, kind) is not None]
    if not given and _is_for_handler(data):
        return run, HANDLER
    if len(given) != 1:
        raise RunUnusable(f"x-run names {len(given)} ways to run that this runtime knows, it needs one")
    if run.exec == ():
        raise RunUnusable("x-run names no program in `exec`")
    for key, folder in (("cwd", run.cwd), ("venv", run.venv)):
        if folder and not _is_inside(workdir, folder):
            remedy = "name a folder inside, or an absolute one"
            raise RunUnusable(f"{key} {folder!r} leaves the work folder: {remedy}")
    for pattern in run.artifacts:
        if (problem := pattern_problem(pattern)) is not None:
            raise RunUnusable(f"artifacts {pattern!r} names no files of the work folder: {problem}")
    return run, given[0]


def _is_for_handler(run: bytes) -> bool:
    """Nothing but arguments: another key may be a way to run that a later version knows."""
    keys = msgspec.json.decode(run, type=dict[str, msgspec.Raw])
    return "with" in keys and all(key in ("with", "timeout") or key[:2] in ("x-", "X-") for key in keys)


def best_handler(handlers: Mapping[int, Mapping[str, str]], labels: Mapping[str, str]) -> int | None:
    """The handler whose labels are all in ``labels``: the one with the most, of equals the first."""
    fitting = [key for key, wanted in handlers.items() if wanted.items() <= labels.items()]
    return max(fitting, key=lambda key: (len(handlers[key]), -key), default=None)


def _is_inside(workdir: Path, cwd: str) -> bool:
    """Lexically: a link inside of the work folder is its owner's choice."""
    if Path(cwd).is_absolute():
        return True
    depth = 0
    for part in Path(cwd).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return "\0" not in cwd and workdir.is_absolute()
