"""Named places at which a test ends or stops this very process, to see what the others make of it.

``PLANTER_FAILPOINT=journal.appended:3`` kills the planner, as kill -9 does, the third time that it passes
there; ``journal.appended:3:stop`` stops it, as SIGSTOP does. Unset, a passage costs one comparison.
"""

import os
import signal

VARIABLE = "PLANTER_FAILPOINT"
NAMES = (
    "input.fetched",
    "session.loaded",
    "step.decided",
    "journal.append",
    "journal.appended",
    "effects.begin",
    "effects.between",
    "effects.done",
    "record.write",
    "record.written",
    "input.acknowledge",
    "input.acknowledged",
    "input.bury",
    "handler.store",
    "handler.stored",
    "snapshot.write",
    "snapshot.written",
    "timer.fired",
    "session.take_over",
)
"""Every failpoint, in the order in which a step passes them."""


class _Armed:
    """The failpoint that was asked for, if any."""

    def __init__(self, text: str) -> None:
        name, _, rest = text.partition(":")
        count, _, action = rest.partition(":")
        if name and name not in NAMES:
            raise ValueError(f"{VARIABLE}: unknown failpoint {name!r}; there are {', '.join(NAMES)}")
        self.name = name
        self.left = int(count or 1)
        self.signal = signal.SIGSTOP if action == "stop" else signal.SIGKILL


_armed = _Armed(os.environ.get(VARIABLE, ""))


def passing(name: str) -> None:
    """The process is at this place."""
    if name == _armed.name:
        _armed.left -= 1
        if _armed.left == 0:
            os.kill(os.getpid(), _armed.signal)
