"""Dispatch ids: a keyed MAC over an attempt, whose key only planners know.

A reader of the journal knows session, phase, attempt and fence of every attempt, but not the key, so it
cannot forge a report. The key is made by the first planner and kept in the bucket PLANTER_KEYS, which only
planners may read (DESIGN, chapter 4).
"""

import hashlib
import hmac
import secrets

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from planter_protocol import assets

_KEY_NAME = "dispatch"
_KEY_BYTES = 32


class DispatchKey:
    """Makes and checks dispatch ids."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, session_id: str, phase_id: str, attempt: int, fence: int) -> str:
        """The dispatch id of an attempt: 32 hex digits."""
        message = f"{session_id}\0{phase_id}\0{attempt}\0{fence}".encode()
        return hashlib.blake2b(message, key=self._key, digest_size=16).hexdigest()

    def check(self, dispatch_id: str, session_id: str, phase_id: str, attempt: int, fence: int) -> bool:
        """Whether a planner made this id for exactly this attempt (compared in constant time)."""
        if not dispatch_id.isascii():  # the comparison takes no other text
            return False
        return hmac.compare_digest(dispatch_id, self.sign(session_id, phase_id, attempt, fence))

    async def share(self, js: JetStreamContext) -> None:
        """The server was away: should it have lost the key, ours is stored again; what is stored counts."""
        self._key = await _stored_key(js, self._key)


async def load_key(js: JetStreamContext) -> DispatchKey:
    """The key that all planners of this server share; made if there is none. The first to write it wins."""
    return DispatchKey(await _stored_key(js, secrets.token_bytes(_KEY_BYTES)))


async def _stored_key(js: JetStreamContext, ours: bytes) -> bytes:
    bucket = await js.key_value(assets.KEYS_BUCKET)
    while True:
        try:
            entry = await bucket.get(_KEY_NAME)
        except KeyNotFoundError:
            try:
                await bucket.create(_KEY_NAME, ours)
            except KeyWrongLastSequenceError:
                continue  # another planner was first
            continue
        if entry.value:
            return entry.value
