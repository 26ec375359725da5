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


class TriggerRule(StrEnum):
    """Which ends of its needs let a phase run (``x-trigger``); the words and their meaning are Airflow's."""

    ALL_SUCCESS = "all_success"
    """All have succeeded. The default; whatever a need left out is left out as well."""
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    """All have ended, however."""
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ALL_SKIPPED = "all_skipped"
    ONE_FAILED = "one_failed"
    """At least one; the others are not waited for."""
    ONE_SUCCESS = "one_success"
    ONE_DONE = "one_done"
    """At least one has succeeded or failed."""
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    """The join after a branch."""
    NONE_SKIPPED = "none_skipped"
    ALWAYS = "always"
    """Nothing is waited for."""


AFTER_FAILURE = frozenset(
    {
        TriggerRule.ALL_FAILED,
        TriggerRule.ALL_DONE,
        TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        TriggerRule.ONE_FAILED,
        TriggerRule.ONE_DONE,
        TriggerRule.ALWAYS,
    }
)
"""Rules that can hold when a need has failed: cleaning up and telling go on in a session that fails."""


class Backoff(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Pause before attempt n+1: ``min(initial * factor ** (n - 1), max)`` plus up to ``jitter`` of it."""

    initial_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 100_000
    jitter: float = 0.1


DEFAULT_BACKOFF = Backoff()
"""This very object is left out when a phase is encoded."""


class Handler(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What is said when a phase ends (PMP ``on_failure`` and ``on_success``, without the action)."""

    message: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    notify: dict[str, str] = {}


class Concurrency(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Of the phases of a session with this key, at most ``max`` have an attempt out."""

    key: str
    max: int = 1


class Foreach(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The phase is done once for each item of a list (``x-foreach``)."""

    items: msgspec.Raw
    """JSON: the list itself, or the text of an expression that gives one."""
    parallel: int | None = None
    """Of the items, at most so many have an attempt out."""


class Cache(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """An earlier result of the same content is taken instead of running the phase (``x-cache``)."""

    key: str | None = None
    """An expression; its value stands for the arguments. None: the arguments do themselves."""
    max_age_ms: int | None = None


class Constraint(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What a runtime's label must be (``x-constraints``); see ``core.constraints``."""

    label: str
    operator: str = "="
    value: str = ""


class Affinity(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What it had better be, or had better not (``x-affinity``)."""

    label: str
    operator: str = "="
    value: str = ""
    weight: int = 50
    """-100 to 100."""


class PlacementRules(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What a phase asks of its runtime beyond selector, executor and capabilities."""

    constraints: tuple[Constraint, ...] = ()
    affinity: tuple[Affinity, ...] = ()
    slots: int = 1
    """How many slots of the runtime an attempt takes (``x-slots``)."""


class PhaseSpec(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
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
    trigger: TriggerRule = TriggerRule.ALL_SUCCESS
    when: str | None = None
    """An expression (CEL); the phase is left out when it is false."""
    templated: bool = False
    """``run`` holds ``${{ }}``: it is filled in when the phase may start."""
    outputs: tuple[str, ...] = ()
    """Keys that the result must have."""
    concurrency: Concurrency | None = None
    uses: tuple[str, ...] = ()
    """Ids of the phases that the expressions name; all of them come before this one."""
    foreach: Foreach | None = None
    cache: Cache | None = None
    item: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Of one item of another phase: its value. No manifest has such a phase, see ``core.items``."""
    number: int = 0
    """Of one item: its place in the list, from 0."""
    placement: PlacementRules | None = None
    """None for the phases that ask for nothing of it: nearly all."""

    @property
    def slots(self) -> int:
        """How many slots an attempt takes."""
        return 1 if self.placement is None else self.placement.slots


class Plan(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """An immutable graph of phases. Acyclic, ids unique: the compiler has refused everything else."""

    digest: str
    """``sha256:`` and hex over the phases; equal digests mean equal plans."""
    phases: tuple[PhaseSpec, ...] = ()
    version: int = 1
    """Of this format."""
    target: str | None = None
    """The phase that the plan goes up to: the rest of its manifest is left out (PMP ``targetPhase``)."""
