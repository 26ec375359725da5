"""A problem of a manifest: what is wrong, where, why, and what would be right."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Keys as they are written and indexes from 0, from the root of the document."""
Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (error) or doubtful (warning) in a manifest.

    Attributes:
        severity: a manifest with an error cannot be used; a warning is only told.
        code: ``PLT-`` and four digits, stable for programs; ``explain(code)`` tells more.
        message: one line, without place; names of the manifest stand in backticks.
        source: the file's name, or what the caller named the text.
        line: counted from 1. A problem of the whole file has line 1.
        column: counted from 1, in characters.
        length: characters to underline on that line; 0 when there is nothing to show.
        path: JSON pointer (RFC 6901) of the place in the document, with keys as they are written.
        label: short text behind the carets.
        hint: what would be right; more than one line is possible.
    """

    severity: Severity
    code: str
    message: str
    source: str
    line: int
    column: int
    length: int
    path: str
    label: str | None = None
    hint: str | None = None

    @property
    def end_column(self) -> int:
        """The column after the last underlined character."""
        return self.column + self.length

    def to_json(self) -> dict[str, object]:
        """The problem as a JSON object with camelCase keys; absent parts are left out."""
        result: dict[str, object] = {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "source": self.source,
            "line": self.line,
            "column": self.column,
            "endColumn": self.end_column,
            "path": self.path,
        }
        if self.label is not None:
            result["label"] = self.label
        if self.hint is not None:
            result["hint"] = self.hint
        return result


def pointer(path: Path) -> str:
    """The path as a JSON pointer: ``("spec", "a/b", 0)`` becomes ``/spec/a~1b/0``."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def shown(text: str) -> str:
    """Text of a manifest as it may stand in a message: in backticks, short, without control characters."""
    if len(text) > 60:
        text = text[:57] + "..."
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"`{text}`"


def shown_list(names: list[str]) -> str:
    """Some names for a message: ``\\`a\\`, \\`b\\` and 3 more``."""
    first = ", ".join(shown(name) for name in names[:12])
    return first if len(names) <= 12 else f"{first} and {len(names) - 12} more"
