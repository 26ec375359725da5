"""A nats-server: subscriptions, and the part of the JetStream API that Planter uses."""

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from planter_testkit.sim.loop import VirtualLoop
from planter_testkit.sim.storage import (
    WRONG_LAST_SEQUENCE_IN_FLIGHT,
    Consumer,
    Kept,
    Pull,
    Refused,
    Stream,
    matches,
)
from planter_testkit.sim.weather import Weather

Headers = dict[str, str]
_API = "$JS.API."


class Packet(NamedTuple):
    """One message on its way."""

    subject: str
    reply: str
    data: bytes
    headers: Headers | None = None


class Subscriber(Protocol):
    """A connection, as the server sees it."""

    number: int

    def transmit(self, packet: Packet, sid: int) -> None:
        """Send a message to the client."""


class Interest(NamedTuple):
    """One subscription."""

    pattern: str
    queue: str
    connection: Subscriber
    sid: int


class SimServer:
    """One server, or one replicated group of servers that look like one."""

    def __init__(self, loop: VirtualLoop, weather: Weather, *, replicated: bool) -> None:
        self._loop = loop
        self._weather = weather
        self._replicated = replicated
        self.up = True
        #: The JetStream API does not answer until then (a leader is being elected).
        self.leaderless_until = 0.0
        #: Until then direct gets see nothing newer than ``_behind``.
        self._behind_until = 0.0
        self._behind: dict[str, int] = {}
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self._exact: dict[str, list[Interest]] = {}
        self._wild: list[Interest] = []
        #: Who listens to a subject, as long as nobody comes or goes.
        self._listeners: dict[str, list[Interest]] = {}
        #: Connections by the prefix of their request inboxes.
        self._inboxes: dict[str, Subscriber] = {}
        #: Called with every message that a client publishes, before anything is done with it.
        self.tap: Callable[[Packet], None] = lambda _: None

    # -- connections -----------------------------------------------------------------------------

    def connect(self, inbox: str, connection: Subscriber) -> None:
        """A client is there; answers to its requests go to subjects under ``inbox``."""
        self._inboxes[inbox] = connection

    def subscribe(self, interest: Interest) -> None:
        """A client listens."""
        self._listeners.clear()
        is_wild = "*" in interest.pattern or ">" in interest.pattern
        if is_wild and not interest.pattern.startswith("_INBOX."):
            self._wild.append(interest)
        else:
            self._exact.setdefault(interest.pattern, []).append(interest)

    def unsubscribe(self, connection: Subscriber, sid: int | None = None) -> None:
        """A client listens no more to one subject, or to anything."""

        def stays(interest: Interest) -> bool:
            return interest.connection is not connection or sid not in (None, interest.sid)

        if sid is None:
            self._inboxes = {key: other for key, other in self._inboxes.items() if other is not connection}
        self._listeners.clear()
        self._wild = [interest for interest in self._wild if stays(interest)]
        for pattern in list(self._exact):
            left = [interest for interest in self._exact[pattern] if stays(interest)]
            if left:
                self._exact[pattern] = left
            else:
                del self._exact[pattern]

    # -- messages --------------------------------------------------------------------------------

    def receive(self, packet: Packet) -> None:
        """A client has published."""
        subject = packet.subject
        if subject.startswith("$JS.ACK."):
            self._acknowledge(packet)
        elif subject.startswith(_API):
            if self._loop.now >= self.leaderless_until:
                self._api(packet)
        else:
            self.tap(packet)
            self._publish(packet)

    def _publish(self, packet: Packet) -> None:
        stored = False
        for stream in self.streams.values():
            if stream.takes(packet.subject):
                stored = True
                if self._loop.now >= self.leaderless_until:
                    self._store(stream, packet)
        delivered = self._route(packet, with_reply=not stored)
        if not stored and not delivered and packet.reply:
            self._send(packet.reply, b"", {"Status": "503"})

    def _store(self, stream: Stream, packet: Packet) -> None:
        headers = packet.headers or {}
        try:
            if "Nats-Expected-Last-Subject-Sequence" in headers:
                self._maybe_in_flight()
            before = stream.last_of(packet.subject) if stream.republish else None
            sequence, duplicate = stream.store(packet.subject, packet.data, headers, self._loop.now)
        except Refused as error:
            self._answer(packet.reply, _error(error))
            return
        answer: dict[str, Any] = {"stream": stream.name, "seq": sequence}
        if duplicate:
            answer["duplicate"] = True
        self._answer(packet.reply, answer)
        if duplicate:
            return
        kept = stream.messages[sequence]
        if stream.republish is not None:
            self._republish(stream, kept, before.sequence if before else 0)
        for (name, _), consumer in self.consumers.items():
            if name == stream.name and consumer.pulls and matches(consumer.filter, kept.subject):
                self._deliver(stream, consumer)

    def _maybe_in_flight(self) -> None:
        if self._weather.happens(self._weather.in_flight):
            raise Refused(WRONG_LAST_SEQUENCE_IN_FLIGHT, 400, "wrong last sequence")

    def _republish(self, stream: Stream, kept: Kept, before: int) -> None:
        assert stream.republish is not None
        cut, head, tail = stream.republish
        headers = {
            **kept.headers,
            "Nats-Stream": stream.name,
            "Nats-Subject": kept.subject,
            "Nats-Sequence": str(kept.sequence),
            "Nats-Last-Sequence": str(before),
        }
        self._route(Packet(f"{head}{kept.subject.removeprefix(cut)}{tail}", "", kept.data, headers))

    def _route(self, packet: Packet, *, with_reply: bool = True) -> bool:
        """Hand a message to everybody who listens, and to one of each queue group."""
        if "/" in packet.subject:  # the answer to a request
            connection = self._inboxes.get(packet.subject.rpartition("/")[0])
            if connection is not None:
                connection.transmit(packet, 0)
            return connection is not None
        found = self._listeners.get(packet.subject)
        if packet.subject.startswith("_INBOX."):  # each is used once: nothing to remember
            beside = packet.subject.rpartition(".")[0] + ".*"
            found = [*self._exact.get(packet.subject, ()), *self._exact.get(beside, ())]
        elif found is None:
            found = list(self._exact.get(packet.subject, ()))
            found += [interest for interest in self._wild if matches(interest.pattern, packet.subject)]
            self._listeners[packet.subject] = found
        groups: dict[str, list[Interest]] = {}
        passed = packet if with_reply else packet._replace(reply="")
        for interest in found:
            if interest.queue:
                groups.setdefault(interest.queue, []).append(interest)
            else:
                interest.connection.transmit(passed, interest.sid)
        for members in groups.values():
            chosen = self._weather.draw.choice(members)
            chosen.connection.transmit(passed, chosen.sid)
        return bool(found)

    def _send(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> None:
        if subject:
            self._route(Packet(subject, reply, data, headers))

    def _answer(self, reply: str, answer: dict[str, Any]) -> None:
        if reply:
            self._send(reply, json.dumps(answer).encode())

    # -- the JetStream API -----------------------------------------------------------------------

    def _api(self, packet: Packet) -> None:
        words = packet.subject.removeprefix(_API).split(".")
        asked = json.loads(packet.data) if packet.data.strip() else {}
        try:
            match words:
                case ["STREAM", "INFO", name]:
                    self._answer(packet.reply, self._info(self._stream(name)))
                case ["STREAM", "MSG", "GET", name]:
                    self._answer(packet.reply, {"message": _message(self._find(self._stream(name), asked))})
                case ["STREAM", "PURGE", name]:
                    count = self._stream(name).purge(
                        asked.get("filter"), asked.get("keep", 0), asked.get("seq")
                    )
                    self._answer(packet.reply, {"success": True, "purged": count})
                case ["STREAM", "MSG", "DELETE", name]:
                    self._stream(name).remove(asked["seq"])
                    self._answer(packet.reply, {"success": True})
                case ["DIRECT", "GET", name, *subject]:
                    self._direct(packet.reply, self._stream(name), ".".join(subject), asked)
                case ["CONSUMER", "MSG", "NEXT", name, consumer]:
                    self._pull(packet.reply, name, consumer, asked)
                case _:
                    raise NotImplementedError(packet.subject)
        except Refused as error:
            self._answer(packet.reply, _error(error))

    def _stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise Refused(10059, 404, "stream not found")
        return self.streams[name]

    def _info(self, stream: Stream) -> dict[str, Any]:
        config: dict[str, Any] = {"name": stream.name, "subjects": list(stream.subjects)}
        if stream.history is not None:
            config["max_msgs_per_subject"] = stream.history
        return {
            "config": config,
            "created": "2026-01-01T00:00:00Z",
            "state": {
                "messages": len(stream.messages),
                "bytes": 0,
                "first_seq": min(stream.messages, default=stream.last + 1),
                "last_seq": stream.last,
                "consumer_count": sum(1 for name, _ in self.consumers if name == stream.name),
            },
        }

    def _find(self, stream: Stream, asked: dict[str, Any]) -> Kept:
        found = (
            stream.last_of(asked["last_by_subj"])
            if "last_by_subj" in asked
            else stream.messages.get(asked["seq"])
        )
        if found is None:
            raise Refused(10037, 404, "no message found")
        return found

    def _direct(self, reply: str, stream: Stream, subject: str, asked: dict[str, Any]) -> None:
        upto = stream.last
        if self._loop.now < self._behind_until:
            upto = self._behind[stream.name]
        elif self._weather.happens(self._weather.stale_read):
            upto = max(0, stream.last - self._weather.draw.randint(1, 5))
        if "batch" in asked:
            self._direct_batch(reply, stream, asked, upto)
            return
        if subject or "last_by_subj" in asked:
            kept = stream.last_of(subject or asked["last_by_subj"], upto)
        else:
            kept = stream.messages.get(asked["seq"])
        if kept is None:
            self._send(reply, b"", {"Status": "404", "Description": "Message Not Found"})
        else:
            self._send(reply, kept.data, _direct_headers(stream, kept))

    def _direct_batch(self, reply: str, stream: Stream, asked: dict[str, Any], upto: int) -> None:
        found = stream.from_on(asked["next_by_subj"], asked.get("seq", 1), upto)
        if not found:
            self._send(reply, b"", {"Status": "404", "Description": "Message Not Found"})
            return
        batch = found[: asked["batch"]]
        before = 0
        for number, kept in enumerate(batch, start=1):
            headers = _direct_headers(stream, kept)
            headers["Nats-Num-Pending"] = str(len(found) - number)
            headers["Nats-Last-Sequence"] = str(before)
            before = kept.sequence
            self._send(reply, kept.data, headers)
        left = str(len(found) - len(batch))
        end = {"Status": "204", "Description": "EOB", "Nats-Num-Pending": left}
        self._send(reply, b"", {**end, "Nats-Last-Sequence": str(batch[-1].sequence)})

    # -- consumers -------------------------------------------------------------------------------

    def _pull(self, reply: str, stream: str, name: str, asked: dict[str, Any]) -> None:
        consumer = self.consumers[stream, name]
        until = self._loop.now + asked.get("expires", 5e9) / 1e9
        consumer.pulls.append(Pull(reply, asked.get("batch", 1), until))
        self._loop.call_at(until, self._expire, consumer)
        self._deliver(self.streams[stream], consumer)

    def _expire(self, consumer: Consumer) -> None:
        if not self.up:
            return
        for pull in consumer.expired(self._loop.now):
            headers = {"Status": "408", "Description": "Request Timeout"}
            self._send(pull.inbox, b"", {**headers, "Nats-Pending-Messages": str(pull.left)})

    def _deliver(self, stream: Stream, consumer: Consumer) -> None:
        while consumer.pulls:
            pull = consumer.pulls[0]
            if pull.left <= 0 or pull.inbox not in self._exact:
                consumer.pulls.popleft()  # used up, or nobody listens any more
                continue
            taken = consumer.take(stream, self._loop.now)
            if taken is None:
                return
            kept, count = taken
            pull.left -= 1
            consumer.delivered += 1
            reply = f"$JS.ACK.{stream.name}.{consumer.name}.{count}.{kept.sequence}.{consumer.delivered}.0.0"
            (interest,) = self._exact[pull.inbox]
            interest.connection.transmit(
                Packet(kept.subject, reply, kept.data, kept.headers or None), interest.sid
            )
            self._loop.call_at(self._loop.now + consumer.ack_wait + 0.001, self._come_back, stream, consumer)

    def _come_back(self, stream: Stream, consumer: Consumer) -> None:
        if self.up:
            consumer.come_back(self._loop.now)
            self._deliver(stream, consumer)

    def _acknowledge(self, packet: Packet) -> None:
        words = packet.subject.split(".")
        consumer = self.consumers.get((words[2], words[3]))
        if consumer is None:
            return
        sequence = int(words[5])
        if packet.data.startswith(b"-NAK"):
            consumer.back_off(sequence, 0.0, self._loop.now)
            self._come_back(self.streams[words[2]], consumer)
        elif packet.data.startswith(b"+WPI"):
            consumer.back_off(sequence, consumer.ack_wait, self._loop.now)
        else:
            consumer.acknowledge(sequence)

    # -- faults ----------------------------------------------------------------------------------

    def crash(self, *, power: bool) -> dict[str, list[Kept]]:
        """kill -9, or the power goes off: then what was not on the disk is lost (by stream)."""
        self.up = False
        self._exact.clear()
        self._wild.clear()
        self._listeners.clear()
        self._inboxes.clear()
        lost: dict[str, list[Kept]] = {}
        for stream in self.streams.values():
            if power and stream.last > stream.synced:
                lost[stream.name] = stream.lose_unsynced(
                    self._weather.draw.randint(stream.synced, stream.last)
                )
        for (name, _), consumer in self.consumers.items():
            consumer.crash(self._loop.now, self._weather.draw.choice((0, 0, 1, 8)))
            consumer.next = min(consumer.next, self.streams[name].last + 1)
        return lost

    def leave_behind(self, seconds: float) -> None:
        """For this long a replica answers all direct gets that hears nothing new."""
        self._behind_until = self._loop.now + seconds
        self._behind = {name: stream.last for name, stream in self.streams.items()}

    def start(self) -> None:
        """The server is back, on the same store."""
        self.up = True
        for (name, _), consumer in self.consumers.items():
            self._loop.call_at(
                self._loop.now + consumer.ack_wait, self._come_back, self.streams[name], consumer
            )


def _error(error: Refused) -> dict[str, Any]:
    return {"error": {"code": error.status, "err_code": error.code, "description": error.text}}


def _message(kept: Kept) -> dict[str, Any]:
    message: dict[str, Any] = {
        "subject": kept.subject,
        "seq": kept.sequence,
        "data": base64.b64encode(kept.data).decode(),
        "time": "2026-01-01T00:00:00Z",
    }
    if kept.headers:
        lines = "".join(f"{key}: {value}\r\n" for key, value in kept.headers.items())
        message["hdrs"] = base64.b64encode(f"NATS/1.0\r\n{lines}\r\n".encode()).decode()
    return message


def _direct_headers(stream: Stream, kept: Kept) -> Headers:
    return {
        **kept.headers,
        "Nats-Stream": stream.name,
        "Nats-Subject": kept.subject,
        "Nats-Sequence": str(kept.sequence),
        "Nats-Time-Stamp": "2026-01-01T00:00:00Z",
    }
