"""What a scenario is given, and what it hands back."""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Skipped(Exception):
    """The scenario cannot run here; the text says why."""


class Setting(msgspec.Struct, frozen=True):
    """One run of a scenario."""

    folder: Path
    count: int
    """How many faults to inject (seconds, where the scenario says so)."""
    seed: int
    short: bool = False
    """Part of ``make test``: as few processes and rounds as the scenario makes sense with."""

    def draw(self) -> random.Random:
        """Randomness of this run; where processes race, the seed fixes the plan and not the history."""
        return random.Random(self.seed)


class Outcome(msgspec.Struct, kw_only=True):
    """What a run of a scenario has shown."""

    scenario: str = ""
    faults: int = 0
    sessions: int = 0
    phases: int = 0
    figure: str = ""
    #: Sessions by their status at the end.
    statuses: dict[str, int] = {}
    figures: dict[str, float] = {}
    violations: list[str] = []
    skipped: str | None = None
    seed: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """In one word, or with the reason why there is none."""
        if self.skipped is not None:
            return f"skipped: {self.skipped}"
        return f"{len(self.violations)} VIOLATIONS" if self.violations else "clean"


def spread(name: str, seconds: Sequence[float]) -> tuple[str, dict[str, float]]:
    """Median and worst of some durations, as text and as figures."""
    if not seconds:
        return f"{name}: none", {}
    median, worst = statistics.median(seconds), max(seconds)
    text = f"{name}: median {median:.2f} s, worst {worst:.2f} s of {len(seconds)}"
    return text, {f"{name} median": median, f"{name} worst": worst, f"{name} number": float(len(seconds))}


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes, one a line, for people."""
    head = ("scenario", "faults", "sessions", "phases", "seconds", "verdict", "figure")
    rows = [
        (
            one.scenario,
            f"{one.faults:,}",
            f"{one.sessions:,}",
            f"{one.phases:,}",
            f"{one.seconds:.0f}",
            one.verdict,
            one.figure,
        )
        for one in outcomes
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
