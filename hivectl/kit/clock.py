"""The only reader of the time.

Everything that needs the time gets a `Clock`; tests pass a `FakeClock` and never wait.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
MICROSECOND = 1_000_000


class Clock(Protocol):
    """Wall time for people and records, monotonic time for waits."""

    def now_us(self) -> int:
        """Microseconds since the epoch (UTC). May jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()


@dataclass(slots=True)
class FakeClock:
    """A clock that stands still until `advance` is called."""

    wall_us: int = 1_700_000_000_000_000
    elapsed_s: float = 0.0

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return self.wall_us

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds`."""
        self.wall_us += int(seconds * MICROSECOND)
        self.elapsed_s += seconds


def format_us(ts_us: int) -> str:
    """RFC 3339 in UTC with microseconds: what the wire shows for a stored time."""
    seconds, micros = divmod(ts_us, MICROSECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z"


def parse_time_us(text: str) -> int:
    """Microseconds of an ISO 8601 time; one without a zone is local time.

    Raises ValueError when it is none.
    """
    moment = datetime.fromisoformat(text)
    try:
        return int(moment.astimezone(UTC).timestamp() * MICROSECOND)
    except OverflowError as exc:
        # The first and the last day of the calendar, told in another zone.
        raise ValueError(f"{text!r} is out of range") from exc


def parse_duration_s(text: str) -> float:
    """Seconds of `90`, `90s`, `1h30m`, `250ms`, `2d`. Raises ValueError when it is none."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m or 1h30m")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Short and human: `340ms`, `4.2s`, `3m 05s`, `2h 07m`, `3d 04h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
