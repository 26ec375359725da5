"""One session in the memory of a planner."""

import asyncio
from collections import deque

from planter.core import Session
from planter.core import inputs as i
from planter.shell.intake import Delivery


class Entry:
    """One session in memory, and what waits to be done for it."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.session: Session | None = None
        self.deliveries: deque[tuple[str, Delivery]] = deque()
        self.inputs: deque[i.AnyInput] = deque()
        self.wanted = False
        #: Woken by a timer: the state may be old, and nothing else would notice.
        self.check = False
        #: Taken over from another planner: what we have of it was only good for answering questions.
        self.stale = False
        #: Time for which a timer of the host is set, 0 for none.
        self.due = 0
        #: Journal sequence that the session is known to have reached.
        self.at_least = 0
        #: It was woken because there is room; this often the chance may be passed on to others.
        self.tries = 0
        #: Just read from the journal.
        self.fresh = False
        self.running = False
        self.lock = asyncio.Lock()

    @property
    def looks_new(self) -> bool:
        """Whether it holds nothing but a start that nobody has tried before: most often of a new session."""
        if self.at_least or self.inputs or len(self.deliveries) != 1:
            return False
        verb, delivery = self.deliveries[0]
        return verb == "start" and delivery.delivered == 1
