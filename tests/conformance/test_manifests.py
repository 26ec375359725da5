"""Chapters "Phase Manifest Format" and "Compliance": what a server takes, and what it does not."""

import json
from typing import Any

import pytest
from kit import Object, Session, phase, spelled

GOOD = [phase("good")]


async def refused(pmp: Session, manifest: Any) -> None:
    """The manifest starts nothing; the valid one that follows it on the same subject is the barrier."""
    await pmp.start(manifest)
    await pmp.start(GOOD)
    await pmp.target("good")
    assert pmp.targeted == ["good"], "a phase of a manifest that is not valid was targeted"


@pytest.mark.clause("F2.1", "F2.3")
async def test_a_phase_is_taken_in_every_spelling_of_its_keys(pmp: Session, spelling: str) -> None:
    full = phase(
        "full",
        instanceMode="immediate",
        retry={"maxAttempts": 2},
        onFailure={"action": "raise", "spec": {"message": ["failed"]}},
        onSuccess={"spec": {"message": ["done"]}},
    )
    await pmp.start(spelled([full, phase("next", ("full",))], spelling))

    await pmp.run("full", "next")

    assert await pmp.status("next", "complete") == "complete"


@pytest.mark.clause("F2.2", "F2.4", "N2.1")
@pytest.mark.parametrize("number", [0, 1])
async def test_the_two_manifests_of_the_document_run_byte_by_byte(
    pmp: Session, examples: list[bytes], number: int
) -> None:
    await pmp.say("start", b'{"manifest": ' + examples[number] + b', "dryRun": false}')

    await pmp.run("preflight")

    assert await pmp.status("preflight", "complete") == "complete"


@pytest.mark.clause("S3")
async def test_one_manifest_may_mix_phases_of_both_spellings(pmp: Session) -> None:
    manifest = spelled([phase("a")], "snake") + spelled([phase("b", ("a",))], "camel")
    await pmp.start(manifest)

    await pmp.run("a", "b")

    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("S1", "S2", "S4", "S5")
async def test_empty_objects_and_absent_fields_mean_nothing(pmp: Session) -> None:
    empty: Object = {key: {} for key in ("selector", "waitFor", "retry", "onFailure", "onSuccess")}
    await pmp.start([{"kind": "Phase", "id": "a", "spec": empty}, {"kind": "Phase", "id": "b", "spec": {}}])

    await pmp.target("a")
    await pmp.target("b")


@pytest.mark.clause("C5")
async def test_extensions_with_a_prefix_are_taken(pmp: Session) -> None:
    extended = phase("a", **{"x-conformance": {"any": ["thing", 1, None]}})
    await pmp.start([{**extended, "x-beside": True}])

    await pmp.target("a")


@pytest.mark.clause("T2")
async def test_a_manifest_without_phases_is_valid(pmp: Session) -> None:
    await pmp.start([])
    await pmp.start(GOOD)

    await pmp.target("good")


@pytest.mark.clause("F3.1")
async def test_another_kind_is_refused(pmp: Session) -> None:
    await refused(pmp, [{**phase("bad"), "kind": "Stage"}])


@pytest.mark.clause("F3.2")
async def test_an_id_that_is_used_twice_is_refused(pmp: Session) -> None:
    await refused(pmp, [phase("bad"), phase("bad")])


@pytest.mark.clause("F3.2")
async def test_a_phase_without_id_is_refused_with_the_whole_manifest(pmp: Session) -> None:
    await refused(pmp, [phase("bad"), {"kind": "Phase", "spec": {}}])


@pytest.mark.clause("F3.3")
async def test_a_spec_that_is_no_object_is_refused(pmp: Session) -> None:
    await refused(pmp, [phase("bad"), {"kind": "Phase", "id": "worse", "spec": ["echo"]}])


@pytest.mark.clause("S5", "D4")
async def test_phases_that_wait_in_a_circle_are_refused(pmp: Session) -> None:
    await refused(pmp, [phase("bad"), phase("a", ("b",)), phase("b", ("a",))])


@pytest.mark.clause("S5", "D4")
async def test_a_phase_that_waits_for_itself_is_refused(pmp: Session) -> None:
    await refused(pmp, [phase("bad"), phase("a", ("a",))])


@pytest.mark.clause("C4", "C5")
async def test_a_key_that_is_neither_known_nor_prefixed_is_refused(pmp: Session) -> None:
    await refused(pmp, [phase("bad", wishes="three")])


@pytest.mark.clause("F2.3")
async def test_one_key_in_two_spellings_is_refused(pmp: Session) -> None:
    both = phase("bad")
    both["spec"].update(instanceMode="immediate", instance_mode="onUse")
    await refused(pmp, [both])


@pytest.mark.clause("T2", "N2.1")
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"null", b"7", b"[]", b'{"manifest": 7}', b'{"manifest": [7]}', b"[" * 10_000],
    ids=["nothing", "half", "binary", "null", "number", "list", "no manifest", "no phase", "deep"],
)
async def test_bytes_that_are_no_manifest_disturb_nothing(pmp: Session, data: bytes) -> None:
    await pmp.say("start", data)
    await pmp.start(GOOD)

    await pmp.run("good")

    assert await pmp.status("good", "complete") == "complete"
    assert pmp.targeted == ["good"]


@pytest.mark.clause("G3", "N2.1")
async def test_a_dry_run_starts_nothing(pmp: Session) -> None:
    await pmp.start([phase("dry")], dry_run=True)
    await pmp.start(GOOD)

    await pmp.target("good")

    assert pmp.targeted == ["good"]


@pytest.mark.clause("H2.3", "N1.1")
async def test_another_manifest_while_one_is_executed_changes_nothing(pmp: Session) -> None:
    await pmp.start([phase("a"), phase("b", ("a",))])
    await pmp.target("a")

    await pmp.start([phase("other")])
    await pmp.run("a")
    await pmp.target("b")

    assert pmp.targeted == ["a", "b"]


@pytest.mark.clause("H2.3", "N1.1")
async def test_the_same_manifest_again_while_it_is_executed_starts_nothing_twice(pmp: Session) -> None:
    manifest = [phase("a"), phase("b", ("a",))]
    await pmp.start(manifest)
    await pmp.target("a")

    await pmp.start(json.loads(json.dumps(manifest)))
    await pmp.run("a", "b")
    await pmp.status("b", "complete")

    assert pmp.targeted == ["a", "b"]
