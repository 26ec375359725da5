"""What goes to, and comes from, the bucket PLANTER_ARTIFACTS: large results, artifacts, large arguments.

In the time of the attempt: its timeout and its cancellation end an upload, which nobody finds then.
"""

import hashlib
import time
from collections.abc import AsyncGenerator

import anyio.to_thread
import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from planter_protocol.artifacts import (
    CHUNK_BYTES,
    INLINE_RESULT_BYTES_MAX,
    Artifact,
    ObjectWriter,
    TooManyBytes,
    chunks_of,
    digest_of,
    may_refer,
    reference_to,
    resolve,
)
from planter_protocol.codec import free_json, timestamp
from planter_protocol.confirming import Confirmed
from planter_protocol.errors import InvalidMessage, ObjectBroken, ObjectNotFound, ProtocolError
from planter_runtime.artifacts import Source
from planter_runtime.executors.executor import Execution
from planter_runtime.outcomes import Completed, Failed, Outcome, failed, unusable
from planter_runtime.work import Work

log = structlog.get_logger(__name__)


class ValuesMissing(Exception):
    """The arguments refer to what is not there, or too large; ``failure`` says why."""

    def __init__(self, failure: Failed) -> None:
        self.failure = failure
        super().__init__(failure.failure.message)


class Store:
    """Loads and stores for all attempts of a runtime."""

    def __init__(self, nc: Client, confirmed: Confirmed, runtime_id: str) -> None:
        self._nc = nc
        self._writer = ObjectWriter(nc, confirmed)
        self._runtime_id = runtime_id

    async def with_values(self, work: Work) -> Work:
        """The work, with values in the place of the references among its arguments.

        Raises:
            ValuesMissing: that cannot be had.
        """
        run = work.run
        if run is None or not may_refer(run.arguments):
            return work
        try:
            data = await resolve(self._nc, work.target.session_id, bytes(run.arguments))
        except TooManyBytes as error:
            text = f"the results among its arguments are too large: {error}"
            raise ValuesMissing(failed(text, "arguments", retryable=False)) from None
        except (ObjectNotFound, ObjectBroken, InvalidMessage) as error:
            text = f"a result among its arguments cannot be had: {error}"
            raise ValuesMissing(failed(text, "arguments", retryable=False)) from None
        except (ProtocolError, NatsError, TimeoutError) as error:
            text = f"a result among its arguments cannot be read: {str(error) or type(error).__name__}"
            raise ValuesMissing(failed(text, "arguments")) from None
        return msgspec.structs.replace(work, run=msgspec.structs.replace(run, arguments=msgspec.Raw(data)))

    async def kept(self, execution: Execution, outcome: Outcome) -> Outcome:
        """Store artifacts, and a result that is too large for a report; what is reported then.

        An attempt that has failed stays so, whatever becomes of its artifacts.
        """
        problem = await self._keep_artifacts(execution)
        if problem is not None:
            if not isinstance(outcome, Completed):
                execution.log.say(problem.failure.message, "warning")
                return outcome
            return problem
        if not isinstance(outcome, Completed) or outcome.result is msgspec.UNSET:
            return outcome
        if len(bytes(outcome.result)) <= INLINE_RESULT_BYTES_MAX:
            return outcome
        try:
            await anyio.to_thread.run_sync(free_json, bytes(outcome.result), "result")
        except InvalidMessage as error:
            return unusable(error)
        masked = await anyio.to_thread.run_sync(execution.log.mask.outcome, outcome)
        assert isinstance(masked, Completed)
        return await self._reference(execution, bytes(masked.result))  # pyright: ignore[reportArgumentType]

    async def _reference(self, execution: Execution, data: bytes) -> Outcome:
        try:
            reference = await anyio.to_thread.run_sync(reference_to, data)
            digest = await anyio.to_thread.run_sync(digest_of, data)
            session = execution.work.target.session_id
            await self._writer.store(session, digest, chunks_of(data), lambda: execution.beat(None))
        except (ProtocolError, NatsError, TimeoutError) as error:
            text = f"the result has {len(data):,} bytes as JSON and cannot be stored: {_shown(error)}"
            return failed(text, "result")
        return Completed(msgspec.Raw(reference))

    async def _keep_artifacts(self, execution: Execution) -> Failed | None:
        """Store and list them all; why one cannot be kept, if so."""
        artifacts = execution.artifacts
        for pattern in artifacts.unmatched:
            execution.log.say(f"no file matches {pattern!r} of x-run.artifacts", "warning")
        try:
            for name, source in list(artifacts.sources.items()):
                if execution.log.mask.text(name) != name:
                    return failed("an artifact's name holds a secret", "artifact", retryable=False)
                await self._keep(execution, name, source)
        except (ProtocolError, NatsError, TimeoutError, OSError) as error:
            return failed(f"an artifact cannot be kept: {_shown(error)}", "artifact")
        if not artifacts.refused:
            return None
        for text in artifacts.refused[1:]:
            execution.log.say(text, "warning")
        return failed(artifacts.refused[0], "artifact", retryable=False)

    async def _keep(self, execution: Execution, name: str, source: Source) -> None:
        target = execution.work.target
        digest, size = await anyio.to_thread.run_sync(_digest, source)

        def go_on() -> None:
            execution.beat(None)

        await self._writer.store(target.session_id, digest, _chunks(source, size), go_on)
        artifact = Artifact(
            session_id=target.session_id,
            phase_id=target.phase_id,
            attempt=target.attempt,
            name=name,
            digest=digest,
            bytes=size,
            stored=timestamp(time.time_ns() // 1_000_000),
            runtime_id=self._runtime_id,
        )
        await self._writer.list(artifact)
        source.close()
        execution.log.say(f"kept artifact {name}, {size:,} bytes")


async def _chunks(source: Source, size: int) -> AsyncGenerator[bytes]:
    """As many bytes as had the digest: what a file gets afterwards is not its content."""
    offset = 0
    while offset < size:
        count = min(CHUNK_BYTES, size - offset)
        chunk = await anyio.to_thread.run_sync(source.read, offset, count)
        if not chunk:
            return
        offset += len(chunk)
        yield chunk


def _digest(source: Source) -> tuple[str, int]:
    """The digest of a source and its size, not more than it had when it was noted."""
    hashed, offset = hashlib.sha256(), 0
    while offset < source.size and (chunk := source.read(offset, min(1024 * 1024, source.size - offset))):
        hashed.update(chunk)
        offset += len(chunk)
    return f"sha256:{hashed.hexdigest()}", offset


def _shown(error: BaseException) -> str:
    return str(error) or type(error).__name__
