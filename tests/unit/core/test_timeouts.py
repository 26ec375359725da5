"""The four timeouts and the wait: which clock runs when, what happens at its end, what a pause does to it."""

from typing import Any

import msgspec
import pytest

from planter.core import Session, decide
from planter.core import effects as f
from planter.core import inputs as i
from planter.core.deadlines import HEAR_MS, LATE_MS, OVERDUE_MS
from planter.core.plan import Backoff, Concurrency, FailureAction, Handler
from planter.shell.views import session_state
from planter_testkit.builders import World, foreach, phase, picture, plan, runtime

START_MS, CLOSE_MS, LIMIT_MS, BEAT_MS = 2_000, 1_000, 60_000, 3_000
BACKOFF = Backoff(initial_ms=1_000, factor=1.0, jitter=0.0)


def world_of(*runtimes: Any, **fields: Any) -> World:
    """A session of one phase ``a``."""
    world = World(*runtimes)
    world.start(plan(phase("a", **{"backoff": BACKOFF, **fields})))
    return world


def accept(world: World, *, queued: bool = False) -> None:
    """The runtime takes the offer."""
    world.step(i.Acknowledge(**world.echo("a"), accepted=True, queued=queued))


def beat(world: World, details: bytes | None = None) -> None:
    """The work gives a heartbeat."""
    raw = msgspec.UNSET if details is None else msgspec.Raw(details)
    world.step(i.ReportHeartbeat(**world.echo("a"), details=raw))


def failure(world: World) -> tuple[str, str]:
    """Kind and message of the newest failure."""
    for _, _, events, _ in reversed(world.journal):
        for event in reversed(events):
            if type(event).__name__ in ("PhaseFailed", "AttemptFailed"):
                return str(event.kind), event.message
    raise AssertionError("nothing failed")


def stops(world: World) -> list[tuple[int, str]]:
    """Attempt and reason of each order to stop."""
    return [(one.attempt, one.reason) for one in world.effects if isinstance(one, f.CancelAttempt)]


def end(world: World) -> tuple[str, bool]:
    """Where the phase stands, and whether the journal says the same."""
    return world.statuses()["a"], picture(world.replayed()) == picture(world.session)


def pass_seconds(world: World, seconds: int) -> None:
    """Let time pass in small steps, as it does where a planner runs."""
    for _ in range(seconds):
        world.pass_time(1_000)


# -- schedule to start -------------------------------------------------------------------------


def test_a_phase_that_nobody_matches_fails_when_it_was_not_started_in_time() -> None:
    world = world_of(schedule_to_start_ms=START_MS, labels={"gpu": "yes"})

    world.pass_time(START_MS - 1)
    before = world.statuses()["a"]
    world.pass_time(1)

    reason = "no registered runtime matches (kind noop, labels gpu=yes), and nobody took the open offer"
    assert (before, world.statuses()["a"]) == ("targeted", "failed")
    assert failure(world) == (
        "schedule_to_start_timeout",
        f"not started 2,000 ms after it was ready: {reason}",
    )
    assert world.session.status == "failed"
    assert end(world) == ("failed", True)


def test_a_phase_that_every_runtime_is_too_busy_for_fails_and_says_so() -> None:
    world = World(runtime(slots=1))
    world.start(plan(phase("busy"), phase("a", schedule_to_start_ms=START_MS)))
    world.running("busy")

    world.pass_time(START_MS)

    assert failure(world)[1] == "not started 2,000 ms after it was ready: every matching runtime was busy"


def reasons(world: World) -> dict[str, str | None]:
    return {one.phase_id: one.reason for one in session_state(world.session).phases}


def test_a_phase_that_waits_for_its_limit_is_not_said_to_wait_for_a_runtime() -> None:
    fields = {"schedule_to_start_ms": START_MS, "on_failure": FailureAction.CONTINUE}
    one, two = Concurrency("db"), foreach([1, 2], parallel=1)
    world = World(runtime())
    world.start(
        plan(
            phase("busy", concurrency=one),
            phase("a", concurrency=one, **fields),
            phase("x", foreach=two, **fields),
        )
    )
    world.running("busy")
    world.running("x[0]")

    shown = reasons(world)
    world.pass_time(START_MS)

    db, parallel = "1 of 1 phases with x-concurrency db are out", "1 of 1 items of x are out (parallel)"
    assert (shown["a"], shown["x[1]"]) == (db, parallel)
    assert reasons(world)["a"] == f"not started 2,000 ms after it was ready: {db}"
    assert reasons(world)["x[1]"] == f"not started 2,000 ms after it was ready: {parallel}"


def test_a_phase_of_a_session_that_fails_is_not_said_to_wait_for_a_runtime() -> None:
    world = World(runtime(slots=2))
    world.start(plan(phase("bad"), phase("busy"), phase("a")))

    before = reasons(world)["a"]
    world.fail("bad")

    assert before == "every matching runtime is busy"
    assert reasons(world)["a"] == "nothing more is started: phase bad failed"


def test_an_offer_that_is_not_answered_in_time_fails_and_is_taken_back() -> None:
    world = world_of(runtime(), schedule_to_start_ms=START_MS, max_attempts=3)

    world.pass_time(START_MS)

    assert failure(world)[1].endswith("it was offered to runtime r1, which did not answer")
    assert stops(world) == [(1, "schedule_to_start_timeout")]
    assert end(world) == ("failed", True)


def test_a_phase_in_the_queue_of_its_runtime_is_not_started() -> None:
    world = world_of(runtime(), schedule_to_start_ms=START_MS)
    accept(world, queued=True)

    world.pass_time(START_MS)

    assert failure(world)[1].endswith("runtime r1 had it queued behind other work")
    assert stops(world) == [(1, "schedule_to_start_timeout")]


@pytest.mark.parametrize("begin", [accept, beat, lambda world: world.running("a")])
def test_work_that_has_begun_is_not_stopped_by_schedule_to_start(begin: Any) -> None:
    world = world_of(runtime(), schedule_to_start_ms=START_MS)
    begin(world)

    world.pass_time(START_MS)
    world.complete("a")

    assert end(world) == ("complete", True)


def test_it_counts_for_each_attempt_anew_but_not_for_an_offer_that_was_rejected() -> None:
    world = world_of(runtime(), schedule_to_start_ms=8_000, max_attempts=2)
    pass_seconds(world, 7)
    world.running("a")
    world.fail("a")
    pass_seconds(world, 7)
    second = world.statuses()["a"]
    world.step(i.Acknowledge(**world.echo("a"), accepted=False, reason="no"))
    pass_seconds(world, 1)
    world.step(i.Acknowledge(**world.echo("a"), accepted=False, reason="no"))
    third = world.statuses()["a"]
    pass_seconds(world, 1)

    assert (second, third) == ("targeted", "ready")
    assert failure(world)[1] == (
        "not started 8,000 ms after it was ready: every matching runtime was busy "
        "(last: rejected by runtime r1: no; not asked again for 2 s)"
    )


def test_an_attempt_that_was_lost_before_it_began_goes_on_waiting() -> None:
    world = world_of(runtime("r1"), runtime("r2"), schedule_to_start_ms=8_000)
    pass_seconds(world, 7)
    state = world.session.phases[0]
    world.step(i.RuntimeLost(runtime_id=state.runtime_id, instance=state.instance, reason="silence"))
    pass_seconds(world, 1)

    assert failure(world)[0] == "schedule_to_start_timeout"


def test_an_attempt_that_was_lost_after_it_began_waits_anew() -> None:
    world = world_of(runtime("r1"), runtime("r2"), schedule_to_start_ms=8_000)
    pass_seconds(world, 7)
    state = world.session.phases[0]
    world.running("a")
    world.step(i.RuntimeLost(runtime_id=state.runtime_id, instance=state.instance, reason="silence"))
    pass_seconds(world, 7)

    assert world.statuses()["a"] == "targeted"


def test_an_attempt_that_its_runtime_gives_back_after_it_began_waits_anew() -> None:
    world = world_of(runtime("r1"), runtime("r2"), schedule_to_start_ms=8_000)
    accept(world)
    pass_seconds(world, 20)
    world.step(i.Acknowledge(**world.echo("a"), accepted=False, reason="draining"))
    pass_seconds(world, 7)
    before = world.statuses()["a"]
    pass_seconds(world, 1)

    assert (before, world.statuses()["a"]) == ("targeted", "failed")


def test_a_paused_session_does_not_count_the_time_to_the_start() -> None:
    world = world_of(schedule_to_start_ms=START_MS)
    world.pass_time(1_500)
    world.command("pause")
    pass_seconds(world, 100)
    world.command("resume")
    world.pass_time(499)
    before = world.statuses()["a"]
    world.pass_time(1)

    assert before == "targeted"
    assert failure(world)[1].startswith("not started 2,000 ms after it was ready")
    assert end(world) == ("failed", True)


def test_what_becomes_ready_in_a_pause_begins_to_count_when_it_ends() -> None:
    world = World(runtime())
    world.start(plan(phase("b"), phase("a", "b", schedule_to_start_ms=START_MS)))
    world.command("pause")
    pass_seconds(world, 10)
    world.complete("b")
    pass_seconds(world, 10)
    world.command("resume")
    world.pass_time(START_MS - 1)

    assert world.statuses()["a"] == "targeted"


def test_what_a_failing_session_will_skip_does_not_fail() -> None:
    world = World(runtime(slots=2))
    world.start(plan(phase("x"), phase("y"), phase("a", schedule_to_start_ms=START_MS)))
    world.running("y")
    world.fail("x")
    pass_seconds(world, 10)
    waiting = world.statuses()["a"]
    world.complete("y")

    assert (waiting, world.statuses()["a"]) == ("ready", "skipped")


def test_when_the_failure_is_skipped_the_phase_begins_to_wait() -> None:
    world = World(runtime(slots=2))
    world.start(plan(phase("x"), phase("y"), phase("a", schedule_to_start_ms=START_MS)))
    world.running("y")
    world.fail("x")
    pass_seconds(world, 10)
    world.fleet.put(runtime(slots=1))
    world.command("skip", "x")
    world.pass_time(START_MS - 1)
    before = world.statuses()["a"]
    world.pass_time(1)

    assert (before, world.statuses()["a"]) == ("ready", "failed")
    assert picture(world.replayed()) == picture(world.session)


# -- start to close ----------------------------------------------------------------------------


def test_an_attempt_that_its_runtime_does_not_end_is_a_failure_of_the_work_and_retried() -> None:
    world = world_of(runtime(), timeout_ms=CLOSE_MS, max_attempts=2)
    world.running("a")
    fence = world.session.phases[0].fence

    world.pass_time(CLOSE_MS + OVERDUE_MS - 1)
    before = world.statuses()["a"]
    world.pass_time(1)
    state = world.session.phases[0]
    after = (world.statuses()["a"], state.losses, state.budget_from)
    world.pass_time(1_000)

    assert (before, after) == ("running", ("backing_off", 0, 0))
    assert failure(world) == ("timeout", "ran longer than 1,000 ms, and its runtime did not end it")
    assert stops(world) == [(1, "timeout")]
    assert (state.attempt, state.fence > fence) == (2, True)


def test_start_to_close_uses_up_the_retries() -> None:
    world = world_of(runtime(), timeout_ms=CLOSE_MS, max_attempts=2)
    for _ in range(2):
        world.running("a")
        world.pass_time(CLOSE_MS + OVERDUE_MS)
        world.pass_time(1_000)

    assert (failure(world)[0], *end(world)) == ("timeout", "failed", True)


def test_a_queued_attempt_does_not_run_out_of_its_start_to_close() -> None:
    world = world_of(runtime(), timeout_ms=CLOSE_MS)
    accept(world, queued=True)
    pass_seconds(world, 100)
    accept(world)
    world.pass_time(CLOSE_MS + OVERDUE_MS - 1)
    before = world.statuses()["a"]
    world.pass_time(1)

    assert (before, world.statuses()["a"]) == ("targeted", "failed")


def test_running_work_goes_on_to_be_limited_in_a_pause() -> None:
    world = world_of(runtime(), timeout_ms=CLOSE_MS)
    world.running("a")
    world.command("pause")

    world.pass_time(CLOSE_MS + OVERDUE_MS)

    assert failure(world)[0] == "timeout"


def test_a_late_report_of_an_attempt_that_timed_out_changes_nothing() -> None:
    world = world_of(runtime(), timeout_ms=CLOSE_MS, max_attempts=2)
    world.running("a")
    old = world.echo("a")
    world.pass_time(CLOSE_MS + OVERDUE_MS)
    world.pass_time(1_000)

    world.step(i.ReportComplete(**old))

    assert (world.statuses()["a"], world.session.phases[0].attempt) == ("targeted", 2)


def test_what_times_out_while_the_session_is_cancelled_is_cancelled() -> None:
    world = world_of(runtime(), timeout_ms=CLOSE_MS, max_attempts=2)
    world.running("a")
    world.pass_time(CLOSE_MS + OVERDUE_MS - 10)
    world.command("cancel")
    world.pass_time(10)

    assert (world.statuses()["a"], world.session.status) == ("cancelled", "cancelled")


# -- heartbeat ---------------------------------------------------------------------------------


def test_work_that_falls_silent_is_stopped_and_retried() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS, max_attempts=2)
    world.running("a")
    fence = world.session.phases[0].fence
    world.pass_time(2_000)
    beat(world)

    world.pass_time(BEAT_MS + OVERDUE_MS - 1)
    before = world.statuses()["a"]
    world.pass_time(1)
    after = world.statuses()["a"]
    world.pass_time(1_000)

    assert (before, after) == ("running", "backing_off")
    assert failure(world) == ("heartbeat_timeout", "no heartbeat for 18,000 ms; one is due every 3,000 ms")
    assert stops(world) == [(1, "heartbeat_timeout")]
    assert world.session.phases[0].fence > fence
    assert picture(world.replayed()) == picture(world.session)


def test_work_that_gives_heartbeats_lives_for_ever() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS)
    world.running("a")
    for _ in range(100):
        pass_seconds(world, 3)
        beat(world)
    world.complete("a")

    assert end(world) == ("complete", True)


def test_a_heartbeat_is_one_input_of_a_record_and_no_event() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS)
    world.running("a")
    before = len(world.journal)
    beat(world)

    (_, _, events, inputs) = world.journal[-1]
    assert (len(world.journal) - before, events, len(inputs)) == (1, (), 1)


def test_a_heartbeat_says_that_the_work_has_begun() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS)
    beat(world)

    assert world.statuses()["a"] == "running"


def test_the_heartbeat_of_an_older_attempt_keeps_nothing_alive() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS, max_attempts=2)
    world.running("a")
    old = world.echo("a")
    world.fail("a")
    world.pass_time(1_000)
    world.running("a")
    for number in range(6):
        world.pass_time(3_000)
        world.step(i.ReportHeartbeat(**{**old, "sequence": 1_000 + number}))

    assert (failure(world)[0], world.statuses()["a"]) == ("heartbeat_timeout", "failed")


def test_what_the_work_says_of_its_progress_is_kept_for_the_next_attempt() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS, max_attempts=2)
    world.running("a")
    beat(world, b'{"row":1}')
    beat(world, b'{"row":2}')
    beat(world, b'{"row":2}')
    world.fail("a")
    world.pass_time(1_000)
    details = world.session.phases[0].details
    world.complete("a")

    assert bytes(details) == b'{"row":2}'
    assert world.event_names().count("PhaseProgressed") == 2
    assert world.session.phases[0].details is msgspec.UNSET
    assert end(world) == ("complete", True)


# -- schedule to close -------------------------------------------------------------------------


def test_the_whole_phase_has_to_end_in_time_and_its_attempt_is_stopped() -> None:
    world = world_of(runtime(), schedule_to_close_ms=10_000, max_attempts=5)
    world.running("a")
    world.pass_time(4_000)
    world.fail("a")
    pass_seconds(world, 2)
    world.running("a")
    pass_seconds(world, 3)
    before = world.statuses()["a"]
    pass_seconds(world, 1)

    assert before == "running"
    assert failure(world) == (
        "schedule_to_close_timeout",
        "not done 10,000 ms after it was ready at first: attempt 2 was running",
    )
    assert stops(world) == [(2, "schedule_to_close_timeout")]
    assert end(world) == ("failed", True)


def test_a_retry_that_would_begin_too_late_is_not_made() -> None:
    world = world_of(runtime(), schedule_to_close_ms=10_000, max_attempts=5)
    world.running("a")
    world.pass_time(9_000)
    world.fail("a", "it broke")

    kind, message = failure(world)
    assert (kind, world.statuses()["a"]) == ("None", "failed")
    assert (
        message
        == "it broke (no further attempt: it would begin after the 10,000 ms that the phase has in all)"
    )


def test_a_retry_that_begins_in_time_is_made() -> None:
    world = world_of(runtime(), schedule_to_close_ms=10_000, max_attempts=5)
    world.running("a")
    world.pass_time(8_999)
    world.fail("a")

    assert world.statuses()["a"] == "backing_off"


def test_schedule_to_close_counts_from_the_first_time_that_the_phase_is_ready() -> None:
    world = World(runtime())
    world.start(plan(phase("b"), phase("a", "b", schedule_to_close_ms=5_000)))
    pass_seconds(world, 30)
    world.complete("b")
    world.running("a")
    pass_seconds(world, 4)
    before = world.statuses()["a"]
    pass_seconds(world, 1)

    assert (before, world.statuses()["a"]) == ("running", "failed")


def test_schedule_to_close_goes_on_in_a_pause() -> None:
    world = world_of(runtime(), schedule_to_close_ms=10_000, max_attempts=5)
    world.running("a")
    world.command("pause")
    world.fail("a")
    pass_seconds(world, 10)

    assert failure(world)[0] == "schedule_to_close_timeout"
    assert end(world) == ("failed", True)


def test_it_wins_over_a_clock_that_would_be_retried() -> None:
    world = world_of(
        runtime(), schedule_to_close_ms=CLOSE_MS + OVERDUE_MS, timeout_ms=CLOSE_MS, max_attempts=2
    )
    accept(world)
    world.pass_time(CLOSE_MS + OVERDUE_MS)

    assert (failure(world)[0], world.statuses()["a"]) == ("schedule_to_close_timeout", "failed")


def test_a_phase_that_is_retried_by_hand_has_all_its_time_again() -> None:
    world = world_of(runtime(), schedule_to_close_ms=10_000)
    pass_seconds(world, 10)
    world.command("retry")
    pass_seconds(world, 9)
    before = world.statuses()["a"]
    pass_seconds(world, 1)

    assert (before, world.statuses()["a"]) == ("targeted", "failed")
    assert picture(world.replayed()) == picture(world.session)


def test_a_timeout_that_fails_a_phase_does_what_its_manifest_says() -> None:
    world = World(runtime())
    handler = Handler(message=("too slow",))
    world.start(
        plan(
            phase("a", schedule_to_close_ms=1_000, on_failure=FailureAction.CONTINUE, failure=handler),
            phase("b", "a"),
        )
    )
    world.pass_time(1_000)
    world.complete("b")
    world.settle()

    said = [one.called.message for one in world.effects if isinstance(one, f.PassOn)]
    assert (world.session.status, said) == ("complete", [("too slow",)])


# -- who could hear it -------------------------------------------------------------------------


def taken_over(world: World, after: int) -> World:
    """Another planner reads the journal this much later."""
    world.session = world.replayed()
    world.session.sequence = world.sequence
    world.now += after
    return world


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule_to_start_ms": START_MS},
        {"schedule_to_close_ms": START_MS},
    ],
)
def test_a_planner_that_takes_over_hears_first_what_was_said_meanwhile(fields: dict[str, int]) -> None:
    world = taken_over(world_of(runtime(), **fields), after=60_000)
    world.step()
    first = world.statuses()["a"]
    world.pass_time(HEAR_MS - 1)
    before = world.statuses()["a"]
    world.pass_time(1)

    assert (first, before, world.statuses()["a"]) == ("targeted", "targeted", "failed")


def test_a_planner_that_takes_over_starts_the_heartbeat_clock_anew() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS)
    world.running("a")
    taken_over(world, after=BEAT_MS + OVERDUE_MS - 1)
    world.step()
    pass_seconds(world, 17)
    before = world.statuses()["a"]
    pass_seconds(world, 1)

    assert (before, world.statuses()["a"]) == ("running", "failed")


def test_a_planner_that_stood_still_hears_first_what_was_said_meanwhile() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS, schedule_to_close_ms=20_000)
    world.running("a")

    world.pass_time(20_000 + LATE_MS + 1)
    still = world.statuses()["a"]
    world.complete("a")

    assert (still, world.session.status) == ("running", "complete")


def test_a_late_planner_gives_a_phase_that_waits_between_attempts_no_more_time() -> None:
    world = world_of(runtime(), schedule_to_close_ms=10_000, max_attempts=5)
    world.running("a")
    world.fail("a")
    taken_over(world, after=60_000)
    world.step()

    assert failure(world)[0] == "schedule_to_close_timeout"


def test_a_fold_alone_does_not_listen() -> None:
    world = world_of(runtime(), heartbeat_ms=BEAT_MS)
    replayed: Session = world.replayed()

    assert (world.session.listening_since, replayed.listening_since) == (0, None)
    decide(replayed, [], 5, world.fleet)
    assert replayed.listening_since == 5


def test_waits_that_were_postponed_by_several_pauses_run_out_at_the_right_time() -> None:
    world = World(runtime())
    world.start(plan(phase("b"), phase("a", "b", wait_timeout_ms=5_000)))
    for _ in range(3):
        pass_seconds(world, 1)
        world.command("pause")
        pass_seconds(world, 30)
        world.command("resume")
    pass_seconds(world, 1)
    before = world.statuses()["a"]
    pass_seconds(world, 1)

    assert (before, world.statuses()["a"]) == ("pending", "failed")
    assert failure(world)[0] == "wait_timeout"


def test_a_clock_that_is_set_back_neither_ends_nor_lengthens_a_wait() -> None:
    world = World(runtime())
    world.start(plan(phase("a", max_attempts=2, backoff=Backoff(initial_ms=5_000, jitter=0))))
    world.fail("a")
    world.now -= 3_600_000  # another planner takes over, whose clock is right

    world.pass_time(1_000)
    assert world.statuses() == {"a": "backing_off"}
    world.pass_time(5_000)

    assert world.statuses() == {"a": "targeted"}
    assert picture(world.replayed()) == picture(world.session)
