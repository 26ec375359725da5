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
    """The findings of one document, errors and warnings up to a limit each; further ones are counted."""

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.errors_left_out = 0
        self.warnings_left_out = 0

    @property
    def is_full(self) -> bool:
        """Whether further errors would only be counted: the reader may stop.

        Warnings never stop it, or an error behind many warnings would pass.
        """
        return len(self.errors) >= PROBLEMS_MAX

    def add(self, finding: Finding) -> None:
        """Keep the finding, or count it when there are too many."""
        if finding.severity == "error":
            if self.is_full:
                self.errors_left_out += 1
            else:
                self.errors.append(finding)
        elif len(self.warnings) >= PROBLEMS_MAX:
            self.warnings_left_out += 1
        else:
            self.warnings.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add each of them."""
        for finding in findings:
            self.add(finding)
