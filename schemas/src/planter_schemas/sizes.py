"""Amounts of bytes as manifests write them: ``512MiB``, ``10MB``, ``1GiB``; a number alone is bytes."""

import re

SIZE = re.compile(r"([0-9]{1,15})(B|[kKMGT]i?B?)?", re.ASCII)
SIZE_MAX = 2**50
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(value: object) -> int | None:
    """Bytes of ``512``, ``"512MiB"`` and ``"512M"`` (2**20), ``"512MB"`` (10**6); None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value <= SIZE_MAX else None
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    unit = found[2] or "B"
    base = 1000 if unit.endswith("B") and "i" not in unit else 1024
    size = int(found[1]) * base ** _POWERS.get(unit[0], 0)
    return size if size <= SIZE_MAX else None
