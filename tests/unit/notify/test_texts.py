"""Notifications as mails, Slack messages and JSON, whatever a manifest has in them; and where they may go."""

import json
from email import message_from_bytes
from email.policy import default
from typing import Any

import msgspec
import pytest

from planter.core.plan import Handler
from planter.notify.config import NotifyConfig, Smtp
from planter.notify.hooks import HookSender
from planter.notify.mailing import send_mail
from planter.notify.outcome import Later, Never, NotSetUp
from planter.notify.texts import BODY_MAX, SLACK_MAX, document, mail, slack
from planter.shell.addresses import allowed_host, refused_addresses
from planter_protocol.messages import Notification
from planter_testkit.builders import approval, phase, plan

NOTE = Notification(
    id="0123",
    channel="email",
    address="ops@example.com",
    session_id="s",
    revision=1,
    phase_id="a",
    attempt=2,
    outcome="failed",
    at="2026-03-01T02:14:07.125Z",
)
SMTP = Smtp("127.0.0.1", 9, "none", "planter@example.com")


def note(**fields: Any) -> Notification:
    """A notification."""
    return msgspec.structs.replace(NOTE, **fields)


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: all@example.com", "x\n\nbody", "x\x00y", "ü" * 500, "\u2028Bcc: a"]
)
def test_no_phase_id_adds_a_header_to_a_mail(evil: str) -> None:
    data = mail(note(phase_id=evil, message=(evil,)), "planter@example.com", ("a@example.com",)).as_bytes()
    read = message_from_bytes(data, policy=default)

    assert sorted(read.keys()) == sorted(
        [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding",
            "MIME-Version",
        ]
    )
    assert read["To"] == "a@example.com"


def test_what_is_sent_again_has_the_same_message_id_and_date() -> None:
    first, second = (mail(NOTE, "planter@example.com", ("a@example.com",)) for _ in range(2))

    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"] == "Sun, 01 Mar 2026 02:14:07 +0000"


def test_texts_are_bounded() -> None:
    long = note(message=("m" * 10**6,), reason="r" * 10**6)

    assert len(mail(long, "p@example.com", ("a@example.com",)).get_content()) < BODY_MAX + 100
    assert len(json.loads(slack(long))["text"]) < SLACK_MAX + 100


def test_slack_sees_no_mention_and_no_link() -> None:
    text = json.loads(slack(note(message=("<!channel> <https://evil.example|here> & more",))))["text"]

    assert "&lt;!channel&gt; &lt;https://evil.example|here&gt; &amp; more" in text


def test_a_webhook_is_not_told_its_own_address() -> None:
    found = json.loads(document(note(channel="webhook", address="https://x/S3CRET", labels={"k": "v"})))

    assert "S3CRET" not in str(found)
    assert found["labels"] == {"k": "v"}


@pytest.mark.parametrize(
    "address",
    [
        "a@example.com\r\nBcc: b@example.com",
        "a",
        "a@",
        "@example.com",
        "<a@example.com>",
        "a b@example.com",
        "a@evil@example.com",
        "ä@example.com",
        "",
        ",".join(f"a{n}@example.com" for n in range(21)),
        "a@example.org",
        "a@example.com.example.org",
        "a@sub.example.com",
    ],
)
async def test_an_address_that_is_odd_or_not_allowed_is_never_tried(address: str) -> None:
    config = NotifyConfig(smtp=SMTP, domains=frozenset({"example.com"}))

    assert isinstance(await send_mail(config, note(address=address)), Never)


async def test_a_mail_server_that_is_away_is_tried_later() -> None:
    config = NotifyConfig(smtp=SMTP, domains=frozenset({"*"}))

    outcome = await send_mail(config, note(address="a@anywhere.example"))

    assert isinstance(outcome, Later)
    assert outcome.reason.startswith("mail server 127.0.0.1:9: ")


async def test_without_settings_nothing_is_sent_and_the_way_to_them_is_told() -> None:
    for outcome in (
        await send_mail(NotifyConfig(), NOTE),
        await HookSender(NotifyConfig()).send(note(channel="slack", address="ops")),
        await HookSender(NotifyConfig()).send(note(channel="webhook", address="ops")),
    ):
        assert isinstance(outcome, NotSetUp)
        assert "PLANTER_NOTIFY_" in outcome.remedy


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example.com/x", "hooks.example.com"),
        ("http://HOOKS.example.com:8080/x", "hooks.example.com"),
        ("https://user:pass@hooks.example.com/x", None),
        ("https://hooks.example.com@evil.example/x", None),
        ("https://evil.example/hooks.example.com", None),
        ("https://hooks.example.com.evil.example/", None),
        ("ftp://hooks.example.com/x", None),
        ("file:///etc/passwd", None),
        ("https://hooks.example.com:99999/", None),
        ("https://[::1/", None),
        ("https://hooks.example.com/\r\nHost: x", None),
        ("http://169.254.169.254/latest", None),
    ],
)
def test_a_url_counts_only_for_a_host_on_the_list(url: str, host: str | None) -> None:
    assert allowed_host(url, frozenset({"hooks.example.com"})) == host


async def test_a_url_that_another_planner_let_pass_is_checked_again_when_it_is_sent() -> None:
    outcome = await HookSender(NotifyConfig()).send(
        note(channel="slack", address="http://127.0.0.1:9/S3CRET")
    )

    assert isinstance(outcome, Never)
    assert "S3CRET" not in f"{outcome.where} {outcome.reason}"


def test_the_places_of_refused_urls_are_named_and_the_urls_are_not() -> None:
    secret = Handler(notify={"slack": "https://hooks.example.com/S3CRET", "email": "a@example.com"})
    asked = approval("d", asked={"message": "${{ x }}", "expires": "${{ y }}", "notify": secret.notify})
    given = plan(phase("a", failure=secret), phase("b", success=secret), phase("c", success=Handler()), asked)

    refused = str(refused_addresses(given, frozenset()))

    assert "a (onFailure.spec.notify.slack), b (onSuccess.spec.notify.slack)" in refused
    assert "d (x-run.approval.notify.slack)" in refused
    assert "S3CRET" not in refused
    assert refused_addresses(given, frozenset({"hooks.example.com"})) is None
