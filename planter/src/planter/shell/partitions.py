"""Which planner takes which inputs: a hint for speed. The journal's compare-and-set alone makes it right.

The server files each input under ``in.<partition>.<id>.<verb>``; every live planner computes the same owner
for a partition (rendezvous hashing), so that planners rarely work on the same session at the same time.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from planter_protocol.assets import PARTITIONS


@lru_cache(maxsize=16_384)
def partition_of(session_id: str) -> int:
    """The partition that the server's ``partition()`` transform gives a session (FNV-1a, 32 bits)."""
    value = 0x811C9DC5
    for byte in session_id.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value % PARTITIONS


def owned_by(planner_id: str, members: Iterable[str]) -> frozenset[int]:
    """The partitions that fall to a planner among the members; when one leaves, only its own move."""
    everybody = sorted({planner_id, *members})
    return frozenset(
        number
        for number in range(PARTITIONS)
        if max(everybody, key=lambda member: _weight(number, member)) == planner_id
    )


def _weight(partition: int, member: str) -> bytes:
    return hashlib.blake2b(f"{partition}\0{member}".encode(), digest_size=8).digest()
