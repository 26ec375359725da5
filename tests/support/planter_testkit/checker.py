"""A judge that reads a session's journal and nothing else.

It shares no code with the planner: it folds the records by rules of its own and raises ``Violation`` with the
number of the invariant (reliability design, I1 to I8) and the commit that breaks it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from planter_protocol.messages import Commit
from planter_testkit.gate_rules import Gate, begun, milliseconds


class Violation(AssertionError):
    """The journal breaks an invariant."""


class Verdict(msgspec.Struct):
    """What the judge has seen of a session."""

    commits: int = 0
    phases: int = 0
    completed: int = 0
    #: Attempts that were offered and not withdrawn again.
    attempts: int = 0
    status: str | None = None
    #: Ids of the planners that have committed.
    planners: set[str] = msgspec.field(default_factory=set)
    #: Ids in the order of their completion.
    order: list[str] = msgspec.field(default_factory=list)


class _Phase(msgspec.Struct):
    needs: tuple[str, ...]
    external: tuple[str, ...] = ()
    on_failure: str = "raise"
    status: str = "waiting"
    attempt: int = 0
    satisfied: bool = False
    trigger: str = "all_success"
    #: It has a rule or an expression, so that a record has to say that it may run.
    conditional: bool = False
    cleared: bool = False
    left_out: bool = False
    digest: str = ""
    #: Somebody may work on the open attempt: it was addressed, or an open offer of it was taken.
    is_taken: bool = False
    #: Of one item of an x-foreach: the id of its phase.
    whole: str = ""
    #: Of a phase with x-foreach: how many items it has, once they are known.
    items: int | None = None
    kind: str = ""
    #: ``x-run`` as the plan has it, if the planner is to do it itself.
    run: dict[str, Any] = {}
    gate: Gate | None = None


def judge(session: str, commits: Sequence[tuple[int, Commit]], plans: Mapping[str, Any]) -> Verdict:
    """Check one session's records.

    Args:
        session: its id, for messages.
        commits: journal sequence and record, as stored.
        plans: plans that the journal names by reference, as plain objects, by that reference.
    """
    verdict = Verdict()
    phases: dict[str, _Phase] = {}
    fences: dict[str, int] = {}
    known: set[str] = set()
    stopping: dict[str, int] = {}
    aside: dict[str, _Phase] = {}
    inputs: set[int] = set()
    last_sequence = 0
    for expected, (sequence, commit) in enumerate(commits, start=1):
        where = f"session {session}, commit {commit.n} (sequence {sequence})"
        _must(commit.n == expected, "I1 chain", where, f"expected commit {expected}")
        _must(sequence > last_sequence, "I1 chain", where, "sequences do not grow")
        last_sequence = sequence
        _must(
            not inputs & set(commit.inputs), "I3 input once", where, f"{sorted(inputs & set(commit.inputs))}"
        )
        inputs.update(commit.inputs)
        verdict.planners.add(commit.by)
        for event in commit.events:
            if event["type"] == "PlanApplied":
                plan = event.get("plan") or plans[event["planRef"]]
                before = {**aside, **phases}
                phases = _new_plan(plan, before, known)
                is_live = event.get("replan", False)
                _must(is_live == (verdict.status == "running"), "I8 termination", where, f"replan: {is_live}")
                _settle(phases, before, stopping, live=is_live)
                left = {name: one for name, one in before.items() if name not in phases and not one.whole}
                aside = _still_done(left, phases) if plan.get("target") else {}
                verdict.status, verdict.phases = "running", len(phases)
            elif event["type"] == "SessionEnded":
                left = [name for name, phase in phases.items() if not _is_terminal(phase.status)]
                _must(not left, "I8 termination", where, f"ended with {left[:5]} open")
                _must(not stopping, "I8 termination", where, f"ended while {sorted(stopping)[:5]} stop")
                verdict.status = event["status"]
            elif event["type"] == "SessionReopened":
                verdict.status = "running"
            elif event["type"] == "PhasesReset":
                _reset(phases, event["phaseIds"])
                aside = _still_done(aside, phases)
            elif event["type"] == "AttemptStopped":
                known_as = stopping.pop(event["phaseId"], None)
                _must(known_as == event["attempt"], "I6 result", where, f"{event} was not to stop")
            elif event["type"] == "ExternalCompleted":
                known.add(event["phaseId"])
            elif event["type"] == "ClockSetBack":
                _set_back(phases, event["by"])
            elif event["type"] == "HandlerPassedOn":
                pass  # the phase may have left the plan meanwhile
            elif "phaseId" in event:
                is_free = event["type"] != "PhaseTargeted" or event["phaseId"] not in stopping
                _must(is_free, "I5 dispatch", where, f"{event} while an attempt of it is to stop")
                _phase_event(event, phases, known, fences, verdict, sequence, commit.at, where)
    verdict.commits = len(commits)
    return verdict


def _new_plan(plan: Any, before: Mapping[str, _Phase], known: set[str]) -> dict[str, _Phase]:
    """Phases of a new revision, as they were in the one before."""
    known.update(name for name, phase in before.items() if phase.satisfied)
    found: dict[str, _Phase] = {}
    for spec in plan.get("phases", ()):
        old = before.get(spec["id"])
        found[spec["id"]] = _Phase(
            needs=tuple(spec.get("needs", ())),
            external=tuple(spec.get("external", ())),
            on_failure=spec.get("onFailure", "raise"),
            status=old.status if old else "waiting",
            attempt=old.attempt if old else 0,
            satisfied=old.satisfied if old else False,
            trigger=spec.get("trigger", "all_success"),
            conditional=bool(spec.get("when") is not None or spec.get("templated") or spec.get("trigger")),
            cleared=old.cleared if old else False,
            left_out=old.left_out if old else False,
            digest=spec["digest"],
            is_taken=old.is_taken if old else False,
            items=old.items if old else None,
            kind=spec.get("kind") or "",
            run={} if spec.get("templated") else (spec.get("run") or {}),
            gate=old.gate if old else None,
        )
        if spec.get("foreach") is not None or spec.get("cache") is not None:
            found[spec["id"]].conditional = True
    return found


def _reset(phases: Mapping[str, _Phase], names: Sequence[str]) -> None:
    for name in names:
        phase = phases[name]
        phase.status, phase.satisfied, phase.left_out = "waiting", False, False
        items = [other for other, item in phases.items() if item.whole == name]
        phase.cleared = phase.cleared and not set(items) <= set(names)


def _still_done(left: Mapping[str, _Phase], phases: Mapping[str, _Phase]) -> dict[str, _Phase]:
    """What a plan up to a target phase leaves out, and what counts still: done, as is all that it needs."""
    found = {name: phase for name, phase in left.items() if phase.satisfied}
    while True:
        fits = {name for name in phases if phases[name].satisfied} | set(found)
        fallen = [name for name, phase in found.items() if not fits.issuperset(phase.needs)]
        if not fallen:
            return found
        for name in fallen:
            del found[name]


def survivors(after: Mapping[str, _Phase], before: Mapping[str, _Phase], *, live: bool) -> set[str]:
    """Phases whose results and attempts another plan has to leave alone.

    By other means than the planner's: what is new, edited or not done, and all that can be reached from there
    along the needs, is struck out. In a live session what is on its way counts as done, and so does a failure
    that lets others go on.
    """
    dependents: dict[str, list[str]] = {}
    for name, phase in after.items():
        for need in phase.needs:
            dependents.setdefault(need, []).append(name)
    struck = [
        name
        for name, phase in after.items()
        if name not in before
        or before[name].digest != phase.digest
        or not (_may_stay(before[name]) if live else _is_done(before[name]))
    ]
    seen = set(struck)
    while struck:
        for name in dependents.get(struck.pop(), ()):
            if name not in seen:
                seen.add(name)
                struck.append(name)
    return set(after) - seen


def _is_done(phase: _Phase) -> bool:
    return phase.satisfied and phase.status != "failed"


def _may_stay(phase: _Phase) -> bool:
    return phase.satisfied or not _is_terminal(phase.status)


def _only_waits(before: _Phase, after: _Phase) -> bool:
    """Whether a phase has nothing to lose, whatever becomes of its needs."""
    return before.digest == after.digest and before.status == "waiting" and not before.cleared


def _settle(
    phases: dict[str, _Phase], before: Mapping[str, _Phase], stopping: dict[str, int], *, live: bool
) -> None:
    """What the new plan begins with; what is out and does not survive has to stop first."""
    stay = survivors(phases, before, live=live)
    waiting = {name for name in phases if live and name in before and _only_waits(before[name], phases[name])}
    items = {name: phase for name, phase in before.items() if phase.whole in stay | waiting}
    phases.update(items)
    stay |= set(items)
    for name, phase in before.items():
        if name not in stay and phase.status == "open" and phase.is_taken:
            stopping[name] = phase.attempt
    for name, phase in phases.items():
        if name not in stay:
            phase.status, phase.satisfied, phase.is_taken = "waiting", False, False
            phase.cleared, phase.left_out, phase.items, phase.gate = False, False, None, None


def _phase_event(
    event: Mapping[str, Any],
    phases: dict[str, _Phase],
    known: set[str],
    fences: dict[str, int],
    verdict: Verdict,
    sequence: int,
    at: str,
    where: str,
) -> None:
    name, kind = event["phaseId"], event["type"]
    phase = phases[name]
    _gate_event(event, phases, known, verdict, milliseconds(at), where)
    if kind == "PhaseTargeted":
        _may_be_targeted(event, phases, known, verdict, where)
        _must(sequence > fences.get(name, 0), "I7 effect", where, f"fence of {name} does not grow")
        fences[name] = sequence
        phase.status, phase.attempt = "open", event["attempt"]
        phase.is_taken = bool(event.get("runtimeId"))
        verdict.attempts += 1
    elif kind == "PhaseExpanded":
        _must(_may_run(phase, phases, known), "I5 dispatch", where, f"{name} expanded against its rule")
        _expand(phases, event, where)
    elif kind == "PhaseCleared":
        _must(_may_run(phase, phases, known), "I5 dispatch", where, f"{name} cleared against its rule")
        phase.cleared = True
    elif kind in ("PhaseAccepted", "PhaseStarted"):
        phase.is_taken = True
    elif kind == "PhaseWithdrawn":
        phase.status, phase.attempt = "waiting", phase.attempt - 1
        verdict.attempts -= 1  # its number is given again
    elif kind == "PhaseReused":
        _must(phase.cleared, "I6 result", where, f"{name} took a result before it might run")
        _must(phase.status == "waiting", "I6 result", where, f"{name} took a result while {phase.status}")
        _complete(name, phase, verdict)
    elif kind == "PhaseCompleted" and phase.items is not None:
        ends = [phases[f"{name}[{number}]"] for number in range(phase.items)]
        is_done = phase.cleared and all(item.satisfied and item.status != "failed" for item in ends)
        _must(is_done, "I6 result", where, f"{name} completed before its items")
        _complete(name, phase, verdict)
    elif kind == "PhaseCompleted":
        _must(phase.status == "open", "I6 result", where, f"{name} completed while {phase.status}")
        _must(event["attempt"] == phase.attempt, "I6 result", where, f"{name} completed by a stale attempt")
        _complete(name, phase, verdict)
    elif kind in ("AttemptFailed", "AttemptLost"):
        _must(phase.status == "open", "I6 result", where, f"an attempt of {name} ended while {phase.status}")
        phase.status = "waiting"
    elif kind == "PhaseFailed":
        phase.status, phase.satisfied = "failed", phase.on_failure in ("continue", "log")
    elif kind == "PhaseSkipped":
        phase.status, phase.satisfied = "skipped", event.get("satisfies", False)
        phase.left_out = event.get("leftOut", False)
    elif kind == "PhaseCancelled":
        phase.status = "cancelled"


def _set_back(phases: Mapping[str, _Phase], by: int) -> None:
    for phase in phases.values():
        if phase.gate is not None:
            phase.gate.set_back(by)


def _gate_event(
    event: Mapping[str, Any],
    phases: dict[str, _Phase],
    known: set[str],
    verdict: Verdict,
    at: int,
    where: str,
) -> None:
    """I14: no runtime has a part in waiting for time and people, no wait is short, no approval is made up."""
    name, kind = event["phaseId"], event["type"]
    phase = phases[name]
    if kind == "PhaseTargeted":
        _must(phase.kind not in ("wait", "approval"), "I14 gates", where, f"{name} was offered")
    if kind in ("WaitStarted", "ApprovalRequested"):
        _may_be_targeted(event, phases, known, verdict, where)
        phase.status, phase.attempt, phase.is_taken = "open", event["attempt"], False
        phase.gate = begun(event, phase.kind, phase.run, at)
    if phase.gate is not None and phase.items is None:
        is_current = kind in ("PhaseApproved", "PhaseRejected", "ApprovalExpired")
        if is_current:
            is_current = phase.status == "open" and event["attempt"] == phase.attempt
            _must(is_current, "I14 gates", where, f"{event} of {name}, which is {phase.status}")
        fault = phase.gate.fault(event, at)
        _must(fault is None, "I14 gates", where, f"{name}: {fault}")


def _may_be_targeted(
    event: Mapping[str, Any], phases: dict[str, _Phase], known: set[str], verdict: Verdict, where: str
) -> None:
    name, attempt = event["phaseId"], event["attempt"]
    phase = phases[name]
    _must(verdict.status == "running", "I8 termination", where, f"{name} targeted in an ended session")
    unmet = [need for need in phase.needs if not phases[need].satisfied]
    unmet += [need for need in phase.external if need not in known]
    if phase.conditional:
        _must(phase.cleared, "I5 dispatch", where, f"{name} targeted before its condition was known")
    else:
        _must(not unmet, "I5 dispatch", where, f"{name} targeted before {unmet[:3]}")
    _must(phase.status != "open", "I5 dispatch", where, f"{name} targeted while an attempt is out")
    _must(attempt > phase.attempt, "I5 dispatch", where, f"attempt {attempt} of {name} again")


def _complete(name: str, phase: _Phase, verdict: Verdict) -> None:
    phase.status, phase.satisfied = "complete", True
    verdict.completed += 1
    verdict.order.append(name)


def _expand(phases: dict[str, _Phase], event: Mapping[str, Any], where: str) -> None:
    """Every item is a phase; one that is there already has been reset, or skipped on purpose."""
    whole = phases[event["phaseId"]]
    _must(not whole.cleared, "I5 dispatch", where, f"{event['phaseId']} expanded twice")
    whole.cleared, whole.attempt, whole.items = True, event["attempt"], len(event.get("items", ()))
    for number in range(whole.items):
        name = f"{event['phaseId']}[{number}]"
        fresh = _Phase(needs=(), on_failure="continue", conditional=True, whole=event["phaseId"])
        fresh.trigger, fresh.digest = whole.trigger, whole.digest
        fresh.kind, fresh.run = whole.kind, whole.run
        item = phases.setdefault(name, fresh)
        is_new = item.status == "waiting" or (item.status == "skipped" and item.satisfied)
        _must(is_new, "I5 dispatch", where, f"{name} is {item.status} already")


def _may_run(phase: _Phase, phases: Mapping[str, _Phase], known: set[str]) -> bool:
    """Airflow's trigger rules, once more and in other words."""
    if phase.whole:
        return phases[phase.whole].cleared
    ends = [_end_of(phases[need], phase.trigger) for need in phase.needs]
    ends += ["success" if name in known else "open" for name in phase.external]
    is_over, some = "open" not in ends, set(ends)
    rules = {
        "all_success": some <= {"success"},
        "all_failed": some <= {"failed"},
        "all_done": is_over,
        "all_done_min_one_success": is_over and "success" in some,
        "all_skipped": some <= {"skipped"},
        "one_failed": "failed" in some,
        "one_success": "success" in some,
        "one_done": bool(some & {"success", "failed"}),
        "none_failed": is_over and "failed" not in some,
        "none_failed_min_one_success": is_over and "failed" not in some and "success" in some,
        "none_skipped": is_over and "skipped" not in some,
        "always": True,
    }
    return rules[phase.trigger]


def _end_of(need: _Phase, rule: str) -> str:
    if need.status == "failed":
        return "success" if need.satisfied and rule == "all_success" else "failed"
    if need.satisfied:
        return "success"
    if need.status == "skipped" and not need.left_out:
        return "skipped"
    return "failed" if need.status in ("skipped", "cancelled") else "open"


def _is_terminal(status: str) -> bool:
    return status in ("complete", "failed", "skipped", "cancelled")


def _must(holds: bool, invariant: str, where: str, detail: str) -> None:
    if not holds:
        raise Violation(f"{invariant}: {where}: {detail}")
