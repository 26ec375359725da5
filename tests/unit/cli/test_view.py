"""The view model folds events into what a person sees."""

from planter.cli.view import Change, PhaseView, View, attempt_of, view_of_plan, view_of_state
from planter_protocol.messages import PhaseState, SessionState
from planter_testkit.builders import diamond, phase, plan


def a_view(*phases: PhaseView) -> View:
    view = View("s", phases or (PhaseView("a"), PhaseView("b", needs=("a",))))
    view.apply([{"type": "PlanApplied", "revision": 1, "digest": "d"}], 1_000)
    return view


def test_a_phase_goes_from_targeted_to_running_to_complete():
    view = a_view()

    view.apply([{"type": "PhaseTargeted", "phaseId": "a", "attempt": 1, "runtimeId": "r"}], 1_100)
    targeted = view.phases["a"].status
    running = view.apply([{"type": "PhaseStarted", "phaseId": "a", "attempt": 1}], 1_200)
    complete = view.apply([{"type": "PhaseCompleted", "phaseId": "a", "attempt": 1}], 1_700)

    assert targeted == "targeted"
    assert running == [Change(1_200, "a", "running")]
    assert complete == [Change(1_700, "a", "complete")]
    assert view.phases["a"].runtime_id == "r"
    assert view.phases["a"].seconds(9_999) == 0.5


def test_a_quick_phase_has_the_time_that_its_runtime_measured():
    view = a_view()

    view.apply(
        [{"type": "PhaseCompleted", "phaseId": "a", "attempt": 1, "started": 1_010, "finished": 1_030}], 1_500
    )

    assert view.phases["a"].seconds(9_999) == 0.02


def test_a_phase_whose_needs_are_satisfied_is_shown_as_ready():
    view = a_view()
    before = view.shown_status(view.phases["b"])

    view.apply([{"type": "PhaseCompleted", "phaseId": "a", "attempt": 1}], 2_000)

    assert (before, view.shown_status(view.phases["b"])) == ("pending", "ready")
    assert view.waits_for(view.phases["b"]) == ()


def test_a_failed_phase_that_is_tolerated_satisfies_what_waits_for_it():
    view = a_view(PhaseView("a", tolerated=True), PhaseView("b", needs=("a",)))

    view.apply([{"type": "PhaseFailed", "phaseId": "a", "attempt": 1, "message": "boom"}], 2_000)

    assert view.waits_for(view.phases["b"]) == ()


def test_a_failed_attempt_backs_off_with_its_reason():
    view = a_view(PhaseView("a", max_attempts=3))
    view.apply([{"type": "PhaseTargeted", "phaseId": "a", "attempt": 2, "runtimeId": "r"}], 1_100)

    changes = view.apply(
        [{"type": "AttemptFailed", "phaseId": "a", "attempt": 2, "message": "exit 1", "retryAt": 3_500}],
        1_500,
    )

    assert changes == [Change(1_500, "a", "backing_off", "exit 1; again in 2.0s attempt 2/3")]
    assert view.phases["a"].reason == "exit 1"


def test_an_open_offer_is_unclaimed_until_somebody_accepts():
    view = a_view()
    view.apply([{"type": "PhaseTargeted", "phaseId": "a", "attempt": 1}], 1_100)
    before = [found.id for found in view.unclaimed()]

    view.apply([{"type": "PhaseAccepted", "phaseId": "a", "attempt": 1}], 1_200)

    assert (before, view.unclaimed()) == (["a"], [])


def test_an_external_need_is_waited_for_until_it_is_known():
    view = a_view(PhaseView("b", needs=("dns",), external=("dns",)))
    before = view.waits_outside(view.phases["b"])

    view.apply([{"type": "ExternalCompleted", "phaseId": "dns"}], 1_200)

    assert (before, view.waits_outside(view.phases["b"])) == (("dns",), ())
    assert view.shown_status(view.phases["b"]) == "ready"


def test_the_end_of_a_session_keeps_status_and_time():
    view = a_view()

    changes = view.apply([{"type": "SessionEnded", "status": "failed", "reason": "phase a failed"}], 5_000)

    assert changes == [Change(5_000, None, "failed", "phase a failed")]
    assert (view.status, view.begun, view.ended) == ("failed", 1_000, 5_000)


def test_reset_phases_start_over_and_a_reopened_session_runs_again():
    view = a_view()
    view.apply([{"type": "PhaseFailed", "phaseId": "a", "attempt": 1, "message": "boom"}], 1_100)
    view.apply([{"type": "SessionEnded", "status": "failed"}], 1_200)

    view.apply([{"type": "SessionReopened", "reason": "retry"}], 2_000)
    view.apply([{"type": "PhasesReset", "phaseIds": ["a", "b"], "reason": "retry"}], 2_000)

    assert (view.status, view.phases["a"].status, view.phases["a"].reason) == ("running", "pending", None)


def test_another_revision_than_the_one_shown_makes_the_view_outdated():
    view = a_view()

    view.apply([{"type": "PlanApplied", "revision": 2, "digest": "e"}], 2_000)

    assert view.outdated


def test_a_replan_of_a_paused_session_leaves_it_paused():
    view = a_view()
    view.apply([{"type": "SessionPaused"}], 1_500)

    view.apply([{"type": "PlanApplied", "revision": 2, "digest": "e", "replan": True}], 2_000)

    assert (view.status, view.revision) == ("paused", 2)


def test_unknown_events_and_unknown_phases_are_passed_over():
    view = a_view()

    changes = view.apply(
        [{"type": "SomethingNew", "x": 1}, {"type": "PhaseCompleted", "phaseId": "zz", "attempt": 1}], 1
    )

    assert changes == []


def test_every_event_of_the_journal_that_concerns_a_person_is_folded():
    from planter.cli.view import _FOLDS
    from planter.core import events

    known = {kind.__name__ for kind in events.AnyEvent.__args__}

    # An input that was repeated changes nothing; who demanded an onUse phase, and that a condition holds, is
    # seen by its running; how far running work is, is for its next attempt; whose clock was wrong is for the
    # operator; that no runtime matches is told by a hint; what handlers say is in the log.
    assert known - set(_FOLDS) == {
        "InputRepeated",
        "PhaseDemanded",
        "PhaseCleared",
        "PhaseProgressed",
        "ClockSetBack",
        "PhaseUnmatched",
        "HandlerCalled",
        "HandlerPassedOn",
    }
    assert set(_FOLDS) <= known


def test_the_view_of_a_plan_has_needs_and_selectors():
    view = view_of_plan("s", plan(phase("a", labels={"os": "linux"}), phase("b", "a", external=("x",))))

    assert view.phases["a"].selector == "selector os=linux; x-run noop"
    assert view.phases["b"].needs == ("a", "x")
    assert view.counts() == {"pending": 2}


def test_the_view_of_a_state_tells_what_is_done():
    state = SessionState(
        session_id="s",
        status="running",
        revision=2,
        phases=(
            PhaseState(phase_id="a", status="complete", started="2026-01-01T00:00:00Z"),
            PhaseState(phase_id="b", status="ready", needs=("a",)),
        ),
    )

    view = view_of_state(state, view_of_plan("s", diamond()))

    assert view.phases["a"].satisfies
    assert view.shown_status(view.phases["b"]) == "ready"
    assert view.revision == 2


def test_attempts_beyond_what_is_allowed_are_shown_without_limit():
    assert (attempt_of(2, 3), attempt_of(4, 3)) == ("2/3", "4")


def test_a_question_is_shown_with_the_command_that_answers_it_and_with_each_answer():
    view = View("nightly", (PhaseView(id="ask me"), PhaseView(id="pause")))

    asked, waits = view.apply(
        [
            {
                "type": "ApprovalRequested",
                "phaseId": "ask me",
                "attempt": 1,
                "message": "Deploy?",
                "approvers": ["ann", "bob"],
            },
            {"type": "WaitStarted", "phaseId": "pause", "attempt": 1, "due": 1_000_000_000},
        ],
        5,
    )

    assert asked.status == "waiting"
    assert "waiting for approval: Deploy? (asked: ann, bob)" in asked.detail
    assert "`planter control nightly approve 'ask me'`" in asked.detail
    assert waits.detail.startswith("waits until 1970-01-")
    assert (view.phases["ask me"].status, view.phases["ask me"].runtime_id) == ("running", None)
    told = view.apply(
        [
            {"type": "PhaseApproved", "phaseId": "ask me", "attempt": 1, "by": "ann"},
            {"type": "PhaseRejected", "phaseId": "ask me", "attempt": 1, "by": "bob", "comment": "no"},
            {"type": "ApprovalExpired", "phaseId": "ask me", "attempt": 1, "outcome": "fail"},
        ],
        6,
    )
    assert [(one.status, one.detail) for one in told] == [
        ("approved", "by ann"),
        ("rejected", "by bob: no"),
        ("expired", "nobody answered in time"),
    ]
