"""What outlives a request: staged plans and answers to idempotency keys, in the bucket PLANTER_API.

Made when it is first needed. Nothing that a session is depends on it: it may be removed at any time.
"""

import hashlib
from typing import Any, TypeVar

import msgspec
from nats.js import JetStreamContext, api
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from planter.api.answers import PlanAccepted
from planter_protocol import assets
from planter_protocol.client import load_object, store_object

T = TypeVar("T")

BUCKET = "PLANTER_API"
KEPT_SECONDS = 7 * 24 * 3600.0
_INLINE_BYTES_MAX = 256 * 1024


class Taken(Exception):
    """Somebody else has written the entry first."""


class StagedPlan(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest that waits to be applied."""

    plan_digest: str
    base_revision: int
    base_digest: str | None
    at: int
    """Milliseconds since 1970."""
    manifest: str | None = None
    manifest_ref: str | None = None
    """Digest of an object in PLANTER_MANIFESTS, for a large one."""


class Claim(msgspec.Struct, frozen=True, rename="camel"):
    """A request with an idempotency key: under way, or answered."""

    request: str
    """Digest of what was asked."""
    at: int
    """Milliseconds since 1970: since when somebody works on it."""
    base_revision: int
    """Of the session before it."""
    answer: PlanAccepted | None = None


class Keeping:
    """The bucket."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._bucket: KeyValue | None = None

    # -- staged plans ----------------------------------------------------------------------------

    async def stage(self, session: str, plan: StagedPlan, manifest: str) -> None:
        """Keep the manifest under the session and the plan's digest; the last one is the session's newest."""
        data = manifest.encode()
        if len(data) <= _INLINE_BYTES_MAX:
            plan = msgspec.structs.replace(plan, manifest=manifest)
        else:
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            await store_object(self._js, digest, data)
            plan = msgspec.structs.replace(plan, manifest_ref=digest)
        bucket = await self._open()
        await bucket.put(_staged(session, plan.plan_digest), msgspec.json.encode(plan))
        await bucket.put(_newest(session), plan.plan_digest.encode())

    async def staged(self, session: str, digest: str | None = None) -> StagedPlan | None:
        """What is staged under the digest, or last; None when there is nothing."""
        if digest is None:
            newest = await self._get(_newest(session))
            if newest is None:
                return None
            digest = newest[0].decode()
        found = await self._get(_staged(session, digest))
        return msgspec.json.decode(found[0], type=StagedPlan) if found else None

    async def manifest_of(self, plan: StagedPlan) -> str:
        """The manifest as it was sent."""
        if plan.manifest is not None:
            return plan.manifest
        return (await load_object(self._js, plan.manifest_ref or "")).decode()

    async def unstage(self, session: str, digest: str) -> None:
        """It is applied: forget it."""
        bucket = await self._open()
        await bucket.delete(_staged(session, digest))

    # -- idempotency -----------------------------------------------------------------------------

    async def claim(self, name: str, claim: Claim, over: int = 0) -> int:
        """Write the claim, over the entry with this revision (0: there is none); its own revision.

        Raises:
            Taken: somebody was faster.
        """
        bucket = await self._open()
        try:
            if over:
                return await bucket.update(name, msgspec.json.encode(claim), last=over)
            return await bucket.create(name, msgspec.json.encode(claim))
        except KeyWrongLastSequenceError:
            raise Taken from None

    async def claimed(self, name: str) -> tuple[Claim, int] | None:
        """The claim and its revision."""
        found = await self._get(name)
        return (msgspec.json.decode(found[0], type=Claim), found[1]) if found else None

    async def release(self, name: str) -> None:
        """Nothing came of it: the key may be used again."""
        await (await self._open()).delete(name)

    # -- inside ----------------------------------------------------------------------------------

    async def _get(self, key: str) -> tuple[bytes, int] | None:
        try:
            entry = await (await self._open()).get(key)
        except KeyNotFoundError:
            return None
        return entry.value or b"", int(entry.revision or 0)

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            try:
                self._bucket = await self._js.key_value(BUCKET)
            except BucketNotFoundError:
                config = api.KeyValueConfig(
                    bucket=BUCKET,
                    description="Planter: staged plans and idempotency keys of the HTTP interface",
                    history=1,
                    ttl=KEPT_SECONDS,
                    replicas=await self._replicas(),
                )
                # The same configuration again is not an error: another replica may do it too.
                self._bucket = await self._js.create_key_value(config)
        return self._bucket

    async def _replicas(self) -> int:
        """As many copies as the listing of the sessions has."""
        info = await self._js.stream_info(f"KV_{assets.SESSIONS_BUCKET}")
        return info.config.num_replicas or 1


def idempotency_name(session: str, key: str) -> str:
    """The entry of an idempotency key; the key itself may be anything, and is nobody's business."""
    return f"idempotency.{_hash(session, key)}"


def request_digest(*parts: Any) -> str:
    """What was asked, as one word."""
    return _hash(*(str(part) for part in parts))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _staged(session: str, digest: str) -> str:
    return f"staged.{session}.{digest.removeprefix('sha256:')}"


def _newest(session: str) -> str:
    return f"newest.{session}"
