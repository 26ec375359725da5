"""Everything on this machine: an embedded NATS server, and planner and runtime as processes next to it."""

from planter.local.nats_server import RunningServer, embedded_nats, find_server
from planter.local.stack import Stack, StackOptions, running_stack

__all__ = ["RunningServer", "Stack", "StackOptions", "embedded_nats", "find_server", "running_stack"]
