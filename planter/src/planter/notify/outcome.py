"""What can become of one try to send a notification."""

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """Base of the outcomes."""


class Sent(Outcome, frozen=True):
    """It was taken by the other side."""

    where: str
    """For people; never a URL, whose path may be a secret."""


class Later(Outcome, frozen=True):
    """Another try may help."""

    where: str
    reason: str
    after_seconds: float = 0.0
    """The other side asks for a pause of this length at least."""


class Never(Outcome, frozen=True):
    """No other try can help."""

    where: str
    reason: str


class NotSetUp(Outcome, frozen=True):
    """The operator has not said how this kind of notification is sent at all."""

    where: str
    remedy: str


AnyOutcome = Sent | Later | Never | NotSetUp

ANSWER_MAX = 200


def answered(text: object) -> str:
    """What another program said, short and on one line."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= ANSWER_MAX else line[:ANSWER_MAX] + "..."
