"""Files that a phase keeps: noted while it works, opened at once, stored when it has ended (``storing``).

A program puts them into the folder ``PLANTER_ARTIFACTS``, or ``x-run.artifacts`` names those of its work
folder; a handler calls ``ctx.artifact``. What a program left is opened without following a link: it must not
have us read what it may not.
"""

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from pathlib import Path

from planter_protocol.artifacts import NAME_PARTS_MAX, name_problem

FOLDER = "PLANTER_ARTIFACTS"
COUNT_MAX = 100
BYTES_MAX = 1024 * 1024 * 1024
"""Of all artifacts of an attempt."""
LOOKED_AT_MAX = 100_000
"""Entries of folders that one attempt is searched for."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAGIC = re.compile(r"[*?\[]")


class ArtifactRefused(ValueError):
    """It cannot be kept; the message says which and why, never what is in it."""

    def __init__(self, name: str, reason: str) -> None:
        shown = name.encode("utf-8", "backslashreplace").decode()[:200]
        super().__init__(f"artifact {shown!r} cannot be kept: {reason}")


class Source:
    """What is to be stored: bytes, or an open file."""

    def __init__(self, data: bytes | None, descriptor: int, size: int) -> None:
        self._data = data
        self._descriptor = descriptor
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        """A part of it; empty at its end."""
        if self._data is not None:
            return self._data[offset : offset + count]
        return os.pread(self._descriptor, count, offset)

    def close(self) -> None:
        """It is needed no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Artifacts:
    """Those of one attempt; from any thread."""

    def __init__(self, count_max: int = COUNT_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self.sources: dict[str, Source] = {}
        """By name, in the order in which they came."""
        self.refused: list[str] = []
        """What was to be kept and cannot be, and why."""
        self.unmatched: list[str] = []
        """Patterns that no file has matched."""

    def add(self, name: str, source: "bytes | str | os.PathLike[str]") -> None:
        """Keep bytes, or a file, which is opened now and read when the work has ended.

        Raises:
            ArtifactRefused: the name is none, there are too many, or too many bytes, or it is no file.
            TypeError: the source is neither.
            OSError: the file cannot be opened.
        """
        if (problem := name_problem(name)) is not None:
            raise ArtifactRefused(name, problem)
        if isinstance(source, int):  # the system would take it for a descriptor
            raise TypeError("an artifact is bytes or the path of a file, not a number")
        if isinstance(source, bytes | bytearray | memoryview):
            self._put(name, Source(bytes(source), -1, len(source)))
            return
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self._put_file(name, descriptor)

    def collect(self, folder: Path, base: int | None, patterns: Sequence[str]) -> None:
        """Note all in ``folder``, and what matches the patterns in the open folder ``base``; never raises."""
        search = _Search(self._found, self.refused.append)
        search.everything(folder)
        for pattern in patterns if base is not None else ():
            assert base is not None
            if not search.matching(base, pattern):
                self.unmatched.append(pattern)

    def close(self) -> None:
        """All files are closed, and none is taken any more."""
        with self._lock:
            self._is_closed = True
            for source in self.sources.values():
                source.close()

    def _found(self, name: str, descriptor: int) -> None:
        try:
            self._put_file(name, descriptor)
        except ArtifactRefused as error:
            self.refused.append(str(error))

    def _put_file(self, name: str, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            os.close(descriptor)
            raise ArtifactRefused(name, "it is no file")
        self._put(name, Source(None, descriptor, facts.st_size))

    def _put(self, name: str, source: Source) -> None:
        with self._lock:
            old = self.sources.get(name)
            size = self._bytes + source.size - (old.size if old else 0)
            problem = None
            if self._is_closed:
                problem = "the attempt has ended"
            elif old is None and len(self.sources) >= self._count_max:
                problem = f"there are more than {self._count_max:,} (--artifacts-max)"
            elif size > self._bytes_max:
                problem = (
                    f"with it there are {size:,} bytes, the limit of an attempt is {self._bytes_max:,} "
                    f"(--artifact-bytes-max)"
                )
            if problem is not None:
                source.close()
                raise ArtifactRefused(name, problem)
            if old is not None:
                old.close()
            self.sources[name], self._bytes = source, size


def pattern_problem(pattern: str) -> str | None:
    """Why this cannot name files of a work folder; None when it can."""
    if not pattern or pattern.startswith("/") or "\0" in pattern or "\\" in pattern:
        return "write a path relative to the work folder, with `/` between its parts"
    if any(part in ("", ".", "..") for part in pattern.split("/")):
        return "a part of it is empty, `.` or `..`"
    return None


class _Search:
    """Goes through folders without following a link; each file is opened from the folder that it is in."""

    def __init__(self, found: Callable[[str, int], None], refuse: Callable[[str], None]) -> None:
        self._found = found
        self._refuse = refuse
        self._left = LOOKED_AT_MAX

    def everything(self, folder: Path) -> None:
        """All files below a folder whose place the program could have taken with something else."""
        try:
            descriptor = os.open(folder, _DIRECTORY)
        except FileNotFoundError:
            return
        except OSError as error:
            is_link = folder.is_symlink()
            reason = "it is a symbolic link, and no link is followed" if is_link else str(error.strerror)
            self._refuse(str(ArtifactRefused(FOLDER, reason)))
            return
        try:
            self._from(descriptor, ("**", "*"), FOLDER)
        finally:
            os.close(descriptor)

    def matching(self, base: int, pattern: str) -> bool:
        """The files that a pattern names, a folder standing for all in it; whether there is anything."""
        parts = pattern.split("/")
        once = [
            part for part, before in zip(parts, ("", *parts), strict=False) if (part, before) != ("**", "**")
        ]
        return self._from(base, tuple(once), pattern)

    def _from(self, base: int, parts: tuple[str, ...], shown: str) -> bool:
        try:
            return self._look(base, parts, "", depth=0)
        except _TooMany:
            reason = f"there are more than {LOOKED_AT_MAX:,} entries to look at: name a smaller folder"
            self._refuse(str(ArtifactRefused(shown, reason)))
            return True

    def _look(self, folder: int, parts: tuple[str, ...], prefix: str, *, depth: int) -> bool:
        head, rest = parts[0], parts[1:]
        found = False
        if head == "**":
            found = self._look(folder, rest or ("*",), prefix, depth=depth)
        for entry in self._entries(folder):
            name = f"{prefix}{entry.name}"
            facts = _facts(entry)
            if facts is None:
                continue  # gone, meanwhile
            is_folder = stat.S_ISDIR(facts.st_mode)
            if head == "**":
                if is_folder:
                    found = self._within(folder, entry.name, (head, *rest), name, depth) or found
            elif not _matches(entry.name, head):
                continue
            elif is_folder and (rest or not _MAGIC.search(head)):
                found = self._within(folder, entry.name, rest or ("**", "*"), name, depth) or found
            elif not rest:
                found = (not is_folder and self._take(folder, entry.name, name, facts)) or found
            elif stat.S_ISLNK(facts.st_mode) and not _MAGIC.search(head):
                self._refuse(str(ArtifactRefused(name, "it is a symbolic link, and no link is followed")))
                found = True
        return found

    def _within(self, folder: int, entry: str, parts: tuple[str, ...], name: str, depth: int) -> bool:
        if depth > NAME_PARTS_MAX:
            self._refuse(str(ArtifactRefused(name, "it is too deep")))
            return True
        try:
            inner = os.open(entry, _DIRECTORY, dir_fd=folder)
        except OSError as error:
            self._refuse(str(ArtifactRefused(name, str(error.strerror))))
            return True
        try:
            return self._look(inner, parts, f"{name}/", depth=depth + 1)
        finally:
            os.close(inner)

    def _take(self, folder: int, entry: str, name: str, facts: os.stat_result) -> bool:
        problem = name_problem(name)
        if stat.S_ISLNK(facts.st_mode):
            problem = "it is a symbolic link, and no link is followed"
        elif not stat.S_ISREG(facts.st_mode):
            problem = "it is no file"
        if problem is None:
            try:
                self._found(name, os.open(entry, _FILE, dir_fd=folder))
            except OSError as error:
                problem = str(error.strerror)
        if problem is not None:
            self._refuse(str(ArtifactRefused(name, problem)))
        return True

    def _entries(self, folder: int) -> Iterator["os.DirEntry[str]"]:
        with os.scandir(folder) as entries:
            for entry in entries:
                self._left -= 1
                if self._left < 0:
                    raise _TooMany
                yield entry


class _TooMany(Exception):
    """There is no end to the entries."""


def _facts(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or _pattern(pattern).match(name) is not None
