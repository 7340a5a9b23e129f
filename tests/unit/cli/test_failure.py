"""Errors for people: nothing points at what they cannot see."""

import pytest

from hivectl.cli.failure import render_text
from hivectl.logic.options import invalid
from hivectl.model.errors import TABLE, HiveError


@pytest.mark.parametrize("code", TABLE)
def test_no_hint_points_into_details_that_are_not_shown(code):
    assert "See `details" not in render_text(HiveError(code, "It is wrong."), color=False)


def test_every_wrong_parameter_is_printed_the_named_one_once():
    error = invalid([("a", "is odd", "even"), ("b", "is long", "short")])
    text = render_text(error, color=False)
    assert text.count("a is odd; allowed: even.") == 1
    assert text.count("b is long; allowed: short.") == 1
    assert "next:" not in text


def test_a_problem_without_a_place_has_no_empty_place():
    details = {"errors": [{"pointer": "", "message": "give one of both"}]}
    text = render_text(HiveError("INVALID_PARAMS", details=details), color=False)
    assert "        give one of both\n" in text


def test_the_missing_scope_is_named():
    error = HiveError("FORBIDDEN", "No.", details={"scope": "policies:write"})
    assert "scope: policies:write" in render_text(error, color=False)


def test_the_part_of_a_hint_that_helps_stays():
    text = render_text(HiveError("SPAWN_FAILED", "No."), color=False)
    assert "next: See `hivectl doctor`." in text
