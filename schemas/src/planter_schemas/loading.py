"""From text to a manifest, or to all that is wrong with it."""

import gc
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path as FilePath
from typing import BinaryIO, Literal, TypeAlias

from planter_schemas import limits
from planter_schemas.documents import Document, unreadable
from planter_schemas.findings import Finding, Findings, Span
from planter_schemas.forms import Parts, take_apart
from planter_schemas.json_text import read_json
from planter_schemas.manifest import Manifest, Phase
from planter_schemas.phases import Draft
from planter_schemas.problems import Path, Problem, Severity, pointer
from planter_schemas.references import check_references
from planter_schemas.text_lines import TextLines
from planter_schemas.values import Context

Format: TypeAlias = Literal["auto", "json", "yaml"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a text.

    Attributes:
        manifest: None when any problem is an error.
        problems: errors and warnings, sorted by line and column.
        source: the file's name, or what the caller named the text.
        text: the text, for rendering the problems; empty when it could not be read.
    """

    manifest: Manifest | None
    problems: tuple[Problem, ...]
    source: str
    text: str = field(repr=False)
    _document: Document = field(repr=False, compare=False)
    _drafts: Mapping[str, Draft] = field(repr=False, compare=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that make the manifest unusable."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that are only told."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def texts(self) -> Mapping[str, str]:
        """The text by its source, as ``render_problems`` takes it."""
        return {self.source: self.text}

    def problem(  # noqa: PLR0913 - one argument a part of a problem; nearly all calls give four
        self,
        path: Path,
        code: str,
        message: str,
        *,
        label: str | None = None,
        hint: str | None = None,
        severity: Severity = "error",
    ) -> Problem:
        """A problem at a place in the document, for checks that come after loading; ``self`` stays as it is.

        Args:
            path: from ``path_of_phase`` or ``path_of_wait``, or the document's own keys and indexes.
            code: from the table of codes.
            message: one line without place.
            label: short text behind the carets.
            hint: what would be right.
            severity: error or warning.
        """
        finding = Finding(path, code, message, label=label, hint=hint, severity=severity)
        return _Placing(self._document, self.source).problem(finding)

    def with_problems(self, *problems: Problem) -> "Loaded":
        """The same with further problems; without manifest when one of them is an error."""
        every = sorted((*self.problems, *problems), key=_order)
        failed = any(problem.severity == "error" for problem in every)
        return replace(self, problems=tuple(every), manifest=None if failed else self.manifest)

    def path_of_phase(self, phase_id: str) -> Path:
        """The path of what names a phase: its ``id``, its ``metadata.name`` or its key.

        Raises:
            KeyError: the document has no such phase.
        """
        return self._drafts[phase_id].place

    def path_of_wait(self, phase_id: str, index: int) -> Path:
        """The path of one entry of a phase's ``wait_for``, counted from 0.

        Raises:
            KeyError: the document has no such phase.
        """
        return self._drafts[phase_id].path_of_wait(index)

    def path_of_extension(self, phase_id: str, name: str) -> Path:
        """The path of an ``x-`` key of a phase, or of the phase when it has no such key.

        Raises:
            KeyError: the document has no such phase.
        """
        draft = self._drafts[phase_id]
        return draft.extension_places.get(name, draft.place)


def load_manifest(
    text: str | bytes,
    *,
    source: str = "<manifest>",
    format: Format = "auto",  # noqa: A002 - the word that callers expect
    variables: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Loaded:
    """Read and check a manifest; never raises for bad input.

    Args:
        text: the manifest; bytes are UTF-8. 64 MiB of JSON or 16 MiB of YAML at most.
        source: its name in problems. One that ends in ``.json``, ``.yaml`` or ``.yml`` decides what ``auto``
            means.
        format: ``auto`` takes a text that starts with a bracket or brace for JSON, and any other for YAML.
        variables: values for ``${NAME}`` in label values, attempt counts and durations.
        strict: whether waiting for a phase outside of the manifest is an error.
    """
    with _collector_paused():
        return _checked(_read(text, source, format), source, variables or {}, strict=strict)


@contextmanager
def _collector_paused() -> Generator[None]:
    """Keep the cyclic garbage collector from looking at the growing manifest again and again.

    A manifest has no cycles, and the looks would take longer than the reading.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _checked(document: Document, source: str, variables: Mapping[str, str], *, strict: bool) -> Loaded:
    findings = Findings()
    findings.extend(document.findings)
    if not document.is_usable:
        return _loaded(document, source, findings, None, {})
    if document.value is None:
        if not findings.errors:
            hint = "a manifest without phases is written []"
            findings.add(Finding((), "PLT-1005", "the manifest is empty", hint=hint))
        return _loaded(document, source, findings, None, {})
    parts = take_apart(Context(document, variables, findings))
    by_id = check_references(findings, parts, strict=strict)
    return _loaded(document, source, findings, parts, by_id)


def load_manifest_file(
    path: str | PathLike[str], *, variables: Mapping[str, str] | None = None, strict: bool = False
) -> Loaded:
    """Read and check a manifest file; ``-`` is standard input. A file that cannot be read is a problem too.

    Args:
        path: its ending decides whether it is JSON or YAML. The size is checked before anything is read.
        variables: see ``load_manifest``.
        strict: see ``load_manifest``.
    """
    name = str(path)
    source = "<stdin>" if name == "-" else name
    found = _file_bytes(name)
    if isinstance(found, Finding):
        findings = Findings()
        findings.add(found)
        return _loaded(unreadable("", "yaml", []), source, findings, None, {})
    return load_manifest(found, source=source, variables=variables, strict=strict)


def _file_bytes(name: str) -> bytes | Finding:
    largest = limits.YAML_BYTES_MAX if name.endswith((".yaml", ".yml")) else limits.JSON_BYTES_MAX
    try:
        if name == "-":
            return _read_at_most(sys.stdin.buffer, largest)
        path = FilePath(name)
        size = path.stat().st_size
        if size > largest:
            return _too_large(size, largest)
        with path.open("rb") as file:  # a pipe has no size: the limit holds while reading, too
            return _read_at_most(file, largest)
    except FileNotFoundError:
        return Finding((), "PLT-1001", "there is no such file")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Finding((), "PLT-1002", f"the file cannot be read: {reason[:1].lower()}{reason[1:]}")


def _read_at_most(file: BinaryIO, largest: int) -> bytes | Finding:
    data = file.read(largest + 1)
    return _too_large(len(data), largest) if len(data) > largest else data


def _too_large(size: int, largest: int) -> Finding:
    message = f"the manifest has {size / 1024 / 1024:,.1f} MiB or more; {largest // 1024 // 1024} are allowed"
    return Finding((), "PLT-1003", message)


def _read(data: str | bytes, source: str, format_: Format) -> Document:
    if len(data) > limits.JSON_BYTES_MAX:
        return unreadable("", "json", [_too_large(len(data), limits.JSON_BYTES_MAX)])
    text, finding = _decoded(data)
    if finding is not None:
        return unreadable(text, "json", [finding])
    if not text.strip():
        hint = "a manifest without phases is written []"
        return unreadable(text, "json", [Finding((), "PLT-1005", "the manifest is empty", hint=hint)])
    looks_like_json = text.lstrip()[:1] in ("[", "{")
    if format_ == "json" or (format_ == "auto" and _ends(source, ".json")):
        return read_json(text)
    if format_ == "auto" and looks_like_json:
        document = read_json(text)
        if document.is_usable or not _ends(source, ".yaml", ".yml"):
            return document
    if len(text) > limits.YAML_BYTES_MAX:
        return unreadable(text, "yaml", [_too_large(len(text), limits.YAML_BYTES_MAX)])
    from planter_schemas.yaml_nodes import read_yaml  # noqa: PLC0415 - JSON alone never needs PyYAML

    return read_yaml(text)


def _ends(source: str, *endings: str) -> bool:
    return source.lower().endswith(endings)


def _decoded(data: str | bytes) -> tuple[str, Finding | None]:
    """The text without byte order mark, and what is wrong with its bytes."""
    try:
        text = data.decode() if isinstance(data, bytes) else data
        if isinstance(data, str):
            data.encode()
    except UnicodeDecodeError as error:
        text = error.object.decode(errors="replace")
        offset = len(error.object[: error.start].decode(errors="replace"))
        hint = None
        if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = "it looks like UTF-16: save it as UTF-8"
        message = f"the text is not UTF-8: byte 0x{error.object[error.start]:02x} cannot stand here"
        span = Span(offset, offset + 1)
        return text, Finding((), "PLT-1004", message, label="not UTF-8", hint=hint, span=span)
    except UnicodeEncodeError as error:
        span = Span(error.start, error.start + 1)
        message = "the text holds half of a surrogate pair"
        return error.object.encode(errors="replace").decode(), Finding((), "PLT-1004", message, span=span)
    return text.removeprefix("\ufeff"), None


def _loaded(
    document: Document, source: str, findings: Findings, parts: Parts | None, by_id: Mapping[str, Draft]
) -> Loaded:
    manifest = None
    if parts is not None and not findings.errors:
        phases = tuple(Phase(id=draft.id or "", **draft.fields) for draft in parts.drafts)
        manifest = Manifest(phases=phases, target_phase=parts.target_phase, envelope=parts.envelope)
    placing = _Placing(document, source)
    kept = (*findings.errors, *findings.warnings, *_left_out(findings))
    problems = sorted((placing.problem(finding) for finding in kept), key=_order)
    return Loaded(manifest, tuple(problems), source, document.text, document, by_id)


def _left_out(findings: Findings) -> list[Finding]:
    result: list[Finding] = []
    if findings.errors_left_out:
        message, hint = "there are further errors", "repair the first ones and check again"
        result.append(Finding((), "PLT-1018", message, hint=hint))
    if findings.warnings_left_out:
        message = f"there are {findings.warnings_left_out:,} further warnings"
        result.append(Finding((), "PLT-1018", message, severity="warning"))
    return result


def _order(problem: Problem) -> tuple[bool, int, int]:
    return problem.code == "PLT-1018", problem.line, problem.column


class _Placing:
    """Turns findings into problems with lines."""

    def __init__(self, document: Document, source: str) -> None:
        self._document = document
        self._source = source
        self._lines = TextLines(document.text)

    def problem(self, finding: Finding) -> Problem:
        """The problem with its place, and the second place in its hint."""
        span = finding.span or self._document.places.locate(finding.path, at_key=finding.at_key)
        line, column = self._lines.place(span.start)
        has_text = bool(self._document.text) and finding.code not in ("PLT-1003", "PLT-1018")
        return Problem(
            severity=finding.severity,
            code=finding.code,
            message=finding.message,
            source=self._source,
            line=line,
            column=column,
            length=self._lines.length_on_line(span.start, span.end) if has_text else 0,
            path=pointer(finding.path),
            label=finding.label,
            hint=self._hint(finding),
        )

    def _hint(self, finding: Finding) -> str | None:
        related = finding.related
        if related is None:
            return finding.hint
        if not isinstance(related, Span):
            related = self._document.places.locate(related, at_key=finding.at_key)
        line, column = self._lines.place(related.start)
        place = f"{finding.related_text} {line}:{column}"
        return place if finding.hint is None else f"{finding.hint}\n{place}"
