"""docs/reliability.md says what the tests do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hivectl.kit import failpoint
from tests.soak import page
from tests.soak.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def _tests(file: str) -> dict[str, bool]:
    """The tests of a file, and which of them are long ones."""
    tree = ast.parse((HERE / file).read_text())
    return {
        node.name: any(ast.unparse(mark) == "pytest.mark.soak" for mark in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_named_place_is_in_the_page_with_its_meaning() -> None:
    for name, meaning in {**failpoint.NAMES, **failpoint.SHIM_NAMES}.items():
        assert f"| `{name}` | {meaning} |" in PAGE


def test_every_file_of_fault_tests_is_in_the_page_and_no_other() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))
    there = {path.name for path in HERE.glob("test_*.py")}
    assert named == there - {Path(__file__).name}


def test_the_page_carries_the_table_of_faults_as_it_is() -> None:
    assert page.faults() in PAGE, "run: python -m tests.soak --page"


def test_every_row_names_tests_that_exist_and_every_long_test_has_a_row() -> None:
    for row in ROWS:
        for name in (*row.tests, *row.long):
            file, _, test = name.partition("::")
            assert not test or test in _tests(file), f"{row.key}: {name}"
        for name in row.tests:
            file, _, test = name.partition("::")
            assert not test or not _tests(file)[test], f"{row.key}: {name} is a long one"
    ours = {name for row in ROWS for name in row.long}
    for path in HERE.glob("test_*.py"):
        for test, is_long in _tests(path.name).items():
            if is_long:
                assert f"{path.name}::{test}" in ours or path.name in ours, test


def test_every_row_of_the_design_that_a_soak_can_try_is_here() -> None:
    numbers = {int(row.key[3:]) for row in ROWS if row.key.startswith("row")}
    assert numbers == {*range(1, 11), *range(12, 23)}
