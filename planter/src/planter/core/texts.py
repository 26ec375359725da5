"""Texts of others are bounded wherever they are repeated."""

SHORT_MAX = 300
"""Characters of a reason that stands with each of many phases."""
TEXT_MAX = 4_000
"""Characters of what anybody has written: a reason, a comment, the message of a failure."""


def cut(text: str, most: int = TEXT_MAX) -> str:
    """The text, or its beginning and a mark."""
    return text if len(text) <= most else f"{text[:most]}..."


def cut_if_any(text: str | None, most: int = TEXT_MAX) -> str | None:
    """As ``cut``; nothing stays nothing."""
    return None if text is None else cut(text, most)
