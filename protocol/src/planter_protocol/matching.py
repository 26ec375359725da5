"""Parts of messages: what phases ask of runtimes."""

import msgspec


class LabelConstraint(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a label of a runtime must be (``x-constraints``)."""

    label: str
    operator: str = "="
    """``=``, ``!=``, ``>``, ``>=``, ``<``, ``<=``, ``regexp``, ``version``, ``set_contains``, ..."""
    value: str = ""


class PreferredRuntime(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How much a phase prefers a runtime (``x-affinity``)."""

    runtime_id: str
    score: float
    """From -1 to 1; the weights that hold, divided by all of them without their signs."""
