"""Plans, runtimes and sessions in one line each, and a small world that drives the core without any I/O."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from planter.compile.expressions import RECKONER
from planter.core import Decision, Fleet, PhaseSpec, Plan, Runtime, Session, decide, snapshot
from planter.core import effects as f
from planter.core import inputs as i
from planter.core.events import AnyEvent
from planter.core.evolve import apply
from planter.core.graph import Graph, graph_of
from planter.core.plan import Foreach
from planter.core.status import PHASE_OPEN

_encoder = msgspec.json.Encoder(order="deterministic")
NOOP: dict[str, Any] = {"kind": "noop", "run": msgspec.Raw(b'{"noop":{}}')}


def phase(name: str, *needs: str, **fields: Any) -> PhaseSpec:
    """A no-op phase; its digest follows its name and fields unless it is given."""
    fields = {**NOOP, **fields}
    digest = fields.pop("digest", None)
    spec = PhaseSpec(id=name, needs=needs, digest="", **fields)
    content = msgspec.structs.replace(spec, needs=tuple(sorted(needs)))
    return msgspec.structs.replace(spec, digest=digest or _encoder.encode(content).decode())


def wait(
    name: str, *needs: str, span: str | None = "10s", until: str | None = None, **fields: Any
) -> PhaseSpec:
    """A phase that waits for a while, or until a time."""
    given = {"until": until} if until is not None else {"for": span}
    return phase(name, *needs, kind="wait", run=msgspec.Raw(msgspec.json.encode({"wait": given})), **fields)


def approval(name: str, *needs: str, asked: Mapping[str, Any] | None = None, **fields: Any) -> PhaseSpec:
    """A phase that asks for an approval; ``asked`` is what stands under ``x-run.approval``."""
    given = {"approval": {"message": f"{name}?", **(asked or {})}}
    return phase(name, *needs, kind="approval", run=msgspec.Raw(msgspec.json.encode(given)), **fields)


def plan(*phases: PhaseSpec, digest: str | None = None) -> Plan:
    """A plan; its digest follows its phases unless it is given."""
    return Plan(digest=digest or f"plan-{hash(tuple(spec.digest for spec in phases))}", phases=phases)


def foreach(items: object, parallel: int | None = None) -> Foreach:
    """``x-foreach`` of a list, or of an expression."""
    return Foreach(items=msgspec.Raw(msgspec.json.encode(items)), parallel=parallel)


def diamond() -> Plan:
    """a, then b and c, then d."""
    return plan(phase("a"), phase("b", "a"), phase("c", "a"), phase("d", "b", "c"))


def runtime(name: str = "r1", slots: int = 10, **fields: Any) -> Runtime:
    """A runtime that takes every selector and every usual kind."""
    defaults = {"labels": {"*": "*"}, "executors": frozenset({"noop", "python", "exec", "shell"})}
    return Runtime(id=name, instance=f"{name}-1", slots=slots, **{**defaults, **fields})


def fleet(*runtimes: Runtime) -> Fleet:
    """These runtimes."""
    found = Fleet()
    for one in runtimes:
        found.put(one)
    return found


class World:
    """One session, a fleet and a clock; the journal is a list."""

    def __init__(self, *runtimes: Runtime) -> None:
        self.session = Session("test")
        self.fleet = fleet(*runtimes)
        self.now = 1_000_000
        self.journal: list[tuple[int, int, tuple[AnyEvent, ...], tuple[int, ...]]] = []
        self.sequence = 0
        self.inputs = 0
        self.effects: list[f.AnyEffect] = []

    def step(self, *inputs: i.AnyInput, targets_max: int = 1_000) -> Decision:
        """Decide, append, seal, settle; the effects of all steps are kept in ``effects``."""
        decision = decide(
            self.session, inputs, self.now, self.fleet, targets_max=targets_max, reckoner=RECKONER
        )
        numbers = tuple({one.sequence for one in inputs if one.sequence} - self.session.taken)
        if decision.events or numbers:
            self.sequence += 1
            self.journal.append((self.sequence, self.now, decision.events, numbers))
            self.session.taken.update(numbers)
            self.session.seal(self.sequence)
        self.fleet.settle("test", self.session.load)
        self.effects += decision.effects
        return decision

    def settle(self) -> None:
        """Take the steps that the last one asked for; whatever is to be passed on is."""
        while self.step(*self.stored(), *self.unknown()).more or self.session.untold or self.unknown():
            pass

    def stored(self) -> list[i.PassedOn]:
        """What the shell answers once it has passed on what handlers want said."""
        return [i.PassedOn(phase_id=self.session.untold[n].phase_id, number=n) for n in self.session.telling]

    def unknown(self) -> list[i.LookedUp]:
        """What the shell answers when there are no earlier results."""
        asked = [index for index, is_asked in self.session.looking.items() if is_asked]
        return [
            i.LookedUp(phase_id=self.session.spec(index).id, key=self.session.phases[index].cache)
            for index in asked
        ]

    def start(self, plan: Plan, **fields: Any) -> Decision:
        """Submit a plan."""
        return self.step(i.StartPlan(sequence=self._number(), plan=plan, **fields))

    def replan(self, plan: Plan) -> Decision:
        """Apply another plan to the running session."""
        return self.start(plan, replan=True)

    def command(self, verb: Any, phase_id: str | None = None, **fields: Any) -> Decision:
        """Send a control command."""
        return self.step(i.Command(sequence=self._number(), verb=verb, phase_id=phase_id, **fields))

    def echo(self, name: str) -> dict[str, Any]:
        """What an honest runtime echoes about the phase's current attempt."""
        state = self.session.phases[self.session.graph.index[name]]
        return {
            "phase_id": name,
            "fenced": state.instance is not None,
            "attempt": state.attempt,
            "fence": state.fence,
            "runtime_id": state.runtime_id,
            "sequence": self._number(),
        }

    def complete(self, *names: str, result: bytes | None = None) -> Decision:
        """The runtimes report these phases as complete, in one message."""
        value = msgspec.UNSET if result is None else msgspec.Raw(result)
        return self.step(*(i.ReportComplete(**self.echo(name), result=value) for name in names))

    def running(self, name: str) -> Decision:
        """The runtime reports that the phase runs."""
        return self.step(i.ReportRunning(**self.echo(name)))

    def fail(self, name: str, message: str = "it broke", *, retryable: bool = True) -> Decision:
        """The runtime reports the attempt as failed."""
        return self.step(i.ReportFailed(**self.echo(name), message=message, retryable=retryable))

    def pass_time(self, milliseconds: int) -> Decision:
        """Let time pass and do what is due."""
        self.now += milliseconds
        return self.step()

    def statuses(self) -> dict[str, str]:
        """Status of each phase by id."""
        pairs = zip(self.session.graph.plan.phases, self.session.phases, strict=True)
        return {spec.id: state.status.value for spec, state in pairs}

    def open(self) -> list[str]:
        """Ids of the phases that are targeted or running."""
        pairs = zip(self.session.graph.plan.phases, self.session.phases, strict=True)
        return [spec.id for spec, state in pairs if state.status in PHASE_OPEN]

    def run_out(self, choose: Callable[[list[str]], Iterable[str]] = list) -> None:
        """Complete whatever is open until nothing is."""
        while self.open():
            self.complete(*choose(self.open()))

    def event_names(self) -> list[str]:
        """Class names of all events so far."""
        return [type(event).__name__ for _, _, events, _ in self.journal for event in events]

    def replayed(self) -> Session:
        """A new session, folded from the journal alone."""
        session = Session("test")
        for sequence, at, events, taken in self.journal:
            for event in events:
                apply(session, event, at)
            session.taken.update(taken)
            session.seal(sequence)
        return session

    def _number(self) -> int:
        self.inputs += 1
        return self.inputs


def bare(graph: Graph) -> Graph:
    """The graph of the manifest: without the items that the session has added."""
    return graph_of(msgspec.structs.replace(graph.plan, phases=graph.manifest)) if graph.whole_of else graph


def the_same_again(world: World) -> None:
    """Replayed from the journal, and restored from a snapshot, the session is what it is."""
    assert picture(world.replayed()) == picture(world.session)
    taken = snapshot.take(world.session)
    assert taken is not None
    restored = Session("test")
    snapshot.restore(restored, snapshot.decode(snapshot.encode(taken)), bare(world.session.graph))
    assert picture(restored) == {**picture(world.session), "taken": restored.taken}


def picture(session: Session) -> Mapping[str, Any]:
    """Everything about a session that a replay has to reproduce."""
    return {
        "status": session.status,
        "reason": session.reason,
        "revision": session.revision,
        "failing": session.failing,
        "cancelling": session.cancelling,
        "phases": [
            {name: _plain(getattr(state, name)) for name in state.__struct_fields__ if name != "due"}
            for state in session.phases
        ],
        "unmet": session.unmet,
        "known": session.known,
        "counts": session.counts,
        "load": session.load,
        "calls": session.calls,
        "stopping": {name: (one.attempt, one.fence) for name, one in session.stopping.items()},
        "offered": session.offered,
        "ready": [
            sorted({index for _, _, index in heap if _is_ready(session, index)}) for heap in session.ready
        ],
        "commits": session.commits,
        "sequence": session.sequence,
        "taken": session.taken,
    }


def _is_ready(session: Session, index: int) -> bool:
    return session.phases[index].status.value == "ready" and not session.phases[index].not_before


def _plain(value: object) -> object:
    return bytes(value) if isinstance(value, msgspec.Raw) else value
