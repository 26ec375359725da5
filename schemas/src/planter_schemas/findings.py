"""Collecting problems while a document is read: with paths first, with lines only when someone asks.

Looking up a line is slow for JSON, and nearly all manifests have no problem at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from planter_schemas.limits import PROBLEMS_MAX
from planter_schemas.problems import Path, Severity


class Span(NamedTuple):
    """A piece of the text, in characters from its start; ``end`` is exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose place is still a path, or already a span where the text could not be read."""

    path: Path
    code: str
    message: str
    label: str | None = None
    hint: str | None = None
    severity: Severity = "error"
    at_key: bool = False
    """Whether the key is meant, and not its value."""
    related: Path | Span | None = None
    """A second place; its line and column are put behind ``related_text``."""
    related_text: str = ""
    span: Span | None = None


class Findings:
    """The findings of one document; counts on when full, so that nothing invalid passes."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.left_out = 0
        self.has_error = False

    @property
    def is_full(self) -> bool:
        """Whether further findings would only be counted: the reader may stop."""
        return len(self.kept) >= PROBLEMS_MAX

    def add(self, finding: Finding) -> None:
        """Keep the finding, or count it when there are too many."""
        if finding.severity == "error":
            self.has_error = True
        if self.is_full:
            self.left_out += 1
        else:
            self.kept.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add each of them."""
        for finding in findings:
            self.add(finding)
