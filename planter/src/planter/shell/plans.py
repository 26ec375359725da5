"""From the bytes of a start message to a compiled plan."""

import anyio.to_thread
import msgspec
from nats.js import JetStreamContext

import planter_schemas as schemas
from planter.compile import Compiled, compile_manifest
from planter_protocol import messages
from planter_protocol.client import load_object
from planter_protocol.errors import InvalidMessage

_THREAD_FROM_BYTES = 64 * 1024
PROBLEMS_MAX = 100
"""More problems than this are counted, not listed, in an answer."""


async def plan_of(js: JetStreamContext, start: messages.Start) -> Compiled:
    """Read, check and compile the manifest of a start message.

    Raises:
        InvalidMessage: there is no manifest, or its reference leads nowhere.
    """
    if start.manifest_ref is not None:
        data = await load_object(js, start.manifest_ref.digest)
    elif start.manifest is not msgspec.UNSET:
        data = bytes(start.manifest)
    else:
        raise InvalidMessage("Start", "it has neither manifest nor manifestRef")
    if len(data) < _THREAD_FROM_BYTES:
        return _compile(data)
    return await anyio.to_thread.run_sync(_compile, data)  # others do not wait for one large manifest


def answer(problems: tuple[schemas.Problem, ...]) -> tuple[str, tuple[dict[str, object], ...]]:
    """A sentence and the list of what is wrong, for an answer on the wire."""
    errors = [problem for problem in problems if problem.severity == "error"]
    count = f"{len(errors)} problem{'s' if len(errors) != 1 else ''}"
    first = f"{errors[0].message}" if errors else ""
    return f"the manifest is not valid: {count}; {first}", tuple(p.to_json() for p in errors[:PROBLEMS_MAX])


def _compile(data: bytes) -> Compiled:
    if data[:1] == b'"':  # YAML text as a JSON string, so that its lines and columns stay true
        return compile_manifest(schemas.load_manifest(msgspec.json.decode(data, type=str), format="yaml"))
    return compile_manifest(schemas.load_manifest(data, format="json"))
