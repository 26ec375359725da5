"""What is told of a phase that the planner decides itself: see ``messages.PhaseState`` and ``State``."""

from typing import Literal

import msgspec


class GateAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What somebody has answered."""

    by: str
    at: str
    answer: Literal["approve", "reject"]
    comment: str | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A phase that waits for time or for people (``x-run: {wait: ...}``, ``{approval: ...}``)."""

    kind: Literal["wait", "approval"]
    open: bool = False
    """It waits now; absent: it is over, and this is what became of it."""
    since: str
    until: str | None = None
    """When it is over by itself: the wait is done, the question expires."""
    message: str | None = None
    """What is asked."""
    approvers: tuple[str, ...] = ()
    """Who may answer; empty: anybody who may send commands."""
    needed: int = 1
    """So many different people have to approve."""
    answers: tuple[GateAnswer, ...] = ()
    """The newest; long comments are cut."""
    more_answers: int = 0
    """Earlier ones, which the journal has."""
