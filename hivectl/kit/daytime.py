"""Times of the day and windows between them, over midnight, in a time zone or the machine's own.

Everything is turned into instants first, so that a window is whole on the days clocks are moved: a time
that comes twice begins a window the first time and ends it the second; one that does not come at all
counts as much later as the clocks were moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hivectl.kit.clock import MICROSECOND, parse_duration_s

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_WINDOW = re.compile(r"(\S+?)\s*-\s*(\S+)(?:\s+(\S+))?")
_DAY = timedelta(days=1)
_AGE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")


def parse_zone(name: str | None) -> ZoneInfo | None:
    """The zone of a name such as `Europe/Berlin`; None without a name: the machine's. Raises ValueError."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone such as Europe/Berlin") from None


def _clock_time(text: str) -> time:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time of the day such as 07:00")
    return time(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class DayTime:
    """A time of every day."""

    at: time
    zone: ZoneInfo | None = None

    def on(self, day: date, *, is_end: bool = False) -> int:
        """Its instant on a day, in microseconds; of two, the first, or with `is_end` the second."""
        return instant_us(day, self.at, self.zone, is_end=is_end)

    def next_us(self, now_us: int) -> int:
        """The first time it comes after now."""
        today = day_of(now_us, self.zone)
        return min(us for n in (-1, 0, 1, 2) if (us := self.on(today + n * _DAY)) > now_us)

    def last_us(self, now_us: int) -> int:
        """The last time it came, now included."""
        today = day_of(now_us, self.zone)
        return max(us for n in (-2, -1, 0, 1) if (us := self.on(today + n * _DAY)) <= now_us)


@dataclass(frozen=True, slots=True)
class Window:
    """Every day from one time to another, which may lie on the next day."""

    start: DayTime
    end: DayTime

    def end_us(self, now_us: int) -> int | None:
        """When the window that is open now ends; None when none is open."""
        today = day_of(now_us, self.start.zone)
        is_over_midnight = self.end.at <= self.start.at
        for day in (today - _DAY, today):
            last = day + _DAY if is_over_midnight else day
            end = self.end.on(last, is_end=True)
            if self.start.on(day) <= now_us < end:
                return end
        return None

    def next_start_us(self, now_us: int) -> int:
        """When it opens next."""
        return self.start.next_us(now_us)


def parse_daytime(text: str) -> DayTime:
    """`07:00` or `07:00 Europe/Berlin`. Raises ValueError."""
    at, _, zone = text.strip().partition(" ")
    return DayTime(_clock_time(at), parse_zone(zone.strip()))


def parse_window(text: str) -> Window:
    """`22:00-07:00`, with a zone behind it if it is not the machine's. Raises ValueError."""
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time window such as 22:00-07:00")
    zone = parse_zone(found[3])
    start, end = _clock_time(found[1]), _clock_time(found[2])
    if start == end:
        raise ValueError(f"{text!r} begins when it ends")
    return Window(DayTime(start, zone), DayTime(end, zone))


def day_of(us: int, zone: ZoneInfo | None) -> date:
    """The calendar day of an instant."""
    return wall(us, zone).date()


def wall(us: int, zone: ZoneInfo | None) -> datetime:
    """What a clock on the wall shows."""
    return datetime.fromtimestamp(us // MICROSECOND, tz=zone)


def instant_us(day: date, at: time, zone: ZoneInfo | None, *, is_end: bool = False) -> int:
    """The instant of a time on a day; see the module for days on which clocks are moved."""
    first = datetime.combine(day, at.replace(fold=0), tzinfo=zone)
    second = datetime.combine(day, at.replace(fold=1), tzinfo=zone)
    early, late = first.timestamp(), second.timestamp()
    # A time that does not come has its instants the other way round: the first is the later one.
    chosen = late if is_end and late > early else early
    return int(chosen * MICROSECOND)


def parse_moment_us(text: str, now_us: int, zone: ZoneInfo | None = None) -> int:
    """The instant of `22:00` (the last one), `yesterday`, `today`, `10h` (so long ago) or an ISO 8601 time.

    Raises ValueError when it is none of them."""
    text = text.strip()
    if text in ("today", "yesterday"):
        day = day_of(now_us, zone) - (_DAY if text == "yesterday" else timedelta())
        return instant_us(day, time(), zone)
    if _TIME.fullmatch(text):
        return DayTime(_clock_time(text), zone).last_us(now_us)
    if _AGE.fullmatch(text):
        return max(0, now_us - int(parse_duration_s(text) * MICROSECOND))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text[:80]!r} is no time such as 22:00, 10h, yesterday or 2026-01-31T08:00"
        ) from None
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    try:
        return int(moment.timestamp() * MICROSECOND)
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"{text[:80]!r} is out of range") from None
