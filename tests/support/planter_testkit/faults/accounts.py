"""The account of a run, drawn up from the streams and the ledger alone, and held against what the driver saw.

- every session's journal holds before the independent judge, and every session has ended;
- every message that PLANTER_IN has stored is in exactly one commit or one dead letter, and what was confirmed
  to the driver is in a commit of its session;
- what handlers wanted said is in the log of the session, once;
- what monitors were shown while it ran is what the journal says afterwards;
- every effect in the ledger was ordered by the commit that its fence names, none was applied twice, the
  fences of a phase only grow, and no phase is complete that was not executed.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from nats.errors import Error as NatsError

from planter_protocol import PlanClient, ProtocolError, assets, headers, subjects
from planter_protocol.client import decode_commit, load_object
from planter_protocol.messages import Commit, Log
from planter_protocol.reading import read_subject
from planter_testkit.checker import Verdict, Violation, judge
from planter_testkit.faults.following import Follower
from planter_testkit.faults.ledger import Effect

Commits = list[tuple[int, Commit]]
DRAIN_SECONDS = 30.0
TERMINAL = ("complete", "failed", "cancelled")


class Account(msgspec.Struct):
    """Everything that the streams hold, and what is wrong with it."""

    journals: dict[str, Commits] = {}
    #: When the server stored each commit, in milliseconds, by its sequence.
    stored_ms: dict[int, int] = {}
    verdicts: dict[str, Verdict] = {}
    #: Sequence in PLANTER_IN to the reason why it was buried.
    buried: dict[int, str] = {}
    inputs: int = 0
    violations: list[str] = []

    @property
    def statuses(self) -> dict[str, int]:
        """Sessions by their status."""
        return dict(Counter(str(verdict.status) for verdict in self.verdicts.values()))

    @property
    def phases(self) -> int:
        """Phases that completed."""
        return sum(verdict.completed for verdict in self.verdicts.values())


async def drawn_up(client: PlanClient) -> Account:
    """Read all streams, once everything that was sent has been dealt with, and judge every session."""
    account = Account()
    account.violations += await _drained(client)
    await _read_journals(client, account)
    account.buried = await _buried(client)
    await _judge(client, account)
    await _inputs(client, account)
    await _said(client, account)
    return account


def compare(account: Account, confirmed: Mapping[int, str], followers: Iterable[Follower]) -> list[str]:
    """What the driver was told, against what the journal says."""
    found = []
    taken = _taken_by(account.journals)
    for sequence, session in confirmed.items():
        if taken.get(sequence) != [session]:
            where = taken.get(sequence) or account.buried.get(sequence, "nowhere")
            found.append(f"confirmed input {sequence} of session {session} is in {where}")
    for session in sorted(set(confirmed.values())):
        verdict = account.verdicts.get(session)
        if verdict is not None and verdict.status is None:
            found.append(f"session {session} has begun nothing: {_refusals(account.journals[session])}")
    for follower in followers:
        journal = account.journals.get(follower.session, [])
        seen = [(sequence, commit.n, commit.at) for sequence, commit in follower.commits]
        if seen != [(sequence, commit.n, commit.at) for sequence, commit in journal[: len(seen)]]:
            found.append(f"session {follower.session}: a monitor saw other commits than the journal has")
    return found


def failures(account: Account, *, runtimes_die: bool) -> list[str]:
    """Phases that failed for good: none does by itself, unless its session was cancelled before its retry.

    Where runtimes die, a phase may fail with its fifth loss, as it is meant to.
    """
    found = []
    for session, commits in account.journals.items():
        events = [event for _, commit in commits for event in commit.events]
        if any(event["type"] == "CancelRequested" for event in events):
            continue
        found += [
            f"session {session}: {event['phaseId']} failed: {event['message']}"
            for event in events
            if event["type"] == "PhaseFailed" and not (runtimes_die and event.get("kind") == "lost")
        ]
    return found


def effects_hold(account: Account, effects: Sequence[Effect]) -> list[str]:
    """The ledger against the journal."""
    ordered: set[Effect] = set()
    completed: set[tuple[str, str, int]] = set()
    for session, commits in account.journals.items():
        for sequence, commit in commits:
            for event in commit.events:
                if event["type"] == "PhaseTargeted":
                    ordered.add(Effect(session, event["phaseId"], event["attempt"], sequence))
                elif event["type"] == "PhaseCompleted":
                    completed.add((session, event["phaseId"], event["attempt"]))
    found = [f"no commit ordered {effect}" for effect in sorted(set(effects) - ordered)]
    found += [f"applied {times} times: {effect}" for effect, times in Counter(effects).items() if times > 1]
    executed = {effect[:3] for effect in effects}
    found += [f"complete without having run: {key}" for key in sorted(completed - executed)]
    newest: dict[tuple[str, str], int] = {}
    for effect in effects:
        if effect.fence < newest.get(effect[:2], 0):
            found.append(f"applied after a newer attempt: {effect}")
        newest[effect[:2]] = effect.fence
    return found


# -- reading ---------------------------------------------------------------------------------------


async def _drained(client: PlanClient) -> list[str]:
    """Wait until no input waits for a planner."""
    left: dict[str, str] = {"?": "not asked yet"}
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while left:
                await asyncio.sleep(0.05)
                try:
                    left = await _waiting(client)
                except (NatsError, TimeoutError, ProtocolError) as error:
                    left = {"?": repr(error)}
    except TimeoutError:
        return [f"inputs were not dealt with within {DRAIN_SECONDS:.0f} s: {left}"]
    return []


async def _waiting(client: PlanClient) -> dict[str, str]:
    found: dict[str, str] = {}
    for number in range(assets.PARTITIONS):
        info = await client.js.consumer_info(assets.IN, assets.consumer_name(number))
        if info.num_pending or info.num_ack_pending:
            found[info.name] = f"{info.num_pending} pending, {info.num_ack_pending} not acknowledged"
    return found


async def _read_journals(client: PlanClient, account: Account) -> None:
    async for stored in read_subject(client.nc, assets.JOURNAL, subjects.JOURNAL_WILDCARD):
        session = stored.subject.rpartition(".")[2]
        account.journals.setdefault(session, []).append((stored.sequence, decode_commit(stored.data)))
        moment = datetime.fromisoformat(stored.headers[headers.TIME_STAMP])
        account.stored_ms[stored.sequence] = int(moment.timestamp() * 1000)


async def _buried(client: PlanClient) -> dict[int, str]:
    return {
        int(stored.headers[headers.MSG_ID].rpartition("/")[2]): stored.headers[headers.REASON]
        async for stored in read_subject(client.nc, assets.DEAD_LETTERS, subjects.DEAD_LETTERS_WILDCARD)
    }


async def _judge(client: PlanClient, account: Account) -> None:
    for session, commits in sorted(account.journals.items()):
        names = {event["planRef"] for _, one in commits for event in one.events if event.get("planRef")}
        plans = {name: msgspec.json.decode(await load_object(client.js, name)) for name in names}
        try:
            verdict = account.verdicts[session] = judge(session, commits, plans)
        except Violation as violation:
            account.violations.append(str(violation))
        except Exception as error:
            account.violations.append(f"session {session}: the judge cannot read it: {error!r}")
        else:
            if verdict.status not in (None, *TERMINAL):
                account.violations.append(f"session {session} has not ended: {verdict.status}")


def _refusals(commits: Commits) -> list[str]:
    return [event["text"] for _, one in commits for event in one.events if event["type"] == "InputRefused"]


async def _inputs(client: PlanClient, account: Account) -> None:
    state = (await client.js.stream_info(assets.IN)).state
    account.inputs = state.messages
    taken = _taken_by(account.journals)
    for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
        places = [*taken.get(sequence, ()), *(["a dead letter"] if sequence in account.buried else ())]
        if len(places) != 1:
            account.violations.append(f"input {sequence} is in {places or 'no commit and no dead letter'}")


async def _said(client: PlanClient, account: Account) -> None:
    wanted = Counter(
        (session, event["phaseId"], event["attempt"], "\n".join(event["message"]))
        for session, commits in account.journals.items()
        for _, commit in commits
        for event in commit.events
        if event["type"] == "HandlerCalled" and event.get("message")
    )
    said: Counter[tuple[str, str, int, str]] = Counter()
    async for stored in read_subject(client.nc, assets.LOGS, subjects.LOG_WILDCARD):
        line = msgspec.json.decode(stored.data, type=Log)
        key = (stored.subject.split(".")[2], str(line.phase_id), line.attempt or 0, line.message)
        if line.stream == "planner" and key in wanted:
            said[key] += 1
    account.violations += [
        f"handler's message {key} was called {times} times and is {said[key]} times in the log"
        for key, times in wanted.items()
        if said[key] != times
    ]


def _taken_by(journals: Mapping[str, Commits]) -> dict[int, list[str]]:
    taken: dict[int, list[str]] = {}
    for session, commits in journals.items():
        for _, commit in commits:
            for sequence in commit.inputs:
                taken.setdefault(sequence, []).append(session)
    return taken
