"""What the tests speak with: plain NATS messages of the Phase Manifest Protocol, no code of any server.

A ``Session`` is at once the client that publishes the manifest, the runtime that takes targets and the
monitor that sees everything that the server says.
"""

import asyncio
import itertools
import json
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

Object = dict[str, Any]

SECONDS = float(os.environ.get("CONFORMANCE_SECONDS", "20"))
"""A deadline of everything that has to happen; a good server needs a fraction of it."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
QUICK_RETRY = {"initial": "10ms", "factor": 1}
"""Under ``x-retry``: a server that does not know the key ignores it, and retries when it likes."""

_numbers = itertools.count(1)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def phase(name: str, needs: tuple[str, ...] = (), **spec: Any) -> Object:
    """A phase in camelCase; ``needs`` becomes ``waitFor.phases``."""
    wait = {"waitFor": {"phases": list(needs)}} if needs else {}
    selector = {"selector": {"matchLabels": {"phase": name}}}
    return {"kind": "Phase", "id": name, "spec": {"description": name, **selector, **wait, **spec}}


def spelled(manifest: list[Object], how: str) -> list[Object]:
    """The manifest with its keys in the spelling ``camel``, ``snake`` (PascalCase on top) or ``mixed``."""
    count = itertools.count()

    def key(name: str, *, top: bool) -> str:
        if how == "camel" or name.startswith("x-") or (how == "mixed" and next(count) % 2):
            return name
        return name.capitalize() if top else _HUMP.sub("_", name).lower()

    def nested(value: Any, *, literal: bool = False) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name if literal else key(name, top=False): nested(
                item, literal=literal or name in ("matchLabels", "labels") or name.startswith("x-")
            )
            for name, item in value.items()
        }

    return [{key(name, top=True): nested(value) for name, value in each.items()} for each in manifest]


class Session:
    """One session of the server, with a connection that does not hear itself."""

    def __init__(self, nc: Client, name: str) -> None:
        self.nc = nc
        self.name = name
        self.targets: list[Object] = []
        self.states: list[Object] = []
        self.logs: list[Object] = []
        self.events: list[Object] = []
        self._seen: dict[str, list[Object]] = {
            "target": self.targets, "state": self.states, "log": self.logs, "events": self.events
        }  # fmt: skip
        self.broken: list[str] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """See everything that others say of the session."""
        self._subscription = await self.nc.subscribe(f"plan.session.{self.name}.*", cb=self._on_message)
        await self.nc.flush()

    # -- the client ------------------------------------------------------------------------------

    async def say(self, verb: str, message: Any) -> None:
        """Publish on a subject of the session; bytes as they are."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.nc.publish(f"plan.session.{self.name}.{verb}", data)

    async def start(self, manifest: Any, *, dry_run: bool = False) -> None:
        """Send a manifest."""
        await self.say("start", {"manifest": manifest, "dryRun": dry_run})

    async def control(self, command: str) -> None:
        """Pause, resume or cancel."""
        await self.say("control", {"command": command})

    async def ask(self, verb: str, message: Any = None) -> Object:
        """A request, and the JSON object that is its reply."""
        data = b"" if message is None else json.dumps(message).encode()
        reply = await self.nc.request(f"plan.session.{self.name}.{verb}", data, timeout=SECONDS)
        await self._heard()
        found = json.loads(reply.data)
        assert isinstance(found, dict), f"{verb} is answered with {found!r}, not with an object"
        return found

    async def _heard(self) -> None:
        """What came before a reply has been looked at: the barrier of everything that must not happen."""
        await self.nc.flush()
        while self._subscription.pending_msgs:
            await asyncio.sleep(0)

    # -- the runtime -----------------------------------------------------------------------------

    async def ack(self, name: str, *, accepted: bool = True, **more: Any) -> None:
        """Answer a target."""
        await self.say("ack", {"phaseId": name, "accepted": accepted, **more})

    async def report(self, name: str, status: str) -> None:
        """Say how a phase goes, as a runtime that knows only the protocol does."""
        now = f"2025-07-19T20:00:00.{next(_numbers):06d}Z"
        await self.say("state", {"phaseId": name, "status": status, "updated": now})

    async def work(self, name: str, status: str = "complete") -> None:
        """Accept, run and end a phase."""
        await self.ack(name)
        await self.report(name, "running")
        await self.report(name, status)

    async def target(self, name: str, count: int = 1) -> Object:
        """The ``count``-th target of the phase."""

        def found() -> Object | None:
            seen = [target for target in self.targets if target.get("phaseId") == name]
            return seen[count - 1] if len(seen) >= count else None

        return await self.until(found, f"target {count} of phase {name}")

    async def run(self, *names: str) -> None:
        """Take and complete phases, one after the other."""
        for name in names:
            await self.target(name)
            await self.work(name)

    @property
    def targeted(self) -> list[str]:
        """Phases in the order of their targets."""
        return [target.get("phaseId", "") for target in self.targets]

    # -- the monitor -----------------------------------------------------------------------------

    async def until(self, found: Callable[[], Any], what: str) -> Any:
        """Wait until the function finds something in what has been seen."""
        try:
            async with asyncio.timeout(SECONDS):
                while not (result := found()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            message = (
                f"not seen within {SECONDS:.0f} s: {what}; targets: {self.targeted}, states: {self.states}"
            )
            raise AssertionError(message) from None
        return result

    async def said(self, name: str, status: str) -> Object:
        """The server's own state message that a phase has the status."""

        def found() -> Object | None:
            matching = (s for s in self.states if (s.get("phaseId"), s.get("status")) == (name, status))
            return next(matching, None)

        return await self.until(found, f"a message on .state that {name} is {status}")

    async def status(self, name: str, *wanted: str) -> str:
        """Wait until ``get_state`` gives the phase one of these; what was said before has been seen then."""
        states = await self.reached(lambda states: states.get(name) in wanted, f"{name} in {wanted}")
        return states[name]

    async def reached(self, holds: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """Wait until ``get_state`` says what is wanted of the phases' statuses."""
        states: dict[str, str] = {}
        # By the clock and not by a cancellation: on Python 3.11 one that meets a reply is swallowed.
        deadline = time.monotonic() + SECONDS
        while not holds(states := statuses(await self.ask("get_state"))):
            if time.monotonic() > deadline:
                message = f"get_state never says {what}; it says {states}, targets: {self.targeted}"
                raise AssertionError(message)
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._news.wait()
        return states

    async def until_session(self, status: str) -> None:
        """Wait until ``get_state`` gives the session this status, or none: the protocol knows none."""
        deadline = time.monotonic() + SECONDS
        while (found := (await self.ask("get_state")).get("status", status)) != status:
            if time.monotonic() > deadline:
                raise AssertionError(f"get_state never says that the session is {status}; it says {found}")
            await asyncio.sleep(0.01)

    async def _on_message(self, message: Msg) -> None:
        verb = message.subject.rpartition(".")[2]
        if verb not in self._seen:
            return
        try:
            found = json.loads(message.data)
        except ValueError:
            found = None
        if isinstance(found, dict):
            self._seen[verb].append(found)
        else:
            self.broken.append(f"{verb}: {message.data[:80]!r}")
        self._news.set()


def statuses(reply: Object) -> dict[str, str]:
    """Status by phase id, wherever the reply to ``get_state`` has them."""
    return {
        each["phaseId"]: each["status"] for each in _objects(reply) if "phaseId" in each and "status" in each
    }


def _objects(value: Any) -> Iterator[Object]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


@asynccontextmanager
async def session(url: str) -> AsyncGenerator[Session]:
    """A session with a fresh id."""
    nc = await nats.connect(url, no_echo=True)
    found = Session(nc, f"pmp-{secrets.token_hex(6)}")
    try:
        await found.listen()
        yield found
        await found.control("cancel")  # nothing is left under way on a server that lives on
        await nc.flush()
    finally:
        await nc.close()
    assert found.broken == [], "every message of the server is a JSON object"
