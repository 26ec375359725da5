"""Lines that handlers in threads write: all of them, in order, from whichever thread."""

import asyncio
import threading
from typing import Any, cast

from planter_runtime.executors.handlers import _from_thread
from planter_runtime.phase_log import PhaseLog


class Log:
    """What is left of a log: the lines, and how often somebody has waited for room."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waited = 0

    def say(self, text: str, level: str = "info") -> None:
        self.lines.append(text)

    async def room(self) -> None:
        self.waited += 1


def writer(log: Log) -> Any:
    return _from_thread(cast("PhaseLog", log), asyncio.get_running_loop())


async def test_lines_of_a_thread_come_in_order_and_it_waits_for_room() -> None:
    log = Log()
    write = writer(log)
    await asyncio.to_thread(lambda: [write(str(number), "info") for number in range(1_000)])
    await asyncio.sleep(0)

    assert log.lines == [str(number) for number in range(1_000)]
    assert log.waited == 10


async def test_lines_that_are_written_in_the_loop_itself_are_not_lost_and_do_not_wait() -> None:
    log = Log()
    write = writer(log)
    for number in range(250):
        write(str(number), "info")
    await asyncio.sleep(0)

    assert log.lines == [str(number) for number in range(250)]
    assert log.waited == 0


async def test_lines_of_many_threads_are_all_there() -> None:
    log = Log()
    write = writer(log)

    def say(name: int) -> None:
        for number in range(300):
            write(f"{name} {number}", "info")

    threads = [threading.Thread(target=say, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    await asyncio.sleep(0)

    for name in range(4):
        assert [line for line in log.lines if line.startswith(f"{name} ")] == [
            f"{name} {n}" for n in range(300)
        ]
