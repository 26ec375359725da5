"""The sessions that this planner holds, each advanced step by step: decide, append, perform, acknowledge.

The order of these four is the durability rule (DESIGN, chapter 4). What goes wrong in between is repaired by
what comes after: inputs that were not acknowledged are delivered again, effects are derived from the state.
"""

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup
from nats.errors import Error as NatsError

from planter.compile.expressions import RECKONER
from planter.core import Decision, Fleet, Session, decide
from planter.core import effects as f
from planter.core import inputs as i
from planter.core.events import PhaseTargeted
from planter.core.status import PHASE_OPEN, SESSION_TERMINAL
from planter.core.targeting import is_waiting
from planter.shell.clock import Clock
from planter.shell.entry import Entry
from planter.shell.failpoints import passing
from planter.shell.inputs import InputReader
from planter.shell.intake import POISON_DELIVERIES, STRANGER_DELIVERIES, Delivery
from planter.shell.journal import Fenced, Journal, JournalBroken, Unwritable
from planter.shell.partitions import partition_of
from planter.shell.perform import Performer
from planter_protocol import messages
from planter_protocol.errors import InvalidMessage, ProtocolError

log = structlog.get_logger(__name__)

BATCH_INPUTS_MAX = 1_000
BATCH_BYTES_MAX = 256 * 1024
STEPS_MAX = 128
"""Sessions that are stepped at a time: a question about one has to wait for as many others at most."""
BACKLOG_MAX, BACKLOG_BYTES_MAX = 128, 8 * 1024 * 1024
"""Inputs of one partition that wait here; more are left with the server until these are dealt with."""
IDLE_KEPT = 256
"""Sessions that are over, or another planner's, stay in memory for queries: so many of them at most."""
IDLE_PHASES_KEPT = 200_000
"""And with so many phases in all, unless it is only one."""
_RETRY_SECONDS = 0.5
UNHEARD_MS = 10_000
"""What a runtime has taken this long ago and does not name in its heartbeat is asked for again."""
BROKEN_MS = 30_000  # until a session that breaks its steps is tried again


class Surroundings(Protocol):
    """What the host needs of the rest of the daemon."""

    async def acknowledge(self, delivery: Delivery) -> None:
        """The input is dealt with."""

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """The input cannot be read: keep it as a dead letter and acknowledge it."""

    async def publish_record(self, session: Session, *, anew: bool) -> None:
        """Store what listings and recovery need; ``anew``: others may have done so since we last did."""

    def is_listed(self, session: Session) -> bool:
        """Whether whoever takes over finds the session without any of its inputs."""
        ...

    async def listen(self, session: Session) -> None:
        """Begin or end listening to bare runtimes."""

    def expect_runtimes(self, session: Session) -> None:
        """The session was read from its journal: its runtimes must show up."""

    async def stepped(self, session: Session, events: int) -> None:
        """A step is over, and the session as it will be when the next one begins."""

    def forget(self, session_id: str) -> None:
        """The session has left this planner's memory."""

    def hand_over(self, session_id: str, sequence: int) -> None:
        """The session is another planner's to watch over: it has to know it up to this journal sequence."""


class SessionHost:
    """Holds sessions and steps them."""

    def __init__(
        self, journal: Journal, reader: InputReader, performer: Performer, fleet: Fleet, around: Surroundings
    ) -> None:
        self._clock = Clock()
        self._journal = journal
        self._reader = reader
        self._performer = performer
        self._fleet = fleet
        self._around = around
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        #: Those of the entries that may be forgotten, and how many phases each has; oldest first.
        self._idle: OrderedDict[str, int] = OrderedDict()
        self._idle_phases = 0
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._timers: list[tuple[int, str]] = []
        self._timer_set = asyncio.Event()
        #: Counts how often a slot came free or the fleet changed: a step may have missed it.
        self._chances = 0
        #: Deliveries that are not dealt with yet: size in bytes by sequence.
        self._in_flight: dict[int, int] = {}
        #: How many of them, and how many bytes, each partition has.
        self._backlog: dict[int, tuple[int, int]] = {}
        self._owned: frozenset[int] = frozenset()
        #: Entries with something to do, and who does it: workers live on, for a task costs more than a step.
        self._runnable: asyncio.Queue[Entry] = asyncio.Queue()
        self._workers = self._resting = 0
        self._tasks: TaskGroup | None = None
        self._stopping = False

    # -- what comes in ---------------------------------------------------------------------------

    def deliver(self, session_id: str, verb: str, delivery: Delivery) -> None:
        """Queue an input; it is acknowledged once it is in the journal."""
        if delivery.sequence in self._in_flight:
            return  # delivered again while its first delivery is being dealt with
        self._in_flight[delivery.sequence] = len(delivery.data)
        self._weigh(session_id, 1, len(delivery.data))
        entry = self._entry(session_id)
        entry.deliveries.append((verb, delivery))
        self._wake(entry)

    def has_room(self, partition: int) -> bool:
        """Whether more inputs of the partition should be asked for: what waits too long comes again."""
        count, size = self._backlog.get(partition, (0, 0))
        return count < BACKLOG_MAX and size < BACKLOG_BYTES_MAX

    def tell(self, session_id: str, given: i.AnyInput) -> None:
        """Queue an input that is not from the stream."""
        entry = self._entry(session_id)
        entry.inputs.append(given)
        self._wake(entry)

    def runtime_lost(self, runtime_id: str, instance: str, reason: str) -> None:
        """Tell every session that has an attempt out on that life of the runtime."""
        lost = i.RuntimeLost(runtime_id=runtime_id, instance=instance, reason=reason)
        for entry in list(self._entries.values()):
            has_load = entry.session is None or runtime_id in entry.session.load
            if has_load and self.owns(entry.id):
                self.tell(entry.id, lost)

    def disowned(self, held: Sequence[messages.Held]) -> list[messages.Held]:
        """Those attempts that a runtime believes to hold although a newer one was targeted, or none is out.

        Only sessions that are ours and between two steps are looked at; the next heartbeat asks again.
        """
        found: list[messages.Held] = []
        for one in held:
            entry = self._entries.get(one.session_id)
            if entry is None or entry.session is None or entry.lock.locked() or not self.owns(entry.id):
                continue
            if one.fence > entry.session.sequence:
                self._verify(entry)  # somebody else has ordered this since
                continue
            index = entry.session.graph.index.get(one.phase_id)
            phase = entry.session.phases[index] if index is not None else None
            if phase is None or phase.fence > one.fence or phase.status not in PHASE_OPEN or phase.stands:
                found.append(one)
        return found

    def unheard(self, runtime_id: str, instance: str, held: Sequence[messages.Held]) -> None:
        """Ask again for attempts that this life of a runtime has taken and does not hold any more.

        Their reports are on the way, mostly; they are lost for good if the server lost what it had confirmed.
        """
        named = {(one.session_id, one.phase_id, one.fence) for one in held if self.owns(one.session_id)}
        if len(named) >= self._fleet.in_use(runtime_id):
            return
        before = self._clock.now_ms() - UNHEARD_MS
        for entry in list(self._entries.values()):
            session = entry.session
            if session is None or runtime_id not in session.load or not self.owns(entry.id):
                continue
            for spec, phase in zip(session.graph.plan.phases, session.phases, strict=True):
                if phase.status not in PHASE_OPEN or not phase.accepted or phase.updated > before:
                    continue
                is_its = (phase.runtime_id, phase.instance) == (runtime_id, instance)
                if is_its and (entry.id, spec.id, phase.fence) not in named:
                    self.tell(entry.id, i.Unheard(phase_id=spec.id, fence=phase.fence))

    def fleet_changed(self) -> None:
        """Placement may have changed: everything that waits for it tries again."""
        self._chances += 1
        self._wake_waiting(len(self._waiting), 0)

    def reconnected(self) -> None:
        """The server was away, and may have come back with less: nothing that was read before is trusted.

        Whatever is under way is verified at once and its record in the listing written again; what is over is
        verified when somebody asks.
        """
        for entry in self._entries.values():
            entry.check = entry.fresh = True
            is_active = entry.session is not None and entry.session.status not in SESSION_TERMINAL
            if is_active and self.owns(entry.id):
                entry.wanted = True
                self._wake(entry)

    def own(self, partitions: frozenset[int]) -> None:
        """Sessions of other partitions are left to their planners, unless an input of theirs comes to us."""
        self._owned = partitions
        for entry in self._entries.values():
            if not self.owns(entry.id):
                self._count(entry.id, {})  # its load is its new planner's to count
                self._hand_over(entry)
            self._note_idle(entry)
        self._trim()

    def look_after(self, session_id: str, sequence: int) -> None:
        """The session is ours: take it over, unless we have it up to this journal sequence."""
        entry = self._entries.get(session_id)
        if entry is None or entry.session is None or entry.session.sequence < sequence:
            self.take_over(session_id, sequence)

    def take_over(self, session_id: str, sequence: int = 0) -> None:
        """A session has become ours: read it anew, say again what may be lost, and do what is due.

        The journal has it up to ``sequence`` at least: a replica that has not is not believed.
        """
        passing("session.take_over")
        entry = self._entry(session_id)
        entry.at_least = max(sequence, entry.at_least)
        entry.stale = True
        entry.wanted = True
        self._wake(entry)

    # -- what goes out ---------------------------------------------------------------------------

    @asynccontextmanager
    async def viewing(self, session_id: str) -> AsyncGenerator[Session | None]:
        """The session as the journal has it now, between two steps; None when there is no such session."""
        entry = self._entry(session_id)
        async with entry.lock:
            if entry.session is not None and not await self._journal.is_current(entry.session):
                self._drop(entry)
            if entry.session is None:
                await self._load(entry)
            assert entry.session is not None
            found = entry.session if entry.session.commits else None
            if found is None:
                self._drop(entry)
            yield found
        if entry.wanted:
            self._wake(entry)  # it was read for this, and is under way: its owner may not know of it
        self._settle_idle(entry)

    @property
    def size(self) -> int:
        """Sessions in memory."""
        return len(self._entries)

    # -- life ------------------------------------------------------------------------------------

    async def run(self, tasks: TaskGroup) -> None:
        """Step sessions when their timers are due, until cancelled; steps run in the given task group."""
        self._tasks = tasks
        while True:
            self._timer_set.clear()
            now = self._clock.now_ms()
            while self._timers and self._timers[0][0] <= now:
                due, session_id = heapq.heappop(self._timers)
                entry = self._entries.get(session_id)
                if entry is None or entry.due != due:
                    continue  # it was set for another time since
                entry.due = 0
                if self.owns(session_id):
                    passing("timer.fired")
                    entry.check = entry.wanted = True
                    self._wake(entry)
            # A machine may sleep, and its clock be set: nothing is late by more than a minute for that.
            pause = min((self._timers[0][0] - now) / 1000, 60.0) if self._timers else 3600.0
            with anyio.move_on_after(max(pause, 0.001)):
                await self._timer_set.wait()

    async def stop(self, seconds: float = 5.0) -> None:
        """Take no new steps and wait for those under way."""
        self._stopping = True
        with anyio.move_on_after(seconds):
            for entry in list(self._entries.values()):
                async with entry.lock:
                    pass

    def _verify(self, entry: Entry) -> None:
        """Look whether the journal has gone on without us."""
        entry.check = entry.wanted = True
        self._wake(entry)

    def owns(self, session_id: str) -> bool:
        """Whether we watch over the session."""
        return partition_of(session_id) in self._owned

    # -- inside ----------------------------------------------------------------------------------

    def _entry(self, session_id: str) -> Entry:
        entry = self._entries.get(session_id)
        if entry is None:
            entry = self._entries[session_id] = Entry(session_id)
        return entry

    def _wake(self, entry: Entry) -> None:
        if not entry.running and not self._stopping and self._tasks is not None:
            entry.running = True
            self._runnable.put_nowait(entry)
            if self._runnable.qsize() > self._resting and self._workers < STEPS_MAX:
                self._workers += 1
                self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        """Step whatever can be stepped, until cancelled."""
        while True:
            self._resting += 1
            entry = await self._runnable.get()
            self._resting -= 1
            await self._advance(entry)

    def _land(self, entry: Entry, *deliveries: Delivery) -> None:
        """They are dealt with, or left to come again."""
        for delivery in deliveries:
            size = self._in_flight.pop(delivery.sequence, None)
            if size is not None:
                self._weigh(entry.id, -1, -size)

    def _weigh(self, session_id: str, count: int, size: int) -> None:
        partition = partition_of(session_id)
        before = self._backlog.get(partition, (0, 0))
        self._backlog[partition] = before[0] + count, before[1] + size

    def _wake_waiting(self, count: int, tries: int) -> None:
        """Let those try that wait longest; who has no use for it lets the next one try, ``tries`` times."""
        while count and self._waiting and (self._fleet.has_room() or not tries):
            session_id, _ = self._waiting.popitem(last=False)
            entry = self._entries.get(session_id)
            if entry is not None and self.owns(session_id):
                count -= 1
                entry.tries = max(entry.tries, tries)
                entry.wanted = True
                self._wake(entry)

    def _pass_on(self, entry: Entry, decision: Decision) -> None:
        """A woken session that took nothing has not used up the room that was made."""
        tries, entry.tries = entry.tries, 0
        if tries and not any(isinstance(event, PhaseTargeted) for event in decision.events):
            self._wake_waiting(1, tries - 1)

    async def _advance(self, entry: Entry) -> None:
        """One step, if there is anything to do; the next one comes after those of others."""
        try:
            if self._has_work(entry):
                async with entry.lock:
                    await self._guarded_step(entry)
        finally:
            entry.running = self._has_work(entry)
        if entry.running:
            self._runnable.put_nowait(entry)
        else:
            self._settle_idle(entry)

    def _has_work(self, entry: Entry) -> bool:
        return not self._stopping and bool(entry.deliveries or entry.inputs or entry.wanted)

    async def _guarded_step(self, entry: Entry) -> None:
        try:
            await self._step(entry)
        except Fenced as error:
            log.info("step.fenced", session=entry.id, reason=str(error))
            self._drop(entry)
            entry.at_least = max(entry.at_least, error.at_least)
            entry.wanted = self.owns(entry.id)
        except (TimeoutError, Unwritable, ProtocolError, NatsError) as error:
            log.warning("step.delayed", session=entry.id, error=str(error) or type(error).__name__)
            self._drop(entry)
            entry.wanted = True
            await anyio.sleep(_RETRY_SECONDS)
        except JournalBroken as error:
            log.error("journal.broken", session=entry.id, reason=str(error))  # noqa: TRY400
            await self._broken(entry, str(error))
        except Exception:
            log.exception("step.broken", session=entry.id)
            await self._broken(entry, "it breaks the planner (see its log)")

    async def _step(self, entry: Entry) -> None:
        entry.wanted = False
        check, stale = entry.check, entry.stale
        entry.check = entry.stale = False  # what is asked for from here on is for the next step
        if stale:
            self._drop(entry)
        elif entry.session is not None and check and not await self._journal.is_current(entry.session):
            self._drop(entry)  # another planner has gone on: do nothing on what is out of date
        if entry.session is None and entry.looks_new:
            entry.session = Session(entry.id)  # not read: if it has a journal, the commit will be fenced
        elif entry.session is None:
            await self._load(entry)
        session = entry.session
        assert session is not None
        taken, inputs, repeated = await self._next_batch(entry)
        if taken:
            passing("input.fetched")
        now = self._clock.now_ms()
        try:
            decision = decide(session, inputs, now, self._fleet, reckoner=RECKONER)
            passing("step.decided")
            # Others decide while this is written: they must not fill the same slots. If it is not to be, the
            # session is dropped and its load with it.
            self._settle(session)
            chances = self._chances
            numbers = [delivery.sequence for _, delivery in taken if delivery.sequence not in session.taken]
            if numbers and not decision.events and not session.commits:
                await self._strangers(entry, taken)
                return
            if decision.events or numbers:
                passing("journal.append")
                appended = await self._journal.append(session, decision.events, now, numbers)
                session.seal(*appended)
                passing("journal.appended")
        except BaseException:
            # Nothing of this batch is decided: it is taken again, in the same order.
            entry.deliveries.extendleft(reversed(taken))
            entry.inputs.extendleft(given for given in reversed(inputs) if given.sequence == 0)
            self._land(entry, *repeated)
            raise
        done = [*repeated, *(delivery for _, delivery in taken)]
        self._land(entry, *done)
        await self._after(entry, session, decision, now)
        if self._chances != chances and is_waiting(session) and self._fleet.has_room():
            entry.wanted = True  # while the step was under way, another session made room
        self._pass_on(entry, decision)
        passing("input.acknowledge")
        if self._around.is_listed(session):  # else nobody could find it but by these: they come again
            for delivery in done:
                await self._around.acknowledge(delivery)
        if taken:
            passing("input.acknowledged")
        if entry.session is session:
            await self._around.stepped(session, len(decision.events))

    async def _next_batch(
        self, entry: Entry
    ) -> tuple[list[tuple[str, Delivery]], list[i.AnyInput], list[Delivery]]:
        """What to take in now, read and checked, and what was taken in before.

        Unreadable deliveries are buried on the way.
        """
        inputs: list[i.AnyInput] = list(entry.inputs)
        entry.inputs.clear()
        taken: list[tuple[str, Delivery]] = []
        repeated: list[Delivery] = []
        size = 0
        while entry.deliveries and len(inputs) < BATCH_INPUTS_MAX and size < BATCH_BYTES_MAX:
            if inputs and entry.deliveries[0][0] == "start":
                break  # what came before may end the session: a start is decided on what is
            verb, delivery = entry.deliveries.popleft()
            if entry.session is not None and delivery.sequence in entry.session.taken:
                repeated.append(delivery)  # a manifest is not read twice
                continue
            size += len(delivery.data)
            try:
                inputs += await self._reader.read(entry.id, verb, delivery)
            except InvalidMessage as error:
                self._land(entry, delivery)
                await self._around.bury(delivery, str(error))
                continue
            except BaseException:
                entry.deliveries.appendleft((verb, delivery))
                entry.deliveries.extendleft(reversed(taken))
                self._land(entry, *repeated)
                raise
            taken.append((verb, delivery))
        return taken, inputs, repeated

    async def _strangers(self, entry: Entry, taken: list[tuple[str, Delivery]]) -> None:
        """Inputs for a session that has no journal: once may be a race with its start, twice is not."""
        last = await self._journal.last(entry.id)
        if entry.session is None or last:
            raise Fenced(f"session {entry.id} has begun elsewhere", last)
        self._land(entry, *(delivery for _, delivery in taken))
        for _, delivery in taken:
            if delivery.delivered > STRANGER_DELIVERIES:
                await self._around.bury(delivery, f"there is no session {entry.id!r}")
        self._drop(entry)

    async def _after(self, entry: Entry, session: Session, decision: Decision, now: int) -> None:
        """The step is in the journal: tell the world, and note what has to happen later."""
        if decision.events:
            await self._around.listen(session)
        if decision.effects:
            is_alone = self._resting == self._workers - 1
            await self._performer.perform(session, decision.effects, now, is_alone=is_alone)
        if decision.events or entry.fresh:
            anew, entry.fresh = entry.fresh, False  # its last planner may have ended before it wrote it
            await self._around.publish_record(session, anew=anew)
        if decision.more:
            entry.wanted = True
        self._hand_over(entry)
        if is_waiting(session) and session.status not in SESSION_TERMINAL:
            self._waiting[session.id] = None
        else:
            self._waiting.pop(session.id, None)
        due = session.next_due()
        if due is not None and due != entry.due:
            self._wake_at(entry, due)

    def _wake_at(self, entry: Entry, due: int) -> None:
        entry.due = due
        heapq.heappush(self._timers, (due, entry.id))
        if self._timers[0] == (due, entry.id):
            self._timer_set.set()

    async def _load(self, entry: Entry) -> None:
        """Read the session from its journal and say again what may have been lost with its last planner."""
        session = Session(entry.id)
        await self._journal.load(session)
        passing("session.loaded")
        if session.sequence < entry.at_least:
            if await self._journal.last(entry.id) != session.sequence:
                raise ProtocolError(f"the journal of {entry.id} was read only up to {session.sequence}")
            log.error("journal.shorter", session=entry.id, has=session.sequence, had=entry.at_least)
            entry.at_least = 0
        entry.session = session
        entry.fresh = session.commits > 0
        self._settle(session)
        if session.commits and session.status not in SESSION_TERMINAL:
            self._around.expect_runtimes(session)
            await self._around.listen(session)
            again = [
                f.PublishTarget(index, "offered again")
                for index, phase in enumerate(session.phases)
                if phase.status in PHASE_OPEN and not phase.accepted
            ]
            await self._performer.perform(session, again, self._clock.now_ms())
            entry.wanted = True

    def _hand_over(self, entry: Entry) -> None:
        """See to it that somebody watches over the session, if it is not ours."""
        session = entry.session
        if session is not None and session.commits and not self.owns(entry.id):
            self._around.hand_over(entry.id, session.sequence)

    def _settle(self, session: Session) -> None:
        """Count what the session has out; the load of other planners' sessions is theirs to count."""
        self._count(session.id, session.load if self.owns(session.id) else {})

    def _count(self, session_id: str, load: Mapping[str, int]) -> None:
        """Take note of a session's load on the runtimes; when there is room now, others try again."""
        if self._fleet.settle(session_id, load):
            self._chances += 1
            self._wake_waiting(len(self._fleet.runtimes) + 1, len(self._waiting))

    def _drop(self, entry: Entry) -> None:
        """Forget the state; the next step reads it again, and believes nothing that has less of it."""
        if entry.session is not None:
            entry.at_least = max(entry.at_least, entry.session.sequence)
        entry.session = None
        entry.due = 0
        self._count(entry.id, {})

    async def _broken(self, entry: Entry, reason: str) -> None:
        """A step raised what it must not: our bug, or a torn journal. No other session may suffer."""
        self._drop(entry)
        broken = [delivery for _, delivery in entry.deliveries]
        entry.deliveries.clear()  # those that are not buried come again, as they are not acknowledged
        entry.inputs.clear()
        self._land(entry, *broken)
        for delivery in [one for one in broken if one.delivered >= POISON_DELIVERIES]:
            await self._around.bury(delivery, reason)
        if self.owns(entry.id):  # no input may come any more, and its timers are gone with its state
            self._wake_at(entry, self._clock.now_ms() + BROKEN_MS)

    def _settle_idle(self, entry: Entry) -> None:
        """Nothing more is done for the entry now: it may have become one to forget."""
        self._note_idle(entry)
        self._trim()

    def _note_idle(self, entry: Entry) -> None:
        """Whether the entry may be forgotten."""
        self._idle_phases -= self._idle.pop(entry.id, 0)
        session = entry.session
        is_busy = entry.running or entry.deliveries or entry.lock.locked()
        if not is_busy and (session is None or session.status in SESSION_TERMINAL or not self.owns(entry.id)):
            self._idle[entry.id] = len(session.phases) if session is not None else 0
            self._idle_phases += self._idle[entry.id]

    def _trim(self) -> None:
        """Keep active sessions and the newest of the others."""
        while len(self._idle) > IDLE_KEPT or (len(self._idle) > 1 and self._idle_phases > IDLE_PHASES_KEPT):
            session_id, phases = self._idle.popitem(last=False)
            self._idle_phases -= phases
            entry = self._entries[session_id]
            if not (entry.running or entry.deliveries or entry.lock.locked()):
                del self._entries[session_id]
                self._waiting.pop(session_id, None)
                self._count(session_id, {})
                self._around.forget(session_id)
