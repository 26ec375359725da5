"""Write schemas/openapi.json, the description of the HTTP interface: python scripts/openapi.py."""

import json
from pathlib import Path

from planter.api.app import make_app

FILE = Path(__file__).parents[1] / "schemas" / "openapi.json"


def described() -> str:
    """The document as it is stored."""
    return json.dumps(make_app(None).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(described(), encoding="utf-8")
    print(f"wrote {FILE}")
