"""The program itself: help, version, usage, validate and graph, without any server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("dev", "serve", "run", "validate", "graph", "sessions", "status", "events", "logs", "control")
COMMANDS += ("doctor",)
GOOD = """\
- {kind: Phase, id: fetch, spec: {selector: {matchLabels: {}}}}
- {kind: Phase, id: build, spec: {selector: {matchLabels: {}}, waitFor: {phases: [fetch, dns]}}}
"""
BAD = GOOD.replace("phases: [fetch, dns]", "phases: [build]")


def planter(*arguments: str, folder: Path | None = None, text: str | None = None):
    return subprocess.run(
        [sys.executable, "-m", "planter", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


def test_help_lists_every_command_and_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['planter', '--help']\n"
        "from planter.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'nats', 'asyncio', 'pydantic', 'networkx', 'structlog', 'rich', 'planter_schemas'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "heavy: []" in ran.stdout
    for name in (*COMMANDS, "runtime"):
        assert f"  {name} " in ran.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example(name):
    ran = planter(name, "--help")

    assert ran.returncode == 0
    assert f"Example: planter {name}" in ran.stdout


def test_the_version_is_on_stdout():
    assert planter("--version").stdout == "planter 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("statsu",), "Did you mean 'status'?"),
        (("run", "x.yaml", "--local", "--detach"), "--detach"),
        (("run", "x.yaml", "--local", "--nats", "nats://x"), "--nats"),
        (("run", "x.yaml", "--slots", "2"), "--local"),
        (("run", "x.yaml", "--sync", "always"), "--local"),
        (("dev", "--sync", "sometimes"), "sometimes"),
        (("run", "x.yaml", "--var", "novalue"), "NAME=VALUE"),
        (("control", "s", "skip"), "needs a phase"),
        (("control", "s", "pause", "phase"), "without a phase"),
        (("control", "s", "explode"), "explode"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_is_wrong(arguments, said):
    ran = planter(*arguments)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr


def test_validate_counts_phases_and_edges_and_tells_warnings(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)

    ran = planter("validate", "good.yaml", folder=tmp_path)
    strict = planter("validate", "good.yaml", "--strict", folder=tmp_path)

    assert (ran.returncode, ran.stdout) == (0, "good.yaml: ok, 2 phases, 2 edges, 1 warning\n")
    assert "good.yaml:2:" in ran.stderr
    assert "dns" in ran.stderr
    assert strict.returncode == 3


def test_validate_tells_every_problem_of_every_file(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)

    ran = planter("validate", "good.yaml", "bad.yaml", "missing.yaml", "--output", "json", folder=tmp_path)

    results = json.loads(ran.stdout)
    assert ran.returncode == 3
    assert [(result["file"], result["valid"]) for result in results] == [
        ("good.yaml", True),
        ("bad.yaml", False),
        ("missing.yaml", False),
    ]
    assert results[1]["problems"][0]["line"] == 2


def test_validate_reads_standard_input():
    ran = planter("validate", "-", text=GOOD)

    assert (ran.returncode, ran.stdout) == (0, "<stdin>: ok, 2 phases, 2 edges, 1 warning\n")


def test_graph_draws_a_manifest(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)

    ran = planter("graph", "good.yaml", "--format", "dot", folder=tmp_path)

    assert ran.returncode == 0
    assert '"fetch" -> "build";' in ran.stdout
    assert '"dns" [shape=ellipse, style="dashed"];' in ran.stdout


def test_a_local_dry_run_prints_the_order_alone(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)

    ran = planter("run", "good.yaml", "--local", "--dry-run", folder=tmp_path)

    assert ran.returncode == 0
    assert [line.split() for line in ran.stdout.splitlines()] == [
        ["order:"],
        ["1.", "fetch"],
        ["2.", "build"],
    ]


def test_settings_that_cannot_be_used_are_told_with_their_file(tmp_path):
    (tmp_path / "planter.toml").write_text('nats-url = "nats://x"\n')

    ran = planter("sessions", folder=tmp_path)

    assert (ran.returncode, ran.stdout) == (3, "")
    assert "planter.toml: unknown setting `nats-url`" in ran.stderr
    assert "did you mean `nats_url`?" in ran.stderr


def test_runtime_passes_its_arguments_on():
    assert "--any-selector" in planter("runtime", "--help").stdout
