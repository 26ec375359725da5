"""Reading ``notify``: whom a handler, or a question, is told to."""

from planter_schemas.problems import Path
from planter_schemas.spelling import KeyTable, read_fields
from planter_schemas.values import Context, object_of, string_map

NOTIFY = KeyTable("notify", ["email", "slack", "webhook"], is_exact=True)


def read_notify(context: Context, value: object, path: Path) -> dict[str, str] | None:
    """Addressee by channel; None after a finding."""
    source = object_of(context, value, path, "`notify`")
    if source is None:
        return None
    fields = read_fields(context.findings, source, path, NOTIFY)
    given = {key: item for key, item in {**fields.values, **fields.extensions}.items() if item is not None}
    return string_map(context, given, path, "notify")
