"""The simulation as part of the suite: as many histories as fit a minute, and what a seed means."""

import re
import subprocess
import sys
from pathlib import Path

SIM = Path(__file__).parents[2] / "scripts" / "sim.py"
SECONDS = 60


def sim(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the simulation."""
    command = [sys.executable, str(SIM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS * 5, check=False)


def test_every_history_that_fits_a_minute_keeps_the_invariants() -> None:
    played = sim("--seconds", str(SECONDS))

    print(played.stdout)
    assert played.returncode == 0, played.stdout + played.stderr
    assert int(re.match(r"[\d,]+", played.stdout)[0].replace(",", "")) > 100


def test_a_seed_gives_the_same_history_every_time() -> None:
    for seed in ("3", "11", "1156"):
        first, second = sim("--seed", seed), sim("--seed", seed)

        assert first.stdout == second.stdout
        assert "digest" in first.stdout
