"""The Planter runtime: takes targets, runs phases, reports.

Beside it stands the SDK for phases that are functions: ``Runtime``, ``PhaseContext`` and the two failures,
and for ``python`` phases ``heartbeat``, ``report_progress``, ``last_details`` and ``keep_artifact``.
Importing this package is light on purpose: every ``python`` phase does it, and user code beside it.
"""

from planter_runtime.errors import PermanentFailure, TemporaryFailure

TYPE_CHECKING = False  # what type checkers look for, without importing typing
if TYPE_CHECKING:
    from planter_runtime.context import PhaseContext
    from planter_runtime.progress import heartbeat, keep_artifact, last_details, report_progress
    from planter_runtime.sdk import Runtime

__version__ = "0.1.0"
__all__ = [
    "PermanentFailure",
    "PhaseContext",
    "Runtime",
    "TemporaryFailure",
    "heartbeat",
    "keep_artifact",
    "last_details",
    "report_progress",
]


def __getattr__(name: str) -> object:
    if name == "Runtime":
        from planter_runtime.sdk import Runtime  # noqa: PLC0415

        return Runtime
    if name == "PhaseContext":
        from planter_runtime.context import PhaseContext  # noqa: PLC0415

        return PhaseContext
    if name in ("heartbeat", "keep_artifact", "last_details", "report_progress"):
        from planter_runtime import progress  # noqa: PLC0415

        return getattr(progress, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
