"""``{container: {image: ..., command: [...]}}``: a container of an engine with Docker's API (Docker, Podman).

It is made for the attempt and removed with it. At timeout and cancellation it is stopped: SIGTERM, and
SIGKILL ``TERM_SECONDS`` later. What a killed runtime has left behind is removed when the next one of its name
runs its first container.

Needs the extra ``http`` (httpx2) and an engine: ``DOCKER_HOST``, or a socket where engines have it.
"""

import os
import re
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec
import structlog

from planter_protocol.messages import Failure
from planter_protocol.names import random_token
from planter_runtime.executors.engine import (
    CONFLICT,
    NOT_FOUND,
    SERVER_ERROR,
    Engine,
    EngineError,
    EngineUnreachable,
    Output,
)
from planter_runtime.executors.executor import Execution
from planter_runtime.executors.pipes import LinePipe, pipes_of
from planter_runtime.executors.process import (
    OUTPUT_BYTES_MAX,
    TERM_SECONDS,
    OutputMeter,
    identity,
    outcome_of,
    too_much_output,
    unwrapped,
)
from planter_runtime.executors.pump import LAST_WORDS_SECONDS_MAX, Pump
from planter_runtime.executors.results import Exchange, exchange
from planter_runtime.outcomes import Failed, Outcome, cut, failed, with_last_line
from planter_runtime.secrets import Secrets, SecretUnusable
from planter_runtime.settings import engine_url
from planter_runtime.work import Limits, Work

log = structlog.get_logger(__name__)

EXCHANGE_FOLDER = "/planter"
_RUNTIME, _LIFE = "planter.runtime", "planter.life"
_STOP_SECONDS_MAX = TERM_SECONDS + 8.0
_CREATE_SECONDS_MAX = 60.0
_OF_PODMAN = {"nproc": 2_000, "nofile": 1_024}
"""Processes of a user, and open files, where a phase gives other limits."""


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """What is wanted, expressions filled in. Keys with ``x-`` are somebody else's."""

    image: str
    command: tuple[str, ...] | None = None
    """Of the image, if None."""
    entrypoint: tuple[str, ...] | None = None
    mount: str | None = None
    """Where in the container the work folder is; None: it is not."""
    network: str | None = None
    """``none``, or one that the engine knows; None: the engine's own choice."""
    user: str | None = None
    pull: Literal["missing", "always", "never"] = "missing"
    read_only: bool = False
    """Its root folder cannot be written to."""


class ContainerExecutor:
    """Runs containers; each attempt has a connection to the engine of its own."""

    def __init__(self, runtime_id: str, secrets: Secrets) -> None:
        self._runtime_id = runtime_id
        self._life = random_token(12)
        self._secrets = secrets
        self._is_clean = False

    def unfit(self, work: Work) -> str | None:
        """What is wrong with what is wanted, if it cannot even be tried."""
        assert work.run is not None
        try:
            wanted = msgspec.convert(work.run.container, Container)
        except msgspec.ValidationError as error:
            return f"x-run.container cannot be read: {error}"
        if work.run.isolation != "none":
            return "x-run.container takes no `isolation`: it is isolated by its engine"
        if work.run.cwd and not work.run.cwd.startswith("/") and wanted.mount is None:
            return (
                "x-run.cwd is no folder of the container: write an absolute one, or `mount` the work folder"
            )
        if work.run.artifacts and wanted.mount is None:
            return "x-run.artifacts are files of the work folder: `mount` it, or use PLANTER_ARTIFACTS"
        if work.run.venv:
            return "x-run.container takes no `venv`: its Python is that of its image"
        return self._secrets.problem(work.run.secrets.values())

    async def execute(self, execution: Execution) -> Outcome:
        """Run the container to its end; complete when it exits with 0."""
        assert execution.work.run is not None
        wanted = msgspec.convert(execution.work.run.container, Container)
        try:
            with _told_apart():
                return await self._executed(execution, wanted)
        except SecretUnusable as error:
            return failed(str(error), "refused")
        except EngineError as error:
            retryable = error.status >= SERVER_ERROR and "executable file" not in error.message
            return failed(f"container of {wanted.image}: {error.message}", "refused", retryable=retryable)
        except EngineUnreachable as error:
            return failed(f"the container engine does not answer at {error}", "refused")

    async def _executed(self, execution: Execution, wanted: Container) -> Outcome:
        assert execution.work.run is not None
        variables = self._variables(execution)
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(Engine(engine_url() or ""))
            await self._clean(engine)
            folder = None if wanted.mount is None else _base(execution.work)
            files = await stack.enter_async_context(exchange(execution, folder, for_everybody=True))
            variables |= files.variables(Path(EXCHANGE_FOLDER))
            folders = {EXCHANGE_FOLDER: files.folder}
            for pipe in await stack.enter_async_context(_listening(execution)):
                place = f"/{pipe.variable.lower().replace('_', '-')}"
                folders[place] = pipe.folder
                variables[pipe.variable] = f"{place}/{pipe.path.name}"
            config = self._config(execution.work, wanted, variables, folders)
            config["HostConfig"]["Ulimits"] = await _ulimits(engine, execution.work.run.limits)
            container = await _created(engine, config, wanted, execution)
            try:
                return await _run(engine, container, wanted, execution, files)
            finally:
                await files.collect()

    def _variables(self, execution: Execution) -> dict[str, str]:
        run = execution.work.run
        assert run is not None
        return {
            **identity(execution.work),
            **run.env,
            **self._secrets.of_attempt(run.secrets, execution.log.mask),
        }

    def _config(
        self, work: Work, wanted: Container, variables: dict[str, str], folders: dict[str, Path]
    ) -> dict[str, Any]:
        """As the engine's API has it (``POST /containers/create``); ``folders`` of ours by where they are."""
        assert work.run is not None
        limits, binds = work.run.limits, [f"{here}:{there}" for there, here in folders.items()]
        if wanted.mount is not None:
            binds.append(f"{work.workdir}:{wanted.mount}")
        folder = wanted.mount
        if work.run.cwd:
            folder = work.run.cwd if folder is None else str(Path(folder) / work.run.cwd)
        host: dict[str, Any] = {
            "Binds": binds,
            "ReadonlyRootfs": wanted.read_only,
            "SecurityOpt": ["no-new-privileges"],
        }
        if wanted.network is not None:
            host["NetworkMode"] = wanted.network
        if limits.memory is not None:
            host |= {"Memory": limits.memory, "MemorySwap": limits.memory}
        target = work.target
        config: dict[str, Any] = {
            "Image": wanted.image,
            "Cmd": wanted.command,
            "Entrypoint": wanted.entrypoint,
            "Env": [f"{name}={text}" for name, text in variables.items()],
            "WorkingDir": folder,
            "User": wanted.user,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "Labels": {
                _RUNTIME: self._runtime_id,
                _LIFE: self._life,
                "planter.session": target.session_id,
                "planter.phase": target.phase_id,
                "planter.attempt": str(target.attempt),
            },
            "HostConfig": host,
        }
        return {key: value for key, value in config.items() if value is not None}

    async def _clean(self, engine: Engine) -> None:
        """Remove what an earlier life of this runtime has left."""
        if self._is_clean:
            return
        for container, labels in await engine.labelled(f"{_RUNTIME}={self._runtime_id}"):
            if labels.get(_LIFE) != self._life:
                log.warning("container.left_behind", container=container[:12])
                await _patiently(partial(engine.remove, container))  # no phase fails for one that stays
        self._is_clean = True


@asynccontextmanager
async def _listening(execution: Execution) -> AsyncGenerator[list[LinePipe]]:
    """Pipes for a container; what it writes to them is taken until the end of the block."""
    with pipes_of(execution) as pipes:
        pumps = [Pump(pipe.reader, pipe.consume) for pipe in pipes]
        try:
            async with anyio.create_task_group() as tasks:
                for pipe, pump in zip(pipes, pumps, strict=True):
                    pipe.share()
                    tasks.start_soon(pump.run)
                try:
                    yield pipes
                finally:
                    for pipe, pump in zip(pipes, pumps, strict=True):
                        os.close(pipe.writer)  # the last one, when the container has ended
                        pump.child_has_ended()
        finally:
            for pump in pumps:
                pump.close()


async def _created(engine: Engine, config: dict[str, Any], wanted: Container, execution: Execution) -> str:
    if wanted.pull == "always":
        await _pull(engine, wanted.image, execution)
    try:
        return await _create(engine, config, execution)
    except EngineError as error:
        if error.status != NOT_FOUND or wanted.pull != "missing":
            raise
    await _pull(engine, wanted.image, execution)
    return await _create(engine, config, execution)


async def _create(engine: Engine, config: dict[str, Any], execution: Execution) -> str:
    """Its id. Once asked, the engine makes it, whether anybody waits or not: a cancellation has to wait."""
    with anyio.move_on_after(_CREATE_SECONDS_MAX, shield=True):
        return await engine.create(_name(execution.work), config)
    raise EngineUnreachable(f"{engine.url}: it has made no container within {_CREATE_SECONDS_MAX:g} s")


async def _pull(engine: Engine, image: str, execution: Execution) -> None:
    execution.log.say(f"pulling {image}")
    await engine.pull(image)


async def _run(
    engine: Engine, container: str, wanted: Container, execution: Execution, files: Exchange
) -> Outcome:
    assert execution.work.run is not None
    limits = execution.work.run.limits
    ending = anyio.CancelScope()
    meter = OutputMeter(limits.output or OUTPUT_BYTES_MAX, ending)
    try:
        async with engine.attached(container) as output:
            await engine.start(container)
            await _follow(engine, container, output, execution, meter, ending)
        if ending.cancelled_caught:
            return too_much_output(meter)
        state = await engine.state(container)
    finally:
        with anyio.CancelScope(shield=True):
            await _patiently(lambda: engine.remove(container))
    shown = f"the container of {wanted.image}"
    status = int(state["ExitCode"])
    if status == 0:
        return files.result()
    if limits.memory is not None and (state.get("OOMKilled") or unwrapped(status) == -signal.SIGKILL):
        return _out_of_memory(shown, limits.memory, is_known=bool(state.get("OOMKilled")))
    return with_last_line(outcome_of(unwrapped(status), shown, limits), execution.log.last_error_line)


def _out_of_memory(shown: str, limit: int, *, is_known: bool) -> Failed:
    """Not every engine knows why the kernel has killed one: Podman does not everywhere."""
    used = f"used more than {limit:,} bytes of memory (limits.memory)"
    if is_known:
        return Failed(Failure(message=cut(f"{shown} {used}"), kind="limit"))
    message = cut(f"{shown} was ended by SIGKILL; it probably {used}")
    return Failed(Failure(message=message, kind="signal", signal="SIGKILL"))


async def _follow(  # noqa: PLR0913, PLR0917  (one thing, in the two halves that it has)
    engine: Engine,
    container: str,
    output: AsyncGenerator[Output],
    execution: Execution,
    meter: OutputMeter,
    ending: anyio.CancelScope,
) -> None:
    """Its output to the log until it has ended; stopped when that is wanted, or when it writes too much."""
    pumping = anyio.CancelScope(shield=True)  # last words come after the cancellation

    async def pump() -> None:
        with pumping, suppress(EngineUnreachable):
            async for stream, data in output:
                taken = meter.take(data)
                if taken:
                    execution.log.write(stream, taken)
                    await execution.log.room()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pump)
        try:
            with ending:
                await engine.wait(container)
            if ending.cancelled_caught:
                await _stop(engine, container)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await _stop(engine, container)
            raise
        finally:
            pumping.deadline = anyio.current_time() + LAST_WORDS_SECONDS_MAX


@contextmanager
def _told_apart() -> Generator[None]:
    """What one of several tasks raises is told by its class, as if it were alone."""
    try:
        yield
    except ExceptionGroup as group:
        first: Exception = group
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        raise first from group


async def _stop(engine: Engine, container: str) -> None:
    await _patiently(lambda: engine.stop(container, int(TERM_SECONDS)))


async def _patiently(call: Callable[[], Awaitable[None]]) -> None:
    """Whatever the engine says: what cannot be stopped or removed now is when the next runtime starts."""
    with anyio.move_on_after(_STOP_SECONDS_MAX) as scope:
        try:
            await call()
        except EngineError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                log.warning("container.stays", error=str(error))
        except EngineUnreachable as error:
            log.warning("container.stays", error=str(error))
    if scope.cancelled_caught:
        log.warning("container.stays", error=f"no answer within {_STOP_SECONDS_MAX:g} s")


def _base(work: Work) -> Path:
    """Where its files are on our side; an absolute ``cwd`` is a folder of the container alone."""
    assert work.run is not None
    return work.workdir if not work.run.cwd or Path(work.run.cwd).is_absolute() else work.folder


async def _ulimits(engine: Engine, limits: Limits) -> list[dict[str, Any]]:
    found = {"cpu": limits.cpu, "nofile": limits.open_files, "fsize": limits.file_size}
    wanted = [
        # Over the soft limit of processor time there is a signal that says why; over the hard one SIGKILL.
        {"Name": name, "Soft": value, "Hard": value + 1 if name == "cpu" else value}
        for name, value in found.items()
        if value is not None
    ]
    if not wanted:
        return []
    if await engine.is_podman():
        # With any limit of ours it forgets its defaults for these, and asks for more than it may have where
        # it lacks CAP_SYS_RESOURCE.
        named = {one["Name"] for one in wanted}
        for name, value in _OF_PODMAN.items():
            wanted += [] if name in named else [{"Name": name, "Soft": value, "Hard": value}]
    return wanted


def _name(work: Work) -> str:
    """For people that list containers; unique, as the engine wants it."""
    target = work.target
    words = f"{target.session_id}-{target.phase_id}-{target.attempt}"
    return f"planter-{re.sub(r'[^A-Za-z0-9_.-]+', '-', words)[:80]}-{random_token(6)}"
