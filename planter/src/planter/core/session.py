"""The state of one session: what a fold over its journal gives.

It is owned by whoever decides for the session and changed in place by ``evolve.apply`` alone. A decision that
could not be appended to the journal leaves it ahead of the truth: throw it away and fold again.
"""

from collections.abc import Mapping
from heapq import heappop

import msgspec

from planter.core.events import HandlerCalled
from planter.core.gate import Gate
from planter.core.graph import EMPTY, Graph
from planter.core.plan import AFTER_FAILURE, PhaseSpec
from planter.core.status import PhaseStatus, SessionStatus

PROVISIONAL = -1
"""Fence of an attempt whose commit is not in the journal yet."""
STOPS = -2
"""Stands for a phase's index in ``timers``: the first of the attempts that are to stop is overdue."""


UNNAMED = -1
"""Stands for the time in ``heard``, as all below 0 does: its runtime does not name the attempt any more."""


class PhaseState(msgspec.Struct, gc=False):
    """Where one phase stands."""

    status: PhaseStatus = PhaseStatus.PENDING
    #: Number of the newest attempt; 0 before the first.
    attempt: int = 0
    #: Journal sequence of the commit that targeted the newest attempt.
    fence: int = 0
    #: Who has the attempt; None while it is offered openly.
    runtime_id: str | None = None
    instance: str | None = None
    #: Whether somebody took the offer.
    accepted: bool = False
    #: Accepted, but it still waits for a slot of its runtime.
    queued: bool = False
    #: Attempts before this number do not count against the retry budget (the phase was reset).
    budget_from: int = 0
    #: How often the platform lost an attempt since the phase was last reset.
    losses: int = 0
    #: When the status needs attention by itself, in milliseconds since 1970; 0 never.
    due: int = 0
    #: Ready, but not to be offered before this time (its runtime deferred it); 0 at any time.
    not_before: int = 0
    updated: int = 0
    #: When the wait that the status means began: for its needs (pending), for a start (ready, targeted).
    #: Later by the length of each pause of the session.
    since: int = 0
    #: When the phase was ready for its first attempt; 0 before.
    scheduled: int = 0
    started: int = 0
    finished: int = 0
    reason: str | None = None
    #: It was said that no registered runtime matches; once an episode.
    unmatched: bool = False
    #: For an ``onUse`` phase: something asked for it.
    demanded: bool = False
    #: Terminal, and what waits for it goes on.
    satisfies: bool = False
    #: Its trigger rule and its condition hold; phases that have neither are never asked.
    cleared: bool = False
    #: Skipped only because the session failed.
    left_out: bool = False
    #: Of a phase with ``x-foreach``: how many items its list has, once it is known.
    items: int = 0
    #: Under which its result is kept and looked for (``x-cache``), once it may run.
    cache: str = ""
    #: Reset on request: it is run again, whatever earlier results there are.
    anew: bool = False
    #: ``x-run`` with its expressions filled in.
    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    #: How far the work said that it was; the next attempt gets it.
    details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    #: Of a phase that the planner decides itself: since it began, and after its end.
    gate: Gate | None = None

    @property
    def stands(self) -> bool:
        """Whether it waits for time or for people, and nobody works on it."""
        return self.gate is not None and self.status is PhaseStatus.RUNNING

    @property
    def wants_earlier(self) -> bool:
        """Whether an earlier result would do: before the first attempt, unless the phase was reset."""
        return bool(self.cache) and not self.anew and self.attempt == self.budget_from


class Stopping(msgspec.Struct, frozen=True, gc=False):
    """An attempt that a replan took out of the session, while its runtime may still work on it."""

    attempt: int
    fence: int
    runtime_id: str | None
    instance: str | None
    due: int
    """When it counts as stopped, whatever its runtime says."""
    key: str | None = None
    """It counts against the limit of the phases with this key, as long as it is out."""
    slots: int = 1
    """It takes so many of its runtime, as long as it is out."""


class Session:
    """The state of one session."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.status = SessionStatus.PENDING
        self.reason: str | None = None
        #: Counts the plans that were applied, from 1.
        self.revision = 0
        self.graph: Graph = EMPTY
        #: One a phase of the plan, in the plan's order.
        self.phases: list[PhaseState] = []
        #: For each phase, how many needs are open; external ones, and an attempt still to stop, count.
        self.unmet: list[int] = []
        #: External ids known as complete.
        self.known: set[str] = set()
        #: Done phases that the plan leaves out, as it goes up to its target phase only; each after its needs.
        self.aside: dict[str, tuple[PhaseSpec, PhaseState]] = {}
        #: Why nothing new may start although the session is not over; None while all is well.
        self.failing: str | None = None
        self.cancelling = False
        self.paused_at = 0
        self.created = 0
        self.updated = 0
        #: Numbers of phases by status; all statuses are present.
        self.counts: dict[PhaseStatus, int] = dict.fromkeys(PhaseStatus, 0)
        #: For each placement group, a heap of ``(-priority, order of arrival, index)`` of the ready phases.
        self.ready: list[list[tuple[int, int, int]]] = []
        self.arrivals = 0
        #: Slots that open attempts take, by runtime id.
        self.load: dict[str, int] = {}
        #: Open attempts by concurrency key.
        self.at_work: dict[str, int] = {}
        #: By phase id, whether or not the plan has such a phase still. The phase waits for it.
        self.stopping: dict[str, Stopping] = {}
        self.stop_due = 0
        #: Indices of the phases that are offered openly.
        self.offered: set[int] = set()
        #: Heap of ``(time, index)``; -1 is the session, -2 ``STOPS``. An entry counts while it is ``due``.
        self.timers: list[tuple[int, int]] = []
        self.cancel_due = 0
        #: ``(index, runtime id)`` to the time until which it is not asked again. Not journalled.
        self.avoid: dict[tuple[int, str], int] = {}
        #: ``(index, runtime id)`` to how often it said no in a row. Not journalled.
        self.declined: dict[tuple[int, str], int] = {}
        #: Index to the time of the newest heartbeat of its open attempt. Not journalled.
        self.heard: dict[int, int] = {}
        #: Since when who decides here hears all; 0 from the first commit; None: not yet. Not journalled.
        self.listening_since: int | None = None
        #: How many handlers were called; by number, what they want said and is not known to be stored.
        self.calls = 0
        self.untold: dict[int, HandlerCalled] = {}
        #: Those of them that were ordered since the journal was read. Not journalled.
        self.telling: set[int] = set()
        #: Sequences of the inputs that are in the journal.
        self.taken: set[int] = set()
        #: Journal sequence of the record that applied the plan; 0 while there is none.
        self.plan_at = 0
        #: Journal sequence of the record that purged the session; 0 while there is none.
        self.tombstone = 0
        #: Number of commits folded in, and the journal sequence and the id of the newest.
        self.commits = 0
        self.sequence = 0
        self.record = ""
        #: Indices whose status changed since the last commit, in order.
        self.touched: dict[int, None] = {}
        #: Indices that were targeted in the step that is not appended yet.
        self.provisional: list[int] = []
        #: ``(index, by whom)`` of onUse phases that have become needed.
        self.to_demand: list[tuple[int, int]] = []
        #: Ready phases whose earlier result is looked for, to whether somebody was asked. Not journalled.
        self.looking: dict[int, bool] = {}
        #: Indices of phases whose needs have brought news that a rule has to look at, in order.
        self.to_settle: dict[int, None] = {}

    @property
    def plan_digest(self) -> str | None:
        """Digest of the applied plan."""
        return self.graph.plan.digest or None

    def spec(self, index: int) -> PhaseSpec:
        """The plan's side of a phase."""
        return self.graph.plan.phases[index]

    def may_start(self, index: int) -> bool:
        """Whether the phase may be started as things stand: in a failing session, only what is for that."""
        return self.failing is None or self.spec(index).trigger in AFTER_FAILURE

    def seal(self, sequence: int, record: str = "") -> None:
        """The step is in the journal under this sequence: it is the fence of what was targeted in it.

        ``record`` is the id of its record: a server that lost its newest messages gives their sequences anew.
        """
        for index in self.provisional:
            if self.phases[index].fence == PROVISIONAL:
                self.phases[index].fence = sequence
        self.provisional.clear()
        self.touched.clear()
        if self.plan_at == PROVISIONAL:
            self.plan_at = sequence
        if self.tombstone == PROVISIONAL:
            self.tombstone = sequence
        self.sequence = sequence
        self.record = record
        self.commits += 1

    def place(self, fences: Mapping[str, int], plan_at: int) -> None:
        """Before ``seal``, for a commit of several records: where its targets and its plan stand."""
        for phase_id, sequence in fences.items():
            index = self.graph.index.get(phase_id)
            if index is not None and self.phases[index].fence == PROVISIONAL:
                self.phases[index].fence = sequence
        if plan_at and self.plan_at == PROVISIONAL:
            self.plan_at = plan_at

    def next_due(self) -> int | None:
        """When a step is needed although nothing comes in; None if never. Stale timers are dropped."""
        while self.timers:
            due, index = self.timers[0]
            if self.is_set(due, index):
                return due
            heappop(self.timers)
        return None

    def is_set(self, due: int, index: int) -> bool:
        """Whether a timer counts still."""
        if index == STOPS:
            return due == self.stop_due
        return due == (self.cancel_due if index < 0 else self._due_of(index))

    def _due_of(self, index: int) -> int:
        return self.phases[index].due if index < len(self.phases) else 0
