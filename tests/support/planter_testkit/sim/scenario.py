"""What happens in one history: manifests, commands, garbage and faults, all drawn from the seed."""

import json
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.errors import Error as NatsError

from planter_protocol import PlanClient, ProtocolError, assets
from planter_protocol.messages import Control
from planter_testkit.sim.storage import Kept
from planter_testkit.sim.world import LARGE, Node, World

FAULTS_SECONDS = 4.0
"""Faults begin within this time; by twice of it every one is over."""
SKEWS_MS = (-3_600_000, -5_000, 5_000, 3_600_000)
TIMEOUTS = (
    "200ms",
    "2s",
    {"scheduleToStart": "3s"},
    {"scheduleToClose": "4s"},
    {"startToClose": "1s", "heartbeat": "500ms"},
)
LABELS: tuple[dict[str, str], ...] = ({}, {"size": "1"}, {"size": "2"}, {"size": "2", "disk": "ssd"})
RULES = ("all_failed", "all_done", "one_success", "one_failed", "none_failed_min_one_success", "always")
WALL_CLOCK = 1_800_000_000
"""When the simulated loop's clock stands at 0; a history begins a thousand seconds later."""
PEOPLE = ("ann", "bob", "cem")
COMMANDS = ("pause", "resume", "resume", "cancel", "retry", "retry", "skip", "rerun")


@dataclass
class Sent:
    """An input that a stream has confirmed to a client."""

    subject: str
    sequence: int


@dataclass
class Watched:
    """What a monitor has seen of one session."""

    session: str
    sequences: list[int] = field(default_factory=list)


class Scenario:
    """One history, played in a world."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self.world = world
        self.draw = draw
        self.theme = _theme(draw, replicated=world.replicated)
        self.is_crowded = self.theme == "crowd"
        world.retain_seconds = draw.choice((1.0, 5.0)) if draw.random() < 0.1 else None
        #: Drawn apart from all else, so that histories without rules are what they were.
        self.place = random.Random(f"{world.behaviour_seed}/placement")
        self.has_rules = not self.is_crowded and self.place.random() < 0.4
        world.labels = LABELS if self.has_rules else ()
        self.sessions = [f"s{n}" for n in range(draw.choice((2, 4, 7) if self.is_crowded else (1, 1, 2, 3)))]
        self.confirmed: list[Sent] = []
        self.watched: list[Watched] = []
        #: When the last thing on the calendar happens.
        self.until = world.loop.now
        self._under_way = 0

    # -- the story -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Put everything on the calendar."""
        draw = self.draw
        for n in range(draw.choice((2, 3) if self.theme in ("clocks", "lag") else (1, 2, 2, 3))):
            self._at(draw.random() * 0.1, self.world.start_planner, f"planner-{n}")
            if draw.random() < (0.7 if self.theme == "clocks" else 0.15):
                self.world.skews[f"planner-{n}"] = draw.choice(SKEWS_MS)
                if draw.random() < 0.5:  # somebody with another clock goes on
                    self._at(0.3 + draw.random() * 2, self._kill_planner)
        for n in range(1 if self.is_crowded else draw.choice((1, 1, 2))):
            self._at(draw.random() * 0.1, self.world.start_runtime, f"runtime-{n}")
        client = self.world.client("client")
        for session in self.sessions:
            manifest = self._ruled(random_manifest(draw, self.theme))
            at = draw.random() * (0.05 if self.is_crowded else 1.5)
            self._at(at, self._spawn, client, self._submit(client, session, manifest))
            if draw.random() < 0.15:  # the same start twice, or another plan at the wrong moment
                other = manifest if draw.random() < 0.5 else self._ruled(random_manifest(draw, self.theme))
                self._at(at + draw.random(), self._spawn, client, self._submit(client, session, other))
            for _ in range(draw.choice((1, 2)) if draw.random() < 0.25 else 0):  # edited while it runs
                edited = self._ruled(edited_manifest(draw, manifest, self.theme))
                work = self._submit(client, session, edited, replan=True)
                self._at(at + draw.random() * 3, self._spawn, client, work)
            for _ in range(draw.choice((2, 4) if self.theme == "lag" else (0, 0, 1, 3))):
                verb = draw.choice(COMMANDS)
                phase = draw.choice((None, f"p{draw.randint(0, 4)}"))
                work = self._command(client, session, verb, phase)
                self._at(at + draw.random() * 4, self._spawn, client, work)
            asked = [one["id"] for one in manifest if "approval" in one["spec"].get("x-run", ())]
            for _ in range(draw.choice((2, 5, 9)) if asked else 0):  # too early, in time, too late, twice
                phase = draw.choice((*asked, *asked, f"p{draw.randint(0, 4)}"))
                self._at(
                    at + draw.random() * 5, self._spawn, client, self._answer_any(client, session, phase)
                )
        for _ in range(draw.choice((0, 0, 0, 2))):
            self._at(draw.random() * 3, self._spawn, client, self._garbage(client))
        if draw.random() < 0.3:
            self._at(draw.random() * 2, self._spawn, client, self._watch(client, draw.choice(self.sessions)))
        if self.theme == "lag":
            self._at(draw.random() * 0.3, self._leave_replica_behind, draw.choice((6.0, 12.0)))
            for _ in range(draw.choice((1, 2, 3))):
                self._at(0.3 + draw.random() * 1.5, self._kill_planner)
        elif self.theme == "restarts":  # what was sent to a runtime finds the next one of its name
            self.world.weather.slow, self.world.weather.slow_seconds = 0.2, 0.3
            for _ in range(4):
                self._at(draw.random() * 2.5, self._kill_runtime, True)
        elif self.is_crowded and draw.random() < 0.5:  # steps that last, so that they overlap
            self.world.weather.slow, self.world.weather.slow_seconds = 0.3, 0.05
        for _ in range(draw.choice((0, 0, 1) if self.is_crowded else (0, 1, 2, 4, 8))):
            self._at(0.2 + draw.random() * FAULTS_SECONDS, draw.choice(self._faults()))

    def calm(self) -> None:
        """The faults are over: everything runs and can be reached again."""
        world = self.world
        world.note("calm")
        world.weather.calm()
        if not world.server.up:
            world.server.start()
        world.server.leaderless_until = 0.0
        world.server.leave_behind(0.0)
        for node in [*world.planners.values(), *world.runtimes.values()]:
            if node.process.stopped:
                world.loop.resume(node.process)
            node.client.heal()

        if self.has_rules and not self.world.runtimes.get(LARGE):
            self.world.start_runtime(LARGE)  # somebody sees to it that every phase finds its runtime

    def _ruled(self, manifest: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The manifest with rules of placement for some of its phases."""
        return [with_rules(self.place, phase) for phase in manifest] if self.has_rules else manifest

    def resume(self, sessions: Iterable[str]) -> None:
        """Somebody sees to it that no session stays paused. A command wakes: the others get none."""
        client = self.world.client("healer")
        for session in sessions:
            self._spawn(client, self._command(client, session, "resume", None))

    def answer(self, asking: Iterable[tuple[str, str]]) -> None:
        """Everybody approves what is asked, so that sessions can end."""
        client = self.world.client("healer")
        for session, phase in asking:
            for by in PEOPLE:
                control = Control(command="approve", phase_id=phase, by=by)
                self._spawn(client, self._send(client, session, control))

    def look(self) -> None:
        """Somebody looks at every session: the listing may have lost some with the power, or be ahead."""
        client = self.world.client("healer")
        for session in self.sessions:
            self._spawn(client, self._state(client, session))

    @property
    def idle(self) -> bool:
        """Whether every client has said what it had to say."""
        return self._under_way == 0

    def _at(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        at = self.world.loop.now + seconds
        self.until = max(self.until, at)
        self.world.loop.call_at(at, call, *arguments)

    def _spawn(self, client: PlanClient, work: Any) -> None:
        client.nc.spawn(work)  # type: ignore[attr-defined]

    # -- clients ---------------------------------------------------------------------------------

    async def _submit(self, client: PlanClient, session: str, manifest: Any, *, replan: bool = False) -> None:
        self._under_way += 1
        try:
            submitted = await client.submit(manifest, session=session, confirm=None, replan=replan)
            self.confirmed.append(Sent(f"plan.session.{session}.start", submitted.sequence))
            self.world.note(f"client: start of {session} confirmed as {submitted.sequence}")
        except (NatsError, ProtocolError, TimeoutError) as error:
            self.world.note(f"client: start of {session}: {type(error).__name__}")
        finally:
            self._under_way -= 1

    async def _command(self, client: PlanClient, session: str, verb: Any, phase: str | None) -> None:
        self._under_way += 1
        try:
            sequence = await client.control(session, verb, phase=phase)
            self.confirmed.append(Sent(f"plan.session.{session}.control", sequence))
            self.world.note(f"client: {verb} {phase or ''} of {session} confirmed as {sequence}")
        except (NatsError, ProtocolError, TimeoutError) as error:
            self.world.note(f"client: {verb} of {session}: {type(error).__name__}")
        finally:
            self._under_way -= 1

    async def _answer_any(self, client: PlanClient, session: str, phase: str) -> None:
        draw = self.draw
        control = Control(
            command=draw.choice(("approve", "approve", "approve", "reject")),
            phase_id=phase + draw.choice(("", "", "", "[0]")),
            by=draw.choice((*PEOPLE, "eve")),
            comment=draw.choice((None, "because")),
            plan_digest=draw.choice((None, None, None, "sha256:another")),
        )
        for _ in range(draw.choice((1, 1, 2))):
            await self._send(client, session, control)

    async def _send(self, client: PlanClient, session: str, control: Control) -> None:
        self._under_way += 1
        what = f"{control.command} {control.phase_id} of {session} by {control.by}"
        try:
            sequence = await client.send_control(session, control)
            self.confirmed.append(Sent(f"plan.session.{session}.control", sequence))
            self.world.note(f"client: {what} confirmed as {sequence}")
        except (NatsError, ProtocolError, TimeoutError) as error:
            self.world.note(f"client: {what}: {type(error).__name__}")
        finally:
            self._under_way -= 1

    async def _state(self, client: PlanClient, session: str) -> None:
        with suppress(NatsError, ProtocolError, TimeoutError):
            await client.get_state(session)

    async def _garbage(self, client: PlanClient) -> None:
        draw = self.draw
        session = draw.choice((*self.sessions, "stranger"))
        verb = draw.choice(("start", "control", "ack", "report", "report"))
        forged = {
            "phaseId": f"p{draw.randint(0, 3)}",
            "status": "complete",
            "attempt": 1,
            "fence": draw.randint(1, 30),
            "dispatchId": "0" * 32,
        }
        data = draw.choice((b"", b"{", b"[]", b'{"command":"explode"}', json.dumps(forged).encode()))
        await client.nc.publish(f"plan.session.{session}.{verb}", data)
        self.world.note(f"client: garbage to {session}.{verb}: {data[:40]!r}")

    async def _watch(self, client: PlanClient, session: str) -> None:
        watched = Watched(session)
        self.watched.append(watched)
        while True:
            after = watched.sequences[-1] if watched.sequences else 0
            try:
                async for sequence, _ in client.watch_numbered(session, after=after, until_ended=False):
                    watched.sequences.append(sequence)
            except (NatsError, ProtocolError, TimeoutError):
                continue

    # -- faults ----------------------------------------------------------------------------------

    def _faults(self) -> tuple[Callable[[], None], ...]:
        return (
            self._kill_planner,
            self._kill_planner,
            self._stop_planner,
            self._kill_runtime,
            self._stop_runtime,
            self._break_connection,
            self._break_connection,
            self._swallow,
            self._kill_server,
            self._lose_leader,
            self._jump_clock,
            self._leave_replica_behind if self.world.replicated else self._kill_planner,
        )

    def _one(self, nodes: dict[str, Node]) -> Node | None:
        alive = [
            node for _, node in sorted(nodes.items()) if not node.client.dead and not node.process.stopped
        ]
        return self.draw.choice(alive) if alive else None

    def _kill_planner(self) -> None:
        if (node := self._one(self.world.planners)) is not None:
            self.world.note(f"kill -9 {node.process.name}")
            self.world.kill(node)
            self._at(self.draw.choice((0.2, 2.0, 4.0)), self.world.start_planner, node.name)

    def _kill_runtime(self, soon: bool = False) -> None:
        if (node := self._one(self.world.runtimes)) is not None:
            self.world.note(f"kill -9 {node.process.name}")
            self.world.kill(node)
            back = node.name if soon else self.draw.choice((node.name, node.name, f"{node.name}-again"))
            seconds = self.draw.choice((0.01, 0.1) if soon else (0.2, 2.0, 4.0))
            self._at(seconds, self.world.start_runtime, back)

    def _stop(self, node: Node | None, seconds: float) -> None:
        if node is None:
            return
        self.world.note(f"SIGSTOP {node.process.name} for {seconds} s")
        node.process.stopped = True

        def go_on() -> None:
            if not node.client.dead and node.process.stopped:
                self.world.note(f"SIGCONT {node.process.name}")
                self.world.loop.resume(node.process)

        self._at(seconds, go_on)

    def _stop_planner(self) -> None:
        self._stop(self._one(self.world.planners), self.draw.choice((0.5, 2.5, 3.8)))

    def _stop_runtime(self) -> None:
        self._stop(self._one(self.world.runtimes), self.draw.choice((0.5, 3.0, 25.0)))

    def _someone(self) -> Node | None:
        return self._one(self.draw.choice((self.world.planners, self.world.runtimes)))

    def _break_connection(self) -> None:
        if (node := self._someone()) is not None:
            self.world.note(f"connection of {node.process.name} breaks")
            node.client.disconnect()

    def _swallow(self) -> None:
        node, seconds = self._someone(), self.draw.choice((0.3, 2.5, 6.0))
        if node is None:
            return
        self.world.note(f"connection of {node.process.name} swallows everything for {seconds} s")
        node.client.swallow()
        self._at(seconds, node.client.heal if self.draw.random() < 0.5 else node.client.disconnect)

    def _kill_server(self) -> None:
        world = self.world
        if not world.server.up:
            return
        power = self.draw.random() < 0.5
        lost = world.server.crash(power=power)
        world.note(f"server: {'power failure' if power else 'kill -9'}; lost {_counted(lost)}")
        world.has_lost = world.has_lost or bool(lost)
        world.has_lost_key = world.has_lost_key or f"KV_{assets.KEYS_BUCKET}" in lost
        for client in list(world.clients):
            client.disconnect()

        def back() -> None:
            if not world.server.up:
                world.note("server is back")
                world.server.start()

        self._at(self.draw.choice((0.1, 1.0, 3.0)), back)

    def _lose_leader(self) -> None:
        seconds = self.draw.choice((0.5, 2.5, 5.0))
        self.world.note(f"no leader for {seconds} s")
        self.world.server.leaderless_until = self.world.loop.now + seconds

    def _leave_replica_behind(self, seconds: float | None = None) -> None:
        seconds = seconds or self.draw.choice((0.5, 3.0, 8.0))
        self.world.note(f"reads are answered by a replica that is left behind, for {seconds} s")
        self.world.server.leave_behind(seconds)
        if self.draw.random() < 0.5:  # whoever takes over has nothing but that replica to read from
            self._at(self.draw.random(), self._kill_planner)

    def _jump_clock(self) -> None:
        if (node := self._someone()) is not None:
            node.process.set_clock(self.draw.choice(SKEWS_MS))
            self.world.note(f"clock of {node.process.name} is set {node.process.skew_ms / 1000} s ahead")


def _counted(lost: dict[str, list[Kept]]) -> str:
    return ", ".join(f"{len(messages)} of {name}" for name, messages in lost.items()) or "nothing"


def _theme(draw: random.Random, *, replicated: bool) -> str:
    """Most histories have a little of everything; some are full of what is rare."""
    drawn = draw.random()
    if drawn < 0.18:
        return "crowd"
    if drawn < 0.26:
        return "clocks"
    if drawn < 0.34:
        return "restarts"
    return "lag" if replicated and drawn < 0.6 else "anything"


def random_manifest(draw: random.Random, theme: str = "anything") -> list[dict[str, Any]]:
    """Up to seven phases, most of them done by a handler."""
    count = draw.choice((1, 1, 2) if theme == "crowd" else (1, 2, 3, 3, 5, 7))
    return [_phase(draw, n, theme) for n in range(count)]


def edited_manifest(draw: random.Random, manifest: list[dict[str, Any]], theme: str) -> list[dict[str, Any]]:
    """The manifest with phases changed, taken away and added."""
    found = [
        _phase(draw, number, theme) if draw.random() < 0.3 else phase for number, phase in enumerate(manifest)
    ]
    if len(found) > 1 and draw.random() < 0.3:
        found.pop()  # the last one: nothing needs it
    if draw.random() < 0.3:
        found.append(_phase(draw, len(found), theme))
    return found


def _phase(draw: random.Random, number: int, theme: str) -> dict[str, Any]:
    needs = sorted(draw.sample([f"p{n}" for n in range(number)], min(number, draw.choice((0, 1, 1, 2)))))
    spec: dict[str, Any] = {"waitFor": {"phases": needs} if needs else {}}
    drawn = draw.random()
    if drawn < 0.3:
        spec["x-run"] = {"noop": {}}
    elif drawn < 0.42:
        spec["x-run"] = _gate(draw)
    else:
        spec["selector"] = {"matchLabels": {"do": "work"}}
    is_timed = theme == "clocks"
    if draw.random() < (0.8 if is_timed else 0.4):
        spec["retry"] = {"maxAttempts": draw.choice((2, 3))}
        spec["x-retry"] = {"initial": draw.choice(("10ms", "300ms", "2s"))}
    if draw.random() < (0.5 if is_timed else 0.15):
        spec["x-timeout"] = draw.choice(TIMEOUTS[:-1] if drawn < 0.42 else TIMEOUTS)
    if draw.random() < 0.2:
        action = draw.choice(("continue", "abort", "raise", "log"))
        spec["onFailure"] = {"action": action, "spec": {"notify": {"email": "a@example.com", "slack": "ops"}}}
    if number % 3 == 1:
        spec["onSuccess"] = {"spec": {"message": ["well"], "notify": {"webhook": "audit"}}}
    if draw.random() < 0.1:
        spec["instanceMode"] = "onUse"
    if draw.random() < (0.1 if is_timed else 0.4):
        spec.update(_conditions(draw, needs, is_gate=0.3 <= drawn < 0.42))
    return {"kind": "Phase", "id": f"p{number}", "spec": spec}


def _gate(draw: random.Random) -> dict[str, Any]:
    """What the planner decides itself: a wait, or a question."""
    if draw.random() < 0.5:
        until = (WALL_CLOCK + 1_000) + draw.choice((-5, 1, 3))
        moment = datetime.fromtimestamp(until, UTC).isoformat()
        return {"wait": draw.choice(({"for": "0s"}, {"for": "200ms"}, {"for": "3s"}, {"until": moment}))}
    asked: dict[str, Any] = {"message": "go on?", "needed": draw.choice((1, 1, 2))}
    if draw.random() < 0.4:
        asked["approvers"] = list(PEOPLE[:2])
    if draw.random() < 0.3:
        asked |= {"expires": draw.choice(("500ms", "4s")), "onExpiry": draw.choice(("fail", "approve"))}
    if draw.random() < 0.3:
        asked["notify"] = {"slack": "ops"}
    return {"approval": asked}


def with_rules(draw: random.Random, phase: dict[str, Any]) -> dict[str, Any]:
    """The phase with what it asks of its runtime; a handler is told, so that it can see for itself."""
    spec = dict(phase["spec"])
    if draw.random() < 0.4 or "x-slots" in spec or {"wait", "approval"} & spec.get("x-run", {}).keys():
        return phase
    told: dict[str, int] = {"slots": draw.choice((1, 2, 3))}
    spec["x-slots"] = told["slots"]
    if draw.random() < 0.5:
        told["size"] = draw.choice((1, 2))
        spec["x-constraints"] = [{"label": "size", "operator": ">=", "value": told["size"]}]
    if draw.random() < 0.5:
        spec["x-affinity"] = [
            {"label": "disk", "operator": "is_set", "weight": draw.choice((-100, 20))},
            {"label": "size", "value": "1", "weight": draw.choice((-20, 100))},
        ]
    if "x-run" not in spec:
        spec["x-run"] = {"with": told}
    return {**phase, "spec": spec}


def _conditions(draw: random.Random, needs: list[str], *, is_gate: bool) -> dict[str, Any]:
    """What decides at run time: a rule, an expression, arguments from another phase, a limit."""
    found: dict[str, Any] = {}
    if draw.random() < 0.4:
        found["x-trigger"] = draw.choice(RULES)
    need = draw.choice(needs) if needs else ""
    if needs:
        expressions = ("false", f"phases.{need}.status == 'complete'", f"has(phases.{need}.result.by)")
        if draw.random() < 0.4:
            found["x-when"] = draw.choice((*expressions, f"phases.{need}.result.by != ''"))
        if draw.random() < 0.3 and not is_gate:
            found["x-run"] = {"noop": {"by": f"${{{{ phases.{need}.result.by }}}}"}}
    if draw.random() < 0.2:
        lists: tuple[Any, ...] = ([], ["a"], [1, 2, 3])
        sized = (f"[0, 1, 2, 3].filter(n, n < phases.{need}.attempt)",) if needs else ()
        found["x-foreach"] = {"items": draw.choice(lists + sized), "parallel": draw.choice((1, 2, 3))}
    if draw.random() < 0.15 and not is_gate:
        found["x-cache"] = True if draw.random() < 0.5 else {"key": f"'{draw.choice('ab')}'", "maxAge": "1s"}
    if draw.random() < 0.3:
        found["x-concurrency"] = {"key": draw.choice("xy"), "max": draw.choice((1, 2))}
    if draw.random() < 0.2:
        found["x-priority"] = draw.randint(-5, 5)
    return found
