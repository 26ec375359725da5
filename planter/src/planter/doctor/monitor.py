"""The monitoring address of a server (``http: 127.0.0.1:8222`` in its configuration): what no client is told.

``/varz`` has the name, the sync settings and the storage's limit; ``/healthz`` says when a stream is frozen.
"""

import http.client
from typing import Any
from urllib.parse import urlsplit

import msgspec

from planter.doctor.facts import Storage

_SECONDS = 2.0
_BYTES_MAX = 1024 * 1024
_NANOSECONDS = 1e9


class MonitorSilent(Exception):
    """The address does not answer as a NATS server does; the text says why."""


def ask_monitor(url: str) -> Storage:
    """How the server behind a monitoring address keeps its data; blocks for at most some seconds.

    Raises:
        MonitorSilent: nobody answers, or it is no NATS server with JetStream.
    """
    try:
        storage = storage_of(_get(url, "/varz"))
        health = _get(url, "/healthz").get("error", "")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MonitorSilent(str(error) or type(error).__name__) from error
    if storage is None:
        raise MonitorSilent("a server without JetStream answers there")
    return msgspec.structs.replace(storage, health=str(health))


def storage_of(described: dict[str, Any], name: str = "") -> Storage | None:
    """A server's storage, from ``/varz`` or from the data of a ``JSZ`` request; None: it has no JetStream."""
    jetstream = described.get("jetstream", described)
    config = jetstream.get("config")
    if not isinstance(config, dict) or "sync_interval" not in config:
        return None
    used = jetstream.get("stats", jetstream).get("storage", 0)
    return Storage(
        server=name or str(described.get("server_name", "")),
        sync_always=bool(config.get("sync_always", False)),
        sync_seconds=config["sync_interval"] / _NANOSECONDS,
        used=int(used),
        maximum=int(config.get("max_storage", 0)),
    )


def _get(url: str, path: str) -> dict[str, Any]:
    """A JSON object by HTTP, without proxies: monitoring is on the same machine or network."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http address")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port or (443 if secure else 8222), timeout=_SECONDS)
    try:
        connection.request("GET", parts.path.rstrip("/") + path)
        found = msgspec.json.decode(connection.getresponse().read(_BYTES_MAX))
    except msgspec.DecodeError as error:
        raise ValueError("what answers there is no NATS server") from error
    finally:
        connection.close()
    if not isinstance(found, dict):
        raise ValueError("what answers there is no NATS server")  # noqa: TRY004 (a value from outside)
    return found
