"""How the daemons run: which event loop, and how often the garbage collector looks."""

import asyncio
import gc
from collections.abc import Callable

_OBJECTS = 50_000


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """For ``asyncio.Runner`` and ``anyio.run``: uvloop where it is installed (extra ``fast``)."""
    try:
        import uvloop  # noqa: PLC0415  (optional)
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def calm_collector() -> None:
    """Let the cyclic garbage collector look seldom, and never again at what is there now: modules and code.

    What a daemon makes by the thousand has no cycles; reference counts free it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, 20, 20)
