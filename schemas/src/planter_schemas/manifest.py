"""The typed manifest: what a checked document means, in frozen data."""

import hashlib
import json
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from planter_schemas.durations import format_duration
from planter_schemas.variables import escape

Action: TypeAlias = Literal["raise", "continue", "abort", "log"]
InstanceMode: TypeAlias = Literal["immediate", "onUse"]
RunKind: TypeAlias = Literal["python", "exec", "shell", "http", "container", "noop", "wait", "approval"]
Isolation: TypeAlias = Literal["none", "files", "strict"]
ISOLATION: tuple[Isolation, ...] = ("none", "files", "strict")
GATE_KINDS: tuple[RunKind, ...] = ("wait", "approval")
"""These are decided by the planner itself: no runtime has a part in them."""
RUN_KINDS: tuple[RunKind, ...] = ("python", "exec", "shell", "http", "container", "noop", *GATE_KINDS)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Handler(_Frozen):
    """What to do, and whom to tell, about an outcome (protocol, `onFailure` and `onSuccess`)."""

    action: Action | None = None
    """``raise`` fails the session, ``continue`` goes on, ``abort`` cancels the rest, ``log`` only tells."""
    message: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    notify: dict[str, str] = Field(default_factory=dict)
    """Addressee by channel: ``email``, ``slack``, ``webhook``, or a channel that starts with ``x-``."""
    extensions: dict[str, Any] = Field(default_factory=dict)
    """``x-`` keys of the handler and of its ``spec``."""

    def to_json(self) -> dict[str, Any]:
        """The canonical spelling; ``spec`` is always there, because an empty object would mean no handler."""
        spec: dict[str, Any] = {}
        if self.message:
            spec["message"] = list(self.message)
        if self.notify:
            spec["notify"] = dict(self.notify)
        if self.labels:
            spec["labels"] = _escaped(self.labels)
        result: dict[str, Any] = {} if self.action is None else {"action": self.action}
        return {**result, "spec": spec, **self.extensions}


class Backoff(_Frozen):
    """The wait after an attempt: ``initial * factor ** (attempt - 1)``, at most ``max``, plus/minus jitter.

    Attributes:
        initial_ms: milliseconds before the second attempt.
        factor: what the wait is multiplied with after each attempt; 1 or more.
        max_ms: milliseconds that no wait exceeds.
        jitter: the share of a wait, 0 to 1, that is drawn at random.
    """

    initial_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 100_000
    jitter: float = 0.1


class RunLimits(_Frozen):
    """What a program may use, from ``x-run.limits``; None: no limit.

    Attributes:
        memory: bytes of address space of each process.
        cpu_seconds: seconds of processor time of each process.
        open_files: how many files each process may have open.
        file_size: bytes of a file that it writes.
        output: bytes of stdout and stderr of an attempt.
        extensions: ``x-`` keys.
    """

    memory: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None
    file_size: int | None = None
    output: int | None = None
    extensions: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The canonical spelling: bytes, seconds and numbers."""
        found = {
            "memory": self.memory,
            "cpu": self.cpu_seconds,
            "openFiles": self.open_files,
            "fileSize": self.file_size,
            "output": self.output,
        }
        return {key: value for key, value in found.items() if value is not None} | self.extensions


class Run(_Frozen):
    """What a phase runs, from ``x-run``: one of the first eight, or none and ``with`` is for a handler.

    Attributes:
        python: ``module:function``.
        exec: program and arguments, at least the program.
        shell: a script for the system's shell.
        http: the request, as the runtime's executor understands it.
        container: image and command, likewise.
        noop: nothing runs; an empty object, or one that names a result.
        wait: nothing runs; it is complete after a while (``for``), or at a time (``until``).
        approval: nothing runs; it is complete when people have approved.
        with_: arguments for what runs (``with``).
        env: environment variables, all strings.
        secrets: names of secrets of the runtime, by the environment variable that they come in.
        timeout_ms: milliseconds that one attempt may take.
        cwd: the folder to run in.
        venv: the folder of a Python environment to run with.
        limits: what it may use of the machine.
        isolation: what it can see and change.
        artifacts: files of its folder to keep, as patterns.
        extensions: ``x-`` keys inside of ``x-run``.
    """

    python: str | None = None
    exec: tuple[str, ...] | None = None
    shell: str | None = None
    http: dict[str, Any] | None = None
    container: dict[str, Any] | None = None
    noop: dict[str, Any] | None = None
    wait: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None
    with_: dict[str, Any] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    timeout_ms: int | None = None
    cwd: str | None = None
    venv: str | None = None
    limits: RunLimits | None = None
    isolation: Isolation | None = None
    artifacts: tuple[str, ...] = ()
    extensions: dict[str, Any] = Field(default_factory=dict)

    @property
    def kind(self) -> RunKind | None:
        """Which of these ways this is; None: it has arguments for a handler."""
        return next((kind for kind in RUN_KINDS if getattr(self, kind) is not None), None)

    def to_json(self) -> dict[str, Any]:
        """The canonical ``x-run`` object."""
        kind = self.kind
        value = None if kind is None else getattr(self, kind)
        result: dict[str, Any] = (
            {} if kind is None else {kind: list(value) if isinstance(value, tuple) else value}
        )
        if self.with_:
            result["with"] = self.with_
        if self.env:
            result["env"] = dict(self.env)
        if self.secrets:
            result["secrets"] = dict(self.secrets)
        if self.timeout_ms is not None:
            result["timeout"] = format_duration(self.timeout_ms)
        if self.cwd is not None:
            result["cwd"] = self.cwd
        if self.venv is not None:
            result["venv"] = self.venv
        if self.limits is not None:
            result["limits"] = self.limits.to_json()
        if self.isolation is not None:
            result["isolation"] = self.isolation
        if self.artifacts:
            result["artifacts"] = list(self.artifacts)
        return {**result, **self.extensions}


class Concurrency(_Frozen):
    """``x-concurrency``: of the phases of a session with this key, so many run at the same time at most."""

    key: str
    max: int = 1
    extensions: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> Any:
        """The canonical form: the key alone when there is nothing else to say."""
        if self.max == 1 and not self.extensions:
            return self.key
        return {"key": self.key, "max": self.max, **self.extensions}


class Foreach(_Frozen):
    """``x-foreach``: the phase is done once for each item.

    Attributes:
        items: the list, or the text of an expression that gives one.
        parallel: how many items are under way at a time at most; None for no limit.
    """

    items: str | tuple[Any, ...]
    parallel: int | None = None
    extensions: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> Any:
        """The canonical form: the items alone when there is nothing else to say."""
        items = self.items if isinstance(self.items, str) else list(self.items)
        if self.parallel is None and not self.extensions:
            return items
        limit = {} if self.parallel is None else {"parallel": self.parallel}
        return {"items": items, **limit, **self.extensions}


class Cache(_Frozen):
    """``x-cache``: an earlier result of the same content is taken instead of running the phase.

    Attributes:
        key: an expression; its value stands for the arguments. None: they do themselves.
        max_age_ms: milliseconds after which a result is too old; None for no limit.
    """

    key: str | None = None
    max_age_ms: int | None = None
    extensions: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> Any:
        """The canonical form: ``true`` when there is nothing else to say."""
        found: dict[str, Any] = {} if self.key is None else {"key": self.key}
        if self.max_age_ms is not None:
            found["maxAge"] = format_duration(self.max_age_ms)
        return {**found, **self.extensions} or True


class Constraint(_Frozen):
    """An entry of ``x-constraints``: what a label of the runtime must be.

    Attributes:
        label: its name, or ``planter.runtime``, ``planter.host``, ``planter.version``.
        operator: one of ``placement.OPERATORS``.
        value: as text, members of a set joined with commas; empty for ``is_set`` and ``is_not_set``.
        extensions: ``x-`` keys.
    """

    label: str
    operator: str = "="
    value: str = ""
    extensions: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The canonical form: with its operator, and with its value unless there is none."""
        found = {"label": self.label, "operator": self.operator}
        if self.operator not in ("is_set", "is_not_set"):
            found["value"] = escape(self.value)
        return {**found, **self.extensions}


class Affinity(Constraint):
    """An entry of ``x-affinity``: what a label had better be, or, with a weight below 0, had better not."""

    weight: int = 50

    def to_json(self) -> dict[str, Any]:
        """The canonical form, with its weight."""
        return {**super().to_json(), "weight": self.weight}


class Phase(_Frozen):
    """A unit of work (protocol, 'Phase Specification Schema').

    Attributes:
        id: unique in its manifest; 1 to 128 printable characters.
        description: for people; empty when there is none.
        match_labels: labels that a runtime must have; empty matches every runtime.
        instance_mode: ``immediate``, or ``onUse`` for a phase that waits for its first use.
        wait_for: ids to wait for, in the order and number they are written in.
        external: those of ``wait_for`` that no phase of the manifest has.
        wait_timeout_ms: milliseconds to wait at most (``waitFor.timeout``).
        max_attempts: all attempts, the first included; 1 to 1000.
        retry_backoff: the waits between attempts (``x-retry``).
        timeout_ms: milliseconds from start to end of one attempt (``x-timeout`` or ``x-run.timeout``).
        schedule_to_start_ms: milliseconds from ready to the start of an attempt (``.scheduleToStart``).
        schedule_to_close_ms: milliseconds from ready to the end of the last attempt (``.scheduleToClose``).
        heartbeat_ms: milliseconds that running work may be silent (``.heartbeat``).
        priority: phases with a larger one are offered first (``x-priority``).
        required_capabilities: what a runtime must be able to do (``x-capabilities``).
        when: an expression that must be true for the phase to run (``x-when``).
        trigger: which ends of its needs let the phase run (``x-trigger``).
        outputs: keys that its result must have (``x-outputs``).
        concurrency: whom it shares a limit with (``x-concurrency``).
        foreach: the list whose items it is done for (``x-foreach``).
        cache: whether an earlier result will do (``x-cache``).
        constraints: what the labels of its runtime must be (``x-constraints``).
        affinity: what they had better be (``x-affinity``).
        slots: how many slots of its runtime an attempt takes (``x-slots``).
        labels: from ``metadata``.
        annotations: from ``metadata``.
        extensions: every ``x-`` key of the phase and its spec; those that Planter understands in canonical
            form, all others as they stand.
        part_extensions: ``x-`` keys inside of ``selector``, ``waitFor``, ``retry`` and ``metadata``, by that
            name.
    """

    id: str
    description: str = ""
    match_labels: dict[str, str] = Field(default_factory=dict)
    instance_mode: InstanceMode = "immediate"
    wait_for: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    wait_timeout_ms: int | None = None
    max_attempts: int = 1
    on_failure: Handler | None = None
    on_success: Handler | None = None
    run: Run | None = None
    retry_backoff: Backoff = Backoff()
    timeout_ms: int | None = None
    schedule_to_start_ms: int | None = None
    schedule_to_close_ms: int | None = None
    heartbeat_ms: int | None = None
    priority: int = 0
    required_capabilities: tuple[str, ...] = ()
    when: str | None = None
    trigger: str = "all_success"
    outputs: tuple[str, ...] = ()
    concurrency: Concurrency | None = None
    foreach: Foreach | None = None
    cache: Cache | None = None
    constraints: tuple[Constraint, ...] = ()
    affinity: tuple[Affinity, ...] = ()
    slots: int = 1
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    extensions: dict[str, Any] = Field(default_factory=dict)
    part_extensions: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The canonical phase object: ``kind``, ``id``, ``metadata`` when there is any, ``spec``.

        Description and selector are always written: other programs of the protocol require them.
        """
        result: dict[str, Any] = {"kind": "Phase", "id": self.id}
        metadata = dict(self.part_extensions.get("metadata", {}))
        if self.labels:
            metadata["labels"] = _escaped(self.labels)
        if self.annotations:
            metadata["annotations"] = dict(self.annotations)
        if metadata:
            result["metadata"] = metadata
        result["spec"] = self._spec()
        return result

    def _spec(self) -> dict[str, Any]:
        parts = self.part_extensions
        spec: dict[str, Any] = {
            "description": self.description,
            "selector": {"matchLabels": _escaped(self.match_labels), **parts.get("selector", {})},
        }
        if self.instance_mode != "immediate":
            spec["instanceMode"] = self.instance_mode
        wait: dict[str, Any] = {"phases": list(self.wait_for)} if self.wait_for else {}
        if self.wait_timeout_ms is not None:
            wait["timeout"] = format_duration(self.wait_timeout_ms)
        wait.update(parts.get("waitFor", {}))
        if wait:
            spec["waitFor"] = wait
        retry: dict[str, Any] = {"maxAttempts": self.max_attempts} if self.max_attempts != 1 else {}
        retry.update(parts.get("retry", {}))
        if retry:
            spec["retry"] = retry
        if self.on_failure is not None:
            spec["onFailure"] = self.on_failure.to_json()
        if self.on_success is not None:
            spec["onSuccess"] = self.on_success.to_json()
        return {**spec, **self.extensions}


class Manifest(_Frozen):
    """A checked manifest.

    Attributes:
        phases: in the order of the document.
        target_phase: restricts the plan to this phase and what it waits for.
        envelope: ``apiVersion``, ``kind``, ``metadata`` and ``x-`` keys of the object around the phases.
    """

    phases: tuple[Phase, ...] = ()
    target_phase: str | None = None
    envelope: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> list[dict[str, Any]]:
        """All phases in canonical spelling: the body of ``POST /plan`` and of ``plan.session.<id>.start``.

        Target phase and envelope have no place in the protocol's array; ``to_document`` keeps them.
        """
        return [phase.to_json() for phase in self.phases]

    def to_document(self) -> list[dict[str, Any]] | dict[str, Any]:
        """The whole manifest in canonical spelling; loading it gives an equal manifest.

        A plain list when there is neither target phase nor envelope.
        """
        if self.target_phase is None and not self.envelope:
            return self.to_json()
        document: dict[str, Any] = dict(self.envelope)
        if self.target_phase is not None:
            document["targetPhase"] = self.target_phase
        document["phases"] = self.to_json()
        return document

    def digest(self) -> str:
        """``sha256:`` and 64 hex digits, over ``to_document()`` as UTF-8 JSON with sorted keys and no blanks.

        It does not depend on spelling, form, order of keys or comments of the text.
        """
        text = json.dumps(self.to_document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def selected(self) -> tuple[Phase, ...]:
        """The phases to run, in the manifest's order: all, or the target phase and all that it waits for."""
        if self.target_phase is None:
            return self.phases
        by_id = {phase.id: phase for phase in self.phases}
        wanted: set[str] = set()
        open_ids = [self.target_phase]
        while open_ids:
            phase_id = open_ids.pop()
            if phase_id not in wanted and phase_id in by_id:
                wanted.add(phase_id)
                open_ids.extend(by_id[phase_id].wait_for)
        return tuple(phase for phase in self.phases if phase.id in wanted)


def _escaped(labels: dict[str, str]) -> dict[str, str]:
    return {key: escape(value) for key, value in labels.items()}
