"""Pure decisions. No clock, randomness, I/O, logging, ``await``, wire or schema types."""

from planter.core.decide import Decision, decide
from planter.core.evolve import apply
from planter.core.fleet import Fleet, Runtime
from planter.core.plan import PhaseSpec, Plan
from planter.core.session import Session

__all__ = ["Decision", "Fleet", "PhaseSpec", "Plan", "Runtime", "Session", "apply", "decide"]
