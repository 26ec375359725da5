"""The planted bugs: each still fits the code, and the quickest are found (``make mutants`` tries all)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from mutants import MUTANTS  # noqa: E402


def test_every_mutant_fits_the_code_once() -> None:
    stale = {mutant.name for mutant in MUTANTS if (ROOT / mutant.file).read_text().count(mutant.old) != 1}

    assert not stale
    assert len(MUTANTS) >= 12


def test_the_simulation_finds_planted_bugs() -> None:
    quick = ("timeout-taken-for-success", "input-taken-twice", "no-handover")
    command = [sys.executable, str(ROOT / "scripts" / "mutants.py"), *quick]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert tried.returncode == 0, tried.stdout + tried.stderr
