"""A notification as a mail, as a Slack message and as JSON. Each is bounded, whatever the manifest has."""

import shlex
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import msgspec

from planter.core.texts import cut
from planter_protocol.messages import Notification

SUBJECT_MAX = 150
BODY_MAX = 16_000
SLACK_MAX = 3_000
_MARKS = {"complete": ":white_check_mark:", "asked": ":raised_hand:"}


def mail(notification: Notification, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """A mail; its ``Message-ID`` follows from the notification, so that one that comes twice can be told."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = _line(f"[planter] {_headline(notification)}", SUBJECT_MAX)
    message["Date"] = format_datetime(datetime.fromisoformat(notification.at))
    message["Message-ID"] = f"<{notification.id}.planter@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(cut("\n".join(_body(notification)), BODY_MAX) + "\n")
    return message


def slack(notification: Notification) -> bytes:
    """The body of a Slack incoming webhook; nothing that the manifest has becomes a link or a mention."""
    text = "\n".join(_body(notification))
    mark = _MARKS.get(notification.outcome, ":x:")
    return msgspec.json.encode({"text": f"{mark} {_escaped(cut(text, SLACK_MAX))}"})


def document(notification: Notification) -> bytes:
    """The body of a webhook."""
    fields = msgspec.to_builtins(notification)
    left_out = ("channel", "address")
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in left_out})


def _headline(notification: Notification) -> str:
    n = notification
    outcome = "waits for approval" if n.outcome == "asked" else n.outcome
    return f"phase {n.phase_id} of session {n.session_id}: {outcome}"


def _body(notification: Notification) -> list[str]:
    n = notification
    lines = [_headline(n), *([""] if n.message else ()), *n.message, ""]
    lines.append(f"attempt {n.attempt}, revision {n.revision}, {n.at}")
    if n.outcome == "asked":
        answer = f"planter control {n.session_id} approve {shlex.quote(n.phase_id)}"
        lines.append(f"answer: {answer} (or reject)")
    if n.reason is not None:
        lines.append(f"reason: {n.reason}")
    if n.labels:
        lines.append("labels: " + ", ".join(f"{key}={value}" for key, value in n.labels.items()))
    return lines


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _line(text: str, most: int) -> str:
    """On one line, without anything that could end a header."""
    return cut("".join(letter if letter.isprintable() else " " for letter in text), most)
