"""Placement: who could take a phase, and how much room there is."""

import pytest

from planter.core.fleet import Fleet, can_take, requirement
from planter_testkit.builders import phase, runtime

HANDLER = {"phase": "preflight"}
ZONED = {**HANDLER, "zone": "eu"}


@pytest.mark.parametrize(
    ("fields", "spec", "expected"),
    [
        ({}, phase("a", labels={"zone": "eu"}), True),
        ({"labels": {"zone": "eu"}}, phase("a", labels={"zone": "eu"}), True),
        ({"labels": {"zone": "us"}}, phase("a", labels={"zone": "eu"}), False),
        ({"labels": {}}, phase("a"), True),
        ({"executors": frozenset({"shell"})}, phase("a"), False),
        ({"takes_new": False}, phase("a"), False),
        ({}, phase("a", capabilities=("gpu",)), False),
        ({"capabilities": frozenset({"gpu", "big"})}, phase("a", capabilities=("gpu",)), True),
        ({"handlers": (HANDLER,)}, phase("a", kind=None, labels=HANDLER), True),
        ({"handlers": (HANDLER,), "labels": {}}, phase("a", kind=None, labels=ZONED), False),
        ({"handlers": (HANDLER,), "labels": {"zone": "eu"}}, phase("a", kind=None, labels=ZONED), True),
        ({"handlers": (HANDLER,)}, phase("a", kind=None, labels={"phase": "other"}), False),
        ({"handlers": ({},)}, phase("a", kind=None), True),
        ({"handlers": ()}, phase("a", kind=None), False),
    ],
)  # fmt: skip
def test_who_can_take_what(fields, spec, expected) -> None:
    assert can_take(runtime(**fields), requirement(spec)) == expected


def test_room_counts_the_load_of_all_sessions_and_ones_own_newest() -> None:
    fleet = Fleet()
    one = runtime(slots=10)
    fleet.put(one)

    fleet.settle("mine", {"r1": 3})
    fleet.settle("other", {"r1": 4})

    assert fleet.in_use("r1") == 7
    assert fleet.free_for("mine", {"r1": 5}, one) == 1
    assert fleet.settle("other", {"r1": 5}) is False
    assert fleet.settle("other", {}) is True
    assert fleet.in_use("r1") == 3
