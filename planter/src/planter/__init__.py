"""Planter: a NATS-native phase orchestrator."""

__version__ = "0.1.0"
