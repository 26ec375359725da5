"""Whether a history kept the invariants: the streams, the runtimes' ledger and what clients were told."""

from collections import Counter
from typing import Any

import msgspec

from planter.core.evolve import apply
from planter.core.session import Session
from planter.core.status import SESSION_TERMINAL, SessionStatus
from planter.shell.journal import Record
from planter_protocol import assets, headers
from planter_protocol.messages import Commit, SessionRecord
from planter_testkit.builders import picture
from planter_testkit.checker import Violation, judge
from planter_testkit.sim.scenario import WALL_CLOCK, Scenario
from planter_testkit.sim.storage import Kept, Stream
from planter_testkit.sim.world import World

_ASKED_FOR = frozenset(
    {"PlanApplied", "InputRepeated", "InputRefused", "SessionPaused", "SessionResumed", "CancelRequested"}
) | {"PhaseApproved", "PhaseRejected"}
"""Events that only an input can cause."""

_commits = msgspec.json.Decoder(Commit)
_records = msgspec.json.Decoder(Record)
_folds: dict[str, tuple[Session, list[Kept]]] = {}
"""Of one history: the last record tells its journal from all others."""


def session_records(world: World) -> dict[str, list[Kept]]:
    """The journal, by session."""
    journal = world.server.streams[assets.JOURNAL]
    return {
        subject.removeprefix("plan.journal."): [journal.messages[n] for n in sequences]
        for subject, sequences in journal.by_subject.items()
    }


def folded(name: str, records: list[Kept]) -> Session:
    """What the journal says of a session; what was folded for an earlier question is not folded again."""
    known = _folds.get(name)
    if known is not None and len(known[1]) <= len(records) and known[1][-1] is records[len(known[1]) - 1]:
        session, done = known[0], len(known[1])
    else:
        session, done = Session(name), 0
    for kept in records[done:]:
        record = _records.decode(kept.data)
        for event in record.events:
            apply(session, event, record.at_ms)
        session.taken.update(record.inputs)
        session.seal(kept.sequence, kept.headers.get(headers.MSG_ID, ""))
    if records:
        _folds[name] = session, records
    return session


def has_settled(world: World, scenario: Scenario) -> bool:
    """Whether every session is over and every input dealt with."""
    if not scenario.idle:
        return False
    inputs = world.server.streams[assets.IN]
    for consumer in world.server.consumers.values():
        if consumer.pending or consumer.again or consumer.next <= _last_for(inputs, consumer.filter):
            return False
    return all(_has_ended(records) or not _has_plan(records) for records in session_records(world).values())


def is_listed(world: World) -> bool:
    """Whether the listing agrees with the journal: a record that was lost on its way is written again."""
    return world.has_lost or not any(
        _judge_record(world, folded(name, records))
        for name, records in session_records(world).items()
        if not _is_purged(records)
    )


def paused(world: World) -> list[str]:
    """Sessions that somebody has to resume."""
    return [
        name
        for name, records in session_records(world).items()
        if folded(name, records).status is SessionStatus.PAUSED
    ]


def asking(world: World) -> list[tuple[str, str]]:
    """Session and id of the phases that somebody has to approve."""
    sessions = [folded(name, records) for name, records in session_records(world).items()]
    return [
        (session.id, session.spec(index).id)
        for session in sessions
        for index, phase in enumerate(session.phases)
        if phase.stands and phase.gate is not None and phase.gate.kind == "approval"
    ]


def violations(world: World, scenario: Scenario) -> list[str]:
    """Everything that is wrong with a history that had time enough to settle."""
    if world.has_lost:
        return _violations_after_loss(world)
    found = list(world.seen_wrong)
    found += [f"loop: {error}" for error in world.loop.errors]
    found += [error for client in world.clients for error in client.failed_callbacks]
    sessions = session_records(world)
    for name, records in list(sessions.items()):
        if _is_purged(records):
            found += _judge_purged(name, records)
            continue
        found += _judge_session(name, records)
        session = folded(name, records)
        if _has_plan(records) and session.status not in SESSION_TERMINAL and not _has_time(world, session):
            found.append(f"I9 progress: session {name} is {session.status}: {_where(session)}")
        found += _judge_budget(world, name, records)
        found += _judge_memory(world, session)
        found += _judge_record(world, session)
    found += _judge_inputs(world, scenario, sessions)
    found += _judge_effects(world, sessions)
    found += _judge_handlers(world, sessions)
    for watched in scenario.watched:
        records = sessions.get(watched.session, [])
        wanted = [kept.sequence for kept in records]
        if not _is_purged(records) and watched.sequences != wanted:
            found.append(f"I10 observation: {watched.session}: {watched.sequences} instead of {wanted}")
    return found


def _has_time(world: World, session: Session) -> bool:
    """Whether it waits until a point in time that has not come, as some planner's clock has it."""
    now = WALL_CLOCK * 1_000 + world.loop.now * 1_000
    clocks = [now + node.process.skew_least_ms for node in world.planners.values()]
    return any(
        phase.stands
        and phase.gate is not None
        and phase.gate.fixed
        and phase.gate.due > min(clocks, default=0)
        for phase in session.phases
    )


def _violations_after_loss(world: World) -> list[str]:
    """Confirmed writes are gone: what is left has to be true, and to come to an end."""
    found = [text for text in world.seen_wrong if "journal.shorter" not in text and "I4" not in text]
    found += [f"loop: {error}" for error in world.loop.errors]
    for name, records in session_records(world).items():
        if not _is_purged(records):
            session = folded(name, records)
            found += _judge_session(name, records)
            found += _judge_memory(world, session)
            is_over = session.status in SESSION_TERMINAL or _has_time(world, session)
            if _has_plan(records) and not is_over and not world.has_lost_key:
                found.append(f"I9 progress: session {name} is {session.status}: {_where(session)}")
    return found


def _judge_session(name: str, records: list[Kept]) -> list[str]:
    """I1, I3, I5 to I8, from the records alone."""
    before = 0
    for kept in records:
        expected = kept.headers.get(headers.EXPECTED_LAST_SUBJECT_SEQUENCE)
        if expected != str(before):
            return [f"I1 chain: session {name}: record {kept.sequence} expected {expected}, not {before}"]
        before = kept.sequence
    try:
        judge(name, [(kept.sequence, _commits.decode(kept.data)) for kept in records], {})
    except Violation as error:
        return [str(error)]
    return []


def _judge_purged(name: str, records: list[Kept]) -> list[str]:
    """I8: nothing begins any more under the id of a purged session."""
    after = [event["type"] for kept in records for event in _commits.decode(kept.data).events]
    begun = {"PlanApplied", "PhaseTargeted", "SessionReopened"} & set(after[after.index("SessionPurged") :])
    return [f"I8 termination: session {name} was purged, and goes on: {sorted(begun)}"] if begun else []


def _is_purged(records: list[Kept]) -> bool:
    return any(b'"SessionPurged"' in kept.data for kept in records)


def _judge_budget(world: World, name: str, records: list[Kept]) -> list[str]:
    """I5: as many attempts as the plan allows, and not fewer when the work could have been tried again."""
    outcomes = {(e.phase, e.fence): e.outcome for e in world.executions if e.session == name}
    found: list[str] = []
    limits: dict[str, int] = {}
    wholes: set[str] = set()
    tried: Counter[str] = Counter()
    fences: dict[str, int] = {}
    is_stopping = False
    for kept in records:
        record = _commits.decode(kept.data)
        if not record.inputs and any(event["type"] in _ASKED_FOR for event in record.events):
            found.append(f"I3 input once: session {name}, record {kept.sequence} has a command but no input")
        for event in record.events:
            phase = event.get("phaseId", "")
            match event["type"]:
                case "PlanApplied":
                    phases = event["plan"].get("phases", ())
                    limits = {p["id"]: p.get("maxAttempts", 1) for p in phases}
                    wholes = {p["id"] for p in phases if "foreach" in p}
                    tried.clear()
                    # What a replan leaves alone has been tried before: too few attempts are not judged then.
                    is_stopping = event.get("replan", False)
                case "SessionReopened" | "PhasesReset":
                    tried.subtract({reset: tried[reset] for reset in event.get("phaseIds", ())})
                    is_stopping = True  # what failed before may still stop it: not judged any more
                case "CancelRequested":
                    is_stopping = True
                case "PhaseTargeted":
                    fences[phase] = kept.sequence
                case "PhaseFailed" if phase in wholes:
                    is_stopping = True
                case "AttemptFailed" | "PhaseFailed" if phase not in wholes:
                    limit = limits[phase.partition("[")[0]]
                    made = outcomes.get((phase, fences.get(phase, 0)))
                    tried[phase] += 1
                    if tried[phase] > limit:
                        found.append(f"I5 dispatch: {name}/{phase} was tried {tried[phase]} times")
                    is_early = tried[phase] < limit and made == "failed" and not is_stopping
                    if event["type"] == "PhaseFailed":
                        if is_early and event["message"] == "as the seed has it":
                            found.append(
                                f"I5 dispatch: {name}/{phase} failed after {tried[phase]} of {limit} attempts"
                            )
                        is_stopping = True
                case _:
                    pass
    return found


def _judge_memory(world: World, session: Session) -> list[str]:
    """I2: what a planner that is up to date holds in memory is the fold."""
    found: list[str] = []
    for node in world.planners.values():
        if node.planner is None or node.client.dead:
            continue
        entry = node.planner._host._entries.get(session.id)
        held = entry.session if entry is not None and not entry.lock.locked() else None  # in a step
        if held is None or (held.sequence, held.record) != (session.sequence, session.record):
            continue  # it is behind, or has a record that was lost: it will read again before it decides
        here, there = picture(held), picture(session)
        found += [
            f"I2 determinism: {node.process.name}, session {session.id}: {key} is {here[key]!r}, "
            f"the journal says {there[key]!r}"
            for key in there
            if here[key] != there[key]
        ]
    return found


def _judge_record(world: World, session: Session) -> list[str]:
    """The listing agrees with the journal once all is quiet."""
    kept = world.server.streams[f"KV_{assets.SESSIONS_BUCKET}"].last_of(
        f"$KV.{assets.SESSIONS_BUCKET}.{session.id}"
    )
    if kept is None:
        return [f"listing: session {session.id} is not in it"] if session.revision else []
    record = msgspec.json.decode(kept.data, type=SessionRecord)
    if (record.status, record.revision) == (session.status.value, session.revision):
        return []
    there = f"{record.status} (revision {record.revision})"
    return [f"listing: session {session.id} is {there}, {session.status} ({session.revision}) in the journal"]


def _judge_inputs(world: World, scenario: Scenario, sessions: dict[str, list[Kept]]) -> list[str]:
    """I3, I11, I12: every stored input is in one record or a dead letter; what was confirmed is stored."""
    named: Counter[int] = Counter()
    for records in sessions.values():
        for kept in records:
            named.update(_commits.decode(kept.data).inputs)
    buried = {
        int(kept.headers[headers.INPUT_SEQUENCE]): kept.headers[headers.REASON]
        for kept in world.server.streams[assets.DEAD_LETTERS].messages.values()
    }
    found: list[str] = []
    inputs = world.server.streams[assets.IN]
    for sequence, kept in inputs.messages.items():
        if _is_purged(sessions.get(kept.subject.split(".")[2], [])):
            continue  # the records that named it are gone
        if named[sequence] > 1:
            found.append(f"I3 input once: {kept.subject} {sequence} is in {named[sequence]} records")
        elif named[sequence] == 0 and sequence not in buried:
            found.append(f"I3 input once: {kept.subject} {sequence} is in no record and no dead letter")
        elif named[sequence] and sequence in buried:
            found.append(f"I3 input once: {kept.subject} {sequence} is in a record and a dead letter")
        elif _is_disowned(kept, buried.get(sequence, ""), sessions.get(kept.subject.split(".")[2], [])):
            found.append(f"I3 input once: {kept.subject} {sequence} is buried: {buried[sequence]}")
    for sent in scenario.confirmed:
        kept = inputs.messages.get(sent.sequence)
        words = sent.subject.split(".")
        if kept is None or not kept.subject.endswith(f".{words[2]}.{words[3]}"):
            found.append(f"I11 durable: {sent.subject} was confirmed as {sent.sequence} and is not stored")
    return found


def _is_disowned(sent: Kept, reason: str, records: list[Kept]) -> bool:
    """Whether the input was buried for want of a session that had begun before it was sent."""
    return reason.startswith("there is no session") and bool(records) and records[0].at < sent.at


def _judge_effects(world: World, sessions: dict[str, list[Kept]]) -> list[str]:
    """I6, I7: no attempt is executed twice, and no result is believed that was not made."""
    found: list[str] = []
    begun = Counter((e.session, e.phase, e.fence) for e in world.executions)
    found += [
        f"I7 effect: {session}/{phase} fence {fence} was executed {count} times"
        for (session, phase, fence), count in begun.items()
        if count > 1
    ]
    made = {(e.session, e.phase, e.fence) for e in world.executions if e.outcome == "complete"}
    for name, records in sessions.items():
        fences: dict[str, int] = {}
        by_handler: set[str] = set()
        for kept in records if not _is_purged(records) else ():
            for event in _commits.decode(kept.data).events:
                if event["type"] == "PlanApplied":
                    phases = event["plan"].get("phases", ())
                    by_handler = {p["id"] for p in phases if "kind" not in p and "foreach" not in p}
                    by_handler |= {f"{p['id']}[{n}]" for p in phases if "kind" not in p for n in range(4)}
                elif event["type"] == "PhaseTargeted":
                    fences[event["phaseId"]] = kept.sequence
                elif event["type"] == "PhaseCompleted" and event["phaseId"] in by_handler:
                    key = (name, event["phaseId"], fences[event["phaseId"]])
                    if key not in made:
                        found.append(f"I6 result: {key} is complete, but nobody has done it")
    return found


def _judge_handlers(world: World, sessions: dict[str, list[Kept]]) -> list[str]:
    """I13: what handlers want sent is stored once, before that is noted, and before the session ends."""
    found: list[str] = []
    stored = Counter(
        kept.subject.split(".")[2] for kept in world.server.streams[assets.NOTIFICATIONS].messages.values()
    )
    for name, records in sessions.items():
        if _is_purged(records):
            continue
        called: dict[int, int] = {}
        wanted = 0
        for kept in records:
            for event in _commits.decode(kept.data).events:
                if event["type"] == "HandlerCalled":
                    called[event["number"]] = len(event.get("notify", ()))
                elif event["type"] == "HandlerPassedOn":
                    wanted += called.pop(event["number"], 0)
                elif event["type"] == "SessionEnded" and called:
                    found.append(
                        f"I13 handlers: session {name} has ended before {sorted(called)} were stored"
                    )
        if not stored[name] - sum(called.values()) <= wanted <= stored[name]:
            found.append(
                f"I13 handlers: session {name} wants {wanted} notifications, {stored[name]} are stored"
            )
    return found


def _has_ended(records: list[Kept]) -> bool:
    """Whether the last word on the session was its end."""
    ended = False
    for kept in records:
        for event in _commits.decode(kept.data).events:
            if event["type"] in ("SessionEnded", "SessionPurged"):
                ended = True
            elif event["type"] in ("PlanApplied", "SessionReopened"):
                ended = False
    return ended


def _last_for(stream: Stream, pattern: str) -> int:
    last = stream.last_of(pattern)
    return last.sequence if last else 0


def _has_plan(records: list[Kept]) -> bool:
    return any(b'"PlanApplied"' in kept.data for kept in records)


def _where(session: Session) -> dict[str, Any]:
    """What does not go on."""
    return {
        spec.id: (phase.status.value, phase.attempt, phase.runtime_id, phase.reason)
        for spec, phase in zip(session.graph.plan.phases, session.phases, strict=True)
        if phase.status.value not in ("complete", "failed", "skipped", "cancelled")
    }
