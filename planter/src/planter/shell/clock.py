"""The one place that reads the clock."""

import time


def now_ms() -> int:
    """Milliseconds since 1970: for what is stored, and for deadlines that outlive a process."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds of a clock that nobody sets: for silence and other lengths of time."""
    return time.monotonic_ns() // 1_000_000
