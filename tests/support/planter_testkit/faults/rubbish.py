"""Messages that nobody should send, made from a seed: broken, forged, huge, deep, for the wrong place.

Whatever a forgery claims bears ``FORGED``, so that one that was believed can be found in the journal.
"""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

FORGED = "FORGED"
_VERBS = ("start", "control", "ack", "report")
_LARGE = 512 * 1024
_PAYLOAD_BYTES_MAX = 1024 * 1024 - 1024


class Message(NamedTuple):
    """What to publish where."""

    subject: str
    data: bytes


class Rubbish:
    """An endless supply."""

    def __init__(self, draw: random.Random, victims: Callable[[], list[str]], phases: list[str]) -> None:
        self._draw = draw
        self._victims = victims
        self._phases = phases

    def message(self) -> Message:
        """The next one."""
        kinds = (self._broken, self._wrong_type, self._forged, self._odd_json, self._wrong_session)
        rare = (self._huge, self._deep)
        draw = self._draw.random()
        if draw < 0.02:
            return self._draw.choice(rare)()
        if draw < 0.12:
            return self._beside()
        return self._draw.choice(kinds)()

    # -- inputs --------------------------------------------------------------------------------------

    def _broken(self) -> Message:
        """A valid message, cut off or with bytes changed."""
        verb = self._draw.choice(_VERBS)
        data = bytearray(json.dumps(self._valid(verb)).encode())
        if self._draw.random() < 0.5:
            data = data[: self._draw.randrange(len(data))]
        else:
            for _ in range(self._draw.randint(1, 6)):
                data[self._draw.randrange(len(data))] = self._draw.choice(b'\x00\xff{}[]",:0\x80')
        session = f"broken-{self._draw.randrange(20)}" if verb in ("start", "control") else self._victim()
        return Message(f"plan.session.{session}.{verb}", bytes(data))

    def _wrong_type(self) -> Message:
        verb = self._draw.choice(_VERBS)
        wrong = {name: [1] for name in self._valid(verb)}
        data = self._draw.choice(
            [
                None,
                True,
                7,
                -1.5,
                "text",
                [],
                [[]],
                {},
                {"acks": {}},
                {"reports": "x"},
                {"manifest": None},
                wrong,
            ]
        )
        return Message(f"plan.session.{self._victim()}.{verb}", json.dumps(data).encode())

    def _forged(self) -> Message:
        """A report or ack for a phase of a running session, by somebody who has no part in it."""
        verb = self._draw.choice(("ack", "report"))
        one = self._valid(verb)
        one["fence"] = self._draw.choice([0, 1, one["fence"], 2**62])
        if self._draw.random() < 0.3:
            del one["dispatchId"]
        copies = self._draw.choice([1, 1, 1, 3, 200])
        data = {f"{verb}s": [one] * copies} if copies > 1 else one
        return Message(f"plan.session.{self._victim()}.{verb}", json.dumps(data).encode())

    def _odd_json(self) -> Message:
        """NaN, invalid UTF-8, repeated keys, numbers beyond reason."""
        verb = self._draw.choice(_VERBS)
        data = self._draw.choice(
            [
                b'{"phaseId": NaN}',
                b'{"phaseId": "t0", "fence": Infinity, "status": "complete"}',
                b'{"phaseId": "\xff\xfe", "status": "complete"}',
                b'{"phaseId": "t0", "phaseId": "t1", "status": "FORGED"}',
                b'{"phaseId": "t0", "status": "complete", "attempt": ' + b"9" * 5_000 + b"}",
                b'{"phaseId": "t0", "status": "complete", "attempt": 1e999}',
                b'{"phaseId": "\\ud800", "status": "complete", "dispatchId": "x"}',
                b'\xef\xbb\xbf{"command": "pause"',
                b"",
                b"\x00" * 100,
            ]
        )
        return Message(f"plan.session.{self._victim()}.{verb}", data)

    def _wrong_session(self) -> Message:
        """Valid messages for sessions that do not exist, or cannot."""
        verb = self._draw.choice(("control", "ack", "report"))
        session = self._draw.choice(["nobody", "x" * 65, "a$b", "ä", "-", "_", "in", "a" * 200])
        return Message(f"plan.session.{session}.{verb}", json.dumps(self._valid(verb)).encode())

    def _huge(self) -> Message:
        """Above Planter's limit; some above the stream's, none above the server's."""
        verb = self._draw.choice(_VERBS)
        size = self._draw.choice([_LARGE - 100, _LARGE + 1, _LARGE + 8_000, 700_000, _PAYLOAD_BYTES_MAX])
        one = self._valid(verb) | {"reason": "x" * (size - 1000)}
        return Message(f"plan.session.{self._victim()}.{verb}", json.dumps(one).encode())

    def _deep(self) -> Message:
        verb = self._draw.choice(_VERBS)
        depth = self._draw.choice([100, 5_000, 100_000])
        data = b'{"manifest":' + b"[" * depth + b"]" * depth + b"}"
        return Message(f"plan.session.deep.{verb}", data)

    # -- everything beside the inputs ------------------------------------------------------------

    def _beside(self) -> Message:
        """Heartbeats, presences, hand-overs, states and queries."""
        victim, phase = self._victim(), self._phase()
        beat = {
            "runtimeId": "ghost",
            "instance": "i",
            "slots": self._draw.choice([-5, 0, 10**12]),
            "labels": {"work": "nothing"},
            "leaseMs": self._draw.choice([-1, 0, 10**15]),
        }
        junk = self._draw.choice(
            [b"", b"{", b"[]", b"null", b"\xff\xff", b'{"runtimeId": 5}', b'{"plannerId": []}']
        )
        state = {"phaseId": phase, "status": "complete", "updated": FORGED, "runtimeId": FORGED}
        choices: list[tuple[str, Any]] = [
            ("plan.runtime.ghost.heartbeat", beat),
            ("plan.runtime.scripted.heartbeat", beat),
            ("plan.runtime.scripted.heartbeat", junk),
            ("plan.runtime.a$b.heartbeat", junk),
            ("plan.planner.ghost.presence", junk),
            ("plan.planner.handover", junk),
            ("plan.planner.handover", {"sessions": {victim: 10**12, "nobody": 5}}),
            (f"plan.session.{victim}.state", state),
            (f"plan.session.{victim}.state", junk),
            (f"plan.session.{victim}.get_state", junk),
            (f"plan.session.{victim}.diff", junk),
            (f"plan.session.{victim}.explain", junk),
            (f"plan.session.{victim}.explain", junk),
            ("plan.session.a$b.get_state", junk),
            ("plan.planner.info", junk),
        ]
        subject, data = self._draw.choice(choices)
        return Message(subject, data if isinstance(data, bytes) else json.dumps(data).encode())

    # -- parts -----------------------------------------------------------------------------------

    def _victim(self) -> str:
        victims = self._victims()
        return self._draw.choice(victims) if victims else "nobody"

    def _phase(self) -> str:
        return self._draw.choice(self._phases)

    def _valid(self, verb: str) -> dict[str, Any]:
        """A message as it should be, but for its proof."""
        if verb == "start":
            return {
                "manifest": [
                    {"kind": "Phase", "id": "a", "spec": {"description": "d", "x-run": {"noop": {}}}}
                ]
            }
        if verb == "control":
            return {"command": "skip", "phaseId": self._phase(), "reason": FORGED}
        echo = {
            "phaseId": self._phase(),
            "attempt": 1,
            "fence": self._draw.randint(1, 2_000),
            "dispatchId": f"{self._draw.getrandbits(128):032x}",
            "runtimeId": "scripted",
        }
        if verb == "ack":
            return echo | {"accepted": self._draw.random() < 0.5, "reason": FORGED}
        status = self._draw.choice(["complete", "failed", "running", "cancelled", "heartbeat"])
        return echo | {"status": status, "result": FORGED, "error": {"message": FORGED}, "details": FORGED}
