"""Problems as text for people: the manifest's line, what is wrong under it, what would be right below."""

import unicodedata
from collections.abc import Iterable, Mapping

from planter_schemas.problems import Problem
from planter_schemas.text_lines import TextLines

_WIDTH_MAX = 120
_BEFORE_CARET = 60
"""Of a longer line, a window is shown that starts so many characters before the place."""


def render_line(problem: Problem) -> str:
    """One line: ``site.yaml:14:20: error[PLT-1201]: message``."""
    place = f"{_printable(problem.source)}:{problem.line}:{problem.column}"
    return f"{place}: {problem.severity}[{problem.code}]: {problem.message}"


def render_problems(
    problems: Iterable[Problem], *, text: Mapping[str, str] | None = None, color: bool = False
) -> str:
    """All problems with their lines, one blank line apart; empty when there are none.

    Args:
        problems: in the order to show them.
        text: the manifests' texts by source (``Loaded.texts``); without it the lines are left out.
        color: whether to use ANSI colours.
    """
    lines = {source: TextLines(content) for source, content in (text or {}).items()}
    paint = _Paint(is_on=color)
    return "\n".join(_rendered(problem, lines.get(problem.source), paint) for problem in problems)


class _Paint:
    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_on and text else text


def _rendered(problem: Problem, lines: TextLines | None, paint: _Paint) -> str:
    strong = "1;31" if problem.severity == "error" else "1;33"
    width = len(str(problem.line))
    gutter = paint(" " * width + " |", "34")
    place = f"{_printable(problem.source)}:{problem.line}:{problem.column}"
    result = [
        paint(f"{problem.severity}[{problem.code}]", strong) + paint(f": {problem.message}", "1"),
        f"{' ' * width}{paint('-->', '34')} {place}",
    ]
    line = lines.line(problem.line) if lines is not None and problem.length else None
    if line is not None:
        shown, carets = _excerpt(line, problem)
        under = carets if problem.label is None else f"{carets} {problem.label}"
        blank = len(under) - len(under.lstrip())
        result.append(gutter)
        result.append(f"{paint(f'{problem.line} |', '34')} {shown}")
        result.append(f"{gutter} {' ' * blank}{paint(under.lstrip(), strong)}")
    elif problem.label is not None:
        result.append(f"{' ' * width} {paint('=', '34')} {problem.label}")
    hints = problem.hint.split("\n") if problem.hint else []
    result += [f"{' ' * width} {paint('=', '34')} help: {hint}" for hint in hints]
    return "\n".join(result) + "\n"


def _excerpt(line: str, problem: Problem) -> tuple[str, str]:
    """The line, or a window of a long one, and the carets below its piece."""
    start = problem.column - 1
    first = max(0, start - _BEFORE_CARET) if len(line) > _WIDTH_MAX else 0
    last = min(len(line), first + _WIDTH_MAX)
    before, piece = _printable(line[first:start]), _printable(line[start : min(start + problem.length, last)])
    shown = before + piece + _printable(line[min(start + problem.length, last) : last])
    ahead = "..." if first else ""
    behind = "..." if last < len(line) else ""
    carets = " " * (len(ahead) + _columns(before)) + "^" * max(1, _columns(piece))
    return ahead + shown + behind, carets


def _printable(text: str) -> str:
    """The text with one harmless character for each that would move the cursor or be invisible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else (" " if c in "\t\u00a0" else "\ufffd") for c in text)


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
