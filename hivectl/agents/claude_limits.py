"""When a usage limit ends: from Claude's figures, else from the sentence it shows.

The sentence names a time of day without a date; the line's own timestamp gives the date, so no clock
is read here. What cannot be told for sure is None.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hivectl.agents.claude_events import Event, mapping, whole

USAGE_LIMIT = "usage_limit_reached"

_LIMIT = re.compile(
    r"\A(You've hit your [\w\s-]{1,40}limit\b|Claude (AI )?usage limit reached\b|"
    r"You've reached your [\w\s-]{1,40}limit\b)"
)
_EPOCH = re.compile(r"usage limit reached\|(\d{10,13})\b")
_RESETS = re.compile(
    r"\bresets (?:at )?(?:(?P<month>[A-Z][a-z]{2})[a-z]* (?P<day>\d{1,2})(?:,| at)? )?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?(?P<half>am|pm)(?: \((?P<zone>[\w/+-]{1,40})\))?"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNIX_MAX = 253_402_300_799
"""The last second of the year 9999."""


def is_usage_limit(text: str) -> bool:
    """Whether the text of an error says that the subscription's limit was reached."""
    return _LIMIT.match(text) is not None


def unix_seconds(value: Any) -> int | None:
    """A Unix time, given in seconds or milliseconds; None when it is none."""
    number = whole(value)
    if number is None or number <= 0:
        return None
    if number > _UNIX_MAX:
        number //= 1000
    return number if number <= _UNIX_MAX else None


def resets_at(event: Event, text: str) -> int | None:
    """When the limit an error message speaks of ends, in Unix seconds."""
    info = mapping(mapping(event.get("api_error_params")).get("rate_limit_info"))
    stated = unix_seconds(info.get("resetsAt"))
    if stated is not None:
        return stated
    if epoch := _EPOCH.search(text):
        return unix_seconds(int(epoch[1]))
    found = _RESETS.search(text)
    return _next_time(found, event.get("timestamp")) if found else None


def _next_time(found: re.Match[str], timestamp: Any) -> int | None:
    try:
        zone = ZoneInfo(found["zone"] or "UTC")
        now = datetime.fromisoformat(str(timestamp)).astimezone(zone)
        hour = int(found["hour"]) % 12 + (12 if found["half"] == "pm" else 0)
        moment = now.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
        if found["month"]:
            month = _MONTHS.index(found["month"]) + 1
            moment = moment.replace(month=month, day=int(found["day"]))
            if moment < now - timedelta(days=1):
                moment = moment.replace(year=moment.year + 1)
        elif moment < now:
            moment += timedelta(days=1)
    except (ValueError, OverflowError, ZoneInfoNotFoundError, OSError):
        return None
    return int(moment.astimezone(UTC).timestamp())
