"""Rules of style that are tests, not reviews (CONVENTIONS.md)."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = {
    "protocol": "planter_protocol",
    "schemas": "planter_schemas",
    "runtime": "planter_runtime",
    "planter": "planter",
}
MODULES = sorted(path for folder in PARTS for path in (ROOT / folder / "src").rglob("*.py"))
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
BANNED_MODULES = {"utils", "util", "helpers", "common", "base", "manager", "misc"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}

    assert {name: lines for name, lines in long.items() if lines > MODULE_LINES_MAX} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """Docstrings count for nothing here: explaining a public function must not be punished."""
    long = []
    for path in MODULES:
        for function in functions(path):
            first = (
                function.body[1]
                if ast.get_docstring(function) and len(function.body) > 1
                else function.body[0]
            )
            lines = (function.end_lineno or 0) - first.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name} {lines}")

    assert long == []


def test_module_names_tell_what_is_inside() -> None:
    assert [path for path in MODULES if path.stem in BANNED_MODULES] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_a_status_of_a_phase_is_set_in_one_place() -> None:
    """CONVENTIONS.md, rule 2: only ``evolve._move`` assigns ``.status`` of a phase."""
    places = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "planter/src/planter").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute)
        and target.attr == "status"
        and ast.unparse(target.value) == "phase"
    ]

    assert [place.partition(":")[0] for place in places] == ["evolve.py"]


def test_the_versions_of_the_four_distributions_are_equal() -> None:
    projects = [tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in PARTS]
    versions = {project["version"] for project in projects}
    pins = {need for project in projects for need in project["dependencies"] if need.startswith("planter-")}

    assert len(versions) == 1
    assert {pin.partition("==")[2] for pin in pins} == versions


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("planter_runtime", {"pydantic", "networkx", "planter", "planter_schemas"}),
        ("planter_protocol", {"pydantic", "networkx", "planter", "planter_schemas"}),
        ("planter.cli", {"networkx", "nats", "pydantic"}),
        ("planter.notify.notifier", {"httpx2", "aiosmtplib"}),
    ],
)
def test_importing_a_part_does_not_drag_in_what_it_must_not_have(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert unwanted & set(loaded) == set()
