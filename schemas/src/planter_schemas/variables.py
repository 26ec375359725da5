"""``${NAME}`` and ``${NAME:default}`` in label values, attempt counts and durations, and nowhere else.

Shell scripts in a manifest have their own ``${...}``, which must stay as it is. The environment is never
read: a manifest means the same on every machine, unless its caller passes variables.
"""

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}", re.ASCII)


def substitute(text: str, variables: Mapping[str, str]) -> tuple[str, str | None]:
    """The text with its placeholders replaced, and the first name that has neither value nor default.

    ``$${`` stands for a literal ``${``.
    """
    if "${" not in text:
        return text, None
    missing: list[str] = []

    def value(found: re.Match[str]) -> str:
        name: str | None = found[1]
        default: str | None = found[2]
        if name is None:
            return "${"
        given = variables.get(name, default)
        if given is None:
            missing.append(name)
            return ""
        return given

    return _PLACEHOLDER.sub(value, text), missing[0] if missing else None


def escape(text: str) -> str:
    """The spelling of a text that ``substitute`` turns back into it."""
    return text.replace("${", "$${")
