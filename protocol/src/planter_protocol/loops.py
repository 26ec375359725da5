"""Which event loop the daemons run on: uvloop where it is installed (extra ``fast``), else asyncio's own."""

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """For ``asyncio.Runner`` and ``anyio.run``."""
    try:
        import uvloop  # noqa: PLC0415  (optional)
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
