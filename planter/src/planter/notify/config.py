"""Whom a planner may write to, and by which servers: the operator's choice, never a manifest's.

Read from the tables ``[notify]`` of the settings' files and from the environment, the environment last.
Secrets stand in files or in the environment; they are read when they are used, so that they can be changed.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import SplitResult, urlsplit

import msgspec

from planter.settings import ConfigInvalid

PREFIX = "PLANTER_NOTIFY_"
TRIES = 10
PAUSE_SECONDS = 2.0
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PLAIN = ("domains", "hosts", "tries", "pause")
_SMTP = ("host", "port", "tls", "user", "password", "password_file", "from")
_CHANNELS = ("slack", "webhook")


class Secret(msgspec.Struct, frozen=True):
    """Where a secret is; never the secret itself in a message or a log."""

    origin: str
    file: Path | None = None
    given: str = ""

    def __repr__(self) -> str:
        return f"Secret({self.origin})"

    def read(self) -> str:
        """The secret.

        Raises:
            ConfigInvalid: its file cannot be read, or there is nothing in it.
        """
        text = self.given
        if self.file is not None:
            try:
                text = self.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise ConfigInvalid(self.origin, f"{self.file} cannot be read: {reason}") from None
        if not text.strip():
            raise ConfigInvalid(self.origin, "the secret is empty")
        return text.strip()


class Smtp(msgspec.Struct, frozen=True):
    """The mail server."""

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    sender: str
    user: str | None = None
    password: Secret | None = None


class NotifyConfig(msgspec.Struct, frozen=True):
    """What may be sent, and to whom."""

    smtp: Smtp | None = None
    domains: frozenset[str] = frozenset()
    """To which mail may go; ``*`` is any."""
    slack: dict[str, Secret] = {}
    """URL by channel name."""
    webhook: dict[str, Secret] = {}
    hosts: frozenset[str] = frozenset()
    """Hosts that a manifest may name by URL."""
    tries: int = TRIES
    pause_seconds: float = PAUSE_SECONDS
    """After the first try; doubled after each, up to ten minutes."""


def load_config(tables: Sequence[tuple[str, Mapping[str, Any]]], environ: Mapping[str, str]) -> NotifyConfig:
    """The configuration in effect.

    Args:
        tables: origin and content of each ``[notify]`` table; later ones win.
        environ: the environment.

    Raises:
        ConfigInvalid: an unknown key, a value or a secret that cannot be used.
    """
    found: dict[str, tuple[Any, str]] = {}
    for origin, table in tables:
        found |= _flat(origin, table)
    said = _from_environment(environ)
    if "smtp.password" in said:
        found.pop("smtp.password_file", None)
    found |= said
    smtp = _smtp(found)
    domains = _words(found, "domains")
    if smtp is not None and not domains:
        domains = frozenset({smtp.sender.rpartition("@")[2].rstrip(">").lower()})
    config = NotifyConfig(
        smtp=smtp,
        domains=domains,
        slack=_channels(found, "slack", environ),
        webhook=_channels(found, "webhook", environ),
        hosts=_words(found, "hosts"),
        tries=_whole(found, "tries", TRIES, 1, 1_000),
        pause_seconds=_seconds(found, "pause", PAUSE_SECONDS),
    )
    if config.smtp is not None and config.smtp.password is not None:
        config.smtp.password.read()
    for secret in (*config.slack.values(), *config.webhook.values()):
        check_url(secret.read(), secret.origin)
    return config


def channel_name(name: str) -> str:
    """``#Ops_Alerts`` and ``ops-alerts`` are one channel."""
    return name.strip().removeprefix("#").lower().replace("_", "-")


def check_url(url: str, origin: str) -> SplitResult:
    """The parts of a URL that may be posted to.

    Raises:
        ConfigInvalid: it is none; the URL itself is not in the message.
    """
    remedy = "write http:// or https://, a host, a path"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise ConfigInvalid(origin, "the URL cannot be used", remedy) from None
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigInvalid(origin, "the URL cannot be used", remedy)
    return parts


def _flat(origin: str, table: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for key, value in table.items():
        if key in _PLAIN:
            found[key] = (value, origin)
        elif key == "smtp" or key in _CHANNELS:
            if not isinstance(value, dict):
                raise ConfigInvalid(origin, f"`notify.{key}` must be a table")
            for name, item in cast("dict[str, Any]", value).items():
                if key == "smtp" and name not in _SMTP:
                    problem = f"unknown setting `notify.smtp.{name}`"
                    raise ConfigInvalid(origin, problem, f"known settings: {', '.join(_SMTP)}")
                if key == "smtp" and name == "password":
                    problem = "a password stands in it"
                    remedy = "use `password_file`, or PLANTER_NOTIFY_SMTP_PASSWORD"
                    raise ConfigInvalid(origin, problem, remedy)
                found[f"{key}.{name}"] = (item, origin)
        else:
            known = ", ".join((*_PLAIN, "smtp", *_CHANNELS))
            raise ConfigInvalid(origin, f"unknown setting `notify.{key}`", f"known settings: {known}")
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not value:
            continue
        group, _, name = variable.removeprefix(PREFIX).lower().partition("_")
        if group in _PLAIN and not name:
            found[group] = (value, variable)
        elif group == "smtp" and name in _SMTP:
            found[f"smtp.{name}"] = (value, variable)
        elif group in _CHANNELS and name:
            is_file = name.endswith("_file")
            item = {"file": value} if is_file else {"env": variable}
            found[f"{group}.{name.removesuffix('_file')}"] = (item, variable)
        else:
            raise ConfigInvalid(variable, "no setting has this name", "see docs/notifications.md")
    return found


def _smtp(found: Mapping[str, tuple[Any, str]]) -> Smtp | None:
    given = {name: found[f"smtp.{name}"] for name in _SMTP if f"smtp.{name}" in found}
    if not given:
        return None
    origin = next(iter(given.values()))[1]
    for name in ("host", "from"):
        if name not in given:
            variable = f"{PREFIX}SMTP_{name.upper()}"
            raise ConfigInvalid(origin, f"`notify.smtp.{name}` is missing", f"set it, or {variable}")
    tls = _text(given, "tls", "starttls").lower()
    if tls not in ("starttls", "tls", "none"):
        raise ConfigInvalid(given["tls"][1], f"`notify.smtp.tls` is {tls!r}", "use starttls, tls or none")
    host, sender = _text(given, "host"), _text(given, "from")
    if not _is_sender(sender):
        problem = f"`notify.smtp.from` is {sender!r}"
        raise ConfigInvalid(given["from"][1], problem, "use an address such as planter@example.com")
    password = None
    if "password_file" in given:
        file = Path(_text(given, "password_file")).expanduser()
        password = Secret(given["password_file"][1], file)
    elif "password" in given:
        password = Secret(given["password"][1], given=_text(given, "password"))
    if password is not None and "user" not in given:
        raise ConfigInvalid(password.origin, "there is a password and no `notify.smtp.user`")
    if password is not None and tls == "none" and host not in _LOOPBACK:
        problem = f"the password would go to {host} in clear text"
        raise ConfigInvalid(password.origin, problem, "set `notify.smtp.tls` to starttls or tls")
    return Smtp(
        host=host,
        port=_whole(found, "smtp.port", _PORTS[tls], 1, 65_535),
        tls=tls,
        sender=sender,
        user=_text(given, "user") if "user" in given else None,
        password=password,
    )


def _is_sender(text: str) -> bool:
    return text.isascii() and text.isprintable() and re.fullmatch(r"[^@\s<>,]+@[^@\s<>,]+", text) is not None


def _channels(
    found: Mapping[str, tuple[Any, str]], kind: str, environ: Mapping[str, str]
) -> dict[str, Secret]:
    channels: dict[str, Secret] = {}
    for key, (item, origin) in found.items():
        group, _, name = key.partition(".")
        if group != kind:
            continue
        name = channel_name(name)
        if not _NAME.fullmatch(name):
            raise ConfigInvalid(origin, f"`notify.{key}`: a channel's name has letters, digits and -")
        where = f"{origin}: notify.{kind}.{name}"
        match item:
            case {"file": str(file)} if len(item) == 1:
                channels[name] = Secret(where, Path(file).expanduser())
            case {"env": str(variable)} if len(item) == 1:
                if not environ.get(variable):
                    raise ConfigInvalid(where, f"the environment has no {variable}")
                channels[name] = Secret(where, given=environ[variable])
            case _:
                remedy = 'write {file = "/run/secrets/..."} or {env = "NAME"}: the URL is a secret'
                raise ConfigInvalid(where, "it does not say where its URL is", remedy)
    return channels


def _text(given: Mapping[str, tuple[Any, str]], name: str, default: str = "") -> str:
    value, origin = given.get(name, (default, ""))
    if not isinstance(value, str) or not value.strip():
        raise ConfigInvalid(origin, f"`{name}` must be a string that is not empty")
    return value.strip()


def _words(found: Mapping[str, tuple[Any, str]], name: str) -> frozenset[str]:
    value, origin = found.get(name, ([], ""))
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in cast("list[object]", words)):
        raise ConfigInvalid(origin, f"`notify.{name}` must be a list of strings")
    return frozenset(word.strip().lower() for word in cast("list[str]", words) if word.strip())


def _whole(found: Mapping[str, tuple[Any, str]], name: str, default: int, least: int, most: int) -> int:
    value, origin = found.get(name, (default, ""))
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        problem = f"`notify.{name}` is {value!r}"
        raise ConfigInvalid(origin, problem, f"use a whole number from {least} to {most}")
    return value


def _seconds(found: Mapping[str, tuple[Any, str]], name: str, default: float) -> float:
    value, origin = found.get(name, (default, ""))
    match = re.fullmatch(r"([0-9]{1,5}(?:\.[0-9]{1,3})?)s?", str(value), re.ASCII)
    if match is None or not 0.01 <= float(match[1]) <= 600:
        raise ConfigInvalid(origin, f"`notify.{name}` is {value!r}", "use seconds, such as 2s, up to 600")
    return float(match[1])
