"""Messages on the wire: PMP's own examples, limits, and bytes that are no message."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planter_protocol import codec, messages
from planter_protocol.errors import InvalidMessage, MessageTooLarge


def test_the_examples_of_the_protocol_decode() -> None:
    ack = codec.decode(b'{"phaseId": "setup", "accepted": true, "queued": true}', messages.Acks)
    target = codec.decode(b'{"phaseId": "setup", "reason": "dependencies satisfied"}', messages.Target)
    state = codec.decode(
        b'{"phaseId": "preflight", "status": "complete", "updated": "2025-07-19T20:00:00Z"}', messages.State
    )
    start = codec.decode(b'{"manifest": [], "dryRun": false}', messages.Start)
    control = codec.decode(b'{"command": "pause"}', messages.Control)

    assert (ack.each()[0].queued, target.phase_id, state.status) == (True, "setup", "complete")
    assert (bytes(start.manifest), control.command) == (b"[]", "pause")


def test_absent_json_is_left_out_and_present_json_is_kept_as_it_is() -> None:
    without = codec.encode(messages.Report(phase_id="a", status="complete"))
    with_result = codec.encode(
        messages.Report(phase_id="a", status="complete", result=msgspec.Raw(b'{"n": 1}'))
    )

    assert without == b'{"phaseId":"a","status":"complete"}'
    assert with_result == b'{"phaseId":"a","status":"complete","result":{"n": 1}}'


def test_what_the_protocol_defines_is_always_written() -> None:
    ack = codec.encode(messages.Ack(phase_id="a", accepted=True))
    report = codec.encode(messages.Report(phase_id="a", status="running"))

    assert (ack, report) == (b'{"phaseId":"a","accepted":true}', b'{"phaseId":"a","status":"running"}')


def test_many_reports_travel_in_one_message() -> None:
    data = b'{"reports":[{"phaseId":"a","status":"complete"},{"phaseId":"b","status":"failed"}]}'

    assert [report.phase_id for report in codec.decode(data, messages.Reports).each()] == ["a", "b"]


def test_unknown_fields_are_ignored_so_that_fields_can_be_added() -> None:
    assert codec.decode(b'{"command":"pause","newField":1}', messages.Control).command == "pause"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null", b"[" * 200_000, b'{"command":"fly"}'])
def test_what_is_no_message_is_named_so(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not a valid Control"):
        codec.decode(data, messages.Control)


@given(st.binary(max_size=200))
def test_decoding_raises_nothing_else(data: bytes) -> None:
    for kind in (messages.Start, messages.Control, messages.Acks, messages.Reports, messages.Heartbeat):
        with suppress(InvalidMessage):
            codec.decode(data, kind)


def test_a_message_over_the_limit_is_refused_in_both_directions_headers_included() -> None:
    big = b" " * (codec.MESSAGE_BYTES_MAX - 10)
    codec.check_size("x", big)

    with pytest.raises(MessageTooLarge):
        codec.check_size("x", big, {"name": "value"})
    with pytest.raises(InvalidMessage, match="the limit is"):
        codec.decode(big + b" " * 20, messages.Control)


def test_timestamps_are_rfc_3339_with_milliseconds() -> None:
    assert codec.timestamp(1_752_955_200_125) == "2025-07-19T20:00:00.125Z"


@pytest.mark.parametrize(
    "data",
    [b'{"a":1e999}', b'"\xff"', b"[" * 600 + b"]" * 600, b'{"a":' * 101 + b"1" + b"}" * 101, b"nothing"],
)
def test_json_of_others_that_cannot_be_read_or_is_too_deep_is_no_message(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        codec.free_json(data, "result")


def test_json_of_others_may_be_wide_and_a_hundred_deep() -> None:
    assert codec.free_json(b"[" * 100 + b"]" * 100, "result")
    assert len(codec.free_json(b"[" + b"[]," * 9_999 + b"[]]", "result")) == 10_000
