"""The command line as processes of their own."""

import asyncio
import sys
from typing import Any, NamedTuple

DEADLINE_SECONDS = 60.0
"""Far longer than anything takes here, also on a loaded machine."""


class Ended(NamedTuple):
    """What became of a command."""

    status: int | None
    out: str
    err: str


async def started(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """``planter`` with these arguments; ``options`` are those of the process."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "planter", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        **options,
    )


async def ended(process: asyncio.subprocess.Process) -> Ended:
    """Wait for its end; it is killed when it takes longer, and must not have shown a traceback."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in err, err.decode()
    return Ended(process.returncode, out.decode(), err.decode())
