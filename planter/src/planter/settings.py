"""Settings: flag, then environment, then ``planter.toml`` here, then the user's own, then the default.

The environment variable of a setting is ``PLANTER_`` and its name in capitals; ``NATS_URL`` counts too, after
``PLANTER_NATS_URL``. Where nobody names a server, a running ``planter dev`` is found by the file ``dev.url``
in the data folder.
"""

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

DEFAULT_NATS_URL = "nats://127.0.0.1:4222"
FILE_NAME = "planter.toml"
DEV_URL_FILE = "dev.url"
_LOG_FORMATS = ("auto", "text", "json")
_LOG_LEVELS = ("debug", "info", "warning", "error")
_SYNCS = ("default", "always")
_PROBE_SECONDS = 0.5
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
RETAIN_SECONDS = 7 * 24 * 3600.0
RETAIN_SESSIONS = 10_000
_PORT_MAX = 65_535
_OR_FREE = " or free"

_HTTP_TOKEN_FOR = ("changes", "everything")
HTTP_HOST = "127.0.0.1"
HTTP_PORT = 6767
HTTP_TOKEN_FILE = "http.token"  # noqa: S105 (a file's name)
_HTTP_NAMES = ("http", "http_token_file", "http_token_for", "http_hosts")
_NAMES = ("nats_url", "data", "sync", "retain", "retain_sessions", "log_format", "log", *_HTTP_NAMES)


class ConfigInvalid(Exception):
    """A setting that is unknown, or has a value that cannot be used."""

    def __init__(self, origin: str, problem: str, remedy: str | None = None) -> None:
        self.origin = origin
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{origin}: {problem}")


class HttpAddress(msgspec.Struct, frozen=True):
    """Where the HTTP interface listens."""

    host: str = HTTP_HOST
    port: int = HTTP_PORT
    or_free: bool = False
    """Take a free port when that one is not."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def setting(self) -> str:
        """As it is written in a setting."""
        return f"{self}{_OR_FREE}" if self.or_free else str(self)

    def __str__(self) -> str:
        """As in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Settings(msgspec.Struct, frozen=True):
    """What the command line and the daemon were told, and who said it."""

    nats_url: str
    data: Path
    """Folder of ``planter dev``: JetStream's files, logs, the lock."""
    sync: str = "default"
    """When the embedded server writes to the disk: every two minutes, or ``always`` before it confirms."""
    retain_seconds: float | None = RETAIN_SECONDS
    """How long ended sessions are kept; None: for ever."""
    retain_sessions: int | None = RETAIN_SESSIONS
    """How many ended sessions are kept; None: all."""
    http: HttpAddress | None = HttpAddress()
    """Where a planner listens for HTTP; None: nowhere."""
    http_token_file: Path | None = None
    """Holds the bearer token; None: ``http.token`` in the data folder."""
    http_token_for_all: bool = False
    """Reads need the token too."""
    http_hosts: tuple[str, ...] = ()
    """Further names that requests may call the HTTP interface by."""
    log_format: str = "auto"
    log: str | None = None
    """Lowest level that is logged; None leaves it to the command."""
    origins: dict[str, str] = {}
    """Where each setting comes from, for messages."""


def load_settings(
    flags: Mapping[str, str | None] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings in effect.

    Args:
        flags: what was said on the command line; None values do not count.
        environ: the environment, ``os.environ`` by default.
        folder: where ``planter.toml`` is looked for, the current folder by default.

    Raises:
        ConfigInvalid: an unknown key, or a value that cannot be used.
    """
    env = os.environ if environ is None else environ
    found: dict[str, tuple[str, str]] = {}
    for path in (_user_file(env), (folder or Path.cwd()) / FILE_NAME):
        found |= {name: (value, str(path)) for name, value in _read_file(path).items()}
    found |= _from_environment(env)
    for name, value in (flags or {}).items():
        if value is not None:
            found[name] = (value, f"--{name.replace('_', '-')}")
    data = Path(found["data"][0]).expanduser() if "data" in found else default_data()
    if "nats_url" not in found:
        url = running_dev_url(data)
        found["nats_url"] = (url, str(data / DEV_URL_FILE)) if url else (DEFAULT_NATS_URL, "default")
    _check_choice(found, "sync", _SYNCS)
    _check_choice(found, "log_format", _LOG_FORMATS)
    _check_choice(found, "log", _LOG_LEVELS)
    _check_choice(found, "http_token_for", _HTTP_TOKEN_FOR)
    return Settings(
        nats_url=found["nats_url"][0],
        data=data,
        sync=found.get("sync", ("default", ""))[0],
        retain_seconds=_seconds(found, "retain", RETAIN_SECONDS),
        retain_sessions=_count(found, "retain_sessions", RETAIN_SESSIONS),
        http=_http_address(found),
        http_token_file=Path(found["http_token_file"][0]).expanduser()
        if "http_token_file" in found
        else None,
        http_token_for_all=found.get("http_token_for", ("changes", ""))[0] == "everything",
        http_hosts=tuple(found.get("http_hosts", ("", ""))[0].replace(",", " ").split()),
        log_format=found.get("log_format", ("auto", ""))[0],
        log=found["log"][0] if "log" in found else None,
        origins={name: origin for name, (_, origin) in found.items()},
    )


def default_data() -> Path:
    """Where ``planter dev`` keeps its data unless told otherwise."""
    import platformdirs  # noqa: PLC0415 (only needed when nobody names a folder)

    return Path(platformdirs.user_data_dir("planter")) / "dev"


def running_dev_url(data: Path) -> str | None:
    """The server of the ``planter dev`` that works in the folder, if there is one and its port answers."""
    try:
        url = (data / DEV_URL_FILE).read_text().strip()
    except OSError:
        return None
    return url if url and answers(url) else None


def answers(url: str) -> bool:
    """Whether something takes TCP connections at ``nats://host:port``."""
    host, _, port = url.rpartition("//")[2].rpartition("@")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _PROBE_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _user_file(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_CONFIG_HOME")
    home = Path(env["HOME"]) if "HOME" in env else Path.home()
    return (Path(base) if base else home / ".config") / "planter" / "config.toml"


def _read_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(str(path), f"cannot be read: {error}") from error
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(str(path), f"not valid TOML: {error}") from error
    for name, value in found.items():
        if name not in _NAMES:
            raise ConfigInvalid(str(path), f"unknown setting `{name}`", _suggest(name))
        if not isinstance(value, str):
            raise ConfigInvalid(str(path), f"`{name}` must be a string, found {value!r}")
    return found


def _suggest(name: str) -> str:
    import difflib  # noqa: PLC0415 (only for the error)

    close = difflib.get_close_matches(name.replace("-", "_").lower(), _NAMES, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known settings: {', '.join(_NAMES)}"


def _from_environment(env: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    variables = [("nats_url", "NATS_URL"), *((name, f"PLANTER_{name.upper()}") for name in _NAMES)]
    for name, variable in variables:
        if env.get(variable):
            found[name] = (env[variable], variable)
    return found


def _seconds(found: Mapping[str, tuple[str, str]], name: str, default: float | None) -> float | None:
    """A length of time such as ``7d``; 0 means without end."""
    if name not in found:
        return default
    value, origin = found[name]
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", value.strip(), re.ASCII)
    if match is None:
        problem = f"`{name}` is {value!r}"
        raise ConfigInvalid(origin, problem, "use a length of time such as 7d or 12h, 0 for ever")
    return float(int(match[1]) * _UNITS[match[2]]) or None


def _count(found: Mapping[str, tuple[str, str]], name: str, default: int | None) -> int | None:
    """A whole number; 0 means without limit."""
    if name not in found:
        return default
    value, origin = found[name]
    if not value.isascii() or not value.isdigit():
        raise ConfigInvalid(origin, f"`{name}` is {value!r}", "use a whole number; 0 keeps all")
    return int(value) or None


def _http_address(found: Mapping[str, tuple[str, str]]) -> HttpAddress | None:
    """``host:port``, ``[host]:port``, ``:port``, ``host``, each with `` or free``; or ``off``."""
    value, origin = found.get("http", ("", ""))
    text = value.strip()
    if text.lower() == "off":
        return None
    name = text.removesuffix(_OR_FREE)
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]*))(?::([0-9]{1,5}))?", name, re.ASCII)
    port = int(match[3]) if match and match[3] else HTTP_PORT
    if match is None or port > _PORT_MAX:
        raise ConfigInvalid(origin, f"`http` is {value!r}", "use HOST:PORT, such as 127.0.0.1:6767, or off")
    return HttpAddress(match[1] or match[2] or HTTP_HOST, port, text.endswith(_OR_FREE))


def _check_choice(found: Mapping[str, tuple[str, str]], name: str, choices: tuple[str, ...]) -> None:
    if name not in found:
        return
    value, origin = found[name]
    if value not in choices:
        raise ConfigInvalid(origin, f"`{name}` is {value!r}", f"use one of {', '.join(choices)}")
