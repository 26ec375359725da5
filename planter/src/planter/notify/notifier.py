"""Taking notifications from their stream and sending them: tried again with growing pauses, given up at last.

Planners share the durable consumers, so another one sends what a killed one did not. One that is sending
says so to the server; it may still happen that a planner ends between sending and saying so: then it is sent
again, with the same id. What became of a notification is said in its session's log.
"""

import asyncio
import time
from functools import partial

import anyio
import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from planter.notify.config import NotifyConfig
from planter.notify.hooks import HookSender
from planter.notify.mailing import send_mail
from planter.notify.outcome import AnyOutcome, Later, Never, NotSetUp, Sent
from planter.shell.failpoints import passing
from planter.shell.intake import Delivery, Puller
from planter.shell.outbox import CHANNELS
from planter_protocol import assets, headers, messages, subjects
from planter_protocol.codec import decode, encode, timestamp
from planter_protocol.errors import InvalidMessage
from planter_protocol.names import is_token
from planter_protocol.reading import last_sequence

log = structlog.get_logger(__name__)

SENDERS = 4
"""Notifications of one channel that a planner sends at the same time: a slow mail server delays mail only."""
SEND_SECONDS = 30.0
PAUSE_SECONDS_MAX = 600.0
_PULL_SECONDS = 5.0
"""Longer than for inputs: a notification may come some seconds later, and idle pulls cost time."""
_ALIVE_SECONDS = 3.0
_UNEXPECTED_SECONDS = 30.0
_CONFIRM_SECONDS = 5.0
_MARK = "unconfigured"


class Notifier:
    """Sends what handlers want sent, beside a planner's other work."""

    def __init__(self, config: NotifyConfig) -> None:
        self.config = config
        self._hooks = HookSender(config)

    async def run(self, nc: Client, js: JetStreamContext) -> None:
        """Send until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                for channel in CHANNELS:
                    tasks.start_soon(_Channel(self, nc, js, channel).run)
        finally:
            with anyio.move_on_after(1, shield=True):
                await self._hooks.close()

    async def send(self, notification: messages.Notification) -> AnyOutcome:
        """Try once, within ``SEND_SECONDS``."""
        where = f"{notification.channel} {notification.session_id}"
        try:
            with anyio.fail_after(SEND_SECONDS):
                match notification.channel:
                    case "email":
                        return await send_mail(self.config, notification)
                    case "slack" | "webhook":
                        return await self._hooks.send(notification)
                    case channel:
                        return Never(f"channel {channel!r}", "this planner knows email, slack and webhook")
        except TimeoutError:
            return Later(where, f"it took longer than {SEND_SECONDS:g} s")

    def pause(self, tried: int, outcome: Later) -> float:
        """Seconds until the next try."""
        grown = self.config.pause_seconds * 2 ** min(tried - 1, 20)
        return max(min(grown, PAUSE_SECONDS_MAX), outcome.after_seconds)


class _Channel:
    """The notifications of one channel: its consumer, and those who send."""

    def __init__(self, notifier: Notifier, nc: Client, js: JetStreamContext, channel: str) -> None:
        self._notifier = notifier
        self._nc = nc
        self._js = js
        self._channel = channel
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        #: All that the server has given us and that is not answered yet, by sequence.
        self._held: dict[int, Delivery] = {}

    async def run(self) -> None:
        await self._make_consumer()
        puller = Puller(
            self._nc,
            assets.NOTIFICATIONS,
            assets.notifier_name(self._channel),
            self._take,
            self._has_room,
            credit=SENDERS,
            expires=_PULL_SECONDS,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puller.run)
            tasks.start_soon(self._say_alive)
            for _ in range(SENDERS):
                tasks.start_soon(self._work)

    async def _make_consumer(self) -> None:
        while True:
            try:
                await self._js.add_consumer(assets.NOTIFICATIONS, assets.notifier_consumer(self._channel))
            except (TimeoutError, NatsError) as error:
                log.warning("notifier.late", channel=self._channel, error=str(error) or type(error).__name__)
                await anyio.sleep(_UNEXPECTED_SECONDS)
            else:
                return

    def _has_room(self) -> bool:
        return len(self._held) < SENDERS

    def _take(self, delivery: Delivery) -> None:
        if delivery.sequence in self._held:
            return
        self._held[delivery.sequence] = delivery
        self._waiting.put_nowait(delivery)

    async def _say_alive(self) -> None:
        """What we hold is not given to another planner while we say so."""
        while True:
            await anyio.sleep(_ALIVE_SECONDS)
            for delivery in list(self._held.values()):
                await self._nc.publish(delivery.reply, b"+WPI")

    async def _work(self) -> None:
        while True:
            delivery = await self._waiting.get()
            try:
                await self._deal_with(delivery)
            except Exception as error:
                what = str(error) or type(error).__name__
                log.warning("notification.late", sequence=delivery.sequence, error=what, exc_info=True)
                if delivery.delivered < self._notifier.config.tries:
                    await self._again(delivery, _UNEXPECTED_SECONDS)
                else:
                    await self._done(delivery)
            finally:
                self._held.pop(delivery.sequence, None)

    async def _deal_with(self, delivery: Delivery) -> None:
        try:
            notification = _read(delivery.data)
        except InvalidMessage as error:
            log.warning("notification.unreadable", subject=delivery.subject, error=str(error))
            await self._done(delivery)
            return
        passing("notification.send")
        outcome = await self._notifier.send(notification)
        passing("notification.sent")
        say = partial(self._say, notification)
        match outcome:
            case Sent():
                try:
                    await say("info", f"sent to {outcome.where}", "sent")
                except Exception as error:  # to send it again would be worse
                    what = str(error) or type(error).__name__
                    log.warning("notification.unsaid", session=notification.session_id, error=what)
            case Later() if delivery.delivered < self._notifier.config.tries:
                pause = self._notifier.pause(delivery.delivered, outcome)
                log.info(
                    "notification.delayed",
                    session=notification.session_id,
                    phase=notification.phase_id,
                    where=outcome.where,
                    reason=outcome.reason,
                    tried=delivery.delivered,
                    seconds=pause,
                )
                if delivery.delivered == 1:
                    text = f"not sent to {outcome.where} yet: {outcome.reason}; tried again in {pause:g} s"
                    await say("warning", text, "late")
                await self._again(delivery, pause)
                return
            case Later() | Never():
                times = "once" if delivery.delivered == 1 else f"{delivery.delivered} times"
                text = f"could not be sent to {outcome.where}: {outcome.reason}; tried {times}"
                log.warning("notification.given_up", session=notification.session_id, reason=text)
                await say("error", text, "given-up")
            case NotSetUp():
                await self._say_how_to_set_up(notification, outcome)
        await self._done(delivery)

    async def _say_how_to_set_up(self, notification: messages.Notification, outcome: NotSetUp) -> None:
        """Once a session and kind, whoever comes to it first."""
        session_id, channel = notification.session_id, notification.channel
        mark = subjects.notification(session_id, _MARK, channel)
        if await last_sequence(self._nc, assets.NOTIFICATIONS, mark):
            return
        text = (
            f"{outcome.where} was wanted, and this planner is not set up to send any: {outcome.remedy} "
            "(said once a session; see docs/notifications.md)"
        )
        await self._say(notification, "warning", text, f"not-set-up/{session_id}/{channel}")
        await self._js.publish(mark, b"", timeout=_CONFIRM_SECONDS)

    async def _say(self, notification: messages.Notification, level: str, text: str, what: str) -> None:
        """A line in the session's log."""
        line = messages.Log(
            level=level,
            message=f"notification of {notification.outcome}: {text}",
            timestamp=timestamp(int(time.time() * 1000)),
            phase_id=notification.phase_id,
            attempt=notification.attempt,
            stream="planner",
            labels=notification.labels,
        )
        message_id = what if what.startswith("not-set-up") else f"{what}/{notification.id}"
        header = {headers.MSG_ID: f"notification/{message_id}"}
        subject = subjects.log(notification.session_id)
        await self._js.publish(subject, encode(line), timeout=_CONFIRM_SECONDS, headers=header)

    async def _done(self, delivery: Delivery) -> None:
        """Not to be delivered again; confirmed, because else it would be sent again."""
        for _ in range(3):
            try:
                await self._nc.request(delivery.reply, b"+ACK", timeout=_CONFIRM_SECONDS)
            except (TimeoutError, NatsError):
                continue
            else:
                return
        log.warning("notification.unconfirmed", sequence=delivery.sequence)

    async def _again(self, delivery: Delivery, seconds: float) -> None:
        delay = msgspec.json.encode({"delay": int(seconds * 1e9)})
        await self._nc.publish(delivery.reply, b"-NAK " + delay)


def _read(data: bytes) -> messages.Notification:
    """A notification of a session; raises ``InvalidMessage`` for anything else."""
    found = decode(data, messages.Notification)
    if not is_token(found.session_id) or not is_token(found.id):
        raise InvalidMessage("Notification", "it names no session")
    return found
