"""When a usage limit ends, from figures or from the sentence."""

from datetime import UTC, datetime

import pytest

from hivectl.agents import claude_limits

AT = "2026-11-21T01:49:23.939Z"


def utc(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resets 2:49am (UTC)", utc(2026, 11, 21, 2, 49)),
        ("resets 1am (UTC)", utc(2026, 11, 22, 1)),
        ("resets 12am (UTC)", utc(2026, 11, 22)),
        ("resets 12:30pm", utc(2026, 11, 21, 12, 30)),
        ("resets 3pm (Europe/Berlin)", utc(2026, 11, 21, 14)),
        ("resets Nov 24, 5pm (UTC)", utc(2026, 11, 24, 17)),
        ("resets at November 24 at 5pm (UTC)", utc(2026, 11, 24, 17)),
        ("resets Jan 3, 5am (UTC)", utc(2027, 1, 3, 5)),
        ("Claude AI usage limit reached|1795229363", 1795229363),
        ("Claude AI usage limit reached|1795229363000", 1795229363),
        ("resets Feb 30, 5am (UTC)", None),
        ("resets Foo 3, 5am (UTC)", None),
        ("resets 2am (Mars/Olympus)", None),
        ("resets 2:99am (UTC)", None),
        ("resets soon", None),
    ],
)
def test_the_sentence_tells_the_time(text: str, expected: int | None) -> None:
    assert claude_limits.resets_at({"timestamp": AT}, f"You've hit your limit · {text}") == expected


def test_figures_win_over_the_sentence() -> None:
    event = {"timestamp": AT, "api_error_params": {"rate_limit_info": {"resetsAt": 1795229000}}}
    assert claude_limits.resets_at(event, "resets 2am (UTC)") == 1795229000


def test_without_a_date_the_sentence_tells_nothing() -> None:
    for timestamp in (None, 5, "yesterday"):
        assert claude_limits.resets_at({"timestamp": timestamp}, "resets 2am (UTC)") is None


def test_times_that_are_none_are_none() -> None:
    for wrong in (None, "1795229363", 0, -5, True, 10**20):
        assert claude_limits.unix_seconds(wrong) is None
    assert claude_limits.unix_seconds(1795229363.0) == 1795229363


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You've hit your 5-hour limit · resets 2:49am (UTC)", True),
        ("You've hit your weekly limit", True),
        ("Claude AI usage limit reached|1795229363", True),
        ("You've reached your Opus limit", True),
        ("API Error: Request rejected (429) · slow down", False),
        ("The text said: You've hit your 5-hour limit", False),
    ],
)
def test_a_usage_limit_is_known_by_the_start_of_its_sentence(text: str, expected: bool) -> None:
    assert claude_limits.is_usage_limit(text) is expected
