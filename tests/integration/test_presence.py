"""How often planners say that they are there: alone seldom, together twice a second, a newcomer at once."""

import asyncio
import time
from functools import partial
from itertools import pairwise

import anyio
import nats

from planter.shell.presence import ALONE_SECONDS, BEAT_SECONDS, GONE_MS, Presence
from planter_protocol import messages, subjects
from planter_protocol.codec import decode
from planter_testkit.nats import running_nats_server


class Heard:
    """When each planner said that it is there."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self._more = asyncio.Event()

    async def on_presence(self, message) -> None:
        presence = decode(message.data, messages.Presence)
        self.times.setdefault(presence.planner_id, []).append(time.monotonic())
        self._more.set()

    async def until(self, name: str, count: int) -> list[float]:
        async with asyncio.timeout(15):
            while len(self.times.get(name, [])) < count:
                self._more.clear()
                await self._more.wait()
        return self.times[name]


async def test_a_planner_alone_says_so_seldom_and_at_once_when_another_comes(tmp_path) -> None:
    heard, gone, owned = Heard(), [], {}

    def presence(nc, name: str) -> Presence:
        return Presence(nc, name, partial(owned.__setitem__, name), partial(gone.append, name))

    async with running_nats_server(tmp_path) as server, await nats.connect(server.url) as nc:
        await nc.subscribe(subjects.PLANNER_PRESENCE_WILDCARD, cb=heard.on_presence)
        first, second = presence(nc, "first"), presence(nc, "second")
        async with anyio.create_task_group() as tasks:
            await first.start()
            tasks.start_soon(first.run)
            alone = await heard.until("first", 2)
            assert alone[1] - alone[0] > 0.9 * ALONE_SECONDS
            assert len(owned["first"]) == 16

            came = time.monotonic()
            await second.start()
            tasks.start_soon(second.run)
            together = (await heard.until("first", 6))[2:]
            tasks.cancel_scope.cancel()

    assert together[0] - came < BEAT_SECONDS / 2
    assert max(after - before for before, after in pairwise(together)) < GONE_MS / 1_000
    assert gone == []
    assert sorted(owned["first"] | owned["second"]) == list(range(16))
    assert owned["first"].isdisjoint(owned["second"])
