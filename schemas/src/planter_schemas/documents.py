"""A document that was read: plain data, and a way back to the place of each part."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from planter_schemas.findings import Finding, Span
from planter_schemas.problems import Path


class Places(Protocol):
    """Finds the text of a part of a document."""

    def locate(self, path: Path, *, at_key: bool) -> Span:
        """The text of the value at a path; of the key, when asked or when the value is an object or list.

        A path that leads nowhere gives the place of the last part that exists.
        """
        ...

    def written(self, path: Path) -> str:
        """The value's text exactly as it stands in the document; ``1.10`` stays ``1.10``."""
        ...


@dataclass(slots=True)
class Document:
    """What a text says.

    Attributes:
        value: dict, list, str, int, float, bool or None; several YAML documents are a list of theirs.
        is_stream: whether ``value`` is a list of several YAML documents.
        findings: what was wrong with the text.
        is_usable: False when ``value`` means nothing because the text could not be read.
    """

    text: str
    format: Literal["json", "yaml"]
    value: object
    places: Places
    is_stream: bool = False
    is_usable: bool = True
    findings: list[Finding] = field(default_factory=list[Finding])


class NoPlaces:
    """The places of a text that could not be read: there are none."""

    def locate(self, path: Path, *, at_key: bool) -> Span:
        """The start of the text."""
        del path, at_key
        return Span(0, 0)

    def written(self, path: Path) -> str:
        """Nothing."""
        del path
        return ""


def unreadable(text: str, format_: Literal["json", "yaml"], findings: list[Finding]) -> Document:
    """The document of a text that could not be read."""
    return Document(text, format_, None, NoPlaces(), is_usable=False, findings=findings)
