"""Which planner takes which inputs: a hint for speed. The journal's compare-and-set alone makes it right.

The server files each input under ``in.<partition>.<id>.<verb>``; every live planner computes the same owner
for a partition (rendezvous hashing with even shares), so that planners rarely work on the same session at the
same time.
"""

import hashlib
import math
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
    """The partitions that fall to a planner among the members; nobody gets more than an even share."""
    return _shares(frozenset({planner_id, *members}))[planner_id]


@lru_cache(maxsize=16)  # asked at every beat
def _shares(members: frozenset[str]) -> dict[str, frozenset[int]]:
    """Each to whom it is weighted most with, until they are full: few move when somebody comes or goes."""
    full = math.ceil(PARTITIONS / len(members))
    shares: dict[str, set[int]] = {member: set() for member in members}
    left = set(range(PARTITIONS))
    pairs = [(_weight(number, member), number, member) for number in left for member in members]
    for _, number, member in sorted(pairs, reverse=True):
        if number in left and len(shares[member]) < full:
            left.remove(number)
            shares[member].add(number)
    return {member: frozenset(share) for member, share in shares.items()}


def _weight(partition: int, member: str) -> bytes:
    return hashlib.blake2b(f"{partition}\0{member}".encode(), digest_size=8).digest()
