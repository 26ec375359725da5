"""Lines and columns of a text."""

import re
from bisect import bisect_right

_BREAK = re.compile(r"\r\n|\r|\n")


class TextLines:
    """Where the lines of a text begin, found as far as someone asks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0]
        self._breaks = _BREAK.finditer(text)
        self._is_complete = False

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character."""
        offset = min(max(offset, 0), len(self.text))
        while self._starts[-1] <= offset and self._next_start():
            pass
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str | None:
        """The text of a line (from 1) without its end; None beyond the last."""
        while len(self._starts) <= number and self._next_start():
            pass
        if not 1 <= number <= len(self._starts):
            return None
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end].rstrip("\r\n")

    def length_on_line(self, start: int, end: int) -> int:
        """How many characters of the piece stand on its first line, at least 1, without trailing blanks."""
        found = _BREAK.search(self.text, start, max(start, end))
        piece = self.text[start : found.start() if found else end]
        return max(1, len(piece.rstrip()))

    def _next_start(self) -> bool:
        found = None if self._is_complete else next(self._breaks, None)
        if found is None:
            self._is_complete = True
            return False
        self._starts.append(found.end())
        return True
