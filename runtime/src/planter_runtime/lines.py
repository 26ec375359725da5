"""Bytes of a pipe to lines of text: bounded, and readable whatever was written."""

LINE_BYTES_MAX = 8 * 1024
CUT_MARK = " [... line cut]"


class LineSplitter:
    """Splits one stream at line feeds. Invalid UTF-8 becomes U+FFFD, long lines are cut with a mark."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that are whole now, and beginnings of lines that are too long."""
        *whole, rest = (self._rest + data).split(b"\n")
        lines = [text for line in whole if (text := self._whole(line)) is not None]
        if len(rest) > LINE_BYTES_MAX:
            if not self._skipping:
                lines.append(_text(rest[:LINE_BYTES_MAX]) + CUT_MARK)
            self._skipping = True
            rest = b""
        self._rest = rest
        return lines

    def end(self) -> list[str]:
        """What came after the last line feed."""
        rest, self._rest = self._rest, b""
        text = self._whole(rest) if rest else None
        return [] if text is None else [text]

    def _whole(self, line: bytes) -> str | None:
        if self._skipping:
            self._skipping = False
            return None
        if len(line) > LINE_BYTES_MAX:
            return _text(line[:LINE_BYTES_MAX]) + CUT_MARK
        return _text(line)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r")
