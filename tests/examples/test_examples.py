"""The examples, run by the command that stands in each of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``planter run --local`` in a process of its own, output as text."""
    command = [sys.executable, "-m", "planter", "run", "--local", *arguments]
    options = {"cwd": folder, "env": {**os.environ, "NO_COLOR": "1"}, "timeout": 100}
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def examples(tmp_path) -> Path:
    """A copy, so that what the examples build stays out of the source tree."""
    return Path(
        shutil.copytree(
            EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("build", "__pycache__")
        )
    )


def test_the_release_pipeline_builds_a_wheel_that_works(examples) -> None:
    done = run(examples, "release-pipeline/release.planter.yaml")

    assert done.returncode == 0, done.stderr + done.stdout
    assert "Hello, Planter." in done.stdout
    assert list((examples / "release-pipeline" / "build").glob("greeter-*.whl"))


def test_the_etl_loads_the_airports_of_the_world(examples) -> None:
    done = run(examples, "etl/etl.planter.yaml")

    assert done.returncode == 0, done.stderr + done.stdout
    assert "rows in build/airports.db" in done.stdout


def test_the_boot_sequence_instantiates_only_what_is_used(examples) -> None:
    done = run(examples, "boot-sequence/boot.planter.yaml", "--module", "boot-sequence/handlers.py")

    assert done.returncode == 0, done.stderr + done.stdout
    assert "web answers" in done.stdout
    assert "onUse: nothing used it" in done.stdout + done.stderr


def test_the_diamond_succeeds_on_the_second_attempt(examples) -> None:
    done = run(examples, "diamond/diamond.planter.yaml")

    assert done.returncode == 0, done.stderr + done.stdout
    assert ["attempt 1" in done.stdout, "attempt 2" in done.stdout, "attempt 3" in done.stdout] == [
        True,
        True,
        False,
    ]


def test_the_failing_example_fails_and_says_why(examples) -> None:
    done = run(examples, "error-handling/errors.planter.yaml")

    assert done.returncode == 1, done.stderr + done.stdout
    assert "the migration failed twice" in done.stdout + done.stderr
    assert "phase migrate failed" in done.stdout + done.stderr


def test_the_branches_run_one_way_and_join_again(examples) -> None:
    done = run(examples, "branches/branches.planter.yaml")

    assert done.returncode == 0, done.stderr + done.stdout
    assert "working on 5 words at once" in done.stdout
    assert "working on portions" not in done.stdout
    assert "merged 5 words" in done.stdout
    assert "tidied up" in done.stdout
    assert "x-when is false: phases.count.result.words > 100" in done.stdout + done.stderr


def test_the_fan_out_measures_every_file_and_gathers_the_results(examples) -> None:
    done = run(examples, "fan-out/fan-out.planter.yaml")

    files = [path for path in (examples / "fan-out").iterdir() if path.is_file()]
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes" in done.stdout
    assert f"measure[{len(files) - 1}]" in done.stdout + done.stderr
