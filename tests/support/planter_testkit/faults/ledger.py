"""The ledger of effects: every execution of an attempt appends a line to one file, whoever executes it.

Appending with O_APPEND is atomic for lines this short, so that the file tells in which order effects were
applied, across all runtimes and their deaths.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "PLANTER_FAULTS_LEDGER"
HANDLERS = '''"""Handlers for the fault tests: each execution is a line in the ledger."""

import asyncio
import json
import os

from planter_runtime import PhaseContext, Runtime

runtime = Runtime()


@runtime.handler(work="ledger")
async def write(ctx: PhaseContext) -> int:
    """Apply the effect, then take a moment."""
    line = json.dumps([ctx.session, ctx.phase, ctx.attempt, ctx.fence]) + "\\n"
    file = os.open(os.environ["PLANTER_FAULTS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)
    await asyncio.sleep(0.02)
    return ctx.fence
'''


class Effect(NamedTuple):
    """One execution."""

    session: str
    phase: str
    attempt: int
    fence: int


class Ledger:
    """The file, and what may not stand in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def append(self, target: dict[str, Any]) -> None:
        """The target was executed."""
        key = [target[name] for name in ("sessionId", "phaseId", "attempt", "fence")]
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(file, (json.dumps(key) + "\n").encode())
        os.close(file)

    def effects(self) -> list[Effect]:
        """Everything that was executed, in order."""
        return [Effect(*json.loads(line)) for line in self.path.read_text().splitlines()]
