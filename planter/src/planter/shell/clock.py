"""The one place that reads the clock."""

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Never set, and goes on while the machine sleeps (where the system has such a clock)."""


class Clock:
    """The time of day as this process began, and from then on a clock that nobody sets.

    So a clock that is set while a planner runs neither ends waits early nor makes them endless.
    """

    def __init__(self) -> None:
        self._ahead = time.time_ns() - time.clock_gettime_ns(_STEADY)

    def now_ms(self) -> int:
        """Milliseconds since 1970: for what is stored, and for deadlines that outlive a process."""
        return (time.clock_gettime_ns(_STEADY) + self._ahead) // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds of a clock that nobody sets: for silence and other lengths of time."""
    return time.monotonic_ns() // 1_000_000
