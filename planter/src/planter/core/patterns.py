"""Regular expressions over labels, in time that nobody's pattern can make long.

A part of RE2's syntax (which Nomad's ``regexp`` has): literals, ``.``, classes, ``\\d \\w \\s`` and their
opposites, groups, ``|``, ``* + ? {n,m}``; ``^`` and ``$`` at the ends of the pattern or of its alternatives.
A pattern becomes a set of positions (Glushkov's automaton) that is walked along the text once: at most
``POSITIONS_MAX * TEXT_LENGTH_MAX`` small steps. Python's own ``re`` backtracks, see docs/adr/0018.
"""

from functools import lru_cache
from typing import NamedTuple

PATTERN_LENGTH_MAX = 256
POSITIONS_MAX = 256
"""Characters that a pattern stands for, repetitions written out."""
TEXT_LENGTH_MAX = 512
"""A longer text matches nothing."""
_COUNT_MAX = 256
_DEPTH_MAX = 32
_CACHED = 1_024

_Ranges = tuple[tuple[str, str], ...]
_LAST = chr(0x10FFFF)
_NAMED: dict[str, _Ranges] = {
    "d": (("0", "9"),),
    "w": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "s": (("\t", "\n"), ("\f", "\r"), (" ", " ")),
}


class PatternInvalid(ValueError):
    """A text is no pattern, or one that is not supported; the message says why."""


class _Part(NamedTuple):
    """A piece of the automaton: bit masks of positions."""

    first: int = 0
    last: int = 0
    is_nullable: bool = True


class _Node(NamedTuple):
    """A piece of the pattern: characters, a sequence, alternatives, or a repetition of its only child."""

    ranges: _Ranges | None = None
    sequence: tuple["_Node", ...] = ()
    choices: tuple["_Node", ...] = ()
    low: int = 1
    high: int | None = 1
    size: int = 0
    """Positions, repetitions written out."""


class _Pattern:
    """The automaton of one pattern."""

    def __init__(self) -> None:
        self.ranges: list[_Ranges] = []
        #: Each class once, with the positions that it has: a repetition has the same one in each copy.
        self.classes: dict[int, tuple[_Ranges, int]] = {}
        self.follow: list[int] = []
        self.floating = self.anchored = 0
        self.anywhere = self.at_end = 0
        self.matches_empty = self.matches_all = False
        self._of_character: dict[str, int] = {}

    def add(self, node: _Node) -> _Part:
        """Give the piece its positions."""
        if node.ranges is not None:
            bit = 1 << len(self.ranges)
            self.ranges.append(node.ranges)
            _, bits = self.classes.get(id(node.ranges), (node.ranges, 0))
            self.classes[id(node.ranges)] = node.ranges, bits | bit
            self.follow.append(0)
            return _Part(bit, bit, is_nullable=False)
        if node.choices:
            parts = [self.add(choice) for choice in node.choices]
            first = last = 0
            for part in parts:
                first, last = first | part.first, last | part.last
            return _Part(first, last, any(part.is_nullable for part in parts))
        return self._repeated(node) if (node.low, node.high) != (1, 1) else self._joined(node.sequence)

    def _joined(self, nodes: tuple[_Node, ...]) -> _Part:
        found = _Part()
        for node in nodes:
            found = self._then(found, self.add(node))
        return found

    def _then(self, before: _Part, part: _Part) -> _Part:
        self._link(before.last, part.first)
        return _Part(
            before.first | part.first if before.is_nullable else before.first,
            before.last | part.last if part.is_nullable else part.last,
            before.is_nullable and part.is_nullable,
        )

    def _repeated(self, node: _Node) -> _Part:
        found = _Part()
        if not node.size:
            return found  # of nothing, however often
        copies = max(node.low, 1) if node.high is None else node.high
        for number in range(copies):
            part = self._joined(node.sequence)
            if node.high is None and number == copies - 1:
                self._link(part.last, part.first)
            if number >= node.low:
                part = part._replace(is_nullable=True)
            found = self._then(found, part)
        return found

    def _link(self, froms: int, to: int) -> None:
        while to and froms:
            low = froms & -froms
            self.follow[low.bit_length() - 1] |= to
            froms ^= low

    def search(self, text: str) -> bool:
        """Whether the pattern matches some part of the text."""
        if self.matches_all or (self.matches_empty and not text):
            return True
        state, start = 0, self.floating | self.anchored
        for character in text:
            reached = start
            while state:
                low = state & -state
                reached |= self.follow[low.bit_length() - 1]
                state ^= low
            state = reached & self._positions(character)
            if state & self.anywhere:
                return True
            start = self.floating
        return bool(state & self.at_end)

    def _positions(self, character: str) -> int:
        found = self._of_character.get(character)
        if found is None:
            found = 0
            for ranges, bits in self.classes.values():
                if any(low <= character <= high for low, high in ranges):
                    found |= bits
            if len(self._of_character) < _CACHED:
                self._of_character[character] = found
        return found


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def pattern(self) -> _Pattern:
        """All of it: alternatives, each of which may be anchored."""
        found = _Pattern()
        size = 0
        while True:
            is_anchored = self._taken("^")
            node = self._sequence()
            to_end = self._taken("$")
            size = _checked(size + node.size)
            part = found.add(node)
            if is_anchored:
                found.anchored |= part.first
            else:
                found.floating |= part.first
            if to_end:
                found.at_end |= part.last
            else:
                found.anywhere |= part.last
            if part.is_nullable:
                found.matches_empty = True
                found.matches_all = found.matches_all or not (is_anchored and to_end)
            if self._taken("|"):
                continue
            if self._at < len(self._text):
                self._at -= to_end  # what cannot stand here is the `$`
                raise self._misplaced()
            return found

    def _misplaced(self) -> PatternInvalid:
        character = self._text[self._at]
        if character in "^$":
            end = "start" if character == "^" else "end"
            text = f"`{character}` may stand only at the {end} of the pattern, or of one of its alternatives"
            return PatternInvalid(f"{text} outside of groups")
        return PatternInvalid(
            f"`{character}` has no `(`" if character == ")" else f"`{character}` is not expected"
        )

    def _taken(self, character: str) -> bool:
        is_next = self._text.startswith(character, self._at)
        self._at += is_next
        return is_next

    def _next(self, what: str) -> str:
        if self._at >= len(self._text):
            raise PatternInvalid(f"it ends inside of {what}")
        self._at += 1
        return self._text[self._at - 1]

    def _sequence(self) -> _Node:
        nodes: list[_Node] = []
        size = 0
        while self._at < len(self._text) and self._text[self._at] not in "|)^$":
            nodes.append(self._repetition())
            size = _checked(size + nodes[-1].size)
        return _Node(sequence=tuple(nodes), size=size)

    def _repetition(self) -> _Node:
        node = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return node
        self._taken("?")  # lazy: it decides what is matched, not whether
        if self._at < len(self._text) and (self._text[self._at] in "*+?" or self._bounds() is not None):
            raise PatternInvalid("two repetitions in a row: put the first one into a group")
        low, high = bounds
        size = _checked(node.size * (max(low, 1) if high is None else high))
        return _Node(sequence=(node,), low=low, high=high, size=size)

    def _bounds(self) -> tuple[int, int | None] | None:
        for character, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._taken(character):
                return bounds
        if not self._taken("{"):
            return None
        low, comma, high = "".join(iter(lambda: self._next("`{}`"), "}")).partition(",")
        found = _count(low), _count(high or low) if high or not comma else None
        if found[1] is not None and found[1] < found[0]:
            raise PatternInvalid(f"`{{{low},{high}}}` has its numbers the wrong way round")
        return found

    def _atom(self) -> _Node:
        character = self._next("the pattern")
        if character == "(":
            return self._group()
        if character == "[":
            return _Node(ranges=self._class(), size=1)
        if character == "\\":
            return _Node(ranges=self._escape(), size=1)
        if character == ".":
            return _Node(ranges=_opposite((("\n", "\n"),)), size=1)
        if character in "*+?{":
            raise PatternInvalid(f"`{character}` has nothing before it to repeat")
        return _Node(ranges=((character, character),), size=1)

    def _group(self) -> _Node:
        if self._taken("?") and not self._taken(":"):
            raise PatternInvalid("of `(?...)` only `(?:...)` is supported")
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise PatternInvalid(f"groups are nested more than {_DEPTH_MAX} deep")
        choices = [self._sequence()]
        while self._taken("|"):
            choices.append(self._sequence())
        if not self._taken(")"):
            raise self._misplaced() if self._at < len(self._text) else PatternInvalid("`(` has no `)`")
        self._depth -= 1
        return _Node(choices=tuple(choices), size=_checked(sum(choice.size for choice in choices)))

    def _escape(self) -> _Ranges:
        character = self._next("an escape")
        if (named := _NAMED.get(character.lower())) is not None:
            return named if character.islower() else _opposite(named)
        if character.isascii() and not character.isalnum():
            return ((character, character),)
        raise PatternInvalid(f"`\\{character}` is not supported")

    def _class(self) -> _Ranges:
        is_opposite = self._taken("^")
        found: list[tuple[str, str]] = []
        while True:
            character = self._next("a class `[...]`")
            if character == "]" and found:
                break
            if character == "[" and self._text.startswith(":", self._at):
                raise PatternInvalid("`[:name:]` is not supported")
            if character == "\\":
                ranges = self._escape()
                single = _only_character(ranges)
                if single is None:
                    found += ranges
                    continue
                character = single
            found.append((character, self._range_end(character)))
        ranges = tuple(sorted(set(found)))
        return _opposite(ranges) if is_opposite else ranges

    def _range_end(self, low: str) -> str:
        rest = self._text[self._at : self._at + 2]
        if len(rest) < 2 or rest[0] != "-" or rest[1] == "]":
            return low
        self._at += 2
        high = rest[1]
        if high == "\\":
            single = _only_character(self._escape())
            if single is None:
                raise PatternInvalid("a range ends in a class of characters")
            high = single
        if high < low:
            raise PatternInvalid(f"the range `{low}-{high}` has its ends the wrong way round")
        return high


def _only_character(ranges: _Ranges) -> str | None:
    for low, high in ranges:
        return low if low == high and len(ranges) == 1 else None
    return None


def _checked(size: int) -> int:
    if size > POSITIONS_MAX:
        text = f"it is too large: with repetitions written out it has more than {POSITIONS_MAX} characters"
        raise PatternInvalid(text)
    return size


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < len(str(_COUNT_MAX)) + 1 and int(text) <= _COUNT_MAX:
        return int(text)
    raise PatternInvalid(f"`{{}}` needs one or two numbers up to {_COUNT_MAX}; a literal brace is `\\{{`")


def _opposite(ranges: _Ranges) -> _Ranges:
    """All other characters; the ranges are in order."""
    found: list[tuple[str, str]] = []
    first = 0
    for low, high in ranges:
        if ord(low) > first:
            found.append((chr(first), chr(ord(low) - 1)))
        first = max(first, ord(high) + 1)
    if first <= ord(_LAST):
        found.append((chr(first), _LAST))
    return tuple(found)


@lru_cache(_CACHED)
def _compiled(pattern: str) -> _Pattern:
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise PatternInvalid(f"it has {len(pattern):,} characters, {PATTERN_LENGTH_MAX} are allowed")
    return _Parser(pattern).pattern()


def pattern_fault(pattern: str) -> str | None:
    """What is wrong with a pattern; None when it can be used."""
    try:
        _compiled(pattern)
    except PatternInvalid as error:
        return str(error)
    return None


def pattern_size(pattern: str) -> int:
    """Its characters and classes, repetitions written out; 0 when it is faulty."""
    try:
        return len(_compiled(pattern).ranges)
    except PatternInvalid:
        return 0


def matches(pattern: str, text: str) -> bool:
    """Whether a part of the text matches; a faulty pattern and too long a text match nothing."""
    if len(text) > TEXT_LENGTH_MAX:
        return False
    try:
        return _compiled(pattern).search(text)
    except PatternInvalid:
        return False
