"""The compiled graph that a session executes: immutable, self-contained, the same for every manifest kind."""

from enum import StrEnum

import msgspec


class FailureAction(StrEnum):
    """What a phase's final failure does to its session (PMP ``on_failure.action``)."""

    RAISE = "raise"
    """Nothing new is targeted, running work ends, the session fails. The default."""
    ABORT = "abort"
    """As raise, and running work is cancelled."""
    CONTINUE = "continue"
    """The session goes on as if the phase had completed."""
    LOG = "log"
    """As continue; the name that some manifests use when only the message matters."""


class Backoff(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Pause before attempt n+1: ``min(initial * factor ** (n - 1), max)`` plus up to ``jitter`` of it."""

    initial_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 100_000
    jitter: float = 0.1


DEFAULT_BACKOFF = Backoff()
"""This very object is left out when a phase is encoded."""


class Handler(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is said when a phase ends (PMP ``on_failure`` and ``on_success``, without the action)."""

    message: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    notify: dict[str, str] = {}


class PhaseSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One unit of work, as the core needs it. ``run`` is opaque here: the runtime reads it."""

    id: str
    digest: str
    """Of everything that makes the phase what it is; another digest means it has to run again."""
    needs: tuple[str, ...] = ()
    """Ids of phases of this plan that have to be satisfied first."""
    external: tuple[str, ...] = ()
    """Ids that no phase of this plan has; satisfied once the session knows them as complete."""
    description: str | None = None
    labels: dict[str, str] = {}
    """The selector: labels that a runtime (or its handler) must have."""
    kind: str | None = None
    """Kind of ``x-run``: noop, python, exec, shell, ...; None when the runtime chooses by labels."""
    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    capabilities: tuple[str, ...] = ()
    on_use: bool = False
    """Instantiated only when something that needs it is otherwise ready (PMP ``instance_mode: onUse``)."""
    wait_timeout_ms: int | None = None
    """How long the phase may wait for its needs (PMP ``wait_for.timeout``)."""
    timeout_ms: int | None = None
    """Start-to-close of one attempt; retried."""
    schedule_to_start_ms: int | None = None
    """From when an attempt is ready to the start of work on it; not retried."""
    schedule_to_close_ms: int | None = None
    """From when the phase is first ready to its end, over all attempts and their pauses; not retried."""
    heartbeat_ms: int | None = None
    """Longest silence of running work; retried."""
    max_attempts: int = 1
    backoff: Backoff = DEFAULT_BACKOFF
    priority: int = 0
    on_failure: FailureAction = FailureAction.RAISE
    failure: Handler | None = None
    success: Handler | None = None


class Plan(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An immutable graph of phases. Acyclic, ids unique: the compiler has refused everything else."""

    digest: str
    """``sha256:`` and hex over the phases; equal digests mean equal plans."""
    phases: tuple[PhaseSpec, ...] = ()
    version: int = 1
    """Of this format."""
    target: str | None = None
    """The phase that the plan goes up to: the rest of its manifest is left out (PMP ``targetPhase``)."""
