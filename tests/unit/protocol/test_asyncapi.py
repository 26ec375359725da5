"""The AsyncAPI document: that of the code, complete, sound in itself, and valid for the official parser."""

import inspect
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planter_protocol import asyncapi, codec, explaining, messages, services, subjects
from planter_protocol.asyncapi_examples import EXAMPLES

ROOT = Path(__file__).parents[3]
STORED = ROOT / "schemas" / "asyncapi.json"
CHECKER = ROOT / "scripts" / "check_asyncapi.mjs"
PARSER = Path(os.environ.get("ASYNCAPI_NODE", ROOT / ".node"))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(STORED.read_text())


def within(value: Any) -> Iterator[Any]:
    """The value and everything in it."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from within(inner)


def resolved(document: dict[str, Any], reference: str) -> Any:
    """What a reference within the document means; KeyError when it means nothing."""
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_stored_document_is_that_of_the_code() -> None:
    remedy = "write it anew: python -m planter_protocol.asyncapi > schemas/asyncapi.json"

    assert STORED.read_text() == asyncapi.text(), remedy


def test_every_reference_leads_somewhere(document) -> None:
    references = [each["$ref"] for each in within(document) if isinstance(each, dict) and "$ref" in each]

    assert len(references) > 100
    for reference in references:
        assert resolved(document, reference) is not None


def test_every_subject_of_the_table_has_a_channel(document) -> None:
    addresses = {
        re.sub(r"\{\w+\}", "ID", channel["address"])
        for channel in document["channels"].values()
        if channel["address"]
    }
    builders = inspect.getmembers(subjects, inspect.isfunction)
    built = {
        builder(*["ID"] * len(inspect.signature(builder).parameters))
        for name, builder in builders
        if builder.__module__ == subjects.__name__ and not name.startswith(("parse_", "partition", "_"))
    }
    fixed = {
        value
        for value in vars(subjects).values()
        if isinstance(value, str) and re.fullmatch(r"plan\.[a-z.]+", value)
    }
    services_asked = {
        subject for verb in ("PING", "INFO", "STATS") for subject in services.subjects_of(verb, "ID", "ID")
    }

    assert len(built) >= 15
    assert len(fixed) >= 3
    assert addresses == built | fixed | services_asked


def test_every_operation_uses_messages_of_its_channel_and_each_channel_is_used(document) -> None:
    used = set()
    for name, operation in document["operations"].items():
        channel = operation["channel"]["$ref"]
        used.add(channel.rpartition("/")[2])
        assert operation["action"] in ("send", "receive"), name
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
        if "reply" in operation:
            assert resolved(document, operation["reply"]["channel"]["$ref"])["address"] is None
            used.add(operation["reply"]["channel"]["$ref"].rpartition("/")[2])

    assert used == set(document["channels"])


def test_every_message_has_examples_and_they_can_be_read_as_what_they_are(document) -> None:
    kinds = {**vars(messages), **vars(explaining), **vars(services)}
    with_payload = {
        name: message for name, message in document["components"]["messages"].items() if "payload" in message
    }

    assert set(with_payload) == {kind.__name__ for kind in EXAMPLES}
    for name, message in with_payload.items():
        assert message["examples"]
        for example in message["examples"]:
            data = json.dumps(example["payload"]).encode()
            again = codec.encode(codec.decode(data, kinds[name]))
            read = json.loads(again)
            assert (
                read.items()
                >= {key: value for key, value in example["payload"].items() if key in read}.items()
            ), name


def test_fields_say_what_their_docstrings_say(document) -> None:
    schemas = document["components"]["schemas"]

    assert schemas["Heartbeat"]["properties"]["leaseMs"]["description"] == "Silence for this long means lost."
    assert "waits for a slot" in schemas["Acks"]["properties"]["queued"]["description"]


@pytest.mark.skipif(
    not shutil.which("node") or not (PARSER / "node_modules/@asyncapi/parser").is_dir(),
    reason="the official parser is not here: `make asyncapi` installs it, with node and npm",
)
def test_the_official_parser_finds_nothing_wrong_and_would(tmp_path, document) -> None:
    document["operations"]["receiveStart"]["action"] = "fly"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(document))

    good, bad = (
        subprocess.run(["node", CHECKER, path], capture_output=True, text=True, timeout=100, check=False)
        for path in (STORED, broken)
    )

    assert (good.returncode, good.stdout) == (0, ""), good.stdout + good.stderr
    assert bad.returncode == 1
    assert "receiveStart" in bad.stdout
