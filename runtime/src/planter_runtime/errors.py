"""What can go wrong here, and how work says that it failed.

Exception
    PlanterRuntimeError
        ModuleUnusable     a file or module of handlers cannot be served
        HandlerUnusable    a function cannot be a handler
        RunUnusable        an ``x-run`` cannot be executed by this runtime
        ConnectionLost     the connection to NATS was closed for good
        NameTaken          another runtime of the same name is there
    PermanentFailure       raised by work: another attempt cannot help
    TemporaryFailure       raised by work: another attempt may help
"""


class PlanterRuntimeError(Exception):
    """Base of what this package itself raises."""


class ModuleUnusable(PlanterRuntimeError):
    """A ``--module`` cannot be served."""

    def __init__(self, module: str, reason: str) -> None:
        self.module = module
        self.reason = reason
        super().__init__(f"module {module!r} cannot be served: {reason}")


class HandlerUnusable(PlanterRuntimeError):
    """A function cannot be registered as a handler."""

    def __init__(self, function: str, reason: str) -> None:
        self.function = function
        self.reason = reason
        super().__init__(f"function {function!r} cannot be a handler: {reason}")


class RunUnusable(PlanterRuntimeError):
    """A target's ``run`` is not something that this runtime can execute."""


class ConnectionLost(PlanterRuntimeError):
    """The connection to NATS was closed and will not come back."""


class NameTaken(PlanterRuntimeError):
    """A runtime of the same name answers: a planner would take each for a restart of the other."""

    def __init__(self, runtime_id: str, host: str) -> None:
        self.runtime_id = runtime_id
        self.host = host
        super().__init__(f"runtime {runtime_id!r} is running already, on host {host or '(unknown)'}")


class PermanentFailure(Exception):
    """Raised by a handler or Python function: the attempt failed, and another one cannot help."""


class TemporaryFailure(Exception):
    """Raised by a handler or Python function: the attempt failed, and another one may help.

    Any other exception means the same; this one says that it is meant so, and leaves the traceback out.
    """
