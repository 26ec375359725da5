"""Parameters that several endpoints share, with one wording each."""

from typing import Annotated

from fastapi import Header, Path, Query

from planter_protocol.names import ITEM_ID_LENGTH_MAX

_NAME = r"^[A-Za-z0-9_-]{1,64}$"
SEQUENCE_MAX = 2**53 - 1
"""Also the largest whole number that JavaScript can hold."""

SessionQuery = Annotated[str, Query(pattern=_NAME, description="Id of the session.")]
SessionPath = Annotated[str, Path(pattern=_NAME, description="Id of the session.", examples=["default"])]
PhasePath = Annotated[str, Path(description="Id of the phase; it may have slashes.", examples=["a"])]
PhaseQuery = Annotated[
    str | None,
    Query(max_length=ITEM_ID_LENGTH_MAX, description="Only those of this phase, and of its items."),
]
AfterQuery = Annotated[int, Query(ge=0, le=SEQUENCE_MAX, description="Sequence after which to begin.")]
LimitQuery = Annotated[int, Query(ge=1, le=1000, description="Items in one answer, at most.")]
CursorQuery = Annotated[str | None, Query(max_length=200, description="`nextCursor` of the page before.")]
DigestQuery = Annotated[
    str | None,
    Query(
        alias="planDigest",
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="Of a staged plan; else the last one.",
    ),
]
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same request is carried out once, for seven days.",
    ),
]
LastEventHeader = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="Id of the last event that the caller has (streams only)."),
]
NoneMatchHeader = Annotated[
    str | None,
    Header(alias="If-None-Match", description="ETag that the caller has: 304 when it still holds."),
]
DEFAULT_SESSION = "default"
