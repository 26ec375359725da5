"""What a planner makes of reports that it cannot use."""

import msgspec
import pytest

from planter.core import inputs as i
from planter.shell.inputs import Forged, InputReader
from planter.shell.intake import Delivery
from planter.shell.keys import DispatchKey

DEEP = msgspec.Raw(b"[" * 150 + b"]" * 150)


async def read(*reports: dict[str, object]) -> list[i.AnyInput]:
    """The inputs of one message with these reports."""
    reader = InputReader(None, DispatchKey(b"k" * 32), unfenced=True)  # type: ignore[arg-type]  # nothing is loaded
    data = msgspec.json.encode({"reports": reports})
    return await reader.read("s", "report", Delivery("in.1.s.report", data, 7, 1, ""))


async def test_a_result_that_cannot_be_used_fails_its_phase_and_no_other() -> None:
    bad, good = await read(
        {"phaseId": "a", "status": "complete", "result": DEEP},
        {"phaseId": "b", "status": "complete", "result": {"ok": True}},
    )

    assert isinstance(bad, i.ReportFailed)
    assert (bad.phase_id, bad.kind, bad.retryable) == ("a", "result", False)
    assert bad.message == (
        "it is complete, and its result cannot be used: objects and lists are more than 100 deep"
    )
    assert isinstance(good, i.ReportComplete)


async def test_a_result_that_is_too_large_for_a_report_fails_its_phase() -> None:
    (given,) = await read({"phaseId": "a", "status": "complete", "result": "x" * 70_000})

    assert isinstance(given, i.ReportFailed)
    assert "the result has 70,002 bytes, the limit is 65,536" in given.message


async def test_a_heartbeat_counts_whatever_it_says() -> None:
    (given,) = await read({"phaseId": "a", "status": "heartbeat", "details": DEEP})

    assert isinstance(given, i.ReportHeartbeat)
    assert given.details is msgspec.UNSET


async def test_a_dispatch_id_that_is_no_ascii_is_forged() -> None:
    with pytest.raises(Forged):
        await read({"phaseId": "a", "status": "complete", "dispatchId": "\u00e4"})
