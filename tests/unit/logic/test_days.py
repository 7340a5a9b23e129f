"""Days of the calendar: midnight, summer time, runs over several days."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from hivectl.logic import days

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_US = 3_600_000_000


def at(text: str, zone=BERLIN) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 1_000_000


def test_a_day_ends_at_its_own_midnight():
    assert days.day_of(at("2026-07-01T23:59:59"), BERLIN) == date(2026, 7, 1)
    assert days.day_of(at("2026-07-02T00:00:00"), BERLIN) == date(2026, 7, 2)
    assert days.end_of_us(at("2026-07-01T12:00:00"), BERLIN) == at("2026-07-02T00:00:00")


def test_days_of_summer_times_change_have_23_and_25_hours():
    for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 5, 1), 24)):
        start = days.start_of_us(day, BERLIN)
        assert days.end_of_us(start, BERLIN) - start == hours * HOUR_US
        assert days.end_of_us(start + hours * HOUR_US - 1, BERLIN) == start + hours * HOUR_US


def test_a_run_over_midnight_counts_for_both_days():
    parts = days.split_ms(at("2026-03-30T00:30:00"), 90 * 60_000, BERLIN)
    assert parts == [(date(2026, 3, 30), 30 * 60_000), (date(2026, 3, 29), 60 * 60_000)]


def test_the_machines_own_zone_is_used_where_none_is_given():
    now = int(datetime.now(UTC).timestamp()) * 1_000_000
    assert days.start_of_us(days.day_of(now)) <= now < days.end_of_us(now)
    assert days.clock_text(at("2026-01-01T00:00:00", UTC), UTC) == "2026-01-01 00:00 UTC"


@given(
    end=st.integers(1_600_000_000_000_000, 1_900_000_000_000_000),
    length=st.integers(0, 40 * 86_400_000),
)
def test_no_millisecond_is_lost_or_doubled(end, length):
    parts = days.split_ms(end, length, BERLIN)
    assert sum(ms for _, ms in parts) == length
    assert len({day for day, _ in parts}) == len(parts)
    assert all(ms > 0 for _, ms in parts)


def test_a_length_of_years_ends_somewhere():
    parts = days.split_ms(at("2026-01-01T00:00:00"), 10_000 * 86_400_000, BERLIN)
    assert len(parts) == days.DAYS_MAX
    assert sum(ms for _, ms in parts) == 10_000 * 86_400_000
