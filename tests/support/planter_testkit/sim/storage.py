"""Streams and pull consumers as a nats-server keeps them: no I/O, time as an argument.

Only what Planter uses is here, and it answers as nats-server 2.15 does: ``test_sim_contract`` asks both the
same questions. One server's disk and one replicated group differ where the real ones do (``replicated``).
"""

import functools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MSG_ID = "Nats-Msg-Id"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_STREAM = "Nats-Expected-Stream"

WRONG_LAST_SEQUENCE = 10071
WRONG_LAST_SEQUENCE_IN_FLIGHT = 10164
STREAM_NOT_MATCHING = 10060


class Kept(NamedTuple):
    """One stored message."""

    sequence: int
    subject: str
    data: bytes
    headers: dict[str, str]
    at: float


class Refused(Exception):
    """An error of the JetStream API."""

    def __init__(self, code: int, status: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.text = text


@functools.lru_cache(maxsize=50_000)
def matches(pattern: str, subject: str) -> bool:
    """Whether a subject falls under a pattern with ``*`` and ``>``."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


@dataclass
class Transform:
    """``plan.session.*.*`` to ``in.<partition>.<1>.<2>``, the only transform that Planter uses."""

    partitions: int

    def __call__(self, subject: str) -> str:
        _, _, session, verb = subject.split(".")
        value = 0x811C9DC5
        for byte in session.encode():
            value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
        return f"in.{value % self.partitions}.{session}.{verb}"


@dataclass
class Stream:
    """One stream."""

    name: str
    subjects: tuple[str, ...]
    transform: Transform | None = None
    #: (source pattern is every subject, prefix to take off, prefix to put on, suffix)
    republish: tuple[str, str, str] | None = None
    duplicate_window: float = 120.0
    history: int | None = None
    replicated: bool = False
    sync_always: bool = True
    messages: dict[int, Kept] = field(default_factory=dict)
    by_subject: dict[str, list[int]] = field(default_factory=dict)
    #: What was purged or lost, for whoever judges; the server knows it no more.
    removed: dict[int, Kept] = field(default_factory=dict)
    last: int = 0
    first: int = 1
    #: Everything up to here is on the disk.
    synced: int = 0
    _taken: dict[str, bool] = field(default_factory=dict)
    _ids: "OrderedDict[str, tuple[int, float]]" = field(default_factory=OrderedDict)

    def takes(self, subject: str) -> bool:
        """Whether a message published to the subject is stored here."""
        found = self._taken.get(subject)
        if found is None:
            found = self._taken[subject] = any(matches(pattern, subject) for pattern in self.subjects)
        return found

    def store(self, subject: str, data: bytes, headers: dict[str, str], now: float) -> tuple[int, bool]:
        """Store a message; returns its sequence and whether it was there already (same message id)."""
        if self.transform is not None:
            subject = self.transform(subject)
        wanted = headers.get(EXPECTED_STREAM)
        if wanted not in (None, self.name):
            raise Refused(STREAM_NOT_MATCHING, 400, "expected stream does not match")
        message_id = headers.get(MSG_ID)
        known = self._known(message_id, now)
        if self.replicated and known is not None:
            return known, True  # a group looks for duplicates first, one server for the sequence
        expected = headers.get(EXPECTED_SEQUENCE)
        if expected is not None:
            last = self.last_of(subject)
            found = last.sequence if last else 0
            if found != int(expected):
                raise Refused(WRONG_LAST_SEQUENCE, 400, f"wrong last sequence: {found}")
        if known is not None:
            return known, True
        self.last += 1
        if self.sync_always:
            self.synced = self.last
        self.messages[self.last] = Kept(self.last, subject, data, dict(headers), now)
        self.by_subject.setdefault(subject, []).append(self.last)
        if message_id is not None:
            self._ids[message_id] = (self.last, now)
        if self.history is not None and len(self.by_subject[subject]) > self.history:
            self.remove(self.by_subject[subject][0])
        return self.last, False

    def _known(self, message_id: str | None, now: float) -> int | None:
        while self._ids and next(iter(self._ids.values()))[1] < now - self.duplicate_window:
            self._ids.popitem(last=False)
        found = self._ids.get(message_id) if message_id is not None else None
        return found[0] if found else None

    def remove(self, sequence: int) -> None:
        """The message is gone; its sequence is not used again."""
        kept = self.messages.pop(sequence)
        if self.history is None:
            self.removed[sequence] = kept
        of_subject = self.by_subject[kept.subject]
        of_subject.remove(sequence)
        if not of_subject:
            del self.by_subject[kept.subject]

    def purge(self, pattern: str | None, keep: int = 0, before: int | None = None) -> int:
        """Remove messages of the subjects, all but the newest ``keep``, or those before a sequence."""
        chosen = [
            n
            for n, kept in self.messages.items()
            if (pattern is None or matches(pattern, kept.subject)) and (before is None or n < before)
        ]
        for sequence in chosen[: len(chosen) - keep if keep else None]:
            self.remove(sequence)
        return len(chosen) - keep if keep else len(chosen)

    def last_of(self, pattern: str, upto: int | None = None) -> Kept | None:
        """The newest message of the subject (not after a sequence: a replica that lags)."""
        if "*" not in pattern and ">" not in pattern:
            sequences = self.by_subject.get(pattern, ())
            for sequence in reversed(sequences):
                if upto is None or sequence <= upto:
                    return self.messages[sequence]
            return None
        found = [n for n, kept in self.messages.items() if matches(pattern, kept.subject)]
        return self.messages[max(found)] if found else None

    def from_on(self, pattern: str, start: int, upto: int | None = None) -> list[Kept]:
        """Messages of the subjects from a sequence on, oldest first."""
        last = self.last if upto is None else upto
        if "*" not in pattern and ">" not in pattern:
            return [self.messages[n] for n in self.by_subject.get(pattern, ()) if start <= n <= last]
        return [
            kept for n, kept in self.messages.items() if start <= n <= last and matches(pattern, kept.subject)
        ]

    def lose_unsynced(self, upto: int) -> list[Kept]:
        """The power went off: messages after ``upto`` were never on the disk. Their sequences come again."""
        lost = [self.messages[n] for n in sorted(self.messages) if n > upto]
        for kept in reversed(lost):
            self.remove(kept.sequence)
            self._ids.pop(kept.headers.get(MSG_ID, ""), None)
        self.last = min(self.last, upto)
        return lost


@dataclass
class Pull:
    """A request for messages."""

    inbox: str
    left: int
    until: float


@dataclass
class Pending:
    """A message that was delivered and not acknowledged."""

    delivered: int
    until: float


@dataclass
class Consumer:
    """A durable pull consumer with explicit acknowledgements."""

    name: str
    filter: str
    ack_wait: float
    next: int = 1
    delivered: int = 0
    pending: dict[int, Pending] = field(default_factory=dict)
    #: How often each message was delivered before it came back.
    again: "OrderedDict[int, int]" = field(default_factory=OrderedDict)
    pulls: deque[Pull] = field(default_factory=deque)
    #: Newest acknowledgements: a crash may forget that they were made.
    acked: deque[int] = field(default_factory=lambda: deque(maxlen=32))

    def come_back(self, now: float) -> None:
        """Whatever was not acknowledged in time is delivered again."""
        for sequence, pending in list(self.pending.items()):
            if pending.until <= now:
                del self.pending[sequence]
                self.again[sequence] = pending.delivered

    def next_due(self) -> float | None:
        """When the next message comes back."""
        return min((pending.until for pending in self.pending.values()), default=None)

    def expired(self, now: float) -> list[Pull]:
        """Pulls whose time is over; they are forgotten."""
        over = [pull for pull in self.pulls if pull.until <= now]
        if over:
            self.pulls = deque(pull for pull in self.pulls if pull.until > now)
        return over

    def take(self, stream: Stream, now: float) -> tuple[Kept, int] | None:
        """The next message to deliver and how often it has been delivered with this time."""
        while self.again:
            sequence, count = self.again.popitem(last=False)
            kept = stream.messages.get(sequence)
            if kept is not None:
                self.pending[sequence] = Pending(count + 1, now + self.ack_wait)
                return kept, count + 1
        while self.next <= stream.last:
            kept = stream.messages.get(self.next)
            self.next += 1
            if kept is not None and matches(self.filter, kept.subject):
                self.pending[kept.sequence] = Pending(1, now + self.ack_wait)
                return kept, 1
        return None

    def acknowledge(self, sequence: int) -> None:
        """The message is dealt with, whichever delivery of it the acknowledgement belongs to."""
        if self.pending.pop(sequence, None) is not None or self.again.pop(sequence, None) is not None:
            self.acked.append(sequence)

    def back_off(self, sequence: int, delay: float, now: float) -> None:
        """Deliver it again after a while (negative acknowledgement)."""
        pending = self.pending.get(sequence)
        if pending is not None:
            pending.until = now + delay

    def crash(self, now: float, forgotten: int) -> None:
        """The server ended: no pull is left, and the newest acknowledgements may be forgotten."""
        self.pulls.clear()
        for sequence in list(self.acked)[len(self.acked) - forgotten :]:
            self.again[sequence] = 1
        self.acked.clear()
        for pending in self.pending.values():
            pending.until = max(pending.until, now)


def streams_of(configs: list[Any], *, partitions: int, replicated: bool) -> list[Stream]:
    """Streams as ``planter_protocol.assets`` describes them."""
    found: list[Stream] = []
    for config in configs:
        republish = None
        if config.republish is not None:
            source, target = config.republish.src, config.republish.dest
            republish = (source.removesuffix("*"), *target.split("{{wildcard(1)}}"))
        found.append(
            Stream(
                name=str(config.name),
                subjects=tuple(config.subjects),
                transform=Transform(partitions) if config.subject_transform is not None else None,
                republish=republish,
                duplicate_window=config.duplicate_window or 120.0,
                history=config.max_msgs_per_subject if (config.max_msgs_per_subject or -1) > 0 else None,
                replicated=replicated,
            )
        )
    return found


def bucket_stream(bucket: str, *, replicated: bool) -> Stream:
    """The stream behind a key-value bucket with history 1."""
    return Stream(f"KV_{bucket}", (f"$KV.{bucket}.>",), history=1, replicated=replicated)
