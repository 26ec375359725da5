"""Processes by their ids: whether they run, and waiting for their end."""

import asyncio
from pathlib import Path

_SECONDS = 10.0


def is_running(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    """Wait until the process has ended."""
    async with asyncio.timeout(_SECONDS):
        while is_running(pid):
            await asyncio.sleep(0.01)
