"""What ``Attempts`` wants done: a closed union, carried out by the agent."""

from typing import Literal

import msgspec

from planter_protocol.messages import Ack, Report, Target

NoteEvent = Literal["target.refused", "attempt.superseded", "control.ignored"]


class SendAck(msgspec.Struct, frozen=True):
    """Answer a target."""

    session: str
    ack: Ack


class SendReport(msgspec.Struct, frozen=True):
    """Tell how an attempt goes."""

    session: str
    report: Report


class Start(msgspec.Struct, frozen=True):
    """Execute the target now; a slot is taken for it."""

    target: Target


class Stop(msgspec.Struct, frozen=True):
    """End the execution of this target; its end is still to be told to ``Attempts``."""

    target: Target
    reason: str


class Note(msgspec.Struct, frozen=True):
    """Something for the runtime's own log."""

    event: NoteEvent
    session: str
    phase: str
    attempt: int | None
    fence: int | None
    reason: str


Order = SendAck | SendReport | Start | Stop | Note
