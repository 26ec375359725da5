"""Reading YAML from the events of libyaml: plain data with the place of each key and value.

One loop with a stack of its own, so that no nesting can exhaust Python's. Aliases share the data they stand
for; what they would expand to is counted before anyone walks through it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

import yaml
from yaml import events

from planter_schemas import limits, yaml_scalars
from planter_schemas.documents import Document, unreadable
from planter_schemas.findings import Finding, Span
from planter_schemas.problems import Path, shown
from planter_schemas.yaml_errors import syntax_finding

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_NOWHERE = Span(0, 0)


_Entry: TypeAlias = tuple[int, int, int, int]
"""Start and end of the key (-1 in a list), start and end of the value; plain, because there are very many."""
_Entries: TypeAlias = dict[str | int, _Entry]


class _Node(NamedTuple):
    """A finished value, as its parent or an alias takes it."""

    value: object
    span: Span
    size: int
    height: int


@dataclass(slots=True)
class _Open:
    """An object or list whose end has not come yet."""

    container: Any
    entries: _Entries
    anchor: str | None
    start: int
    is_mapping: bool
    expects_key: bool
    key: str = ""
    key_span: Span = _NOWHERE
    is_merge: bool = False
    merged: list[tuple[object, Span]] = field(default_factory=list[tuple[object, Span]])
    size: int = 1
    height: int = 1


class _Refused(Exception):
    """The document cannot be read on from here."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.message)


def read_yaml(text: str) -> Document:
    """The data of a YAML text with everything that is wrong with it as text. Never raises for bad input."""
    if text.count("\n") + text.count(",") > limits.YAML_SEPARATORS_MAX:
        message = f"the document has more than {limits.YAML_SEPARATORS_MAX:,} line ends and commas"
        hint = "write a manifest of this size as JSON"
        return unreadable(text, "yaml", [Finding((), "PLT-1011", message, hint=hint)])
    builder = _Builder()
    try:
        builder.read(text)
    except _Refused as refused:
        return unreadable(text, "yaml", [*builder.findings, refused.finding])
    except yaml.YAMLError as error:
        return unreadable(text, "yaml", [*builder.findings, syntax_finding(text, error)])
    roots = [root for root in builder.roots if root.value is not None]
    if len(roots) == 1:
        value, span = roots[0].value, roots[0].span
    else:
        value, span = [root.value for root in roots], Span(0, 1)
        builder.entries[id(value)] = {
            index: (-1, -1, root.span.start, root.span.end) for index, root in enumerate(roots)
        }
    places = YamlPlaces(text, value, span, builder.entries)
    return Document(
        text, "yaml", value if roots else None, places, is_stream=len(roots) > 1, findings=builder.findings
    )


class YamlPlaces:
    """Finds the text of parts of a YAML text."""

    def __init__(self, text: str, root: object, span: Span, entries: dict[int, _Entries]) -> None:
        self._text = text
        self._root = root
        self._span = span
        self._entries = entries

    def locate(self, path: Path, *, at_key: bool) -> Span:
        """See ``documents.Places``."""
        (key_start, key_end, start, end), value = self._entry(path)
        is_container = isinstance(value, (dict, list))
        if key_start >= 0 and (at_key or is_container):
            return Span(key_start, key_end)
        if is_container and self._text[start : start + 1] in ("[", "{"):
            return Span(start, start + 1)
        return Span(start, end)

    def written(self, path: Path) -> str:
        """See ``documents.Places``."""
        _, _, start, end = self._entry(path)[0]
        return self._text[start:end]

    def _entry(self, path: Path) -> tuple[_Entry, object]:
        current: _Entry = (-1, -1, self._span.start, self._span.end)
        value = self._root
        for step in path:
            found = self._entries.get(id(value), {}).get(step)
            if found is None:
                break
            current, value = found, cast("Any", value)[step]
        return current, value


class _Builder:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.roots: list[_Node] = []
        self.entries: dict[int, _Entries] = {}
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Node | None] = {}
        self._node_count = 0
        self._alias_count = 0

    def read(self, text: str) -> None:
        """Take in all events of the text."""
        stream = cast("Iterator[Any]", yaml.parse(text, Loader=_LOADER))
        for event in stream:
            kind = type(event)
            if kind is events.ScalarEvent:
                self._scalar(event)
            elif kind is events.MappingStartEvent or kind is events.SequenceStartEvent:
                self._open(event, is_mapping=kind is events.MappingStartEvent)
            elif kind is events.MappingEndEvent or kind is events.SequenceEndEvent:
                self._close(event)
            elif kind is events.AliasEvent:
                self._alias(event)
            elif kind is events.DocumentStartEvent:
                self._anchors.clear()

    def _scalar(self, event: Any) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        text: str = event.value
        anchor: str | None = event.anchor
        self._count(1, start, end)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.expects_key:
            if event.tag not in (None, "!", yaml_scalars.STRING):
                raise self._bad_tag(event.tag, Span(start, end))
            if anchor is not None:
                self._anchors[anchor] = _Node(text, Span(start, end), 1, 0)
            self._take_key(frame, text, Span(start, end), is_plain=event.implicit[0])
            return
        value = self._value_of(event, text, Span(start, end))
        if anchor is not None:
            self._anchors[anchor] = _Node(value, Span(start, end), 1, 0)
        self._take(value, start, end)

    def _value_of(self, event: Any, text: str, span: Span) -> object:
        if event.implicit[0]:
            tag = yaml_scalars.plain_tag(text)
        elif event.implicit[1] or event.tag == "!":
            tag = yaml_scalars.STRING
        else:
            tag = event.tag
        if tag == yaml_scalars.STRING:
            return text
        if tag not in yaml_scalars.SCALAR_TAGS:
            raise self._bad_tag(tag, span)
        try:
            return yaml_scalars.scalar(text, tag)
        except yaml_scalars.NotRepresentable:
            message = f"number {shown(text)} cannot be represented"
            label, hint = "not a finite number of at most 64 bits", "put it in quotes to make it a string"
            self.findings.append(
                Finding(self._here(), "PLT-1010", message, label=label, hint=hint, span=span)
            )
        except yaml_scalars.NotOfTag:
            message = f"{shown(text)} does not fit the tag `!!{tag.rsplit(':', 1)[-1]}`"
            self.findings.append(Finding(self._here(), "PLT-1015", message, span=span))
        return None

    def _open(self, event: Any, *, is_mapping: bool) -> None:
        start = event.start_mark.index
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.expects_key:
            raise self._key_not_text(Span(start, start + 1))
        expected = yaml_scalars.MAPPING if is_mapping else yaml_scalars.SEQUENCE
        if event.tag not in (None, "!", expected):
            raise self._bad_tag(event.tag, Span(start, start + 1))
        if len(self._stack) >= limits.DEPTH_MAX:
            raise self._too_deep(Span(start, start + 1))
        self._count(1, start, start + 1)
        container: Any = {} if is_mapping else []
        entries: _Entries = {}
        self.entries[id(container)] = entries
        self._stack.append(_Open(container, entries, event.anchor, start, is_mapping, expects_key=is_mapping))
        if event.anchor is not None:
            self._anchors[event.anchor] = None

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        if frame.merged:
            self._merge(frame)
        end = event.end_mark.index
        if frame.anchor is not None:
            span = Span(frame.start, end)
            self._anchors[frame.anchor] = _Node(frame.container, span, frame.size, frame.height)
        self._take(frame.container, frame.start, end, frame.size, frame.height)

    def _alias(self, event: Any) -> None:
        span = Span(event.start_mark.index, event.end_mark.index)
        name: str = event.anchor
        if name not in self._anchors:
            hint = "define it with `&" + name[:60] + "` earlier in the same document"
            message = f"alias {shown('*' + name)} has no anchor"
            raise _Refused(
                Finding(self._here(), "PLT-1012", message, label="undefined", hint=hint, span=span)
            )
        node = self._anchors[name]
        if node is None:
            message = f"alias {shown('*' + name)} stands inside the part that it names"
            raise _Refused(Finding(self._here(), "PLT-1013", message, label="endless", span=span))
        self._alias_count += 1
        if self._alias_count > limits.YAML_ALIASES_MAX:
            message = f"the document uses more than {limits.YAML_ALIASES_MAX:,} aliases"
            raise _Refused(Finding(self._here(), "PLT-1014", message, span=span))
        if len(self._stack) + node.height > limits.DEPTH_MAX:
            raise self._too_deep(span)
        self._count(node.size, *span, is_alias=True)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.expects_key:
            if not isinstance(node.value, str):
                raise self._key_not_text(span)
            self._take_key(frame, node.value, span, is_plain=False)
        else:
            self._take(node.value, *span, node.size, node.height)

    def _take_key(self, frame: _Open, key: str, span: Span, *, is_plain: bool) -> None:
        frame.key, frame.key_span, frame.expects_key = key, span, False
        frame.is_merge = is_plain and key == "<<"
        frame.size += 1
        if not frame.is_merge and key in frame.container:
            first = Span(*frame.entries[key][:2])
            self.findings.append(
                Finding(
                    self._here(),
                    "PLT-1008",
                    f"key {shown(key)} is given twice in one object",
                    label="given again",
                    related=first,
                    related_text="first given at",
                    span=span,
                )
            )
            if len(self.findings) > limits.PROBLEMS_MAX:
                raise _Refused(self.findings.pop())

    def _take(self, value: object, start: int, end: int, size: int = 1, height: int = 0) -> None:
        """Put a finished value where it belongs: into its parent, or among the documents."""
        if not self._stack:
            self.roots.append(_Node(value, Span(start, end), size, height))
            return
        frame = self._stack[-1]
        frame.size += size
        if height >= frame.height:
            frame.height = height + 1
        if not frame.is_mapping:
            frame.entries[len(frame.container)] = (-1, -1, start, end)
            frame.container.append(value)
            return
        frame.expects_key = True
        key = frame.key
        if frame.is_merge:
            frame.merged.append((value, frame.key_span))
        elif key not in frame.container:
            frame.container[key] = value
            frame.entries[key] = (frame.key_span.start, frame.key_span.end, start, end)

    def _merge(self, frame: _Open) -> None:
        """Add the keys of merged objects that the object itself does not have; the first object wins."""
        for value, span in frame.merged:
            sources = cast("list[object]", value) if isinstance(value, list) else [value]
            for source in sources:
                if not isinstance(source, dict):
                    message = "the merge key `<<` needs an object, or a list of objects"
                    hint = "give it an alias of an object: `<<: *name`"
                    self.findings.append(Finding((), "PLT-1017", message, hint=hint, span=span))
                    continue
                source_entries = self.entries[id(cast("object", source))]
                for key, item in cast("dict[str, object]", source).items():
                    if key not in frame.container:
                        frame.container[key] = item
                        frame.entries[key] = source_entries[key]

    def _count(self, nodes: int, start: int, end: int, *, is_alias: bool = False) -> None:
        self._node_count += nodes
        if self._node_count > limits.YAML_NODES_MAX:
            span = Span(start, end)
            message = f"the document has more than {limits.YAML_NODES_MAX:,} keys and values"
            if is_alias:
                message += " when its aliases are expanded"
            raise _Refused(Finding((), "PLT-1014" if is_alias else "PLT-1011", message, span=span))

    def _here(self) -> Path:
        """The path of what is being read."""
        return tuple(frame.key if frame.is_mapping else len(frame.container) for frame in self._stack)

    def _bad_tag(self, tag: str, span: Span) -> _Refused:
        name = tag.replace("tag:yaml.org,2002:", "!!")
        hint = "write plain data; a text that starts with ! needs quotes"
        message = f"tag {shown(name)} is not allowed"
        return _Refused(Finding(self._here(), "PLT-1015", message, label="tag", hint=hint, span=span))

    def _key_not_text(self, span: Span) -> _Refused:
        message = "a list or object is used as a key"
        hint = "keys are text; a value such as {{ name }} needs quotes"
        return _Refused(Finding(self._here(), "PLT-1016", message, label="key", hint=hint, span=span))

    def _too_deep(self, span: Span) -> _Refused:
        message = f"objects and lists are nested more than {limits.DEPTH_MAX} deep"
        return _Refused(Finding((), "PLT-1009", message, label="too deep", span=span))
