"""URLs in handlers and questions: refused before anything is committed, for they may be secrets."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from planter.core.gate import notify_of
from planter.core.plan import PhaseSpec, Plan

_LISTED_MAX = 10


def refused_addresses(plan: Plan, hosts: frozenset[str]) -> str | None:
    """Why the plan cannot be taken, without the URLs; None when it can.

    Args:
        plan: of the manifest.
        hosts: those that the operator lets a manifest name.
    """
    found = [
        f"{spec.id} ({where}.{channel})"
        for spec in plan.phases
        for where, notify in _addressees(spec)
        for channel, address in notify.items()
        if "://" in address and allowed_host(address, hosts) is None
    ]
    if not found:
        return None
    more = f" and {len(found) - _LISTED_MAX} more" if len(found) > _LISTED_MAX else ""
    return (
        f"a URL stands in {', '.join(found[:_LISTED_MAX])}{more}: a manifest is stored and "
        "shown, and a webhook's URL is a secret. Name a channel that the operator has set up, or have the "
        "host put on the list `notify.hosts` (docs/notifications.md)"
    )


def _addressees(spec: PhaseSpec) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Whom a phase may write to, by the place in its manifest."""
    for where, handler in (("onFailure", spec.failure), ("onSuccess", spec.success)):
        if handler is not None:
            yield f"{where}.spec.notify", handler.notify
    if spec.kind == "approval":
        yield "x-run.approval.notify", notify_of(spec.run)


def allowed_host(url: str, hosts: frozenset[str]) -> str | None:
    """The host of a URL that a manifest may name; None when it must not."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        usable = parts.scheme in ("http", "https") and (parts.port or 1) > 0 and "@" not in parts.netloc
    except ValueError:
        return None
    return host if usable and url.isascii() and url.isprintable() and host in hosts else None
