"""``Idempotency-Key``: a request that is sent again is answered again, not carried out again."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from planter.api.answers import PlanAccepted
from planter.api.keeping import Claim, Keeping, Taken, idempotency_name, request_digest
from planter.api.planner_side import Applied, PlannerSide, StillStored
from planter.api.problems import Problem

_WORKING_MS = 60_000
"""Longer than any request lasts: whoever claimed the key has ended without an answer."""


class Once(NamedTuple):
    """An answer, and whether it is an old one."""

    answer: PlanAccepted
    replayed: bool


async def submit_once(keeping: Keeping, side: PlannerSide, key: str, session: str, manifest: str) -> Once:
    """Submit the manifest unless that was done under this key.

    Raises:
        Problem: the key is another request's, or its first use is under way.
        StillStored: see ``PlannerSide.submit``; the key stays taken.
    """
    name = idempotency_name(session, key)
    base = await side.base(session)
    claim = Claim(request_digest(session, manifest), _now(), base.revision)
    try:
        revision = await keeping.claim(name, claim)
    except Taken:
        found = await _earlier(keeping, name, claim)
        if isinstance(found, Once):
            return found
        claim, revision = found
        began = await _begun_before(side, session, manifest, claim)
        if began is not None:
            return await _answered(keeping, name, claim, revision, began)

    async def run() -> PlanAccepted:
        return accepted(await side.submit(session, manifest))

    answer = await _released_unless_done(keeping, name, run)
    return await _answered(keeping, name, claim, revision, answer)


def accepted(applied: Applied) -> PlanAccepted:
    """The answer for a manifest that was taken in."""
    state = applied.state
    return PlanAccepted(
        session_id=state.session_id,
        plan_digest=state.plan_digest,
        revision=state.revision,
        status=state.status,
        after=applied.after,
        repeated=applied.repeated,
        gaps=applied.gaps,
    )


async def _earlier(keeping: Keeping, name: str, claim: Claim) -> Once | tuple[Claim, int]:
    """The answer of the earlier request, or the claim that we have taken over from one that died."""
    found = await keeping.claimed(name)
    if found is None:
        raise _in_progress()
    old, revision = found
    if old.request != claim.request:
        raise Problem("idempotency.reused", "this Idempotency-Key was used with another manifest or session")
    if old.answer is not None:
        return Once(old.answer, replayed=True)
    if _now() - old.at < _WORKING_MS:
        raise _in_progress()
    ours = msgspec.structs.replace(old, at=_now())
    try:
        return ours, await keeping.claim(name, ours, over=revision)
    except Taken:
        raise _in_progress() from None


async def _begun_before(side: PlannerSide, session: str, manifest: str, claim: Claim) -> PlanAccepted | None:
    """What the request that died has begun; None when it has begun nothing."""
    state = await side.base(session)
    if state.revision <= claim.base_revision:
        return None
    if (await side.diff(session, manifest)).plan_digest != state.digest:
        return None
    return accepted(Applied(await side.head(session), 0, repeated=True))


async def _released_unless_done(
    keeping: Keeping, name: str, run: Callable[[], Awaitable[PlanAccepted]]
) -> PlanAccepted:
    try:
        return await run()
    except StillStored:
        raise
    except Exception:
        await keeping.release(name)  # refused, or never stored: nothing was started
        raise


async def _answered(keeping: Keeping, name: str, claim: Claim, revision: int, answer: PlanAccepted) -> Once:
    done = msgspec.structs.replace(claim, answer=answer)
    with suppress(Taken):  # somebody took the key over because we were slow: the session is the same
        await keeping.claim(name, done, over=revision)
    return Once(answer, replayed=False)


def _in_progress() -> Problem:
    return Problem(
        "idempotency.in_progress",
        "a request with this Idempotency-Key is under way",
        headers={"retry-after": "2"},
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
