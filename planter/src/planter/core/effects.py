"""Orders to the shell, in the imperative. They are carried out only after the events are in the journal.

Losing one is never wrong, only late: each can be derived again from the journal.
"""

import msgspec

from planter.core.events import HandlerCalled


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Base of all effects."""


class PublishTarget(Effect, frozen=True):
    """Offer the phase's current attempt."""

    phase: int
    """Index in the plan."""
    reason: str = "dependencies satisfied"


class PublishState(Effect, frozen=True):
    """Tell monitors the phase's new status."""

    phase: int


class CancelAttempt(Effect, frozen=True):
    """Ask a runtime to stop an attempt."""

    runtime_id: str
    phase_id: str
    attempt: int
    fence: int
    reason: str


class PassOn(Effect, frozen=True):
    """Say in the session's log what a handler wants said, store what is to be sent; answer ``PassedOn``."""

    called: HandlerCalled


class LookUp(Effect, frozen=True):
    """Look for an earlier result of the phase's content; answer ``LookedUp``."""

    phase_id: str
    key: str


class Remember(Effect, frozen=True):
    """Keep the result of the phase for others with the same content."""

    phase_id: str
    key: str
    result: msgspec.Raw | msgspec.UnsetType


class RemoveHistory(Effect, frozen=True):
    """Remove everything that is stored of a purged session, except that it was."""


class Ignore(Effect, frozen=True):
    """An input had no effect; the operator's log should say why."""

    phase_id: str
    reason: str


AnyEffect = PublishTarget | PublishState | CancelAttempt | PassOn | LookUp | Remember | RemoveHistory | Ignore
