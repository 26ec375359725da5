"""A runtime that knows only the protocol, with switches for mistakes: what test_runtime.py is tried with.

python naive_runtime.py NATS_URL [FAULT...]
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.msg import Msg

FAULTS = {
    "completes-everything": "a failure is not told",
    "never-ends": "the last word is missing",
    "wrong-time": "times are seconds since 1970",
    "wrong-phase": "acks name no phase",
    "breaks-on-junk": "the first target that cannot be read is the last",
}


@asynccontextmanager
async def serving(url: str, *faults: str) -> AsyncGenerator[None]:
    """Take whatever is offered, until the end of the block."""
    nc = await nats.connect(url)
    broken = asyncio.Event()

    async def say(session: str, verb: str, message: dict[str, Any]) -> None:
        await nc.publish(f"plan.session.{session}.{verb}", json.dumps(message).encode())

    async def on_target(message: Msg) -> None:
        session = message.subject.split(".")[2]
        try:
            target = json.loads(message.data)
            phase, fails = str(target["phaseId"]), target["labels"]["phase"] == "conformance-fails"
        except (ValueError, TypeError, KeyError):
            if "breaks-on-junk" in faults:
                broken.set()
            return
        if broken.is_set():
            return
        await say(session, "ack", {"phaseId": "" if "wrong-phase" in faults else phase, "accepted": True})
        last = "failed" if fails and "completes-everything" not in faults else "complete"
        for status in ("running",) if "never-ends" in faults else ("running", last):
            now = datetime.now(UTC)
            updated = now.timestamp() if "wrong-time" in faults else now.isoformat()
            await say(session, "state", {"phaseId": phase, "status": status, "updated": updated})

    await nc.subscribe("plan.session.*.target", cb=on_target)
    await nc.flush()
    try:
        yield
    finally:
        await nc.close()


async def main(url: str, *faults: str) -> None:
    """Take whatever is offered, until the process is ended."""
    async with serving(url, *faults):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
