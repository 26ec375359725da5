"""From the bytes of a start message to a compiled plan."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from nats.js import JetStreamContext

import planter_schemas as schemas
from planter.compile.phases import compile_manifest
from planter.compile.target import read_plain
from planter.core.graph import Graph, graph_of
from planter.core.plan import Plan
from planter_protocol import messages
from planter_protocol.client import load_object
from planter_protocol.errors import InvalidMessage

log = structlog.get_logger(__name__)

_THREAD_FROM_BYTES = 64 * 1024
_PROCESS_FROM_BYTES = 1024 * 1024
_PROCESSES_MAX = 2
_KEPT_BYTES_MAX = 8 * 1024
_KEPT = 128
"""Manifests; so a megabyte of text, and what is made of it, is kept at most."""
_THREAD_FROM_PHASES = 2_000
PROBLEMS_MAX = 100
"""More problems than this are counted, not listed, in an answer."""


class Reading(msgspec.Struct, frozen=True):
    """What became of a manifest: a plan, or what is wrong with it, for an answer on the wire."""

    plan: Plan | None
    text: str = ""
    problems: tuple[dict[str, Any], ...] = ()


async def plan_of(js: JetStreamContext, start: messages.Start) -> Reading:
    """Read, check and compile the manifest of a start message.

    Others do not wait for one large manifest: it is read in a thread, and a very large one in a process of
    its own: a thread would still take every other moment from us, and its memory would stay ours.

    Raises:
        InvalidMessage: there is no manifest, or its reference leads nowhere.
    """
    if start.manifest_ref is not None:
        load = partial(load_object, js, start.manifest_ref.digest)
        if start.manifest_ref.size >= _PROCESS_FROM_BYTES:
            async with _processes:
                return await _read_apart(load, start.target_phase)
        data = await load()
    elif start.manifest is not msgspec.UNSET:
        data = bytes(start.manifest)
    else:
        raise InvalidMessage("Start", "it has neither manifest nor manifestRef")
    if len(data) + len(start.target_phase or "") <= _KEPT_BYTES_MAX:
        return _read_small(data, start.target_phase)[0]
    if len(data) < _THREAD_FROM_BYTES:
        return read_manifest(data, start.target_phase)
    if len(data) < _PROCESS_FROM_BYTES:
        return await anyio.to_thread.run_sync(read_manifest, data, start.target_phase)
    async with _processes:
        return await _read_apart(partial(_there, data), start.target_phase)


async def graph_apart(plan: Plan) -> Graph:
    """The plan's graph; that of a large plan is made in a thread. Keep it until the plan is applied."""
    if len(plan.phases) < _THREAD_FROM_PHASES:
        return graph_of(plan)
    return await anyio.to_thread.run_sync(graph_of, plan)


class ManifestUnreadable(Exception):
    """The process that reads a large manifest has ended without a result."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the process that reads large manifests ended with status {status}")


async def _there(data: bytes) -> bytes:
    return data


async def _read_apart(load: Callable[[], Awaitable[bytes]], target: str | None) -> Reading:
    """Read it in a process of its own, which starts while the manifest is still on its way."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "planter.shell.manifest_reader", stdin=pipe, stdout=pipe, stderr=pipe
    )
    head = msgspec.json.encode(target) + b"\n"
    try:
        answer, errors = await process.communicate(head + await load())
    finally:
        if process.returncode is None:  # we are being stopped
            process.kill()
    if process.returncode != 0:
        log.error("manifest.reader_ended", status=process.returncode, stderr=errors[-2000:].decode())
        raise ManifestUnreadable(process.returncode)
    return _readings.decode(answer)


def read_manifest(data: bytes, target: str | None = None) -> Reading:
    """Read, check and compile: JSON, or YAML text as a JSON string, so that its places stay true.

    ``target`` is the phase to go up to, instead of the manifest's own ``targetPhase``.
    """
    if (plan := read_plain(data, target)) is not None:
        return Reading(plan)
    if data[:1] == b'"':
        loaded = schemas.load_manifest(msgspec.json.decode(data, type=str), format="yaml")
    else:
        loaded = schemas.load_manifest(data, format="json")
    compiled = compile_manifest(loaded, target)
    if compiled.plan is not None:
        return Reading(compiled.plan)
    return Reading(None, *_answer(compiled.problems))


@lru_cache(maxsize=_KEPT)
def _read_small(data: bytes, target: str | None) -> tuple[Reading, Graph | None]:
    """Small manifests are started again and again: they are read once, and share their plan and its graph."""
    reading = read_manifest(data, target)
    return reading, None if reading.plan is None else graph_of(reading.plan)


def _answer(problems: tuple[schemas.Problem, ...]) -> tuple[str, tuple[dict[str, object], ...]]:
    """A sentence, and the list of what is wrong."""
    errors = [problem for problem in problems if problem.severity == "error"]
    count = f"{len(errors)} problem{'s' if len(errors) != 1 else ''}"
    first = f"{errors[0].message}" if errors else ""
    return f"the manifest is not valid: {count}; {first}", tuple(p.to_json() for p in errors[:PROBLEMS_MAX])


_processes = anyio.CapacityLimiter(_PROCESSES_MAX)
_readings = msgspec.json.Decoder(Reading)
