"""The heartbeats of one attempt: when its silence is too long, and which of them are sent.

Pure: ``now`` is an argument, in seconds of any clock that does not jump.

The work may give as many heartbeats as it likes. One every third of its timeout is sent (at least a second
apart, at most a minute), because each is an input of the planner and a record of the journal. One that comes
too soon is kept and sent when its time has come: the planner never sees a silence that is not there.
"""

EVERY_SECONDS_MIN = 1.0
EVERY_SECONDS_MAX = 60.0

Details = bytes | None
"""How far the work is, as JSON."""


class Pulse:
    """What is known of one attempt's heartbeats."""

    def __init__(self, timeout_seconds: float, now: float) -> None:
        self._timeout = timeout_seconds
        self._every = min(max(timeout_seconds / 3, EVERY_SECONDS_MIN), EVERY_SECONDS_MAX)
        self._last = self._sent = now
        self._waits = False
        self._details: Details = None

    @property
    def runs_out(self) -> float:
        """When the work has been silent for too long, unless it gives another heartbeat."""
        return self._last + self._timeout

    def beat(self, details: Details, now: float) -> float | None:
        """The work gives a heartbeat. Seconds until ``take`` is to be called; None: that is under way."""
        self._last = now
        if details is not None:
            self._details = details
        if self._waits:
            return None
        self._waits = True
        return max(0.0, self._sent + self._every - now)

    @property
    def unsent(self) -> bool:
        """Whether the work has told details that were not sent yet."""
        return self._details is not None

    def take(self, now: float) -> Details:
        """A heartbeat is sent now; returns the newest details since the last one."""
        details, self._details = self._details, None
        self._sent = now
        self._waits = False
        return details
