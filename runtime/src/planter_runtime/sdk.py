"""The SDK: a runtime whose phases are functions.

runtime = Runtime()

@runtime.handler(phase="preflight")
async def preflight(ctx: PhaseContext) -> dict:
    ctx.log("checking")
    return {"ok": True}

if __name__ == "__main__":
    runtime.run()
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from planter_runtime.errors import HandlerUnusable

if TYPE_CHECKING:
    from planter_runtime.calling import Signature

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Handler:
    """A function that does the phases whose selector has these labels."""

    function: Callable[..., Any]
    labels: Mapping[str, str]
    is_async: bool
    signature: "Signature"


class Runtime:
    """Handlers, and how they are served.

    Args:
        labels: of this runtime; a selector's labels that a handler does not have must be among them.
        slots: phases at the same time; None: twice the processors, at least four.
        id: name of this runtime, unique among those on the server; None: a random one.
        executors: kinds of ``x-run`` that are executed too, such as ``("noop", "exec", "shell", "python")``.
            Only ``noop`` by default, for a service with handlers need not run other people's commands.
        capabilities: what phases may require of a runtime.
    """

    def __init__(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        slots: int | None = None,
        id: str | None = None,  # noqa: A002  (the word of the protocol)
        executors: Sequence[str] = ("noop",),
        capabilities: Sequence[str] = (),
    ) -> None:
        self.labels = dict(labels or {})
        self.slots = slots
        self.id = id
        self.executors = tuple(executors)
        self.capabilities = tuple(capabilities)
        self.handlers: list[Handler] = []

    def handler(
        self, labels: Mapping[str, str] | None = None, /, **more: str
    ) -> Callable[[Function], Function]:
        """Register a function for phases without ``x-run`` whose selector has all these labels.

        Of several that fit, the one with most labels is taken; without labels it takes what no other does.
        The function's parameters are what the phase has under ``x-run.with``, by name, read as their
        annotations say (numbers, strings, lists, enums, dates, data classes, structs, pydantic models); one
        of them may be the ``PhaseContext``, known by its annotation or by the name ``ctx``. What it returns
        becomes the phase's result, as JSON, at most 64 KiB.

        Async functions run in the event loop and must not block it, others in a thread of their own. A thread
        cannot be stopped: at timeout or cancellation its attempt is reported at once, but its slot stays
        taken until the function returns (it can ask ``ctx.is_cancelled``).

        Raises:
            HandlerUnusable: a parameter cannot come from JSON, or the same labels have a handler.
        """
        wanted = {**(labels or {}), **more}

        def register(function: Function) -> Function:
            name = getattr(function, "__qualname__", repr(function))
            if any(other.labels == wanted for other in self.handlers):
                raise HandlerUnusable(name, f"the labels {wanted} have a handler already")
            from planter_runtime.calling import signature_of  # noqa: PLC0415  (keeps the import light)

            is_async = inspect.iscoroutinefunction(function)
            self.handlers.append(Handler(function, wanted, is_async, signature_of(function)))
            return function

        return register

    async def serve(self, nats_url: str | None = None) -> None:
        """Serve until cancelled; an async program that owns its signals uses this.

        Args:
            nats_url: None: ``PLANTER_NATS_URL``, then ``NATS_URL``, then ``nats://127.0.0.1:4222``.

        Raises:
            ServerUnreachable: no server answers within 10 seconds.
            ConnectionLost: the connection was closed for good.
            NameTaken: another runtime of this name is running.
        """
        from planter_runtime.serving import serve  # noqa: PLC0415  (keeps the import of this package light)
        from planter_runtime.settings import settings_of  # noqa: PLC0415

        await serve(settings_of(self, nats_url), tuple(self.handlers))

    def run(self, nats_url: str | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then finish what runs and end the process; it does not return.

        When the file is loaded by ``planter-runtime --module``, which serves it already, this does nothing.
        """
        from planter_runtime import loading  # noqa: PLC0415

        if loading.in_progress():
            return
        from planter_runtime.serving import run  # noqa: PLC0415
        from planter_runtime.settings import settings_of  # noqa: PLC0415

        run(settings_of(self, nats_url), tuple(self.handlers))
