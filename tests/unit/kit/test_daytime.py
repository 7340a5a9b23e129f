"""Windows over midnight, in zones, on days when clocks are moved."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hivectl.kit.daytime import DayTime, parse_daytime, parse_moment_us, parse_window

BERLIN = "Europe/Berlin"


def us(text: str, zone: str = BERLIN, fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("window", "now", "end"),
    [
        ("22:00-07:00", "2026-01-10T21:59:59", None),
        ("22:00-07:00", "2026-01-10T22:00:00", "2026-01-11T07:00:00"),
        ("22:00-07:00", "2026-01-11T00:00:00", "2026-01-11T07:00:00"),
        ("22:00-07:00", "2026-01-11T06:59:59", "2026-01-11T07:00:00"),
        ("22:00-07:00", "2026-01-11T07:00:00", None),
        ("12:30-13:30", "2026-01-11T12:30:00", "2026-01-11T13:30:00"),
        ("12:30-13:30", "2026-01-11T13:30:00", None),
        ("12:30-13:30", "2026-01-11T03:00:00", None),
        # Clocks go from 02:00 to 03:00: the night is an hour shorter.
        ("22:00-07:00", "2026-03-28T23:00:00", "2026-03-29T07:00:00"),
        # An end that does not come that day is as much later.
        ("22:00-02:30", "2026-03-29T01:59:00", "2026-03-29T03:30:00"),
        ("22:00-02:30", "2026-03-29T03:29:00", "2026-03-29T03:30:00"),
        ("22:00-02:30", "2026-03-29T03:31:00", None),
    ],
)
def test_a_window_is_open_from_its_start_to_its_end(window: str, now: str, end: str | None) -> None:
    found = parse_window(f"{window} {BERLIN}").end_us(us(now))
    assert found == (None if end is None else us(end))


def test_a_window_that_ends_in_the_hour_that_comes_twice_stays_whole() -> None:
    window = parse_window(f"22:00-02:30 {BERLIN}")
    last = us("2026-10-25T02:30:00", fold=1)
    for now in (
        us("2026-10-25T02:29:00"),
        us("2026-10-25T02:45:00"),
        us("2026-10-25T02:15:00", fold=1),
    ):
        assert window.end_us(now) == last
    assert window.end_us(last) is None


def test_a_window_that_begins_in_the_hour_that_comes_twice_begins_the_first_time() -> None:
    window = parse_window(f"02:30-09:00 {BERLIN}")
    assert window.end_us(us("2026-10-25T02:30:00")) == us("2026-10-25T09:00:00")


def test_a_time_of_the_day_comes_once_a_day() -> None:
    at = parse_daytime(f"07:00 {BERLIN}")
    assert at.next_us(us("2026-01-10T06:59:00")) == us("2026-01-10T07:00:00")
    assert at.next_us(us("2026-01-10T07:00:00")) == us("2026-01-11T07:00:00")
    assert at.last_us(us("2026-01-10T06:59:00")) == us("2026-01-09T07:00:00")
    assert at.last_us(us("2026-01-10T07:00:00")) == us("2026-01-10T07:00:00")


def test_every_hour_of_two_years_agrees_with_a_clock_that_is_asked() -> None:
    at = DayTime(parse_daytime("03:15").at, ZoneInfo(BERLIN))
    now, stop = us("2026-01-01T00:00:00"), us("2027-12-31T00:00:00")
    while now < stop:
        assert at.last_us(now) <= now < at.next_us(now)
        assert at.next_us(now) - at.last_us(now) <= 25 * 3_600_000_000
        now += 3_600_000_000


def test_the_zone_of_the_machine_counts_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        now = us("2026-07-01T23:00:00", "America/New_York")
        assert parse_window("22:00-07:00").end_us(now) == us(
            "2026-07-02T07:00:00", "America/New_York"
        )
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    ["", "22:00", "22-07", "25:00-07:00", "22:00-22:00", "22:00-07:00 Mars/Base", "22:60-07:00"],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("22:00", "2026-01-10T22:00:00"),
        ("08:30", "2026-01-11T08:30:00"),
        ("today", "2026-01-11T00:00:00"),
        ("yesterday", "2026-01-10T00:00:00"),
        ("10h", "2026-01-10T23:00:00"),
        ("1h30m", "2026-01-11T07:30:00"),
        ("2026-01-05T08:00", "2026-01-05T08:00:00"),
        ("2026-01-05T08:00:00+01:00", "2026-01-05T08:00:00"),
    ],
)
def test_a_moment_is_told_as_people_tell_it(text: str, expected: str) -> None:
    assert parse_moment_us(text, us("2026-01-11T09:00:00"), ZoneInfo(BERLIN)) == us(expected)


@pytest.mark.parametrize("text", ["soon", "10", "h10", "2026-13-01", "tomorrow"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_moment_us(text, 0)
