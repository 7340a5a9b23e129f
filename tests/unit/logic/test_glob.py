"""Globs over whole values, in bounded time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.logic import glob


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "a\nb", True),
        ("a*", "a", True),
        ("a*c", "abbc", True),
        ("a*c", "abbcd", False),
        ("?", "a", True),
        ("?", "", False),
        ("a?c", "abc", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        (r"\*", "*", True),
        (r"\*", "x", False),
        (r"a\?b", "a?b", True),
        (r"\\", "\\", True),
        ("**", "abc", True),
        ("git *", "git", False),
        ("git *", "git status", True),
        ("git *", "xgit status", False),
    ],
)
def test_the_whole_text_is_matched(pattern: str, text: str, expected: bool) -> None:
    assert glob.matches(glob.parse(pattern), text) is expected


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_it_agrees_with_a_regular_expression(pattern: str, text: str) -> None:
    regex = "".join({"*": ".*", "?": "."}.get(letter, letter) for letter in pattern)
    assert glob.matches(glob.parse(pattern), text) is (re.fullmatch(regex, text) is not None)


@given(st.text(max_size=30), st.text(max_size=30))
def test_an_escaped_text_matches_itself_alone(text: str, other: str) -> None:
    tokens = glob.parse(glob.escape(text))
    assert glob.matches(tokens, text)
    assert glob.matches(tokens, other) is (text == other)


def test_wild_cards_stand_only_for_what_is_accepted() -> None:
    tokens = glob.parse("a*?")
    assert glob.matches(tokens, "abb", lambda letter: letter == "b")
    assert not glob.matches(tokens, "abc", lambda letter: letter == "b")
    assert not glob.matches(tokens, "acb", lambda letter: letter == "b")


@pytest.mark.parametrize("pattern", ["a\\", "*?" * 11, "x" * 5000])
def test_patterns_that_cannot_be_read_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"backslash|wild cards|longer"):
        glob.parse(pattern)


def test_a_hostile_text_costs_at_most_one_look_per_wild_card_and_character() -> None:
    looks = 0

    def accepts(letter: str) -> bool:
        nonlocal looks
        looks += 1
        return True

    tokens = glob.parse("*a" * 19 + "b")
    assert not glob.matches(tokens, "a" * 5000, accepts)
    assert looks <= 19 * 5000


@pytest.mark.parametrize(
    ("pattern", "path", "expected", "with_hidden"),
    [
        ("src/**", "src/a/b.py", True, True),
        ("src/**", "src", True, True),
        ("src/**", "lib/a.py", False, False),
        ("src/*", "src/a/b.py", False, False),
        ("src/*.py", "src/a.py", True, True),
        ("**/a.py", "a.py", True, True),
        ("**/a.py", "x/y/a.py", True, True),
        ("src/**/a.py", "src/a.py", True, True),
        ("src/**/t/**", "src/x/t/y/z", True, True),
        ("src/**/t/**", "src/x/y", False, False),
        ("**", ".git/config", False, True),
        ("**", "a/.git/config", False, True),
        ("*", ".env", False, True),
        ("?env", ".env", False, True),
        (".*", ".env", True, True),
        (".git/**", ".git/config", True, True),
        ("a", "a/b", False, False),
        ("a/b", "a", False, False),
    ],
)
def test_paths_are_matched_name_by_name(
    pattern: str, path: str, expected: bool, with_hidden: bool
) -> None:
    for hidden, wanted in ((False, expected), (True, with_hidden)):
        found = glob.matches_path(pattern.split("/"), path.split("/"), hidden=hidden)
        assert found is wanted
