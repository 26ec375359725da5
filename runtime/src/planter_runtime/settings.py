"""What a runtime process is told, from flags, environment and defaults."""

import os
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from planter_protocol.connection import DEFAULT_URL
from planter_protocol.names import random_token, runtime_id
from planter_runtime.artifacts import BYTES_MAX, COUNT_MAX
from planter_runtime.work import Isolation

if TYPE_CHECKING:
    from planter_runtime.sdk import Runtime

EXECUTOR_KINDS = ("noop", "exec", "shell", "python", "http", "container")
_ENGINES = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")
DRAIN_SECONDS = 30.0
LEASE_SECONDS = 15.0


class Settings(msgspec.Struct, frozen=True):
    """Everything that can be chosen about a runtime process."""

    nats_url: str
    runtime_id: str
    """Raises InvalidName where it is made, not here."""
    slots: int
    labels: dict[str, str] = {}
    capabilities: tuple[str, ...] = ()
    executors: tuple[str, ...] = ("noop", "exec", "shell", "python")
    workdir: Path = Path()
    """Absolute: where phases run."""
    isolation: Isolation = "none"
    """The least that every program and function gets."""
    secrets: dict[str, str] = {}
    """Where each secret is that phases may name: a file, or ``env:VARIABLE``."""
    artifacts_max: int = COUNT_MAX
    """Files that an attempt may keep."""
    artifact_bytes_max: int = BYTES_MAX
    """Of all of them together."""
    drain_seconds: float = DRAIN_SECONDS
    lease_seconds: float = LEASE_SECONDS


def available_kinds() -> tuple[str, ...]:
    """The kinds of ``x-run`` that can be executed with what is installed here."""
    no_library = find_spec("httpx2") is None
    missing = {"http": no_library, "container": no_library or engine_url() is None}
    return tuple(kind for kind in EXECUTOR_KINDS if not missing.get(kind))


def engine_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """Where the container engine is: ``DOCKER_HOST``, or a socket where engines have it; None: nowhere."""
    if environment.get("DOCKER_HOST"):
        return environment["DOCKER_HOST"]
    own = environment.get("XDG_RUNTIME_DIR")
    places = (*_ENGINES, *((f"{own}/podman/podman.sock",) if own else ()))
    return next((f"unix://{path}" for path in places if Path(path).is_socket()), None)


def nats_url(environment: Mapping[str, str] = os.environ) -> str:
    """The server's address when no flag names it."""
    return environment.get("PLANTER_NATS_URL") or environment.get("NATS_URL") or DEFAULT_URL


def default_slots() -> int:
    """Twice the processors, at least four: phases wait for other things more than they compute."""
    return max(4, 2 * (os.cpu_count() or 1))


def new_runtime_id() -> str:
    """A name from the host's, such as ``build-7-k3f2``."""
    host = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in socket.gethostname())
    return runtime_id(f"{host[:48] or 'runtime'}-{random_token(4)}")


def settings_of(runtime: "Runtime", url: str | None) -> Settings:
    """The settings of an SDK runtime; raises InvalidName for an id that is no subject token."""
    return Settings(
        nats_url=url or nats_url(),
        runtime_id=runtime_id(runtime.id) if runtime.id else new_runtime_id(),
        slots=runtime.slots or default_slots(),
        labels=runtime.labels,
        capabilities=runtime.capabilities,
        executors=runtime.executors,
        workdir=Path.cwd(),
    )
