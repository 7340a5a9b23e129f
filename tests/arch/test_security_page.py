"""The table in SECURITY.md says what is tested: each number that is done has tests that carry it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.arch import source

PAGE = (source.ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (S\d\d(?:, S\d\d)*) \| ([^|]*) \| ([^|]*) \|([^|]*)\|$", re.MULTILINE)
ROWS = [(number, *row[1:]) for row in ROW.findall(PAGE) for number in row[0].split(", ")]
DONE = {number: where for number, _, state, where in ROWS if state.startswith("done")}
BY_OTHER_MEANS = {"S21": "test_source"}
"""What no test of a single thing can show: a rule over the whole source."""


def numbered_tests() -> dict[str, list[str]]:
    """The tests by the numbers in their names."""
    found: dict[str, list[str]] = {}
    for path in source.python_files("tests"):
        for node in source.nodes(path):
            is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_test and node.name.startswith("test_s"):
                for number in re.findall(r"(?<=_)s\d\d(?=_)", node.name):
                    found.setdefault(number.upper(), []).append(source.name(path))
    return found


def test_all_48_numbers_are_in_the_table_once() -> None:
    assert [number for number, *_ in ROWS] == [f"S{number:02}" for number in range(1, 49)]


@pytest.mark.parametrize("number", DONE)
def test_what_is_done_has_a_test_of_its_number_in_a_file_that_the_table_names(number: str) -> None:
    if number in BY_OTHER_MEANS:
        assert BY_OTHER_MEANS[number] in DONE[number]
        return
    files = numbered_tests().get(number, [])
    places = [part.strip().split(" ")[0] for part in DONE[number].split(",")]
    named = [file for file in files if any(place.split("/")[-1] in file for place in places)]
    assert named, f"{number}: tests {files or 'none'}, the table says {DONE[number]}"


@pytest.mark.parametrize("number", DONE)
def test_every_place_the_table_names_exists(number: str) -> None:
    there = {source.name(path).removesuffix(".py") for path in source.python_files("tests")}
    for place in (part.strip().split(" ")[0] for part in DONE[number].split(",")):
        tail = place.split("/")[-1]
        assert any(f"/{tail}" in name or f"{tail}/" in name for name in there), place
