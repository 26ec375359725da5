"""Every fault scenario in its short form; ``make faults`` has the full figures.

They are played first, several at a time, because they mostly wait: for elections, leases and processes.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from planter_testkit.faults.outcome import Outcome, table
from planter_testkit.faults.scenarios import SCENARIOS

PROGRAM = Path(__file__).parents[2] / "scripts" / "faults.py"
AT_A_TIME = 4


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """How each scenario has gone."""
    folder = tmp_path_factory.mktemp("faults")
    figures = folder / "figures.json"
    options = ["--short", "--jobs", str(AT_A_TIME), "--json", str(figures), "--keep", str(folder / "kept")]
    subprocess.run([sys.executable, str(PROGRAM), *options], check=False)
    found = msgspec.json.decode(figures.read_bytes(), type=list[Outcome])
    return {outcome.scenario: outcome for outcome in found}


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first one waits for all of them
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_no_promise_is_broken_by(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]

    print(table([outcome]))
    if outcome.skipped is not None:
        pytest.skip(outcome.skipped)
    assert outcome.violations == []
    assert outcome.faults > 0
    assert outcome.sessions > 0
