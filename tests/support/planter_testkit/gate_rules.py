"""What a judge knows of phases that wait for time or for people: by rules of its own, from events alone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


class Gate(msgspec.Struct):
    """One question, or one wait."""

    kind: str
    #: Milliseconds since 1970; 0 for never.
    due: int
    is_fixed: bool
    needed: int = 1
    may: tuple[str, ...] = ()
    on_expiry: str = "fail"
    #: What is wrong with its beginning.
    odd: str | None = None
    approved: set[str] = msgspec.field(default_factory=set)
    rejected: bool = False
    expired: bool = False

    def set_back(self, by: int) -> None:
        """The clock was set back: all but points in time move with it."""
        if self.due and not self.is_fixed:
            self.due -= by

    def fault(self, event: Mapping[str, Any], at: int) -> str | None:
        """What is wrong with an event of its phase."""
        who = event.get("by", "")
        match event["type"]:
            case "WaitStarted" | "ApprovalRequested":
                return self.odd
            case "PhaseApproved" | "PhaseRejected" if self.kind != "approval":
                return "nobody was asked"
            case "PhaseApproved" | "PhaseRejected" if not who or (self.may and who not in self.may):
                return f"{who!r} may not answer, only {self.may}"
            case "PhaseApproved" if who in self.approved:
                return f"{who} counts twice"
            case "PhaseApproved":
                self.approved.add(who)
            case "PhaseRejected":
                self.rejected = True
            case "ApprovalExpired" if not self.due or at < self.due or self.kind != "approval":
                return f"it expired at {at}, and was due at {self.due}"
            case "ApprovalExpired" if event["outcome"] != self.on_expiry:
                return f"it expired to {event['outcome']} instead of {self.on_expiry}"
            case "ApprovalExpired":
                self.expired = True
            case "PhaseCompleted" if self.kind == "wait" and at < self.due:
                return f"it waited {self.due - at} ms too short"
            case "PhaseCompleted" if self.kind == "approval" and self.rejected:
                return "it completed although somebody has rejected it"
            case "PhaseCompleted" if self.kind == "approval" and not self.is_approved:
                return f"it completed with {len(self.approved)} of {self.needed} approvals"
            case "PhaseFailed" if event.get("kind") == "rejected" and not self.rejected:
                return "nobody has rejected it"
            case "PhaseFailed" if event.get("kind") == "expired" and not self.expired:
                return "it has not expired"
            case _:
                pass
        return None

    @property
    def is_approved(self) -> bool:
        """Whether there are answers enough, or silence that counts as one."""
        return len(self.approved) >= self.needed or (self.expired and self.on_expiry == "approve")


def begun(event: Mapping[str, Any], kind: str, run: Mapping[str, Any], at: int) -> Gate:
    """The gate that begins with an event, and whether that fits the plan (no ``run``: it has expressions)."""
    if event["type"] == "WaitStarted":
        wait = run.get("wait", {})
        gate = Gate("wait", event["due"], event.get("fixed", False))
        wanted = event["due"]
        if "until" in wait:
            wanted = milliseconds(wait["until"])
        elif "for" in wait:
            wanted = at + _span(wait["for"])
        if (kind, wanted) != ("wait", event["due"]):
            gate.odd = f"it is due at {event['due']} instead of {wanted}"
        return gate
    asked = run.get("approval", {})
    gate = Gate(
        "approval",
        event.get("expires") or 0,
        is_fixed=False,
        needed=asked.get("needed", 1),
        may=tuple(asked.get("approvers", ())),
        on_expiry=asked.get("onExpiry", "fail"),
    )
    if kind != "approval" or ("expires" in asked and gate.due != at + _span(asked["expires"])):
        gate.odd = f"{event} is not what the plan asks: {asked}"
    return gate


def milliseconds(moment: str) -> int:
    """Since 1970, of an RFC 3339 time."""
    return round(datetime.fromisoformat(moment).timestamp() * 1_000)


def _span(text: str) -> int:
    number = text.rstrip("mhs")
    return int(number) * _UNITS[text[len(number) :]]
