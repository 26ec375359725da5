"""The published JSON Schema."""

import json
from typing import Any

import pytest

from planter_schemas import gate_runs, json_schema, jsonschema
from planter_schemas.extensions import KNOWN, RETRY_BACKOFF
from planter_schemas.forms import ENVELOPE, PLAN_ENVELOPE, PLAN_SETTINGS
from planter_schemas.notify import NOTIFY
from planter_schemas.phases import (
    HANDLER,
    HANDLER_SPEC,
    METADATA,
    PHASE,
    RETRY,
    SELECTOR,
    SPEC,
    WAIT,
)
from planter_schemas.runs import RUN
from planter_schemas.timeouts import TIMEOUT

DEFINITIONS = json_schema()["$defs"]


def test_the_file_is_what_the_code_makes() -> None:
    """When this fails: ``python -m planter_schemas.jsonschema``."""
    assert jsonschema.FILE.read_text(encoding="utf-8") == jsonschema.text()


@pytest.mark.parametrize(
    ("definition", "names"),
    [
        (DEFINITIONS["phase"], PHASE.names),
        (DEFINITIONS["metadata"], METADATA.names),
        (DEFINITIONS["spec"], (*SPEC.names, *KNOWN)),
        (DEFINITIONS["spec"]["properties"]["selector"], SELECTOR.names),
        (DEFINITIONS["spec"]["properties"]["retry"], RETRY.names),
        (DEFINITIONS["waitFor"], WAIT.names),
        (DEFINITIONS["handler"], HANDLER.names),
        (DEFINITIONS["handler"]["properties"]["spec"], HANDLER_SPEC.names),
        (DEFINITIONS["handler"]["properties"]["spec"]["properties"]["notify"], NOTIFY.names),
        (DEFINITIONS["run"], RUN.names),
        (DEFINITIONS["run"]["properties"]["wait"], gate_runs.WAIT.names),
        (DEFINITIONS["run"]["properties"]["approval"], gate_runs.APPROVAL.names),
        (DEFINITIONS["retryBackoff"], RETRY_BACKOFF.names),
        (DEFINITIONS["timeouts"]["anyOf"][1], TIMEOUT.names),
        (DEFINITIONS["envelope"], ENVELOPE.names),
        (DEFINITIONS["plan"], PLAN_ENVELOPE.names),
        (DEFINITIONS["plan"]["properties"]["plan"], PLAN_SETTINGS.names),
    ],
)
def test_the_schema_has_the_keys_that_are_read(definition: dict[str, Any], names: tuple[str, ...]) -> None:
    assert sorted(definition["properties"]) == sorted(names)
    assert definition["patternProperties"] == {"^[xX]-": True}
    assert definition["additionalProperties"] in (False, {"$ref": "#/$defs/spec", "description": None}) or (
        definition is DEFINITIONS["plan"]["properties"]["plan"]
    )


def test_every_reference_leads_to_a_definition() -> None:
    text = json.dumps(json_schema())

    named = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}

    assert named == set(DEFINITIONS)


def test_every_object_says_what_it_is() -> None:
    silent: list[str] = []
    stack: list[tuple[str, Any]] = [("", json_schema())]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            if "properties" in value and "type" in value and not {"title", "description"} <= set(value):
                silent.append(path)
            stack.extend((f"{path}/{key}", item) for key, item in value.items())

    assert silent == []
