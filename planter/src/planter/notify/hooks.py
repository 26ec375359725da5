"""Sending by HTTP: to the Slack channels and webhooks that the operator has named.

A manifest says a channel's name. A URL in a manifest counts only when its host is on the operator's list;
then still without user and password. Whatever answers with a redirection is not followed.
"""

from typing import TYPE_CHECKING

from planter.notify.config import NotifyConfig, channel_name, check_url
from planter.notify.outcome import AnyOutcome, Later, Never, NotSetUp, Sent, answered
from planter.notify.texts import document, slack
from planter.settings import ConfigInvalid
from planter.shell.addresses import allowed_host
from planter_protocol.messages import Notification

if TYPE_CHECKING:
    import httpx2

STEP_SECONDS = 10.0
"""To connect, to write, to hear the first of the answer; ``notifier`` bounds all of it."""
_RETRY_AFTER_MAX = 600.0
_TRANSIENT = frozenset({408, 421, 423, 425, 429})
_TITLES = {"slack": "Slack channel", "webhook": "webhook"}


class HookSender:
    """Posts; its connections are kept until it is closed."""

    def __init__(self, config: NotifyConfig) -> None:
        self._config = config
        self._client: httpx2.AsyncClient | None = None

    async def send(self, notification: Notification) -> AnyOutcome:
        """Try once to post."""
        found = self._address(notification)
        if not isinstance(found, tuple):
            return found
        where, url = found
        body = slack(notification) if notification.channel == "slack" else document(notification)
        return await self._post(where, url, body, notification.id)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _address(self, notification: Notification) -> tuple[str, str] | AnyOutcome:
        """For people, and for the request; or why there is none."""
        kind, given = notification.channel, notification.address.strip()
        title = _TITLES[kind]
        if "://" in given or "/" in given:
            return self._url(kind, given)
        name = channel_name(given)
        where = f"{title} {answered(name)!r}"
        channels = self._config.slack if kind == "slack" else self._config.webhook
        if not channels:
            variable = f"PLANTER_NOTIFY_{kind.upper()}_{name.upper().replace('-', '_')}"
            remedy = f"put its URL into a file and name that in {answered(variable)}_FILE"
            return NotSetUp(where, f"{remedy}, or in [notify.{kind}] of planter.toml")
        if name not in channels:
            return Never(where, f"no such channel is set up; there are {', '.join(sorted(channels))}")
        try:
            url = channels[name].read()
            check_url(url, channels[name].origin)
        except ConfigInvalid as error:
            return Later(where, str(error))
        return where, url

    def _url(self, kind: str, url: str) -> tuple[str, str] | AnyOutcome:
        if (host := allowed_host(url, self._config.hosts)) is None:
            where = f"{_TITLES[kind]} given by URL"
            return Never(
                where, "its host is not on the operator's list (setting notify.hosts); name a channel"
            )
        return f"{_TITLES[kind]} at {host}", url

    async def _post(self, where: str, url: str, body: bytes, notification_id: str) -> AnyOutcome:
        import httpx2  # noqa: PLC0415  (only a planner that posts needs it)

        if self._client is None:
            self._client = httpx2.AsyncClient(
                timeout=httpx2.Timeout(STEP_SECONDS),
                limits=httpx2.Limits(max_connections=20, keepalive_expiry=30),
                follow_redirects=False,
                headers={"User-Agent": "planter"},
            )
        headers = {"Content-Type": "application/json", "Idempotency-Key": notification_id}
        try:
            # Only the head of the answer is read: its body may be endless, and may have the URL in it.
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                status, pause = response.status_code, response.headers.get("Retry-After", "")
        except httpx2.TimeoutException as error:
            return Later(where, f"no answer within {STEP_SECONDS:g} s ({type(error).__name__})")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return Later(where, f"cannot be reached ({type(error).__name__})")
        if 200 <= status < 300:
            return Sent(where)
        if status in _TRANSIENT or status >= 500:
            wanted = float(pause) if pause.isascii() and pause.isdigit() and len(pause) < 9 else 0.0
            return Later(where, f"it answers HTTP {status}", min(wanted, _RETRY_AFTER_MAX))
        note = ", and redirections are not followed" if 300 <= status < 400 else ""
        return Never(where, f"it answers HTTP {status}{note}")
