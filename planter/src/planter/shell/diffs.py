"""The answer to ``diff``: what applying a manifest would do, in the manifest's own words."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from planter.core.differences import Action, Change, Difference, difference
from planter.core.fleet import Fleet
from planter.core.graph import Graph
from planter.core.plan import PhaseSpec
from planter.core.session import Session
from planter.core.status import PHASE_OPEN
from planter.shell.gaps import gaps_of
from planter_protocol import messages
from planter_protocol.codec import encode

_CHANGES_BYTES_MAX = 224 * 1024
_NAMES_BYTES_MAX = 48 * 1024
_FIELDS_MAX = 100
_VALUE_BYTES_MAX = 2_000

_PATHS = {
    "needs": "waitFor.phases",
    "external": "waitFor.external",
    "labels": "selector.matchLabels",
    "run": "x-run",
    "onUse": "instanceMode.onUse",
    "waitTimeoutMs": "waitFor.timeout",
    "timeoutMs": "x-timeout.startToClose",
    "scheduleToStartMs": "x-timeout.scheduleToStart",
    "scheduleToCloseMs": "x-timeout.scheduleToClose",
    "heartbeatMs": "x-timeout.heartbeat",
    "maxAttempts": "retry.maxAttempts",
    "backoff": "x-retry",
    "priority": "x-priority",
    "onFailure": "onFailure.action",
    "failure": "onFailure",
    "success": "onSuccess",
    "trigger": "x-trigger",
    "when": "x-when",
    "outputs": "x-outputs",
    "concurrency": "x-concurrency",
    "foreach": "x-foreach",
    "cache": "x-cache",
    "constraints": "x-constraints",
    "affinity": "x-affinity",
    "slots": "x-slots",
}
"""Fields of a plan's phase, and where they stand in a manifest; others are called alike."""


def diff(
    session: Session | None, session_id: str, graph: Graph, fleet: Fleet, *, bounded: bool = True
) -> messages.Diff:
    """What applying the plan would do; ``bounded`` cuts lists so that the reply fits a message."""
    found = difference(session, graph)
    changes, is_cut = _listed(_shown(found), bounded=bounded)
    names = {action: _Names(bounded=bounded) for action in ("add", "delete", "rerun", "unchanged")}
    for change in found.changes:
        key = _list_of(change)
        if key is not None:
            names[key].put(change.phase_id)
    updates = [one for one in changes if Action.UPDATE in one.actions]
    return messages.Diff(
        session_id=session_id,
        base_revision=session.revision if session else 0,
        base_digest=session.plan_digest if session else None,
        plan_digest=graph.plan.digest,
        add=names["add"].kept,
        update=tuple(messages.PhaseChange(phase_id=one.phase_id, fields=one.fields) for one in updates),
        delete=names["delete"].kept,
        rerun=names["rerun"].kept,
        unchanged=names["unchanged"].kept,
        status=session.status.value if session else None,
        live=found.live,
        would_change=not found.is_empty,
        counts={action.value: count for action, count in found.counts.items()},
        changes=changes,
        cut=is_cut or any(one.is_cut for one in names.values()),
        gaps=gaps_of(
            fleet, (one.after for one in found.changes if one.after and Action.KEEP not in one.actions)
        ),
    )


class _Names:
    """Phase ids, as many as have room."""

    def __init__(self, *, bounded: bool) -> None:
        self._kept: list[str] = []
        self._room = _NAMES_BYTES_MAX if bounded else None
        self.is_cut = False

    def put(self, name: str) -> None:
        if self._room is not None:
            self._room -= len(name.encode()) + 3
            if self._room < 0:
                self.is_cut = True
                return
        self._kept.append(name)

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(self._kept)


def _list_of(change: Change) -> str | None:
    if Action.ADD in change.actions:
        return "add"
    if Action.DROP in change.actions:
        return "delete"
    if Action.KEEP in change.actions:
        return "unchanged"
    return None if Action.UPDATE in change.actions else "rerun"


def _shown(found: Difference) -> Iterable[Change]:
    """What does not stay, and, in a session that runs, which attempts do."""
    running: list[Change] = []
    for change in found.changes:
        if Action.KEEP not in change.actions:
            yield change
        elif change.state is not None and change.state.status in PHASE_OPEN:
            running.append(change)
    yield from running


def _listed(shown: Iterable[Change], *, bounded: bool) -> tuple[tuple[messages.PhaseChange, ...], bool]:
    listed: list[messages.PhaseChange] = []
    size = 0
    for change in shown:
        one = _change(change)
        if bounded:
            size += len(encode(one)) + 1
            size += sum(len(name) + 3 for name in one.fields) if Action.UPDATE in one.actions else 0
            if size > _CHANGES_BYTES_MAX:
                return tuple(listed), True
        listed.append(one)
    return tuple(listed), False


def _change(change: Change) -> messages.PhaseChange:
    fields: tuple[messages.FieldChange, ...] = ()
    if Action.UPDATE in change.actions and change.before is not None and change.after is not None:
        fields = tuple(field_changes(change.before, change.after)[:_FIELDS_MAX])
    state = change.state
    return messages.PhaseChange(
        phase_id=change.phase_id,
        fields=tuple(field.path for field in fields),
        actions=tuple(action.value for action in change.actions),
        reason=change.cause.value if change.cause else None,
        because=change.root,
        because_reason=change.root_cause.value if change.root_cause else None,
        changes=fields,
        renamed=change.renamed,
        status=state.status.value if state else None,
        attempt=state.attempt if state else 0,
        runtime_id=state.runtime_id if state else None,
    )


def field_changes(before: PhaseSpec, after: PhaseSpec) -> list[messages.FieldChange]:
    """Each field that differs, in the order of the definition; never empty for phases that differ."""
    old, new = _leaves(before), _leaves(after)
    found = [
        messages.FieldChange(path=path, before=_value(old, path), after=_value(new, path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path, _MISSING) != new.get(path, _MISSING)
    ]
    # Extensions that the planner does not know are in a phase's digest, and nowhere else in a plan.
    return found or [messages.FieldChange(path="x-*")]


def _leaves(spec: PhaseSpec) -> dict[str, Any]:
    """A phase as paths and values, in the words of a manifest."""
    plain = msgspec.json.decode(msgspec.json.encode(spec))
    for name in ("id", "digest", "kind", "templated", "uses"):  # what follows from other fields
        plain.pop(name, None)
    if "onFailure" in plain and not plain.get("failure"):
        plain.pop("failure", None)  # a handler that says nothing: its action is shown
    if plain.get("cache") == {}:
        plain["cache"] = True
    for name, value in plain.pop("placement", {}).items():
        if name == "slots":
            plain[name] = value
        else:
            plain |= {f"{name}[{number}]": one for number, one in enumerate(value)}
    found: dict[str, Any] = {}
    for name, value in plain.items():
        known, bracket, number = name.partition("[")
        _flatten(f"{_PATHS.get(known, known)}{bracket}{number}", value, found)
    return found


def _flatten(path: Any, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            _flatten(f"{path}.{name}", inner, found)
    elif path.endswith("Ms") and isinstance(value, int):
        found[path.removesuffix("Ms")] = f"{value}ms"
    elif path in _DURATIONS and isinstance(value, int):
        found[path] = f"{value}ms"
    else:
        found[path] = value


def _value(leaves: Mapping[str, Any], path: str) -> msgspec.Raw | msgspec.UnsetType:
    if path not in leaves:
        return msgspec.UNSET
    data = msgspec.json.encode(leaves[path])
    if len(data) <= _VALUE_BYTES_MAX:
        return msgspec.Raw(data)
    cut = data[:_VALUE_BYTES_MAX].decode(errors="ignore")
    return msgspec.Raw(msgspec.json.encode(f"{cut}... ({len(data):,} bytes)"))


_MISSING = object()
_DURATIONS = frozenset(path for name, path in _PATHS.items() if name.endswith("Ms"))
