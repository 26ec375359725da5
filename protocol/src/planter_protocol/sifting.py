"""Whole messages, taken out of the bytes that a NATS server sends; everything else is passed on as it is.

Pure: bytes in, calls out. Source: NATS client protocol, ``MSG`` and ``HMSG``; headers: NATS ADR-4.
"""

from collections.abc import Callable

_CRLF = b"\r\n"
_VERSION = b"NATS/1.0"

Take = Callable[[bytes, bytes, bytes, bytes, bytes], bool]
"""Subscription id, subject, reply subject, header block and payload; False: it is to be passed on."""


class Sieve:
    """Holds back what has begun and not ended, so that ``take`` and ``pass_on`` see whole operations."""

    def __init__(self, take: Take, pass_on: Callable[[bytes], None]) -> None:
        self._take = take
        self._pass_on = pass_on
        #: The beginning of an operation, and how many bytes it has at least.
        self._begun = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> None:
        """Take in what the server sent next; what is not taken is passed on in one piece, in its order."""
        if self._begun:
            self._begun += data
            if len(self._begun) < self._wanted:
                return
            data = bytes(self._begun)
            self._begun.clear()
        others: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            line_end = data.find(_CRLF, at)
            words = data[at:line_end].split(b" ") if line_end >= 0 else []  # a subject may have other blanks
            header, total = _lengths(words)
            begin = line_end + 2
            end = begin + total + 2 if total >= 0 else begin
            if line_end < 0 or end > size:
                self._begun += data[at:]
                self._wanted = end - at
                break
            if total < 0 or not self._is_taken(words, header, data[begin : end - 2]):
                others.append(data[at:end])
            at = end
        if others:
            self._pass_on(b"".join(others))

    def _is_taken(self, words: list[bytes], header: int, data: bytes) -> bool:
        reply = words[3] if len(words) > (5 if words[0] == b"HMSG" else 4) else b""
        return self._take(words[2], words[1], reply, data[:header], data[header:])


def _lengths(words: list[bytes]) -> tuple[int, int]:
    """Bytes of headers, and of headers and payload, by the line before them; negative: no message."""
    if len(words) < 4 or not words[2].isdigit() or not words[-1].isdigit():
        return -1, -1
    if words[0] == b"MSG" and len(words) <= 5:
        return 0, int(words[-1])
    if words[0] == b"HMSG" and 5 <= len(words) <= 6 and words[-2].isdigit():
        return int(words[-2]), int(words[-1])
    return -1, -1


def read_headers(block: bytes) -> dict[str, str] | None:
    """A status in the first line, if any, then ``Name: value``; lines that are not that are left out.

    As nats-py has them: the status under ``Status`` and ``Description``, None when there is nothing.
    """
    first, *lines = block.split(_CRLF)
    found: dict[str, str] = {}
    status = first[len(_VERSION) + 1 :]
    if status:
        code, description = status[:3].strip(), status[4:]
        if code.isdigit():
            found["Status"] = code.decode()
        if description:
            found["Description"] = description.decode("utf-8", "replace")
    for line in lines:
        name, is_field, value = line.partition(b":")
        if is_field and name.isascii():
            key = name.decode().strip()
            if not any(map(str.isspace, key)):
                found[key] = value.strip().decode("utf-8", "replace")
    return found or None
