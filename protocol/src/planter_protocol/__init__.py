"""What Planter's processes say to each other over NATS.

Publishers and monitors need ``PlanClient``; everything else is in the modules ``subjects``, ``messages``,
``codec``, ``headers``, ``assets``, ``names``, ``errors``. Names are imported on first use, so that a part
that needs only subjects does not load nats-py.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planter_protocol.client import PlanClient, Submitted
    from planter_protocol.errors import (
        InvalidMessage,
        JetStreamUnavailable,
        MessageTooLarge,
        PlannerUnavailable,
        ProtocolError,
        RequestRefused,
        ServerUnreachable,
        SessionNotFound,
    )

__all__ = [
    "InvalidMessage",
    "JetStreamUnavailable",
    "MessageTooLarge",
    "PlanClient",
    "PlannerUnavailable",
    "ProtocolError",
    "RequestRefused",
    "ServerUnreachable",
    "SessionNotFound",
    "Submitted",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "client" if name in ("PlanClient", "Submitted") else "errors"
    return getattr(import_module(f"{__name__}.{home}"), name)
