"""Heartbeats of work: which are sent and when, how they leave the runtime, how child processes give them."""

import asyncio
import itertools
import os
import threading

import msgspec
import pytest

import planter_runtime
from planter_protocol import messages
from planter_protocol.messages import Report
from planter_runtime import progress
from planter_runtime.executors.handlers import _beat_from_thread
from planter_runtime.executors.pipes import heartbeat_pipe
from planter_runtime.outbox import _Box
from planter_runtime.pulse import EVERY_SECONDS_MAX, EVERY_SECONDS_MIN, Pulse

# -- which are sent ----------------------------------------------------------------------------


def test_a_tight_loop_of_heartbeats_is_one_every_third_of_the_timeout() -> None:
    pulse, sent, due = Pulse(30.0, 0.0), [], None
    for tick in range(100_000):
        now = tick / 1_000
        if due is not None and now >= due:
            sent.append((now, pulse.take(now)))
            due = None
        delay = pulse.beat(b"%d" % tick, now)
        if delay is not None:
            assert due is None
            due = now + delay

    assert [round(at) for at, _ in sent] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert sent[0][1] == b"9999"


@pytest.mark.parametrize("timeout", [1.5, 3.0, 30.0, 120.0])
@pytest.mark.parametrize("share", [0.05, 0.34, 0.7, 0.999])
def test_work_in_time_never_looks_silent_to_a_planner(timeout: float, share: float) -> None:
    """Also when it gives a heartbeat just after one was sent, and the next one only just in time."""
    pulse, now, due, sent = Pulse(timeout, 0.0), 0.0, None, [0.0]
    for _ in range(50):
        now += timeout * share
        while due is not None and due <= now:
            sent.append(due)
            pulse.take(due)
            due = None
        assert now < pulse.runs_out
        delay = pulse.beat(None, now)
        due = now + delay if delay is not None else due
    gaps = [after - before for before, after in itertools.pairwise(sent)]

    assert max(gaps) <= timeout + 0.001
    assert min(gaps) >= min(timeout / 3, EVERY_SECONDS_MIN) - 0.001


def test_heartbeats_are_sent_between_once_a_second_and_once_a_minute() -> None:
    assert Pulse(0.1, 0.0).beat(None, 0.0) == EVERY_SECONDS_MIN
    assert Pulse(36_000.0, 0.0).beat(None, 0.0) == EVERY_SECONDS_MAX


def test_the_silence_counts_from_the_newest_heartbeat_whether_it_was_sent_or_not() -> None:
    pulse = Pulse(9.0, 100.0)
    before = pulse.runs_out
    pulse.beat(b"1", 101.0)

    assert (before, pulse.runs_out, pulse.unsent) == (109.0, 110.0, True)
    assert pulse.take(103.0) == b"1"
    assert (pulse.runs_out, pulse.unsent) == (110.0, False)


# -- the outbox --------------------------------------------------------------------------------


def report(status: str) -> Report:
    if status == "details":
        return Report(phase_id="a", fence=1, status="heartbeat", details=msgspec.Raw(b'{"row":7}'))
    return msgspec.convert({"phaseId": "a", "fence": 1, "status": status}, Report)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["running", "heartbeat"], ["heartbeat", "running"]),
        (["heartbeat", "heartbeat"], ["heartbeat"]),
        (["running", "heartbeat", "failed"], ["failed"]),
        (["running", "details", "failed"], ["heartbeat", "failed"]),
        (["running", "details", "complete"], ["complete"]),
    ],
)
def test_the_last_word_makes_heartbeats_needless_but_not_their_details(given, expected) -> None:
    box = _Box()
    for status in given:
        box.report(report(status))
    _, reports = box.take()

    assert [one.status for one in reports] == expected


# -- threads -----------------------------------------------------------------------------------


async def test_a_thread_that_gives_heartbeats_in_a_tight_loop_does_not_flood_the_event_loop() -> None:
    beats: list[bytes | None] = []
    beat = _beat_from_thread(beats.append, asyncio.get_running_loop())

    def work() -> None:
        for number in range(10_000):
            beat(b"%d" % number)
        beat(None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()  # the loop stands still meanwhile: one call of it has to be enough
    await asyncio.sleep(0)

    assert beats == [b"9999"]


# -- child processes ---------------------------------------------------------------------------


async def test_lines_of_a_child_are_heartbeats_and_the_newest_tells_how_far_it_is() -> None:
    beats: list[bytes | None] = []
    pipe = heartbeat_pipe(beats.append)
    try:
        for data in (b"\n", b'{"row"', b": 1}\n\n", b"row 2\n", b"x" * 5_000 + b"\n"):
            await pipe.consume(data)
    finally:
        os.close(pipe.reader)
        os.close(pipe.writer)
        pipe.close()

    assert beats == [None, b'{"row": 1}', b'"row 2"', None]


def test_the_sdk_writes_one_line_for_each_heartbeat(monkeypatch) -> None:
    pipe = heartbeat_pipe(lambda _: None)
    try:
        monkeypatch.setenv(progress.PIPE, str(pipe.path))
        planter_runtime.heartbeat()
        planter_runtime.heartbeat({"row": 1})
        written = os.read(pipe.reader, 100)
    finally:
        os.close(pipe.reader)
        os.close(pipe.writer)
        pipe.close()
    planter_runtime.heartbeat("nobody listens any more")

    assert written == b'\n{"row": 1}\n'


def test_heartbeats_never_fail_the_work_but_wrong_details_do(monkeypatch) -> None:
    monkeypatch.delenv(progress.PIPE, raising=False)
    planter_runtime.heartbeat({"row": 1})

    with pytest.raises(ValueError, match="the limit is 4,000"):
        planter_runtime.heartbeat("x" * 4_000)
    with pytest.raises(TypeError):
        planter_runtime.heartbeat(object())


def test_details_of_an_earlier_attempt_are_found(monkeypatch) -> None:
    monkeypatch.delenv(progress.DETAILS, raising=False)
    before = planter_runtime.last_details()
    monkeypatch.setenv(progress.DETAILS, '{"row": 7}')

    assert (before, planter_runtime.last_details()) == (None, {"row": 7})


def test_the_limit_of_details_is_the_same_on_both_sides() -> None:
    assert progress.DETAILS_BYTES_MAX == messages.DETAILS_BYTES_MAX
