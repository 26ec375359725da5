"""Results that are elsewhere: what the core and expressions make of a reference."""

import msgspec
import pytest

from planter.compile.expressions import RECKONER
from planter.core import large
from planter.core.conditions import ExpressionFailed, missing_outputs
from planter.core.large import LargeResult, large_result
from planter_protocol import artifacts
from planter_protocol.artifacts import name_problem, object_name, reference_to
from planter_protocol.errors import InvalidMessage
from planter_testkit.builders import phase

REFERENCE = msgspec.json.decode(reference_to(b'{"a":1,"b":[%b]}' % (b"0," * 50_000 + b"0")))
PHASES = {"phases": {"big": {"status": "complete", "attempt": 1, "result": large_result(REFERENCE)}}}


def filled(run: object) -> object:
    return msgspec.json.decode(RECKONER.filled(msgspec.json.encode(run), PHASES))


def test_core_and_protocol_mean_the_same_key():
    assert large.REFERENCE == artifacts.REFERENCE


def test_a_reference_is_found_wherever_it_is_and_nothing_else_is_one():
    assert large_result(REFERENCE) == LargeResult(REFERENCE, 100_015)
    assert large_result([1, REFERENCE, {"x": REFERENCE}]).bytes == 200_030  # type: ignore[union-attr]
    assert large_result({"planter:object": 1}) is None
    assert large_result({"planter:object": {"bytes": 1}, "other": 1}) is None
    assert large_result("planter:object") is None


@pytest.mark.parametrize("text", ["phases.big.result", 'phases["big"].result', " phases . big [ 'result' ] "])
def test_a_large_result_is_handed_on_whole(text):
    assert filled({"with": {"x": [f"${{{{ {text} }}}}"]}}) == {"with": {"x": [REFERENCE]}}


@pytest.mark.parametrize(
    "text",
    [
        "phases.big.result.a",
        "size(phases.big.result)",
        "has(phases.big.result)",
        "phases.big.result == null",
        "phases.big",
        'phases["big"]["result"]["a"]',
        "phases.big.status == 'complete' && phases.big.result.a == 1",
    ],
)
def test_whatever_looks_into_it_fails_and_never_finds_a_wrong_value(text):
    with pytest.raises(ExpressionFailed, match="the result of big has 100,015 bytes"):
        RECKONER.value(text, PHASES)


def test_its_status_and_strings_that_look_like_it_are_evaluated():
    assert RECKONER.condition("phases.big.status == 'complete' && 'phases.big.result' != ''", PHASES)
    assert RECKONER.value("phases['big'] ['attempt']", PHASES) == 1


def test_promised_outputs_are_looked_for_among_the_keys_of_the_reference():
    spec = msgspec.structs.replace(phase("big"), outputs=("a", "c"))

    assert missing_outputs(spec, msgspec.Raw(msgspec.json.encode(REFERENCE))) == ("c",)


@pytest.mark.parametrize("name", ["report.html", "a/b c.txt", "grüße", ".hidden", "..a", "a" * 255])
def test_a_relative_path_can_be_a_name(name):
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\nb", "a\x00", "a\u202eb", "a\\b", "ü" * 128, "\udcff"],
)
def test_what_leaves_a_folder_or_cannot_be_shown_is_no_name(name):
    assert name_problem(name) is not None


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "a" * 63, "sha1:" + "a" * 64, "sha256:" + "*" * 64]
)
def test_an_object_is_named_by_a_digest_and_nothing_else(digest):
    with pytest.raises(InvalidMessage):
        object_name("s", digest)
