"""What all services share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from hivectl.config import Settings
from hivectl.engine.engine import Engine
from hivectl.engine.publisher import Publisher
from hivectl.journal.writer import Journal
from hivectl.kit.clock import MICROSECOND, Clock, parse_duration_s, parse_time_us
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.store.database import Database

Handler = Callable[[Caller, Any], Awaitable[Mapping[str, Any]]]
"""What answers one method: the caller and the checked parameters in, a result shape out."""


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The rooms below."""

    settings: Callable[[], Settings]
    clock: Clock
    db: Database
    journal: Journal
    publisher: Publisher
    engine: Engine


LATEST_US = 253_402_300_800_000_000
"""The end of the year 9999: the last the wire can show."""


def parse_later_us(text: str, now_us: int, name: str) -> int:
    """A time from now on: ISO 8601, or `10m` (so long from now). Raises INVALID_PARAMS naming the field."""
    at_us: int | None
    try:
        at_us = now_us + int(parse_duration_s(text) * MICROSECOND)
    except ValueError:
        at_us = _time_us(text)
    if at_us is None or not 0 <= at_us < LATEST_US:
        raise HiveError(
            "INVALID_PARAMS", f"{name}: {excerpt(text, 60)!r} is no time such as 2027-01-31T22:00 and no duration such as 90m.",
            details={"errors": [{"pointer": f"/{name}"}]},
        )  # fmt: skip
    return at_us


def _time_us(text: str) -> int | None:
    try:
        return parse_time_us(text)
    except ValueError:
        return None


def page_cursor(items: list[dict[str, Any]], limit: int, key: str) -> str | None:
    """Where the next page starts: after the last item, when the page is full."""
    return str(items[-1][key]) if len(items) == limit else None


def parse_cursor(cursor: str | None) -> tuple[int | None, str]:
    """The time and the id a page ended with. Raises INVALID_PARAMS for what no page gave."""
    if cursor is None:
        return None, ""
    found = re.fullmatch(r"([0-9]{1,18})\.([0-9A-Za-z_-]{1,64})", cursor)
    if found is None:
        raise unfit_cursor()
    return int(found[1]), found[2]


def unfit_cursor() -> HiveError:
    """What a cursor that no page gave is answered with."""
    return HiveError(
        "INVALID_PARAMS",
        "cursor: it comes from `next_cursor` of the page before.",
        details={"errors": [{"pointer": "/cursor"}]},
    )
