"""A start: a plan is applied to a session that is not running, or to a running one when that is asked for.

What was reviewed is checked here, in the decision: the append's compare-and-set makes sure that nothing came
in between. A client that looks first and sends afterwards could not know.
"""

from planter.core import effects as f
from planter.core import events as e
from planter.core import inputs as i
from planter.core.graph import graph_of
from planter.core.replan import Cause, fates
from planter.core.session import Session
from planter.core.status import SESSION_ACTIVE, SessionStatus
from planter.core.step import Step


def start(step: Step, given: i.StartPlan) -> None:
    """Apply the plan, or refuse it with the reason."""
    session = step.session
    if session.status is SessionStatus.PURGED:
        step.refuse(given.sequence, "session.purged", purged_text(session))
        return
    is_live = session.status in SESSION_ACTIVE
    is_same = is_live and session.plan_digest == given.plan.digest
    stale = _stale(session, given, is_same=is_same)
    if stale is not None:
        step.refuse(given.sequence, "plan.stale", stale)
    elif given.dry_run:
        step.refuse(given.sequence, "start.dry_run", _outcome(session, given))
    elif is_same:
        step.repeated(given.sequence)
    elif not is_live:
        step.emit(e.PlanApplied(revision=session.revision + 1, digest=given.plan.digest, plan=given.plan))
    elif session.cancelling or not given.replan:
        step.refuse(given.sequence, "session.busy", _busy(session))
    else:
        _replan(step, given)


def purged_text(session: Session) -> str:
    """Why nothing can be done with a purged session, and what can be done instead."""
    return f"session {session.id} is over ({session.reason}): only its id is kept; use another session id"


def _stale(session: Session, given: i.StartPlan, *, is_same: bool) -> str | None:
    """Why this is not what was reviewed, if so. What runs already by this very plan needs no base."""
    if given.expect_digest not in (None, given.plan.digest):
        return (
            f"the plan is stale: the manifest makes plan {given.plan.digest}, what was reviewed is "
            f"{given.expect_digest}; plan again"
        )
    if given.expect_revision not in (None, session.revision) and not is_same:
        return (
            f"the plan is stale: it was made for revision {given.expect_revision} of session {session.id}, "
            f"which is at revision {session.revision}; plan again"
        )
    return None


def _busy(session: Session) -> str:
    if session.cancelling:
        return f"session {session.id} is being cancelled; wait for its end, or use another session id"
    return (
        f"session {session.id} is {session.status} with another manifest (revision {session.revision}); "
        "wait for its end, cancel it, apply this one to the running session (replan: true, "
        "`planter apply --replan`), or use another session id"
    )


def _replan(step: Step, given: i.StartPlan) -> None:
    """Apply the plan to the session as it runs, and have stopped what must not go on."""
    session = step.session
    before = dict(session.stopping)
    step.emit(
        e.PlanApplied(revision=session.revision + 1, digest=given.plan.digest, plan=given.plan, replan=True)
    )
    # These go by the index of before. Each can be derived again, and is, by its timer.
    step.effects[:] = [effect for effect in step.effects if not isinstance(effect, f.PublishTarget)]
    for phase_id, one in session.stopping.items():
        if one.runtime_id is not None and before.get(phase_id) != one:
            reason = f"revision {session.revision} was applied"
            step.effects.append(f.CancelAttempt(one.runtime_id, phase_id, one.attempt, one.fence, reason))


def _outcome(session: Session, given: i.StartPlan) -> str:
    """What a start would do, for who asked for a dry run in the input stream."""
    is_live = session.status in SESSION_ACTIVE
    if is_live and session.plan_digest == given.plan.digest:
        return "dry run: the manifest is valid; it is what the session executes, nothing would change"
    graph = graph_of(given.plan)
    causes = [fate.cause for fate in fates(session, graph, live=is_live)]
    added, changed = causes.count(Cause.ADDED), causes.count(Cause.CHANGED)
    again = sum(1 for cause in causes if cause) - added - changed
    removed = sum(1 for spec in session.graph.manifest if spec.id not in graph.index)
    text = (
        f"dry run: the manifest is valid, {len(causes)} phases: {added} to add, {changed} to change, "
        f"{removed} to remove, {again} to run again; nothing was started"
    )
    return f"{text}; the session is {session.status}, so this would need replan" if is_live else text
