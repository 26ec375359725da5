"""The ways to run a phase, behind one interface (``executor``)."""

from collections.abc import Sequence

from planter_runtime.executors.container import ContainerExecutor
from planter_runtime.executors.exec import ExecExecutor
from planter_runtime.executors.executor import Execution, Executor
from planter_runtime.executors.handlers import HandlerExecutor
from planter_runtime.executors.http import HttpExecutor
from planter_runtime.executors.noop import NoopExecutor
from planter_runtime.executors.process import ProcessGroups
from planter_runtime.executors.programs import Programs
from planter_runtime.executors.python import PythonExecutor
from planter_runtime.executors.shell import ShellExecutor
from planter_runtime.sdk import Handler
from planter_runtime.secrets import Secrets
from planter_runtime.settings import Settings, available_kinds
from planter_runtime.work import HANDLER

__all__ = ["Execution", "Executor", "executors_for"]


def executors_for(
    settings: Settings, handlers: Sequence[Handler], groups: ProcessGroups
) -> dict[str, Executor]:
    """The executors of the kinds that the settings name, and the one for handlers.

    Raises:
        ValueError: a kind is unknown, or needs a library that is not installed.
    """
    kinds, secrets = settings.executors, Secrets(settings.secrets)
    programs = Programs(groups, settings.isolation, secrets)
    known: dict[str, Executor] = {
        "noop": NoopExecutor(),
        "exec": ExecExecutor(programs),
        "shell": ShellExecutor(programs),
        "python": PythonExecutor(programs),
        "http": HttpExecutor(secrets),
        "container": ContainerExecutor(settings.runtime_id, secrets),
    }
    if unknown := sorted(set(kinds) - set(known)):
        raise ValueError(f"unknown executors {', '.join(unknown)}: there are {', '.join(known)}")
    if missing := sorted(set(kinds) - set(available_kinds())):
        remedy = "pip install 'planter-runtime[http]', and for containers an engine"
        raise ValueError(f"executors {', '.join(missing)} need what is not here: {remedy}")
    return {**{kind: known[kind] for kind in kinds}, HANDLER: HandlerExecutor(handlers)}
