"""Days of the calendar where the daemon runs: a budget of a day begins and ends with them.

A day has 23, 24 or 25 hours, as the zone's summer time wants. `zone` None is the machine's own.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, tzinfo

SECOND_US = 1_000_000
DAYS_MAX = 400
"""More days are not told apart: what is left counts for the earliest."""


def day_of(us: int, zone: tzinfo | None = None) -> date:
    """The day a moment belongs to."""
    return _local(us, zone).date()


def start_of_us(day: date, zone: tzinfo | None = None) -> int:
    """When a day begins."""
    naive = datetime(day.year, day.month, day.day)  # noqa: DTZ001  it is given its zone next
    start = naive.astimezone() if zone is None else naive.replace(tzinfo=zone)
    return int(start.timestamp()) * SECOND_US


def end_of_us(us: int, zone: tzinfo | None = None) -> int:
    """When the day of a moment ends."""
    return start_of_us(day_of(us, zone) + timedelta(days=1), zone)


def clock_text(us: int, zone: tzinfo | None = None) -> str:
    """A moment for people: day, hours, minutes and the zone's name."""
    moment = _local(us, zone)
    return moment.strftime("%Y-%m-%d %H:%M %Z").rstrip()


def split_ms(end_us: int, length_ms: int, zone: tzinfo | None = None) -> list[tuple[date, int]]:
    """A length of time that ended at `end_us`, by day, the last day first."""
    parts: list[tuple[date, int]] = []
    while length_ms > 0:
        day = day_of(max(end_us - 1, 0), zone)
        start_us = start_of_us(day, zone)
        part = min(length_ms, max((end_us - start_us) // 1000, 1))
        if len(parts) == DAYS_MAX - 1:
            part = length_ms
        parts.append((day, part))
        length_ms -= part
        end_us = start_us
    return parts


def _local(us: int, zone: tzinfo | None) -> datetime:
    moment = datetime.fromtimestamp(us / SECOND_US, tz=zone)
    return moment.astimezone() if zone is None else moment
