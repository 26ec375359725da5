"""What the doctor says: one finding a check, and the report that holds them."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad a finding is; only failures change the exit status."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of one check, in one line, with what it comes from and what to do about it."""

    check: str
    """What was looked at: ``server``, ``durability``, ``streams``, ..."""
    level: Level
    text: str
    cause: str | None = None
    """Why it is so, or what follows from it."""
    remedy: str | None = None
    """The command or setting that changes it."""
    details: tuple[str, ...] = ()
    """More lines, for people."""


class Durability(msgspec.Struct, frozen=True, rename="camel"):
    """What an acknowledged message survives, as far as it can be known from here."""

    mode: str
    """``default always replicated``, ``replicated + always``, ``memory``, ``unknown``, ``none``."""
    title: str
    """The mode with its figures: ``default (R1, sync every 2m)``."""
    replicas: int | None
    """The smallest number of copies of any stream that correctness needs; None: there are no streams."""
    sync: str | None
    """``always``, a duration such as ``2m``, or None: nobody tells."""
    process_killed: str
    machine_lost: str
    """One machine crashes or loses power; all of them do."""
    disk_lost: str


class Report(msgspec.Struct, frozen=True):
    """Everything that was found about one server."""

    server: str
    durability: Durability
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst one."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in (Level.FAILURE, Level.WARNING) if level in levels), Level.OK)

    def count(self, level: Level) -> int:
        """How many findings have the level."""
        return sum(1 for finding in self.findings if finding.level is level)


def ok(check: str, text: str, *details: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, text, details=details)


def warning(check: str, text: str, cause: str, remedy: str, *details: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check, Level.WARNING, text, cause, remedy, details)


def failure(check: str, text: str, cause: str, remedy: str, *details: str) -> Finding:
    """Planter cannot work, or cannot keep its promises, before this is changed."""
    return Finding(check, Level.FAILURE, text, cause, remedy, details)
