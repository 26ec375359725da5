"""What the JSON Schema of a manifest is made of."""

from typing import Any

Schema = dict[str, Any]


def object_of(title: str, description: str, properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    result: Schema = {"title": title, "description": description, "type": "object", "properties": properties}
    if required:
        result["required"] = list(required)
    return {**result, "patternProperties": {"^[xX]-": True}, "additionalProperties": False}


def ref(name: str, description: str | None = None, **more: Any) -> Schema:
    result: Schema = {"$ref": f"#/$defs/{name}"}
    return result | ({} if description is None else {"description": description}) | more


def text_of(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def notify() -> Schema:
    return object_of(
        "Notify",
        "Whom to tell.",
        {
            "email": text_of("An address.", examples=["ops@example.com"]),
            "slack": text_of("A channel.", examples=["#ops"]),
            "webhook": text_of("A URL that receives a POST."),
        },
    )
