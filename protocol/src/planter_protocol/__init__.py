"""What Planter's processes say to each other over NATS.

Publishers and monitors need ``PlanClient``; everything else is in the modules ``subjects``, ``messages``,
``codec``, ``headers``, ``assets``, ``names``, ``errors``.
"""

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
