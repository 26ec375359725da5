"""Findings of ``planter doctor`` from facts that no server has to tell."""

import msgspec
import pytest

from planter.cli.doctor import as_json, summary
from planter.cli.output import builtins
from planter.doctor import CHECKS, Facts, Finding, Level, examine
from planter.doctor.facts import (
    Absence,
    Account,
    Clock,
    Consumer,
    DeadLetter,
    Peer,
    Probe,
    Server,
    Storage,
    Stream,
    Usage,
)
from planter.doctor.wanted import duration, wanted_consumers, wanted_streams
from planter_protocol import assets, subjects
from planter_protocol.messages import Heartbeat

SECOND = 1_000_000_000
USAGE = Usage(
    tier="",
    storage=0,
    storage_max=-1,
    streams=7,
    streams_max=-1,
    consumers=16,
    consumers_max=-1,
)


def plain(config) -> dict:
    """A configuration as the server sends it."""
    return msgspec.json.decode(msgspec.json.encode(config))


def a_stream(name: str, *servers: str, **changes) -> Stream:
    config = plain(wanted_streams()[name]) | {"num_replicas": len(servers or ("one",))} | changes
    return Stream(
        config=config,
        leader=(servers or ("one",))[0],
        peers=tuple(Peer(server) for server in servers or ("one",)),
    )


def streams(*servers: str, **changed: dict) -> dict[str, Stream | Absence]:
    return {name: a_stream(name, *servers, **changed.get(name, {})) for name in assets.names()}


def a_consumer(name: str, **changes) -> Consumer:
    return Consumer(config=plain(wanted_consumers()[name]) | changes)


def consumers(**replaced: Consumer) -> dict[str, Consumer]:
    named = {name.replace("_", "-"): consumer for name, consumer in replaced.items()}
    return {name: a_consumer(name) for name in wanted_consumers()} | named


GOOD = Facts(
    server=Server(
        url="nats://127.0.0.1:4222",
        version="2.15.1",
        max_payload=1024 * 1024,
        name="one",
        features={"js_ack_fc_v2": False},
    ),
    account=Account(api_level=5, usages=(USAGE,)),
    streams=streams(),
    consumers=consumers(),
    storages=(Storage("one", sync_always=True, sync_seconds=120),),
    clock=Clock(ahead_ms=0.1, round_trip_ms=0.4),
    inputs=dict.fromkeys(subjects.INPUT_VERBS, Probe.ALLOWED),
    publish_ms=0.3,
    planners=("p1",),
    runtimes=(Heartbeat(runtime_id="r1", instance="i", slots=4),),
)


def changed(**changes) -> Facts:
    return msgspec.structs.replace(GOOD, **changes)


def server(**changes) -> Facts:
    return changed(server=msgspec.structs.replace(GOOD.server, **changes))


def problems(facts: Facts) -> list[Finding]:
    return [finding for finding in examine(facts).findings if finding.level is not Level.OK]


def the_problem(facts: Facts) -> Finding:
    found = problems(facts)
    assert len(found) == 1, found
    return found[0]


def test_a_good_server_has_nothing_but_ok():
    report = examine(GOOD)

    assert problems(GOOD) == []
    assert (report.level, summary(report)) == (Level.OK, "all is well")
    assert len(report.findings) >= len(CHECKS) - 5


def test_every_problem_says_where_it_comes_from_and_what_to_do():
    bad = changed(
        server=Server(url="nats://h:1", version="2.12.1", max_payload=1000, features={"js_ack_fc_v2": True}),
        streams=streams() | {assets.JOURNAL: Absence.MISSING},
        consumers={},
        storages=(Storage("one", False, 120, used=99, maximum=100, health="frozen"),),
        monitors_silent={"h:2": "refused"},
        clock=None,
        inputs=dict.fromkeys(subjects.INPUT_VERBS, Probe.DENIED),
        planners=(),
        runtimes=(),
    )

    found = problems(bad)

    assert {finding.check for finding in found} >= {
        *("server", "max_payload", "flags", "disk", "health", "monitor", "durability"),
        *("streams", "consumers", "permissions", "clock", "planners", "runtimes"),
    }
    assert all(finding.cause and finding.remedy for finding in found)


@pytest.mark.parametrize(
    ("version", "level", "why"),
    [
        ("2.15.1", None, ""),
        ("2.15.0-dev", None, ""),
        ("2.14.0", None, ""),
        ("2.12.7", Level.WARNING, "#7580"),
        ("2.12.3", Level.WARNING, "advisories"),
        ("2.12.2", Level.FAILURE, "#7594"),
        ("2.11.4", Level.WARNING, "advisories"),
        ("2.10.22", Level.FAILURE, "batched direct get"),
    ],
)
def test_versions_that_lose_data_or_lack_something_are_told(version, level, why):
    found = problems(server(version=version))

    assert [finding.level for finding in found] == ([level] if level else [])
    assert all(why in (finding.cause or "") for finding in found)


@pytest.mark.parametrize(
    ("account", "error", "text"),
    [
        (Absence.UNSERVED, "", "JetStream is off"),
        (Absence.REFUSED, "JetStream not enabled for account", "not there for this user"),
        (Absence.REFUSED, "JetStream system temporarily unavailable", "does not answer"),
        (Absence.SILENT, "", "does not answer"),
    ],
)
def test_a_server_without_jetstream_has_that_one_failure(account, error, text):
    missing = dict.fromkeys(assets.names(), Absence.UNSERVED)
    facts = changed(account=account, account_error=error, streams=missing, consumers=Absence.UNSERVED)

    found = [finding for finding in problems(facts) if finding.level is Level.FAILURE]

    assert [finding.check for finding in found] == ["jetstream"]
    assert text in found[0].text


def test_a_server_that_no_planner_has_visited_says_so_once():
    missing = dict.fromkeys(assets.names(), Absence.MISSING)
    none = dict.fromkeys(subjects.INPUT_VERBS, Probe.MISSING)
    facts = changed(
        streams=missing,
        consumers=Absence.MISSING,
        inputs=none,
        journal=Probe.MISSING,
        planners=(),
        runtimes=(),
    )

    found = the_problem(facts)

    assert (found.check, found.text) == ("streams", "no planner has ever run on this server")
    assert "planter serve --nats nats://127.0.0.1:4222" in (found.remedy or "")


@pytest.mark.parametrize(
    ("servers", "storages", "mode", "title", "level"),
    [
        (["one"], [("one", False)], "default", "default (R1, sync every 2m)", Level.WARNING),
        (["one"], [("one", True)], "always", "always (R1)", Level.OK),
        (["one"], [], "unknown", "default or always (R1, sync unknown)", Level.WARNING),
        (["one"], [("other", True)], "unknown", "default or always (R1, sync unknown)", Level.WARNING),
        ("abc", [(name, False) for name in "abc"], "replicated", "replicated (R3)", Level.WARNING),
        (
            "abc",
            [(name, True) for name in "abc"],
            "replicated + always",
            "replicated + always (R3)",
            Level.OK,
        ),
        ("abc", [("a", True), ("b", False), ("c", True)], "replicated", "replicated (R3)", Level.WARNING),
        ("abc", [("a", True), ("b", True)], "unknown", "replicated (R3, sync unknown)", Level.WARNING),
    ],
)
def test_the_mode_is_that_of_the_weakest_server_that_keeps_a_copy(servers, storages, mode, title, level):
    facts = changed(
        streams=streams(*servers), storages=tuple(Storage(name, always, 120) for name, always in storages)
    )

    report = examine(facts)
    told = next(finding for finding in report.findings if finding.check == "durability")

    assert (report.durability.mode, told.text, told.level) == (mode, title, level)
    assert [line.partition(":")[0] for line in told.details] == [
        "a process is killed",
        "a machine crashes or loses power",
        "a disk is lost",
    ]


def test_a_tag_is_believed_and_told_as_a_claim():
    facts = changed(storages=(Storage("one", sync_always=True, sync_seconds=0, claimed=True),))

    told = next(finding for finding in examine(facts).findings if finding.check == "durability")

    assert told.text == "always (R1)"
    assert "own tags say so" in told.details[-1]


def test_the_servers_that_nobody_was_asked_about_are_named():
    facts = changed(
        streams=streams("a", "b", "c"), storages=(Storage("a", sync_always=True, sync_seconds=0),)
    )

    assert "of b, c;" in (the_problem(facts).cause or "")


def test_the_smallest_number_of_copies_counts_and_is_told():
    found = problems(
        changed(streams=streams("a", "b", "c") | {assets.JOURNAL: a_stream(assets.JOURNAL, "a")})
    )

    assert [finding.check for finding in found] == ["durability", "replicas"]
    assert found[1].remedy == "nats stream edit PLANTER_JOURNAL --replicas=3"


@pytest.mark.parametrize(
    ("away", "level", "text"),
    [(1, Level.WARNING, "away or behind: b"), (2, Level.FAILURE, "PLANTER_JOURNAL: most copies are away")],
)
def test_copies_that_are_away_are_told_and_fail_without_a_majority(away, level, text):
    journal = msgspec.structs.replace(
        a_stream(assets.JOURNAL, "a", "b", "c"),
        peers=(Peer("a"), Peer("b", current=False), Peer("c", offline=away == 2)),
    )
    always = tuple(Storage(name, sync_always=True, sync_seconds=0) for name in "abc")

    found = the_problem(changed(streams=streams("a", "b", "c") | {assets.JOURNAL: journal}, storages=always))

    assert (found.level, found.text) == (level, text)


@pytest.mark.parametrize(
    ("stream", "changes", "level", "remedy"),
    [
        (assets.IN, {"discard": "old"}, Level.FAILURE, "nats stream edit PLANTER_IN --discard=new"),
        (
            assets.IN,
            {"subject_transform": None},
            Level.FAILURE,
            "--transform-destination='in.{{partition(16,1)}}",
        ),
        (
            assets.IN,
            {"subjects": ["plan.session.*.start"]},
            Level.FAILURE,
            "--subjects='plan.session.*.report'",
        ),
        (assets.IN, {"retention": "workqueue"}, Level.FAILURE, "nats stream rm PLANTER_IN"),
        (assets.IN, {"max_age": 3600 * SECOND}, Level.WARNING, "--max-age=7d"),
        (assets.IN, {"duplicate_window": SECOND}, Level.WARNING, "--dupe-window=2m"),
        (assets.IN, {"deny_delete": False}, Level.WARNING, "--deny-delete"),
        (assets.IN, {"allow_rollup_hdrs": True}, Level.FAILURE, "--no-allow-rollup"),
        (assets.IN, {"allow_msg_schedules": True}, Level.FAILURE, "--no-allow-schedules"),
        (assets.IN, {"max_msg_size": 1024}, Level.WARNING, "--max-msg-size=540672"),
        (assets.JOURNAL, {"max_age": 3600 * SECOND}, Level.FAILURE, "--max-age=0s"),
        (assets.JOURNAL, {"max_msgs_per_subject": 10}, Level.FAILURE, "--max-msgs-per-subject=-1"),
        (assets.JOURNAL, {"republish": None}, Level.WARNING, "--republish-source='plan.journal.*'"),
        (assets.JOURNAL, {"allow_direct": False}, Level.FAILURE, "--allow-direct"),
        (assets.JOURNAL, {"storage": "memory"}, Level.FAILURE, "nats stream rm PLANTER_JOURNAL"),
        (assets.JOURNAL, {"persist_mode": "async"}, Level.FAILURE, "nats stream rm PLANTER_JOURNAL"),
        (assets.LOGS, {"discard": "new"}, Level.WARNING, "--discard=old"),
    ],
)
def test_a_stream_that_is_not_what_is_expected_is_told_with_the_way_back(stream, changes, level, remedy):
    found = [
        finding
        for finding in problems(changed(streams=streams(**{stream: changes})))
        if finding.check == "streams"
    ]

    assert [finding.level for finding in found] == [level]
    assert remedy in (found[0].remedy or "")
    assert next(iter(changes)) in found[0].text


@pytest.mark.parametrize(
    ("stream", "changes"),
    [
        (assets.IN, {"max_age": 0}),
        (assets.IN, {"max_age": 365 * 86_400 * SECOND}),
        (assets.IN, {"max_msg_size": -1}),
        (
            assets.IN,
            {"max_bytes": 1024**3, "description": "ours", "metadata": {"team": "a"}, "compression": "s2"},
        ),
        (assets.JOURNAL, {"deny_purge": True, "placement": {"tags": ["ssd"]}}),
    ],
)
def test_what_is_the_operators_choice_is_no_difference(stream, changes):
    assert problems(changed(streams=streams(**{stream: changes}))) == []


def test_a_missing_stream_is_a_failure_and_names_who_makes_it():
    found = the_problem(changed(streams=streams() | {assets.LOGS: Absence.MISSING}))

    assert (found.level, found.text) == (Level.FAILURE, "PLANTER_LOGS: missing")


@pytest.mark.parametrize(
    ("changes", "level", "remedy"),
    [
        ({"ack_wait": 30 * SECOND}, Level.WARNING, "nats consumer edit PLANTER_IN planner-3 --wait=2s"),
        ({"max_deliver": 5}, Level.FAILURE, "--max-deliver=-1"),
        ({"filter_subject": "in.4.>"}, Level.FAILURE, "--filter=in.3.>"),
        ({"ack_policy": "none"}, Level.FAILURE, "nats consumer rm PLANTER_IN planner-3"),
    ],
)
def test_a_consumer_that_is_not_what_is_expected_is_told(changes, level, remedy):
    found = the_problem(changed(consumers=consumers(planner_3=a_consumer("planner-3", **changes))))

    assert (found.check, found.level) == ("consumers", level)
    assert remedy in (found.remedy or "")


def test_consumers_with_the_same_difference_are_told_together():
    found = the_problem(
        changed(consumers={name: a_consumer(name, ack_wait=SECOND) for name in wanted_consumers()})
    )

    assert found.text == "planner-0, planner-1, planner-2 and 13 more: `ack_wait` is 1s, expected 2s"


def test_a_missing_consumer_is_a_failure():
    left = {name: consumer for name, consumer in consumers().items() if name != "planner-7"}

    assert the_problem(changed(consumers=left)).text == "planner-7: missing"


def test_a_user_that_may_not_submit_is_told_what_that_means():
    found = the_problem(
        changed(
            server=msgspec.structs.replace(GOOD.server, user="agent"),
            inputs=GOOD.inputs | {"start": Probe.DENIED},
        )
    )

    assert (found.level, found.text) == (Level.WARNING, "user `agent` may not publish plan.session.*.start")
    assert "right for a runtime" in (found.cause or "")


def test_a_user_without_an_inbox_is_a_failure():
    assert the_problem(server(inbox_denied=True)).text == "this user gets no answers"


def test_inputs_that_are_not_confirmed_are_a_failure():
    found = the_problem(changed(inputs=dict.fromkeys(subjects.INPUT_VERBS, Probe.SILENT)))

    assert (found.check, found.level) == ("permissions", Level.FAILURE)


@pytest.mark.parametrize(
    ("ahead", "round_trip", "warned"), [(499, 1, False), (-900, 1, True), (600, 400, False), (701, 400, True)]
)
def test_a_clock_warns_only_for_what_the_round_trip_cannot_explain(ahead, round_trip, warned):
    found = problems(changed(clock=Clock(ahead_ms=ahead, round_trip_ms=round_trip)))

    assert [finding.check for finding in found] == (["clock"] if warned else [])


@pytest.mark.parametrize(("used", "level"), [(79, None), (81, Level.WARNING), (96, Level.FAILURE)])
def test_an_account_that_fills_up_warns_and_then_fails(used, level):
    usage = msgspec.structs.replace(USAGE, storage=used, storage_max=100)

    found = problems(changed(account=Account(5, (usage,))))

    assert [finding.level for finding in found] == ([level] if level else [])


def test_an_account_that_allows_too_little_is_told_before_a_planner_starts():
    limits = {"streams_max": 3, "consumers_max": 5, "storage_max": 100 * 1024**2, "needs_max_bytes": True}
    usage = msgspec.structs.replace(USAGE, streams=0, **limits)
    missing = dict.fromkeys(assets.names(), Absence.MISSING)

    found = problems(changed(account=Account(5, (usage,)), streams=missing, consumers=Absence.MISSING))

    assert [finding.text for finding in found if finding.check == "storage"] == [
        "3 streams are allowed, 12 are needed",
        "5 consumers are allowed, 16 are needed",
        "100 MiB are allowed, 256 MiB are reserved at once",
        "every stream must have a limit",
    ]


@pytest.mark.parametrize(
    ("planners", "pending", "level", "text"),
    [
        ((), 0, Level.WARNING, "none is running"),
        ((), 3, Level.FAILURE, "none is running, and 3 inputs wait in 1 partition"),
        (("p1",), 3, None, ""),
        (("p1",), 20_000, Level.WARNING, "20,000 inputs wait, 20,000 of them in one partition"),
    ],
)
def test_inputs_that_nobody_takes_are_told(planners, pending, level, text):
    waiting = msgspec.structs.replace(a_consumer("planner-3"), pending=pending)

    found = problems(changed(planners=planners, consumers=consumers(planner_3=waiting)))

    assert [(finding.level, finding.text) for finding in found] == ([(level, text)] if level else [])


def test_inputs_that_are_given_out_and_not_acknowledged_are_suspicious():
    held = msgspec.structs.replace(a_consumer("planner-3"), ack_pending=15_000)

    assert "15,000 inputs of planner-3" in the_problem(changed(consumers=consumers(planner_3=held))).text


def test_runtimes_that_only_drain_are_no_runtimes():
    draining = Heartbeat(runtime_id="r1", instance="i", slots=4, state="draining")

    assert the_problem(changed(runtimes=(draining,))).text == "only draining ones: r1"


def test_dead_letters_are_counted_and_the_newest_is_told():
    letters = msgspec.structs.replace(a_stream(assets.DEAD_LETTERS), messages=2)

    found = the_problem(
        changed(
            streams=streams() | {assets.DEAD_LETTERS: letters}, dead_letter=DeadLetter("plan.x", "not JSON")
        )
    )

    assert found.text == "2 inputs could not be read"
    assert found.cause == "newest, on plan.x: not JSON"
    assert found.remedy == "nats stream view PLANTER_DEAD_LETTERS"


@pytest.mark.parametrize(
    ("planners", "consumer", "text"),
    [
        (("p1",), Consumer(config={}, pending=3), None),
        ((), Consumer(config={}, pending=3), "3 by slack not sent"),
        (
            ("p1",),
            Consumer(config={}, pending=1, ack_pending=2, redelivered=2),
            "3 by slack not sent yet, 2 of them tried before",
        ),
    ],
)
def test_notifications_that_are_not_sent_are_told_by_channel(planners, consumer, text):
    facts = changed(planners=planners, notifiers={"notifier-slack": consumer})

    told = [finding.text for finding in problems(facts) if finding.check == "notifications"]

    assert told == ([text] if text else [])


def test_the_report_as_json_has_the_mode_and_every_finding():
    document = builtins(as_json(examine(GOOD)))

    assert document["level"] == "ok"
    assert document["durability"]["mode"] == "always"
    assert document["durability"]["processKilled"] == "nothing that was acknowledged is lost"
    assert {"check": "max_payload", "level": "ok", "text": "1 MiB"} in document["findings"]


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (2 * SECOND, "2s"), (120 * SECOND, "2m"), (604_800 * SECOND, "7d"), (SECOND // 2, "0.5s")],
)
def test_durations_are_written_as_the_nats_command_line_reads_them(nanoseconds, text):
    assert duration(nanoseconds) == text
