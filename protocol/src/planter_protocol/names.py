"""Names that become subject tokens, checked once, at the edge.

Source of the grammar: NATS ADR-6 (subject tokens), Planter's design, chapter 3 (session ids).
"""

import re
import secrets
from typing import NewType

SessionId = NewType("SessionId", str)
"""One line of executions of a plan; 1 to 64 characters of ``A-Z a-z 0-9 _ -``."""
PhaseId = NewType("PhaseId", str)
"""A unit of work inside a manifest; never a subject token, so any printable text is allowed."""
RuntimeId = NewType("RuntimeId", str)
"""A process that executes phases; the same grammar as a session id."""

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
PHASE_ID_LENGTH_MAX = 128
ITEM_ID_LENGTH_MAX = PHASE_ID_LENGTH_MAX + len("[9999]")
_NUMBER = re.compile(r"\[\d+\]")

_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: people read ids to each other


class InvalidName(ValueError):
    """A name that cannot be one token of a subject."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(
            f"{kind} {name[:80]!r} is not valid: use 1 to 64 of the characters A-Z, a-z, 0-9, '_' and '-'"
        )


def is_token(name: str) -> bool:
    """Whether the name can be a session or runtime id."""
    return TOKEN.fullmatch(name) is not None


def session_id(name: str) -> SessionId:
    """The name as a session id; raises ``InvalidName``."""
    if not is_token(name):
        raise InvalidName("session id", name)
    return SessionId(name)


def runtime_id(name: str) -> RuntimeId:
    """The name as a runtime id; raises ``InvalidName``."""
    if not is_token(name):
        raise InvalidName("runtime id", name)
    return RuntimeId(name)


def is_of_phase(phase_id: str, wanted: str) -> bool:
    """Whether the phase is the wanted one, or stands for one of its items: ``wanted[3]``."""
    whole, rest = phase_id[: len(wanted)], phase_id[len(wanted) :]
    return whole == wanted and (not rest or _NUMBER.fullmatch(rest) is not None)


def random_token(length: int = 8) -> str:
    """A short unguessable token of lower-case letters and digits (5 bits a character)."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(length))


def new_session_id(prefix: str = "s") -> SessionId:
    """A fresh session id such as ``s-7k3f2qx9``; the prefix is cut and cleaned to fit."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", prefix).strip("-")[:48] or "s"
    return SessionId(f"{cleaned}-{random_token()}")
