"""Lines and columns of a text."""

import re
from bisect import bisect_right

_BREAK = re.compile(r"\r\n|\r|\n")


class TextLines:
    """Where the lines of a text begin; built on first need."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts: list[int] | None = None

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character."""
        starts = self._line_starts()
        line = bisect_right(starts, min(max(offset, 0), len(self.text)))
        return line, offset - starts[line - 1] + 1

    def line(self, number: int) -> str | None:
        """The text of a line (from 1) without its end; None beyond the last."""
        starts = self._line_starts()
        if not 1 <= number <= len(starts):
            return None
        end = starts[number] if number < len(starts) else len(self.text)
        return self.text[starts[number - 1] : end].rstrip("\r\n")

    def length_on_line(self, start: int, end: int) -> int:
        """How many characters of the piece stand on its first line, at least 1, without trailing blanks."""
        found = _BREAK.search(self.text, start, max(start, end))
        piece = self.text[start : found.start() if found else end]
        return max(1, len(piece.rstrip()))

    def _line_starts(self) -> list[int]:
        if self._starts is None:
            self._starts = [0, *(found.end() for found in _BREAK.finditer(self.text))]
        return self._starts
