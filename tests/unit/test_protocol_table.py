"""docs/protocol.md is held to the code: what it names exists, and the kit's clauses are its clauses."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if re.match(r"\| [GTFSDHNMC]\d", line)
]
KIT = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))


def kit_tests() -> dict[str, set[str]]:
    """The clauses that each test of the kit says that it checks."""
    found: dict[str, set[str]] = {}
    for path in KIT:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                marks = [mark for mark in node.decorator_list if "pytest.mark.clause" in ast.unparse(mark)]
                found[node.name] = {
                    ast.literal_eval(argument)
                    for mark in marks
                    if isinstance(mark, ast.Call)
                    for argument in mark.args
                }
    return found


def test_every_clause_has_a_number_of_its_own_and_every_cell_is_filled() -> None:
    numbers = [row[0] for row in ROWS]

    assert len(ROWS) > 50
    assert len(set(numbers)) == len(numbers)
    assert [row[0] for row in ROWS if len(row) != 5 or not all(row)] == []


def test_every_test_that_the_table_names_exists() -> None:
    names = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row[3])}
    files = {name for row in ROWS for name in re.findall(r"`(tests/[\w/]+\.py)`", row[3])}

    assert len(names) > 40
    assert names - set(kit_tests()) == set()
    assert {name for name in files if not (ROOT / name).is_file()} == set()


def test_every_module_that_the_table_names_exists() -> None:
    sources = [ROOT / part / "src" for part in ("protocol", "schemas", "runtime", "planter")]
    modules = {name for row in ROWS for name in re.findall(r"`(planter[\w/]*(?:\.py)?)`", row[2])}

    assert {name for name in modules if not any((source / name).exists() for source in sources)} == set()


def test_every_test_of_the_kit_names_clauses_of_the_table() -> None:
    numbers = {row[0] for row in ROWS}

    assert {name for name, clauses in kit_tests().items() if not clauses or clauses - numbers} == set()


def test_a_clause_is_done_or_says_what_is_open() -> None:
    unclear = [row[0] for row in ROWS if not re.match(r"done|open: |note", row[4])]

    assert unclear == []
    assert [row[0] for row in ROWS if row[4].startswith("done") and "`" not in row[3]] == []
