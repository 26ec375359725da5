"""A connection to the simulated server with the face of nats-py's ``Client``, as far as Planter uses it.

nats-py's own JetStream code runs on top of it.
"""

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext

from planter_testkit.sim.loop import VirtualLoop
from planter_testkit.sim.server import Headers, Interest, Packet, SimServer
from planter_testkit.sim.weather import Weather

Callback = Callable[[Msg], Awaitable[None]]

RECONNECT_SECONDS = 0.2
_GAP = 1e-7
"""Between two arrivals on one connection: timers of the same moment have no order."""
_PING = "\0PING"
_SUB = "\0SUB"
_UNSUB = "\0UNSUB"


class _Nuid:
    """Ids that one seed always draws alike."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def next(self) -> bytearray:
        return bytearray(f"{self._draw.getrandbits(88):022x}".encode())


class SimSubscription:
    """What ``subscribe`` returns."""

    def __init__(
        self,
        client: "SimClient",
        subject: str,
        queue: str,
        sid: int,
        cb: Callback | None,
        future: asyncio.Future[Msg] | None,
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.sid = sid
        self._client = client
        self._cb = cb
        self._future = future
        self._messages: deque[Msg] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._running = False

    async def next_msg(self, timeout: float | None = 1.0) -> Msg:
        """The next message, or nats-py's TimeoutError."""
        if not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            except TimeoutError:
                raise NatsTimeoutError from None
        return self._messages.popleft()

    async def unsubscribe(self, limit: int = 0) -> None:
        """Listen no more."""
        del limit
        self._client.drop_subscription(self.sid)

    def put(self, message: Msg) -> None:
        """A message has come; callbacks are called one after the other."""
        if self._future is not None:
            self._client.run(self._future.set_result, message)
            return
        self._messages.append(message)
        if self._cb is not None:
            if not self._running:
                self._running = True
                self._client.spawn(self._drain())
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _drain(self) -> None:
        assert self._cb is not None
        try:
            while self._messages:
                message = self._messages.popleft()
                try:
                    await self._cb(message)
                except Exception as error:  # nats-py hands it to error_cb
                    self._client.callback_failed(self.subject, error)
        finally:
            self._running = False


class SimClient:
    """One connection of one process."""

    _count = 0

    def __init__(
        self, loop: VirtualLoop, server: SimServer, weather: Weather, name: str, number: int
    ) -> None:
        self.name = name
        self.number = number
        self._loop = loop
        self._server = server
        self._weather = weather
        self._nuid = _Nuid(weather.draw)
        self._inbox_prefix = bytearray(f"_INBOX.{number}".encode())
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[int, SimSubscription] = {}
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._sids = 0
        self._inboxes = 0
        self._buffer: list[Packet] = []
        self._epoch = 0
        self._sent = 0
        self._lost_after: int | None = None
        self._up_free = self._down_free = self._subscribed_at = 0.0
        self._held_up: list[Packet] = []
        self._held_down: list[tuple[Packet, int]] = []
        self.black_hole = False
        self.dead = False
        self.connected = False
        self.failed_callbacks: list[str] = []
        self.on_reconnected: Callable[[], None] = lambda: None
        self.connected_url = None
        self._connect()

    # -- the face of nats-py ---------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """As far as the client knows."""
        return self.connected and not self.dead

    @property
    def is_closed(self) -> bool:
        """Whether it is over for good."""
        return self.dead

    def jetstream(self, **options: Any) -> JetStreamContext:
        """nats-py's own."""
        return JetStreamContext(self, **options)  # type: ignore[arg-type]

    def new_inbox(self) -> str:
        """A subject of our own."""
        self._inboxes += 1
        return f"_INBOX.{self.number}.{self._inboxes}"

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Headers | None = None
    ) -> None:
        """Send and forget."""
        if self.dead:
            raise ConnectionClosedError
        self._up(Packet(subject, reply, bytes(payload), dict(headers) if headers else None))

    async def subscribe(
        self,
        subject: str,
        queue: str = "",
        cb: Callback | None = None,
        future: asyncio.Future[Msg] | None = None,
        **_: Any,
    ) -> SimSubscription:
        """Listen."""
        if self.dead:
            raise ConnectionClosedError
        self._sids += 1
        subscription = SimSubscription(self, subject, queue, self._sids, cb, future)
        self._subscriptions[self._sids] = subscription
        self._up(Packet(_SUB, str(self._sids), subject.encode(), {"queue": queue}))
        return subscription

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        headers: Headers | None = None,
        **_: Any,
    ) -> Msg:
        """Ask and wait for one answer."""
        self._inboxes += 1
        inbox = f"_INBOX.{self.number}/{self._inboxes}"
        answer: asyncio.Future[Msg] = self._loop.create_future()
        self._waiting[inbox] = answer
        try:
            await self.publish(subject, payload, reply=inbox, headers=headers)
            async with asyncio.timeout(timeout):
                message = await answer
        except TimeoutError:
            raise NatsTimeoutError from None
        finally:
            self._waiting.pop(inbox, None)
        if message.headers and message.headers.get("Status") == "503":
            raise NoRespondersError
        return message

    async def flush(self, timeout: float = 10) -> None:
        """A round trip."""
        await self.request(_PING, timeout=timeout)

    async def force_reconnect(self) -> None:
        """Give the connection up and make a new one."""
        self.disconnect()

    async def close(self) -> None:
        """Leave."""
        self.kill()

    # -- inside ----------------------------------------------------------------------------------

    def spawn(self, work: Any) -> None:
        """Run something as part of this process."""
        if self.dead:
            work.close()
            return
        task = self._loop.create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def run(self, call: Callable[[Msg], None], message: Msg) -> None:
        """Do something at once, as this process: what it begins ends with it."""
        if not self.dead:
            self._context.run(call, message)

    def callback_failed(self, subject: str, error: Exception) -> None:
        """A subscriber's callback raised."""
        self.failed_callbacks.append(f"{self.name}: callback of {subject}: {type(error).__name__}: {error}")

    def drop_subscription(self, sid: int) -> None:
        """Unsubscribe."""
        if self._subscriptions.pop(sid, None) is not None and not self.dead:
            self._up(Packet(_UNSUB, str(sid), b""))

    def _up(self, packet: Packet) -> None:
        """Towards the server."""
        if self.dead:
            return
        if not self.connected:
            if packet.subject not in (_SUB, _UNSUB, _PING):  # subscriptions are sent anew
                self._buffer.append(packet)
        elif self.black_hole:
            self._held_up.append(packet)
        elif packet.subject in (_SUB, _UNSUB) or not self._weather.happens(self._weather.drop):
            self._schedule_up(packet)
            if packet.subject[0] != "\0" and self._weather.happens(self._weather.repeat):
                self._schedule_up(packet)

    def _schedule_up(self, packet: Packet) -> None:
        at = self._loop.now + self._weather.delay()
        if packet.subject[0] != "\0" and self._weather.happens(self._weather.overtake):
            at = max(self._subscribed_at + _GAP, at)  # never before the subscription that it may rely on
        else:
            at = self._up_free = max(self._up_free + _GAP, at)
        if packet.subject == _SUB:
            self._subscribed_at = at
        self._sent += 1
        self._loop.call_at(at, self._arrive, packet, self._epoch, self._sent)

    def _arrive(self, packet: Packet, epoch: int, number: int) -> None:
        if epoch != self._epoch or not self._server.up:
            return
        if self._lost_after is not None and number > self._lost_after:
            return
        match packet.subject:
            case "\0SUB":
                queue = (packet.headers or {})["queue"]
                self._server.subscribe(Interest(packet.data.decode(), queue, self, int(packet.reply)))
            case "\0UNSUB":
                self._server.unsubscribe(self, int(packet.reply))
            case "\0PING":
                self.transmit(Packet(packet.reply, "", b""), 0)
            case _:
                self._server.receive(packet)

    def transmit(self, packet: Packet, sid: int) -> None:
        """From the server to here."""
        if self.black_hole:
            self._held_down.append((packet, sid))
            return
        if self._weather.happens(self._weather.drop):
            return
        at = self._loop.now + self._weather.delay()
        if not self._weather.happens(self._weather.overtake):
            at = self._down_free = max(self._down_free + _GAP, at)
        self._loop.call_at(at, self._delivered, packet, sid, self._epoch)
        if self._weather.happens(self._weather.repeat):
            self._loop.call_at(at + self._weather.delay(), self._delivered, packet, sid, self._epoch)

    def _delivered(self, packet: Packet, sid: int, epoch: int) -> None:
        if self.dead or epoch != self._epoch:
            return
        message = Msg(
            self, packet.subject, packet.reply, packet.data, dict(packet.headers) if packet.headers else None
        )  # type: ignore[arg-type]
        if sid == 0:
            answer = self._waiting.get(packet.subject)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif sid in self._subscriptions:
            self._subscriptions[sid].put(message)

    def _connect(self) -> None:
        if self.dead or self.connected:
            return
        if not self._server.up:
            self._loop.call_at(self._loop.now + RECONNECT_SECONDS, self._connect)
            return
        again = self._epoch > 0
        self.connected = True
        self._up_free = self._down_free = self._loop.now
        self._server.connect(f"_INBOX.{self.number}", self)
        for subscription in self._subscriptions.values():
            self._up(
                Packet(
                    _SUB, str(subscription.sid), subscription.subject.encode(), {"queue": subscription.queue}
                )
            )
        buffered, self._buffer = self._buffer, []
        for packet in buffered:
            self._up(packet)
        if again:
            self._context.run(self.on_reconnected)

    # -- faults ----------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """The connection breaks; what was on its way is lost, and the client connects again."""
        if self.dead or not self.connected:
            return
        self.connected = False
        self.black_hole = False
        self._held_up, self._held_down = [], []
        self._epoch += 1
        self._server.unsubscribe(self)
        self._loop.call_at(self._loop.now + RECONNECT_SECONDS, self._connect)

    def swallow(self) -> None:
        """From now on nothing arrives, on neither side, and nobody is told."""
        self.black_hole = True

    def heal(self) -> None:
        """What was swallowed arrives after all."""
        if not self.black_hole:
            return
        self.black_hole = False
        up, self._held_up = self._held_up, []
        down, self._held_down = self._held_down, []
        for packet in up:
            self._up(packet)
        for packet, sid in down:
            self.transmit(packet, sid)

    def kill(self) -> None:
        """The process is gone: what it wrote last may not have left the machine."""
        if self.dead:
            return
        self.dead = True
        self._lost_after = self._sent - self._weather.draw.choice((0, 0, 1, 3, 10))
        self._server.unsubscribe(self)
        for task in list(self._tasks):
            task.cancel()
