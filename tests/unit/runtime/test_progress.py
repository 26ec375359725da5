"""How far work is: what it may say, and how often it is passed on."""

import asyncio
import os
import threading
from typing import Any

import pytest

import planter_runtime
from planter_runtime import PhaseContext, progress, telling
from planter_runtime.executors.handlers import _tell_from_thread
from planter_runtime.executors.pipes import LinePipe, progress_pipe
from planter_runtime.telling import Teller
from planter_runtime.testing import run_handler


def closed(pipe: LinePipe) -> None:
    os.close(pipe.reader)
    os.close(pipe.writer)
    pipe.close()


async def test_of_many_the_first_and_the_newest_are_told(monkeypatch) -> None:
    monkeypatch.setattr(telling, "EVERY_SECONDS", 0.01)
    told: list[Any] = []
    teller = Teller(told.append)
    for number in range(1_000):
        teller.tell((number, None, None))
    async with asyncio.timeout(10):
        while len(told) < 2:
            await asyncio.sleep(0.001)
    teller.tell((1_000, None, None))
    teller.tell((1_001, None, None))
    teller.close()

    assert told[0] == (0, None, None)
    assert told[1] == (999, None, None)
    assert told[-1] == (1_001, None, None)


async def test_from_a_thread_however_many_wake_the_loop_once() -> None:
    told: list[Any] = []
    tell = _tell_from_thread(told.append, asyncio.get_running_loop())
    thread = threading.Thread(target=lambda: [tell((n, None, None)) for n in range(10_000)])
    thread.start()
    thread.join()  # the loop stands still meanwhile
    await asyncio.sleep(0)

    assert told == [(9_999, None, None)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"42\n", (42, None, None)),
        (b"1/2\n42/100 rows of it\n", (42, 100, "rows of it")),
        (b" 4.5 / 9 \n", (4.5, 9, None)),
        (b"7\nnonsense\n-3/5\nnan\n", (7, None, None)),
        (b"3/0\n", (3, None, None)),
        (b"1e999\n", None),
        (b"\xff\n", None),
        (b"42", None),
    ],
)
async def test_lines_of_programs_are_read(data, told) -> None:
    heard: list[Any] = []
    pipe = progress_pipe(heard.append)
    try:
        await pipe.consume(data)
    finally:
        closed(pipe)

    assert heard == ([] if told is None else [told])


async def test_what_functions_write_is_what_is_read(monkeypatch) -> None:
    heard: list[Any] = []
    pipe = progress_pipe(heard.append)
    try:
        monkeypatch.setenv(progress.PROGRESS, str(pipe.path))
        planter_runtime.report_progress(0.1, 3, "two\nlines")
        await pipe.consume(os.read(pipe.reader, 100))
    finally:
        closed(pipe)
    planter_runtime.report_progress(1)  # nobody listens any more

    assert heard == [(0.1, 3, "two lines")]


@pytest.mark.parametrize("numbers", [(-1,), (float("nan"),), (1, float("inf")), (1, -2)])
def test_what_is_no_amount_is_the_callers_mistake(numbers) -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        planter_runtime.report_progress(*numbers)


def test_handlers_tell_it_by_their_context() -> None:
    def count(ctx: PhaseContext) -> None:
        ctx.progress(1, 2)

    assert run_handler(count).progress == [(1, 2, None)]
