"""libyaml's words for broken text, in words for people."""

from typing import Any

import yaml

from planter_schemas.findings import Finding, Span

_ADVICE = {
    "found a tab character": "indent with spaces",
    "found character that cannot start any token": (
        "put the text in quotes: it starts with a character that YAML reserves"
    ),
    "mapping values are not allowed": "put text that contains `: ` in quotes, or check the indentation",
    "did not find expected key": "check the indentation: keys of one object start at the same column",
    "did not find expected '-' indicator": "check the indentation: all entries of a list start with `- `",
    "could not find expected ':'": "a key needs a colon and a space behind it",
    "found unexpected end of stream": "a quote is not closed",
    "did not find expected ',' or ']'": "a list in brackets needs commas, and `]` at its end",
    "did not find expected ',' or '}'": "an object in braces needs commas, and `}` at its end",
    "did not find expected <document start>": "start a further document with `---`",
    "found unknown escape character": "double a backslash in double quotes, or use single quotes",
}


def syntax_finding(text: str, error: yaml.YAMLError) -> Finding:
    """The finding for an error that libyaml raised over this text."""
    raised: Any = error
    mark = getattr(raised, "problem_mark", None)
    if mark is None:
        return _unreadable_character(text, raised)
    reason = str(raised.problem or "the text cannot be parsed")
    offset = min(int(mark.index), len(text))
    hint = next((advice for start, advice in _ADVICE.items() if reason.startswith(start)), None)
    if text[offset : offset + 1] == "\t":
        reason, hint = "a tab stands where indentation is expected", "indent with spaces"
    elif offset >= len(text.rstrip()) and raised.context_mark is not None:
        offset = min(int(raised.context_mark.index), len(text))  # the end of the text explains nothing
        reason += f", {raised.context}"
    elif text[offset : offset + 1] == "%":
        hint = "put text that starts with % in quotes"
    span = Span(offset, offset + 1)
    return Finding((), "PLT-1007", f"not valid YAML: {reason}", label=reason, hint=hint, span=span)


def _unreadable_character(text: str, raised: Any) -> Finding:
    """For the reader's errors, which have a character, and a position that counts bytes or characters."""
    character = getattr(raised, "character", None)
    codepoint = ord(character) if isinstance(character, str) and len(character) == 1 else character
    name = f"character U+{codepoint:04X}" if isinstance(codepoint, int) else "a character"
    offset = text.find(chr(codepoint)) if isinstance(codepoint, int) and 0 <= codepoint < 0x110000 else -1
    span = Span(max(offset, 0), max(offset, 0) + 1)
    message = f"not valid YAML: {name} is not allowed in a text file"
    hint = "remove it; inside of double quotes it can be written as an escape, such as \\x00"
    return Finding((), "PLT-1007", message, label="not allowed", hint=hint, span=span)
