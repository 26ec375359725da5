"""One session, seen by a monitor that survives whatever happens to the server."""

import asyncio
from collections.abc import Callable

from nats.errors import Error as NatsError

from planter_protocol import PlanClient, ProtocolError
from planter_protocol.client import ends_session
from planter_protocol.messages import Commit

_RETRY_SECONDS = 0.1


class Follower:
    """Keeps every commit that it was shown."""

    def __init__(self, client: PlanClient, session: str) -> None:
        self.session = session
        self.commits: list[tuple[int, Commit]] = []
        self.ended = False
        #: The session's status when it last ended.
        self.status = ""
        self.given_up = False
        self._client = client
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow until the session has ended; call again when it may go on."""
        self.ended = False
        while not self.ended and not self.given_up:
            after = self.commits[-1][0] if self.commits else 0
            try:
                async for sequence, commit in self._client.watch_numbered(self.session, after=after):
                    self.commits.append((sequence, commit))
                    self.ended = ends_session(commit, ended=self.ended)
                    ends = [event["status"] for event in commit.events if event["type"] == "SessionEnded"]
                    self.status = ends[-1] if ends else self.status
                    self._news.set()
                    if self.given_up:
                        return
            except (ProtocolError, NatsError, TimeoutError):
                await asyncio.sleep(_RETRY_SECONDS)

    async def until(self, found: Callable[[], bool]) -> None:
        """Wait until a commit makes it true, or the session has ended."""
        while not (found() or self.ended or self.given_up):
            self._news.clear()
            await self._news.wait()

    def has_taken(self, sequence: int) -> bool:
        """Whether a commit names the input."""
        return any(sequence in commit.inputs for _, commit in self.commits)

    def give_up(self) -> None:
        """Stop following."""
        self.given_up = True
        self._news.set()

    def __str__(self) -> str:
        if not self.commits:
            return f"session {self.session}: no commit at all"
        sequence, commit = self.commits[-1]
        last = [event["type"] for event in commit.events]
        place = f"last commit {commit.n} ({sequence}) at {commit.at} by {commit.by}"
        return f"session {self.session}: {place}: {last}"
