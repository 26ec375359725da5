"""Groups of processes that come and go: planners and runtimes, killed, stopped and started again."""

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from planter_protocol import PlanClient
from planter_testkit.faults.ledger import HANDLERS, VARIABLE, Ledger
from planter_testkit.nats import READY_SECONDS, end
from planter_testkit.planners import Planner, answering
from planter_testkit.runtimes import RuntimeProcess

STOP_SECONDS = 3.5
"""A planner that stands still for this long has lost its inputs and its place among the others."""
_SAME_NAME = 0.25
"""So many of the processes that replace another one bear its name, as they would under most supervisors."""
SAME_RUNTIME = 0.75
"""A runtime under another name is lost only with its lease, so that most keep theirs."""


class Kill(NamedTuple):
    """A process was ended or stopped."""

    at_ms: int
    name: str


class Planners:
    """Planner processes in numbered slots."""

    def __init__(self, url: str, folder: Path, draw: random.Random, arguments: Sequence[str] = ()) -> None:
        self.kills: list[Kill] = []
        self._url = url
        self._folder = folder
        self._draw = draw
        self._arguments = arguments
        self._slots: dict[int, Planner] = {}
        self._started: list[Planner] = []
        self._generation = 0
        self._killed: set[int] = set()
        #: Where each one's own lines begin in a log that it may share with its predecessor.
        self._log_begins: dict[int, int] = {}

    def __getitem__(self, slot: int) -> Planner:
        return self._slots[slot]

    @property
    def slots(self) -> list[int]:
        """Numbers of the slots in use."""
        return list(self._slots)

    def start(self, slot: int, failpoint: str = "") -> Planner:
        """Start a planner in a slot; now and then under the name of the one that was there."""
        before = self._slots.get(slot)
        self._generation += 1
        name = f"planner-{slot}-{self._generation}"
        if before is not None and self._draw.random() < _SAME_NAME:
            name = before.name
        environment = {"PLANTER_FAILPOINT": failpoint}
        log = self._folder / f"{name}.log"
        begins = log.stat().st_size if log.exists() else 0
        planner = Planner(self._url, self._folder, name, arguments=self._arguments, environment=environment)
        self._log_begins[planner.process.pid] = begins
        self._slots[slot] = planner
        self._started.append(planner)
        return planner

    def kill(self, slot: int) -> Kill:
        """kill -9."""
        planner = self._slots[slot]
        planner.kill()
        return self.expect_end(planner)

    def expect_end(self, planner: Planner) -> Kill:
        """The planner has been ended on purpose."""
        self._killed.add(planner.process.pid)
        self.kills.append(Kill(int(time.time() * 1000), planner.name))
        return self.kills[-1]

    async def stand_still(self, slot: int, seconds: float = STOP_SECONDS) -> None:
        """SIGSTOP, and SIGCONT when the time is over: a zombie, with all that it believed before."""
        planner = self._slots[slot]
        planner.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            planner.process.send_signal(signal.SIGCONT)

    async def ready(self, client: PlanClient) -> None:
        """Wait until every planner answers."""
        for planner in self._slots.values():
            await answering(client, planner)

    async def others_ready(self, slot: int) -> None:
        """Wait until another planner than this one is at work: to kill all of them shows nothing new."""
        async with asyncio.timeout(READY_SECONDS * 2):
            while not any(self._is_ready(one) for number, one in self._slots.items() if number != slot):
                await asyncio.sleep(0.02)

    def _is_ready(self, planner: Planner) -> bool:
        log = planner.log.read_bytes()[self._log_begins[planner.process.pid] :]
        return planner.process.poll() is None and b"planner.ready" in log

    def restart_ended(self) -> int:
        """Start those again that have ended by themselves, as a supervisor does; how many there were."""
        ended = [slot for slot, planner in self._slots.items() if planner.process.poll() is not None]
        for slot in ended:
            self.expect_end(self._slots[slot])
            self.start(slot)
        return len(ended)

    def troubles(self) -> list[str]:
        """Planners that ended although nobody killed them, and whatever their logs call broken."""
        found = [
            f"{planner.name} ended by itself with status {planner.process.returncode}: {_tail(planner.log)}"
            for planner in self._started
            if planner.process.poll() is not None and planner.process.pid not in self._killed
        ]
        for log in sorted({planner.log for planner in self._started}):
            lines = log.read_text(errors="replace").splitlines()
            words = ("Traceback", "step.broken", "journal.broken", "manifest.broken")
            found += [f"{log.stem}: {line}" for line in lines if any(word in line for word in words)]
        return found

    def said(self, event: str) -> int:
        """How many lines of all logs name the event."""
        return sum(
            log.read_text(errors="replace").count(event) for log in {planner.log for planner in self._started}
        )

    def resident_mb(self) -> float:
        """The most memory that any of those that run has had so far."""
        return max(_resident_mb(planner.process.pid) for planner in self._slots.values())

    def close(self) -> None:
        """End them all, those that stand still included."""
        for planner in self._slots.values():
            if planner.process.poll() is None:
                self._killed.add(planner.process.pid)
                planner.process.send_signal(signal.SIGCONT)
                planner.process.send_signal(signal.SIGTERM)
        for planner in self._slots.values():
            planner.stop()


class Runtimes:
    """``planter-runtime`` processes in numbered slots, with a handler that writes the ledger."""

    def __init__(self, url: str, folder: Path, draw: random.Random, ledger: Ledger, same_name: float) -> None:
        self.kills: list[Kill] = []
        self._url = url
        self._folder = folder
        self._draw = draw
        self._ledger = ledger
        self._same_name = same_name
        self._slots: dict[int, RuntimeProcess] = {}
        self._generation = 0
        (folder / "handlers.py").write_text(HANDLERS)

    @property
    def slots(self) -> list[int]:
        """Numbers of the slots in use."""
        return list(self._slots)

    def start(self, slot: int) -> RuntimeProcess:
        """Start a runtime in a slot; now and then under another name than the one that was there."""
        before = self._slots.get(slot)
        self._generation += 1
        name = f"runtime-{slot}-{self._generation}"
        if before is not None and self._draw.random() < self._same_name:
            name = before.name
        self._slots[slot] = RuntimeProcess(
            self._url,
            self._folder,
            name,
            ["--module", "handlers.py", "--slots", "4", "--lease", "3"],
            environment={VARIABLE: str(self._ledger.path)},
        )
        return self._slots[slot]

    def kill(self, slot: int) -> Kill:
        """kill -9."""
        runtime = self._slots[slot]
        end(runtime.process, signal.SIGKILL)
        self.kills.append(Kill(int(time.time() * 1000), runtime.name))
        return self.kills[-1]

    def troubles(self) -> list[str]:
        """Runtimes that ended although nobody killed them."""
        return [
            f"{runtime.name} ended by itself with status {runtime.process.returncode}: {_tail(runtime.log)}"
            for runtime in self._slots.values()
            if runtime.process.poll() is not None
        ]

    async def ready(self, client: PlanClient) -> None:
        """Wait until a planner knows them all."""
        wanted = {runtime.name for runtime in self._slots.values()}
        async with asyncio.timeout(READY_SECONDS):
            while not wanted <= {one.runtime_id for one in (await client.planner_info()).runtimes}:
                await asyncio.sleep(0.02)

    def close(self) -> None:
        """End them all."""
        for runtime in self._slots.values():
            if runtime.process.poll() is None:
                runtime.process.send_signal(signal.SIGTERM)
        for runtime in self._slots.values():
            end(runtime.process)


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:])
