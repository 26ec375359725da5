"""A PMP server as simple as the protocol allows, with switches for mistakes: what the kit is tried with.

    python naive_server.py NATS_URL [FAULT...]

It keeps everything in memory and speaks NATS alone: core messages, no JetStream, no HTTP. Without a fault it
passes the kit; with one, the kit has to say so. The faults are those of real servers.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.msg import Msg

FAULTS = {
    "ignores-needs": "starts every phase at once",
    "goes-on-after-raise": "a failed phase counts as complete for what waits for it",
    "stops-after-continue": "`continue` is treated as `raise`",
    "ignores-pause": "a paused session starts phases",
    "ignores-cancel": "a cancelled session starts phases",
    "loses-retry": "the first failure is final",
    "retries-for-ever": "maxAttempts is not looked at",
    "lower-case-only": "reads camelCase keys alone, and ignores all others",
    "pascal-case-only": "reads the spelling of the first example alone",
    "wrong-time": "times are seconds since 1970",
    "wrong-words": "statuses are COMPLETED, FAILED, RUNNING",
    "ack-completes": "an accepted target counts as done",
    "rejection-fails": "a rejected target counts as failed",
    "queued-runs": "a queued target counts as running",
    "accepts-duplicates": "the last phase of an id wins",
    "accepts-circles": "waits in a circle are not noticed",
    "accepts-anything": "unknown keys and kinds are taken",
    "obeys-dry-run": "a dry run is executed",
    "replaces-running": "another manifest replaces the one that is executed",
    "compares-with-itself": "the reply to diff never depends on the request",
    "starts-on-use": "instanceMode is not looked at",
    "waits-for-ever": "waitFor.timeout is not looked at",
    "waits-first": "waitFor.timeout is slept before the phase",
    "needs-acks": "states of a runtime that sends no acks are not believed",
    "forgets-log": "handlers say nothing",
    "forgets-events": "there are no lifecycle events",
    "forgets-state": "state messages are left to runtimes",
    "wrong-target": "a target has no reason",
    "mixes-sessions": "a phase that is complete in one session is so in all",
    "breaks-on-junk": "the first message that cannot be read is the last",
    "forgets-phases": "get_state names only what has begun",
}

Object = dict[str, Any]
SPEC = ("description", "selector", "instanceMode", "waitFor", "retry", "onFailure", "onSuccess")
INNER = ("matchLabels", "phases", "timeout", "maxAttempts", "action", "spec", "message", "notify", "labels")
OPEN = ("targeted", "queued", "running")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class InvalidManifest(Exception):
    """Why a manifest is not taken."""


class Reader:
    """Manifests to phases in camelCase."""

    def __init__(self, faults: set[str]) -> None:
        self._faults = faults
        self._snake = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): name for name in (*SPEC, *INNER)}

    def read(self, manifest: Any) -> dict[str, Object]:
        """Specs by id."""
        if not isinstance(manifest, list):
            raise InvalidManifest("a manifest is a list")
        phases: dict[str, Object] = {}
        for given in manifest:
            if not isinstance(given, dict):
                raise InvalidManifest("a phase is an object")
            phase = self._keys(given, {"kind": "kind", "id": "id", "spec": "spec"}, top=True)
            name, spec = phase.get("id"), phase.get("spec", {})
            if not isinstance(name, str) or not isinstance(spec, dict):
                raise InvalidManifest("a phase has an id and a spec")
            if phase.get("kind", "Phase") != "Phase" and "accepts-anything" not in self._faults:
                raise InvalidManifest("the kind of a phase is Phase")
            if name in phases and "accepts-duplicates" not in self._faults:
                raise InvalidManifest(f"{name} is there twice")
            phases[name] = self._spec(spec)
        self._check_circles(phases)
        return phases

    def _spec(self, given: Object) -> Object:
        spec = self._keys(given, dict.fromkeys(SPEC))
        for name in ("waitFor", "retry", "onFailure", "onSuccess"):
            spec[name] = self._keys(spec.get(name) or {}, dict.fromkeys(INNER))
        return spec

    def _keys(self, given: Object, known: Any, *, top: bool = False) -> Object:
        """Keys in camelCase; every other one is refused, and so is a second spelling."""
        found: Object = {}
        for key, value in given.items():
            if key.startswith("x-"):
                continue
            plain = key[:1].lower() + key[1:] if top else self._snake.get(key, key)
            if "lower-case-only" in self._faults and plain != key:
                continue
            if "pascal-case-only" in self._faults and plain == key and (top or not key.islower()):
                continue
            if "accepts-anything" not in self._faults and (plain not in known or plain in found):
                raise InvalidManifest(f"{key} is not known, or there in two spellings")
            found[plain] = value
        return found

    def _check_circles(self, phases: dict[str, Object]) -> None:
        done: set[str] = set()
        while "accepts-circles" not in self._faults:
            ready = {
                name
                for name, spec in phases.items()
                if name not in done and not (set(needs(spec)) & set(phases)) - done
            }
            if not ready:
                if len(done) < len(phases):
                    raise InvalidManifest("phases wait in a circle")
                return
            done |= ready


def needs(spec: Object) -> list[str]:
    """What a phase waits for."""
    return spec["waitFor"].get("phases") or []


class Session:
    """One line of work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.phases: dict[str, Object] = {}
        self.status: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        self.state = "pending"
        self.failing = False
        self.acked: set[str] = set()


class Server:
    """Everything that it knows, and what it does about it."""

    def __init__(self, nc: nats.NATS, faults: set[str]) -> None:
        self._nc = nc
        self._faults = faults
        self._reader = Reader(faults)
        self._sessions: dict[str, Session] = {}
        self._complete: set[str] = set()
        self._broken = False

    async def on_message(self, message: Msg) -> None:
        """Anything on a session's subjects."""
        _, _, name, verb = message.subject.split(".")
        handler: Callable[..., Any] | None = getattr(self, f"_on_{verb}", None)
        if handler is None or self._broken:
            return
        session = self._sessions.setdefault(name, Session(name))
        try:
            body = dict(json.loads(message.data) if message.data else {})
            reply = await handler(session, body)
        except InvalidManifest as error:
            await self._event(session, f"refused: {error}")
            reply = {"error": str(error)}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._broken = "breaks-on-junk" in self._faults
            return
        if message.reply and reply is not None:
            await self._nc.publish(message.reply, json.dumps(reply).encode())

    async def _on_start(self, session: Session, body: Object) -> None:
        phases = self._reader.read(body["manifest"])
        if body.get("dryRun") and "obeys-dry-run" not in self._faults:
            return
        if self._is_executing(session) and "replaces-running" not in self._faults:
            return
        session.phases = phases
        session.status = dict.fromkeys(phases, "pending")
        session.attempts = dict.fromkeys(phases, 0)
        session.state, session.failing = "running", False
        if "mixes-sessions" in self._faults:
            session.status.update(dict.fromkeys(self._complete & set(phases), "complete"))
        await self._event(session, "start")
        for phase, spec in phases.items():
            timeout = re.fullmatch(r"(\d+)(ms|s|m|h)", spec["waitFor"].get("timeout") or "")
            if timeout and "waits-for-ever" not in self._faults:
                seconds = int(timeout[1]) * _UNITS[timeout[2]]
                asyncio.get_running_loop().call_later(seconds, self._waited, session, phase)
        await self._advance(session)

    def _is_executing(self, session: Session) -> bool:
        left = [each for each in session.status.values() if each in ("pending", *OPEN)]
        return session.state in ("running", "paused") and bool(left) and not session.failing

    def _waited(self, session: Session, phase: str) -> None:
        if "waits-first" in self._faults:
            session.phases[phase]["waitFor"].pop("timeout", None)
            self._later(self._advance(session))
        elif session.status.get(phase) == "pending":
            self._later(self._finish(session, phase, "failed"))

    def _later(self, work: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def _on_control(self, session: Session, body: Object) -> None:
        command = body["command"]
        fault = {"pause": "ignores-pause", "cancel": "ignores-cancel"}.get(command)
        if session.state in ("pending", "cancelled"):
            return
        session.state = {"pause": "paused", "resume": "running", "cancel": "cancelled"}[command]
        if fault in self._faults:
            session.state = "running"
        if session.state == "cancelled":
            for phase, status in list(session.status.items()):
                if status in ("pending", *OPEN):
                    await self._set(session, phase, "cancelled")
        await self._event(session, command)
        await self._advance(session)

    async def _on_ack(self, session: Session, body: Object) -> None:
        phase = body["phaseId"]
        if session.status.get(phase) != "targeted":
            return
        session.acked.add(phase)
        if not body["accepted"]:
            if "rejection-fails" in self._faults:
                await self._finish(session, phase, "failed")
        elif "ack-completes" in self._faults:
            await self._finish(session, phase, "complete")
        elif body.get("queued"):
            await self._set(session, phase, "running" if "queued-runs" in self._faults else "queued")

    async def _on_state(self, session: Session, body: Object) -> None:
        phase, status = body["phaseId"], body["status"]
        known = session.status.get(phase)
        is_next = known == "pending" and self._is_ready(session, phase)
        if "needs-acks" in self._faults and phase not in session.acked:
            return
        if status not in ("running", "complete", "failed") or not (known in OPEN or is_next):
            return
        if status == "running":
            await self._set(session, phase, "running")
        else:
            await self._finish(session, phase, status)

    async def _on_get_state(self, session: Session, body: Object) -> Object:
        del body
        known = session.status.items()
        if "forgets-phases" in self._faults:
            known = [(phase, status) for phase, status in known if status != "pending"]
        phases = [{"phaseId": phase, "status": self._word(status)} for phase, status in known]
        return {"sessionId": session.name, "status": session.state, "phases": phases}

    async def _on_diff(self, session: Session, body: Object) -> Object:
        phases = self._reader.read(body["manifest"])
        if "compares-with-itself" in self._faults:
            phases = session.phases
        return {
            "add": [name for name in phases if name not in session.phases],
            "update": [name for name in phases if session.phases.get(name, phases[name]) != phases[name]],
            "delete": [name for name in session.phases if name not in phases],
        }

    # -- progress --------------------------------------------------------------------------------

    async def _finish(self, session: Session, phase: str, status: str) -> None:
        spec = session.phases[phase]
        retries = int(spec["retry"].get("maxAttempts", 1)) if "loses-retry" not in self._faults else 1
        endless = "retries-for-ever" in self._faults and session.attempts[phase] < 9
        if status == "failed" and session.attempts[phase] and (session.attempts[phase] < retries or endless):
            await self._set(session, phase, "pending")
            await self._advance(session)
            return
        await self._set(session, phase, status)
        handler = spec["onFailure" if status == "failed" else "onSuccess"]
        for text in (handler.get("spec") or {}).get("message", ()):
            await self._log(session, phase, text)
        if status == "complete":
            self._complete.add(phase)
        else:
            await self._event(session, f"failed: {phase}")
            goes_on = handler.get("action") == "continue" and "stops-after-continue" not in self._faults
            if not goes_on and "goes-on-after-raise" not in self._faults:
                session.failing = True
        await self._advance(session)

    async def _advance(self, session: Session) -> None:
        if session.state != "running" or session.failing:
            return
        for phase in session.phases:
            if session.status[phase] == "pending" and self._is_ready(session, phase):
                session.attempts[phase] += 1
                await self._set(session, phase, "targeted")
                target = {"phaseId": phase, "reason": "dependencies satisfied"}
                if "wrong-target" in self._faults:
                    del target["reason"]
                await self._say(session, "target", target)

    def _is_ready(self, session: Session, phase: str) -> bool:
        spec = session.phases[phase]
        if "ignores-needs" in self._faults:
            return True
        if "waits-first" in self._faults and spec["waitFor"].get("timeout"):
            return False
        if session.state == "cancelled" or session.failing:
            return False
        if spec.get("instanceMode") == "onUse" and "starts-on-use" not in self._faults:
            users = [name for name, other in session.phases.items() if phase in needs(other)]
            if not any(
                self._are_done(session, [n for n in needs(session.phases[u]) if n != phase]) for u in users
            ):
                return False
        return self._are_done(session, needs(spec))

    def _are_done(self, session: Session, names: list[str]) -> bool:
        return all(session.status.get(name) in ("complete", "failed") for name in names)

    # -- what is said ----------------------------------------------------------------------------

    async def _set(self, session: Session, phase: str, status: str) -> None:
        session.status[phase] = status
        if "forgets-state" not in self._faults:
            message = {"phaseId": phase, "status": self._word(status), "updated": self._now()}
            await self._say(session, "state", message)

    async def _log(self, session: Session, phase: str, text: str) -> None:
        if "forgets-log" not in self._faults:
            message = {"phaseId": phase, "level": "info", "message": text, "timestamp": self._now()}
            await self._say(session, "log", message)

    async def _event(self, session: Session, what: str) -> None:
        if "forgets-events" not in self._faults:
            await self._say(session, "events", {"event": what, "at": self._now()})

    async def _say(self, session: Session, verb: str, message: Object) -> None:
        await self._nc.publish(f"plan.session.{session.name}.{verb}", json.dumps(message).encode())

    def _word(self, status: str) -> str:
        if "wrong-words" in self._faults:
            return {"complete": "COMPLETED", "failed": "FAILED", "running": "RUNNING"}.get(status, status)
        return status

    def _now(self) -> Any:
        now = datetime.now(UTC)
        return now.timestamp() if "wrong-time" in self._faults else now.isoformat()


@asynccontextmanager
async def serving(url: str, *faults: str) -> AsyncGenerator[None]:
    """A server until the end of the block."""
    unknown = set(faults) - set(FAULTS)
    if unknown:
        sys.exit(f"unknown: {unknown}; there are {', '.join(FAULTS)}")
    nc = await nats.connect(url, no_echo=True)
    await nc.subscribe("plan.session.*.*", cb=Server(nc, set(faults)).on_message)
    await nc.flush()
    try:
        yield
    finally:
        await nc.close()


async def main(url: str, *faults: str) -> None:
    """Serve until the process is ended."""
    async with serving(url, *faults):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
