"""One decision under way: the session, what was emitted so far, and the few things every rule needs."""

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from planter.core import effects as f
from planter.core import events as e
from planter.core.evolve import apply
from planter.core.fleet import Fleet
from planter.core.session import Session
from planter.core.status import PHASE_OPEN
from planter.core.texts import cut

if TYPE_CHECKING:
    from planter.core.conditions import Reckoner


class Step:
    """Collects events and effects; each event is folded in at once."""

    def __init__(self, session: Session, now: int, fleet: Fleet, reckoner: "Reckoner") -> None:
        self.session = session
        self.reckoner = reckoner
        self.now = now
        self.fleet = fleet
        self.events: list[e.AnyEvent] = []
        self.effects: list[f.AnyEffect] = []
        #: Phases that were targeted before it was their turn, by a report: once in a commit, for their fence.
        self.unasked: set[str] = set()
        #: How many phases were asked for their list, their condition or their arguments.
        self.evaluated = 0
        #: Index of a phase to its result, and that as a value: decoded once for all whose expressions use it.
        self.values: dict[int, tuple[msgspec.Raw, object]] = {}

    def emit(self, event: e.AnyEvent) -> None:
        """Decide a fact."""
        apply(self.session, event, self.now)
        self.events.append(event)

    def refuse(self, sequence: int, code: str, text: str, problems: tuple[dict[str, Any], ...] = ()) -> None:
        """Answer an input with no."""
        self.emit(e.InputRefused(input=sequence, code=code, text=cut(text), problems=problems))

    def repeated(self, sequence: int) -> None:
        """Answer an input that asks for what is so already."""
        self.emit(e.InputRepeated(input=sequence))

    def ignore(self, phase_id: str, reason: str) -> None:
        """Leave an input without effect, and say why in the operator's log."""
        self.effects.append(f.Ignore(phase_id, reason))

    def cancel_attempt(self, index: int, reason: str) -> None:
        """Ask the phase's runtime to stop, if an addressed attempt is out."""
        phase = self.session.phases[index]
        if phase.status in PHASE_OPEN and phase.runtime_id is not None:
            phase_id = self.session.spec(index).id
            self.effects.append(
                f.CancelAttempt(phase.runtime_id, phase_id, phase.attempt, phase.fence, reason)
            )

    def waits_for(self, index: int) -> tuple[str, ...]:
        """Ids that the phase still waits for, external ones last."""
        session, spec = self.session, self.session.spec(index)
        return waits_for(session, index) or spec.needs

    def pause_before_retry(self, index: int, tried: int) -> int:
        """Milliseconds until the next attempt; the jitter is drawn from the attempt's name, so it replays."""
        backoff = self.session.spec(index).backoff
        base = min(backoff.initial_ms * backoff.factor ** (tried - 1), backoff.max_ms)
        name = f"{self.session.id}/{self.session.spec(index).id}/{self.session.phases[index].attempt}"
        return int(base + base * backoff.jitter * (zlib.crc32(name.encode()) / 2**32))


def waits_for(session: Session, index: int) -> tuple[str, ...]:
    """Ids of the phases, external ones last, that a phase still waits for."""
    graph, spec = session.graph, session.spec(index)
    needs = (*graph.needs[index], *graph.items.get(index, ())) if graph.items else graph.needs[index]
    inner = tuple(session.spec(need).id for need in needs if not session.phases[need].satisfies)
    return inner + tuple(name for name in spec.external if name not in session.known)


def full_limit(session: Session, index: int) -> str | None:
    """What keeps a phase that is ready although runtimes are free: others that share its limit."""
    limit = session.spec(index).concurrency
    many = 0 if limit is None else session.at_work.get(limit.key, 0)
    if limit is None or many < limit.max:
        return None
    if (whole := parallel_of(session, index)) is not None:
        return f"{many} of {limit.max} items of {whole} are out (parallel)"
    return f"{many} of {limit.max} phases with x-concurrency {limit.key} are out"


def parallel_of(session: Session, index: int) -> str | None:
    """The phase whose ``x-foreach.parallel`` is the limit of this one; None for any other."""
    whole = session.graph.whole_of.get(index)
    foreach = None if whole is None else session.spec(whole).foreach
    return None if whole is None or foreach is None or foreach.parallel is None else session.spec(whole).id
