"""Reading JSON: the standard library's parser for the data, and a second look at the text for places.

Positions are found only when there is a problem. An object or list is then indexed once, by skipping over its
parts with the standard library's own scanner.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from json import decoder as json_decoder
from typing import Any, NamedTuple, cast

from planter_schemas import limits
from planter_schemas.documents import Document, unreadable
from planter_schemas.findings import Finding, Span
from planter_schemas.problems import Path, shown

_BLANK = re.compile(r"[ \t\n\r]*")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_HALF_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


# In the standard library since 2.6, but in none of its type stubs.
_scan_string: Callable[[str, int], tuple[str, int]] = cast("Any", json_decoder).scanstring


class _Unusable:
    """Stands in the data for a number that cannot be represented, until its place is known."""

    def __init__(self, text: str) -> None:
        self.text = text


class _Repeated(dict[str, Any]):
    """An object with a key that stands in it more than once; the first one counts."""


class _Hooks:
    """What the parser calls; remembers whether anything needs a second look."""

    def __init__(self) -> None:
        self.needs_look = False

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            self.needs_look = True
            result = _Repeated()
            for key, value in pairs:
                result.setdefault(key, value)
        return result

    def integer(self, text: str) -> int | _Unusable:
        if len(text) <= 20:
            number = int(text)
            if limits.INTEGER_MIN <= number <= limits.INTEGER_MAX:
                return number
        return self.unusable(text)

    def real(self, text: str) -> float | _Unusable:
        number = float(text)
        return number if math.isfinite(number) else self.unusable(text)

    def unusable(self, text: str) -> _Unusable:
        self.needs_look = True
        return _Unusable(text)


def read_json(text: str) -> Document:
    """The data of a JSON text with everything that is wrong with it as text. Never raises for bad input."""
    if text.count("[") + text.count("{") + text.count(",") > limits.JSON_VALUES_MAX:
        message = f"the manifest has more than {limits.JSON_VALUES_MAX:,} values"
        return unreadable(text, "json", [Finding((), "PLT-1011", message)])
    hooks = _Hooks()
    try:
        value = json.loads(
            text,
            object_pairs_hook=hooks.pairs,
            parse_int=hooks.integer,
            parse_float=hooks.real,
            parse_constant=hooks.unusable,
        )
    except json.JSONDecodeError as error:
        return unreadable(text, "json", [_syntax_finding(text, error)])
    except RecursionError:
        offset = _first_too_deep(text)
        if offset is None:
            raise  # the caller's own stack is nearly used up: not the manifest's fault
        message = f"objects and lists are nested more than {limits.DEPTH_MAX} deep"
        finding = Finding((), "PLT-1009", message, label="too deep", span=Span(offset, offset + 1))
        return unreadable(text, "json", [finding])
    document = Document(text, "json", value, JsonPlaces(text))
    if hooks.needs_look or _SURROGATE_ESCAPE.search(text):
        _second_look(document)
    return document


class _Entry(NamedTuple):
    key: Span | None
    value: Span


class _Index:
    """The parts of one object or list, found as far as someone asks."""

    def __init__(self, scan: Iterator[tuple[str | int, _Entry]]) -> None:
        self._scan = scan
        self._found: dict[str | int, _Entry] = {}
        self._repeats: list[tuple[str, _Entry]] = []

    def find(self, step: str | int) -> _Entry | None:
        """The part under this key (the first one) or index; None when there is none."""
        while step not in self._found:
            if not self._next():
                return None
        return self._found[step]

    def repeats(self) -> list[tuple[str, _Entry]]:
        """The parts whose key stood before them already."""
        while self._next():
            pass
        return self._repeats

    def _next(self) -> bool:
        part = next(self._scan, None)
        if part is None:
            return False
        step, entry = part
        if step in self._found:
            self._repeats.append((str(step), entry))
        else:
            self._found[step] = entry
        return True


class JsonPlaces:
    """Finds the text of parts of a JSON text that is known to be valid."""

    def __init__(self, text: str) -> None:
        self._text = text
        # Numbers are only skipped here: converting a huge one could raise.
        decoder: Any = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)
        self._scan: Callable[[str, int], tuple[object, int]] = decoder.scan_once
        self._indexes: dict[int, _Index] = {}

    def locate(self, path: Path, *, at_key: bool) -> Span:
        """See ``documents.Places``."""
        entry = self.entry(path)
        is_container = self._text[entry.value.start : entry.value.start + 1] in ("{", "[")
        if entry.key is not None and (at_key or is_container):
            return entry.key
        return Span(entry.value.start, entry.value.start + 1) if is_container else entry.value

    def written(self, path: Path) -> str:
        """See ``documents.Places``."""
        value = self.entry(path).value
        return self._text[value.start : value.end]

    def entry(self, path: Path) -> _Entry:
        """Key and value at a path, or as far as the path leads."""
        start = _skip_blank(self._text, 0)
        current = _Entry(None, Span(start, len(self._text.rstrip())))
        for step in path:
            found = self.index(current.value.start).find(step)
            if found is None:
                break
            current = found
        return current

    def index(self, start: int) -> "_Index":
        """The parts of the object or list that starts here; none for anything else."""
        known = self._indexes.get(start)
        if known is None:
            scans = {"{": self._object_parts, "[": self._list_parts}
            scan = scans.get(self._text[start : start + 1])
            known = self._indexes[start] = _Index(scan(start) if scan else iter(()))
        return known

    def _object_parts(self, start: int) -> Iterator[tuple[str | int, _Entry]]:
        position = _skip_blank(self._text, start + 1)
        while self._text[position] != "}":
            key, key_end = _scan_string(self._text, position + 1)
            value_start = _skip_blank(self._text, _skip_blank(self._text, key_end) + 1)
            value_end = self._value_end(value_start)
            yield key, _Entry(Span(position, key_end), Span(value_start, value_end))
            position = self._next_part(value_end)

    def _list_parts(self, start: int) -> Iterator[tuple[str | int, _Entry]]:
        position = _skip_blank(self._text, start + 1)
        number = 0
        while self._text[position] != "]":
            end = self._value_end(position)
            yield number, _Entry(None, Span(position, end))
            number += 1
            position = self._next_part(end)

    def _next_part(self, position: int) -> int:
        position = _skip_blank(self._text, position)
        return _skip_blank(self._text, position + 1) if self._text[position] == "," else position

    def _value_end(self, start: int) -> int:
        try:
            return self._scan(self._text, start)[1]
        except RecursionError:  # the value is nearly as deep as the parser allows
            return _skip_brackets(self._text, start)


def _skip_brackets(text: str, start: int) -> int:
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def _first_too_deep(text: str) -> int | None:
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > limits.DEPTH_MAX:
            return found.start()
    return None


def _second_look(document: Document) -> None:
    """Place what the hooks met, and put null for the numbers that cannot be used."""
    places = cast("JsonPlaces", document.places)
    stack: list[tuple[object, Path]] = [([document.value], ())]
    is_outermost = True
    while stack and len(document.findings) < limits.PROBLEMS_MAX:
        container, path = stack.pop()
        if isinstance(container, _Repeated):
            document.findings.extend(_repeated_keys(places, path))
        for step, value in _parts(container):
            below = () if is_outermost else (*path, step)
            problem = _bad_value(step, value, below)
            if problem is not None:
                document.findings.append(problem)
            if isinstance(value, _Unusable):
                cast("Any", container)[step] = None
            elif isinstance(value, (dict, list)):
                stack.append((cast("object", value), below))
        is_outermost = False
    if isinstance(document.value, _Unusable):
        document.value = None


def _parts(container: object) -> list[tuple[str | int, object]]:
    if isinstance(container, dict):
        return list(cast("dict[str | int, object]", container).items())
    return list(enumerate(cast("list[object]", container)))


def _bad_value(step: str | int, value: object, path: Path) -> Finding | None:
    if isinstance(value, _Unusable):
        return Finding(
            path,
            "PLT-1010",
            f"number {shown(value.text)} cannot be represented",
            label="not a finite number of at most 64 bits",
            hint="write it as a string, in quotes",
        )
    for text, at_key in ((step, True), (value, False)):
        if isinstance(text, str) and _HALF_SURROGATE.search(text):
            return Finding(
                path,
                "PLT-1004",
                "a string holds half of a surrogate pair",
                label="cannot be written as UTF-8",
                at_key=at_key,
            )
    return None


def _repeated_keys(places: JsonPlaces, path: Path) -> list[Finding]:
    index = places.index(places.entry(path).value.start)
    return [
        Finding(
            (*path, key),
            "PLT-1008",
            f"key {shown(key)} is given twice in one object",
            label="given again",
            related=first.key,
            related_text="first given at",
            span=again.key,
        )
        for key, again in index.repeats()
        if (first := index.find(key))
    ]


_ADVICE = {
    "//": "JSON has no comments",
    "/*": "JSON has no comments",
    "#": "JSON has no comments; YAML has (name the file .yaml)",
    "'": 'JSON strings stand in double quotes: "text"',
}


def _syntax_finding(text: str, error: json.JSONDecodeError) -> Finding:
    position = _skip_blank(text, min(error.pos, len(text)))
    rest = text[position : position + 2]
    reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
    hint = next((advice for start, advice in _ADVICE.items() if rest.startswith(start)), None)
    before = len(text[:position].rstrip()) - 1
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 knows this case itself
        reason, hint = "comma behind the last element", "remove this comma"
    elif rest[:1] in ("}", "]") and text[before : before + 1] == ",":
        position, reason, hint = before, "comma behind the last element", "remove this comma"
    elif not rest and not error.msg.startswith("Unterminated"):
        reason, hint = "the text ends in the middle", "a bracket or brace is not closed"
    elif hint is None and rest[:1].isalpha():
        hint = "text and keys stand in double quotes; if this is YAML, name the file .yaml"
    elif hint is None and error.msg.startswith("Invalid control character"):
        hint = "write a line end as \\n and a tab as \\t inside of strings"
    span = Span(position, position + 1)
    return Finding((), "PLT-1006", f"not valid JSON: {reason}", label=reason, hint=hint, span=span)


def _skip_blank(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found else position
