"""Durations as manifests write them: ``300ms``, ``5s``, ``2m``, ``1h``; a number alone is seconds.

Phase Manifest Protocol, `waitFor.timeout`: ``^[0-9]+(ms|s|m|h)?$``.
"""

import re

from planter_schemas.limits import DURATION_MS_MAX

DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h)?", re.ASCII)
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def parse_duration(value: object) -> int | None:
    """Milliseconds of ``"300ms"``, ``"5s"``, ``"5"`` or ``5`` (seconds); None for anything else.

    More than ten years is anything else, too.
    """
    if isinstance(value, str):
        found = DURATION.fullmatch(value)
        if found is None:
            return None
        milliseconds = int(found[1]) * _UNITS_MS[found[2] or "s"]
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        milliseconds = value * 1000
    else:
        return None
    return milliseconds if milliseconds <= DURATION_MS_MAX else None


def format_duration(milliseconds: int) -> str:
    """The shortest spelling: 300000 becomes ``5m``."""
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _UNITS_MS[unit] == 0:
            return f"{milliseconds // _UNITS_MS[unit]}{unit}"
    return f"{milliseconds}ms"
