"""What an operator may set about notifications, and what is refused, without a secret in any message."""

from pathlib import Path
from typing import Any

import pytest

from planter.notify.config import channel_name, load_config
from planter.settings import ConfigInvalid, load_settings

URL = "https://hooks.example.com/T0P-S3CRET"
SMTP = {"host": "mail.example.com", "from": "planter@example.com"}


def load(table: dict[str, Any] | None = None, **environ: str) -> Any:
    """The configuration of one table and an environment."""
    variables = {f"PLANTER_NOTIFY_{name}": value for name, value in environ.items()}
    return load_config([("planter.toml", table or {})], variables)


def test_nothing_set_is_a_configuration_that_sends_nothing() -> None:
    config = load()

    assert (config.smtp, config.slack, config.webhook, config.hosts) == (None, {}, {}, frozenset())


def test_everything_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{URL}\n")
    (tmp_path / "password").write_text("hunter2\n")
    (tmp_path / "planter.toml").write_text(f"""
        [notify]
        domains = ["Example.com"]
        hosts = ["hooks.example.com"]
        tries = 3
        pause = "0.5s"
        [notify.smtp]
        host = "mail.example.com"
        from = "planter@example.com"
        user = "planter"
        password_file = "{tmp_path}/password"
        [notify.slack]
        Ops_Alerts = {{file = "{tmp_path}/url"}}
    """)
    settings = load_settings(environ={"HOME": str(tmp_path)}, folder=tmp_path)
    config = load_config(settings.notify, {})

    assert (config.smtp.host, config.smtp.port, config.smtp.tls) == ("mail.example.com", 587, "starttls")
    assert config.smtp.password.read() == "hunter2"
    assert config.slack["ops-alerts"].read() == URL
    assert (config.domains, config.tries, config.pause_seconds) == (frozenset({"example.com"}), 3, 0.5)
    assert "hunter2" not in repr(config)
    assert "S3CRET" not in repr(config)


def test_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    table = {"smtp": {**SMTP, "user": "u", "password_file": str(tmp_path / "old")}, "tries": 3}

    config = load(
        table, SMTP_HOST="other", SMTP_PASSWORD="new", TRIES="7", SLACK_OPS=URL, DOMAINS="a.com, B.com"
    )

    assert (config.smtp.host, config.smtp.password.read(), config.tries) == ("other", "new", 7)
    assert (config.slack["ops"].read(), config.domains) == (URL, frozenset({"a.com", "b.com"}))


def test_mail_goes_to_the_senders_own_domain_unless_more_is_allowed() -> None:
    assert load({"smtp": SMTP}).domains == frozenset({"example.com"})


def test_a_changed_secret_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(URL)
    config = load(SLACK_OPS_FILE=str(file))

    file.write_text(f"{URL}2")

    assert config.slack["ops"].read() == f"{URL}2"


@pytest.mark.parametrize(
    ("table", "environ", "says"),
    [
        ({"smpt": {}}, {}, "unknown setting `notify.smpt`"),
        ({"smtp": 5}, {}, "must be a table"),
        ({"smtp": {"host": "x"}}, {}, "`notify.smtp.from` is missing"),
        ({"smtp": {**SMTP, "password": "S3CRET"}}, {}, "a password stands in it"),
        ({"smtp": {**SMTP, "from": "a@b.c\r\nBcc: x@y.z"}}, {}, "`notify.smtp.from` is"),
        ({"smtp": {**SMTP, "tls": "ssl"}}, {}, "use starttls, tls or none"),
        ({"smtp": {**SMTP, "port": 70_000}}, {}, "whole number from 1 to 65535"),
        ({"smtp": {**SMTP, "port": True}}, {}, "whole number"),
        ({"smtp": {**SMTP, "user": "u", "password_file": "/nowhere"}}, {}, "cannot be read"),
        ({"smtp": {**SMTP, "tls": "none", "user": "u"}}, {"SMTP_PASSWORD": "S3CRET"}, "in clear text"),
        ({"smtp": SMTP}, {"SMTP_PASSWORD": "S3CRET"}, "no `notify.smtp.user`"),
        ({"slack": {"ops": URL}}, {}, "the URL is a secret"),
        ({"slack": {"ops": {"env": "NOT_THERE"}}}, {}, "the environment has no NOT_THERE"),
        ({"slack": {"o ps": {"env": "PATH"}}}, {}, "letters, digits and -"),
        ({}, {"SLACK_OPS": "S3CRET"}, "the URL cannot be used"),
        ({}, {"SLACK_OPS": "file:///etc/S3CRET"}, "the URL cannot be used"),
        ({}, {"SLACK_OPS": "http://x:99999/S3CRET"}, "the URL cannot be used"),
        ({}, {"SLACK_OPS": "http:///S3CRET"}, "the URL cannot be used"),
        ({}, {"SLACK_OPS_FILE": "/nowhere"}, "cannot be read"),
        ({}, {"SLACK_OPS": " "}, "the secret is empty"),
        ({}, {"SMPT_HOST": "x"}, "no setting has this name"),
        ({"tries": 0}, {}, "whole number"),
        ({"pause": "1h"}, {}, "use seconds"),
        ({"domains": [1]}, {}, "list of strings"),
    ],
)
def test_what_cannot_be_used_is_refused_without_the_secret(
    table: dict[str, Any], environ: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load(table, **environ)

    shown = f"{refused.value} {refused.value.remedy}"
    assert says in shown
    assert "S3CRET" not in shown


def test_a_channel_has_one_name_however_it_is_written() -> None:
    assert {channel_name(name) for name in ("#Ops_Alerts", "ops-alerts", " OPS_alerts ")} == {"ops-alerts"}


def test_a_notify_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "planter.toml").write_text("notify = 1")

    with pytest.raises(ConfigInvalid, match="must be a table"):
        load_settings(environ={"HOME": str(tmp_path)}, folder=tmp_path)
