"""The table in SECURITY.md says what is tested: each number that is done has tests that carry it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache

import pytest

from tests.arch import source

PAGE = (source.ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (S\d\d(?:, S\d\d)*) \| ([^|]*) \| ([^|]*) \|([^|]*)\|$", re.MULTILINE)
ROWS = [(number, *row[1:]) for row in ROW.findall(PAGE) for number in row[0].split(", ")]


def named_places(where: str) -> list[str]:
    """Files and folders below tests/; one without a folder is in that of the one before it."""
    places: list[str] = []
    for part in where.split(","):
        place = part.strip().partition(" ")[0]
        is_beside = "/" not in place and place.startswith("test_") and places
        places.append(f"{places[-1].rpartition('/')[0]}/{place}" if is_beside else place)
    return places


TESTED = {number: where.strip() for number, _, state, where in ROWS if where.strip()}
DONE = [number for number, _, state, _ in ROWS if state.startswith("done")]
BY_OTHER_MEANS = {"S21": "arch/test_source"}
"""What no test of a single thing can show: a rule over the whole source."""
PLACES = [(number, place) for number in TESTED for place in named_places(TESTED[number])]


@cache
def numbers_in(place: str) -> Counter[str]:
    """How many tests of each number are in a file or folder below tests/."""
    path = source.ROOT / "tests" / place
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else path.rglob("*.py")
    return Counter(
        number.upper()
        for file in files
        for node in source.nodes(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        for number in re.findall(r"(?<=_)s\d\d(?=_)", node.name)
    )


def test_all_48_numbers_are_in_the_table_once() -> None:
    assert [number for number, *_ in ROWS] == [f"S{number:02}" for number in range(1, 49)]


def test_what_is_done_says_where_it_is_tested() -> None:
    assert [number for number in DONE if number not in TESTED] == []


@pytest.mark.parametrize(("number", "place"), PLACES)
def test_each_place_that_a_row_names_is_there_and_tests_its_number(number: str, place: str) -> None:
    path = source.ROOT / "tests" / place
    assert path.is_dir() or path.with_suffix(".py").is_file(), f"{number}: no tests/{place}"
    if BY_OTHER_MEANS.get(number) != place:
        assert numbers_in(place)[number], f"{number}: tests/{place} has no test of that number"
