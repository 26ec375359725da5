"""``make bench`` measures, in its smallest form: what it prints and keeps is there and makes sense."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "scripts" / "bench.py"


def test_a_small_run_compares_planter_with_the_floor(tmp_path) -> None:
    out, page = tmp_path / "bench.json", tmp_path / "page.md"
    page.write_text("before\n<!-- newest run: begin -->\nold\n<!-- newest run: end -->\nafter\n")
    command = [sys.executable, str(BENCH), "--repeat", "1", "--scale", "0.01", "--only", "fan,diamonds,idle"]

    done = subprocess.run(
        [*command, "--json", str(out), "--page", str(page)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert set(rows) == {"fan", "diamonds", "diamonds, bound", "idle planter dev"}
    assert rows["fan"]["ratio"] > 0
    assert rows["diamonds, bound"]["ratio"] > 0
    assert all(f"{name} " in rows["fan"]["more"] for name in ("MiB: nats-server", "planner", "runtime"))
    assert "MiB" in rows["idle planter dev"]["planter"]
    assert "| fan |" in page.read_text()
    assert page.read_text().startswith("before")
    assert page.read_text().endswith("after\n")
