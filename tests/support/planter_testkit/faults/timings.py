"""How long the work stood still after a fault, read from the times at which the server stored commits."""

import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from planter_protocol.messages import Commit
from planter_testkit.faults.accounts import Account, Commits
from planter_testkit.faults.processes import Kill

_WINDOW_MS = 30_000


def now_ms() -> int:
    """The time as the streams tell it: all processes are on one machine."""
    return int(time.time() * 1000)


def take_overs(account: Account, kills: Sequence[Kill]) -> list[float]:
    """Seconds from each kill to the next commit, of each session that was under way and the victim's.

    A commit bears the time of its decision, so one that is later than the kill is another process's.
    """
    found: list[float] = []
    for commits in account.journals.values():
        times = [_decided_ms(commit) for _, commit in commits]
        gaps = (_gap(account, commits, times, kill) for kill in kills)
        found.extend(gap for gap in gaps if gap is not None)
    return found


def first_after(account: Account, moments: Iterable[int]) -> list[float]:
    """Seconds from each moment to the first commit of any session after it."""
    times = sorted(account.stored_ms.values())
    places = [(bisect_right(times, moment), moment) for moment in moments]
    return [(times[place] - moment) / 1000 for place, moment in places if place < len(times)]


def longest_pauses(account: Account, moments: Sequence[int]) -> list[float]:
    """The longest time without any commit between each moment and the next one, in seconds."""
    times = sorted(account.stored_ms.values())
    found = []
    for moment, following in pairwise([*moments, moments[-1] + _WINDOW_MS] if moments else []):
        inside = [moment, *(at for at in times if moment < at < following)]
        later = next((at for at in times if at >= following), None)
        inside += [later] if later is not None else []
        found.append(max((b - a for a, b in pairwise(inside)), default=0) / 1000)
    return found


def _gap(account: Account, commits: Commits, times: Sequence[int], kill: Kill) -> float | None:
    before = [commit for (_, commit), at in zip(commits, times, strict=True) if at <= kill.at_ms]
    later = next((number for number, at in enumerate(times) if at > kill.at_ms), None)
    if not before or later is None or before[-1].by != kill.name or _is_over(before):
        return None
    return (account.stored_ms[commits[later][0]] - kill.at_ms) / 1000


def _is_over(commits: Iterable[Commit]) -> bool:
    over = False
    for commit in commits:
        for event in commit.events:
            if event["type"] in ("SessionEnded", "SessionPaused"):
                over = True
            elif event["type"] in ("PlanApplied", "SessionReopened", "SessionResumed"):
                over = False
    return over


def _decided_ms(commit: Commit) -> int:
    return int(datetime.fromisoformat(commit.at).timestamp() * 1000)
