"""Earlier results: a phase with ``x-cache`` is not run when its content has been run before.

The content is what decides about the result: what runs, with its arguments filled in, and the labels that
choose who runs it. The shell looks it up while the phase is ready, and nothing waits for an answer for long:
whoever cannot answer says that there is none. A result is believed as one that a runtime reports is.
"""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from planter.core import effects as f
from planter.core import events as e
from planter.core import inputs as i
from planter.core.handlers import call_handler
from planter.core.plan import PhaseSpec
from planter.core.status import PhaseStatus, SessionStatus
from planter.core.step import Step

_encoder = msgspec.json.Encoder(order="deterministic")


def cache_key(spec: PhaseSpec, filled: msgspec.Raw | msgspec.UnsetType, value: object) -> str:
    """The name of a phase's content, as hex.

    Args:
        spec: of the phase.
        filled: its ``x-run`` with the expressions filled in; UNSET when it has none.
        value: of the expression ``x-cache.key``; None without one.
    """
    has_key = spec.cache is not None and spec.cache.key is not None
    run = spec.run if has_key or filled is msgspec.UNSET else filled
    content: Mapping[str, object] = {
        "labels": spec.labels,
        "capabilities": spec.capabilities,
        "outputs": spec.outputs,
        "run": None if run is msgspec.UNSET else run,
        # Whoever is chosen by labels sees no arguments but these.
        "phase": spec.id if run is msgspec.UNSET else None,
        "item": spec.item
        if run is msgspec.UNSET and spec.item is not msgspec.UNSET and not has_key
        else None,
        "key": [value] if has_key else None,
    }
    return sha256(_encoder.encode(content)).hexdigest()


def look_up(step: Step) -> None:
    """Ask for earlier results of what is ready."""
    session = step.session
    for index, is_asked in list(session.looking.items()):
        phase = session.phases[index]
        if phase.status is not PhaseStatus.READY:
            del session.looking[index]  # it was skipped, or targeted when the journal was read
        elif not is_asked and session.may_start(index):
            session.looking[index] = True
            step.effects.append(f.LookUp(session.spec(index).id, phase.cache))


def looked_up(step: Step, given: i.LookedUp) -> None:
    """Take the result, if there is one that is young enough; else the phase may be run."""
    session = step.session
    index = session.graph.index.get(given.phase_id)
    if index is None or index not in session.looking:
        return
    phase, spec = session.phases[index], session.spec(index)
    if phase.status is not PhaseStatus.READY or phase.cache != given.key:
        return
    goes_on = session.status is SessionStatus.RUNNING and not session.cancelling
    if not goes_on or not session.may_start(index):
        session.looking[index] = False  # ask again when it goes on
        return
    oldest = 0 if spec.cache is None or spec.cache.max_age_ms is None else step.now - spec.cache.max_age_ms
    if given.made and given.made >= oldest:
        step.emit(e.PhaseReused(phase_id=spec.id, result=given.result, source=given.source, made=given.made))
        call_handler(step, index)
    else:
        del session.looking[index]


def remember(step: Step, index: int) -> None:
    """Its work is done: others with the same content need not do it."""
    phase = step.session.phases[index]
    if phase.cache:
        step.effects.append(f.Remember(step.session.spec(index).id, phase.cache, phase.result))
