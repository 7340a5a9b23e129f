"""Filtered reading: by type, execution, session, time and text, forward or backward, in bounded steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from hivectl.journal import reader, record
from hivectl.journal.record import Record
from hivectl.journal.stream import StreamLog

BUDGET_LINES = 200_000
BUDGET_BYTES = 256 * 1024 * 1024
GREP_BYTES = 256 * 1024
_PAGE_LINES = 512
_PAGE_BYTES = 1024 * 1024
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:;!?()+*=@#%&-]+")
_decoder = msgspec.json.Decoder()
_escape = msgspec.json.Encoder()


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are wanted; what is None or empty wants all."""

    types: tuple[str, ...] = ()
    """Exact, or a family such as `execution.*`."""
    execution: str | None = None
    session: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    """Exclusive."""
    grep: str = ""
    """Text that must stand in one of the strings of `data`, whatever its case. No pattern language: the
    time it takes is bounded by the length of the line (GREP_BYTES at most are looked at)."""
    where: Callable[[Record], bool] | None = None
    """Anything else, asked last."""


class Page(msgspec.Struct, frozen=True):
    """Part of an answer."""

    records: list[Record]
    position: int
    """Number of the last record that was looked at; go on after (or before) it."""
    is_end: bool
    """Nothing more follows in this direction."""
    scanned: int
    """How many records were looked at."""


def scan(
    log: StreamLog,
    *,
    match: Filter,
    limit: int,
    after: int | None = None,
    before: int | None = None,
    last: int | None = None,
    max_bytes: int = reader.MAX_BYTES,
    budget_lines: int = BUDGET_LINES,
) -> Page:
    """Records that `match`, forward from behind `after`, or backward from `before` (newest first).

    `last` is the number of the last record that may be looked at, in the direction of reading.
    Ends with `limit` records, `max_bytes` of lines, or after looking at `budget_lines` records or
    BUDGET_BYTES; `position` then tells where to go on. Exactly one of `after` and `before` is given.
    May take long: call it in a thread. Raises OSError."""
    if (after is None) == (before is None):
        raise ValueError("give one of after and before")
    is_backward = before is not None
    position = after if after is not None else min(before or 0, log.last_seq + 1)
    wanted = Matcher(match)
    found: list[Record] = []
    scanned = 0
    bytes_left = BUDGET_BYTES
    if last is None:
        last = log.first_seq if is_backward else log.last_seq
    # Where every record is wanted, no more is read than what will be shown.
    step = min(_PAGE_LINES, budget_lines, limit if match == Filter() else _PAGE_LINES)
    for line in _each(log, position, step, is_backward=is_backward):
        seq = record.seq_of(line) or position
        if seq < last if is_backward else seq > last:
            break
        if scanned >= budget_lines or bytes_left <= 0:
            return Page(found, position, is_end=False, scanned=scanned)
        if (hit := wanted.find(line)) is not None:
            if max_bytes < len(line) and found:
                return Page(found, position, is_end=False, scanned=scanned)
            found.append(hit)
            max_bytes -= len(line)
        scanned += 1
        bytes_left -= len(line)
        position = seq
        if len(found) >= limit or max_bytes <= 0:
            at_end = position <= last if is_backward else position >= last
            return Page(found, position, is_end=at_end, scanned=scanned)
    return Page(found, position, is_end=True, scanned=scanned)


def _each(log: StreamLog, position: int, count: int, *, is_backward: bool) -> Iterator[bytes]:
    while True:
        if is_backward:
            lines = reader.lines_before(log, position, count, max_bytes=_PAGE_BYTES)
            lines.reverse()
        else:
            lines = reader.lines_after(log, position, count, max_bytes=_PAGE_BYTES)
        if not lines:
            return
        yield from lines
        position = record.seq_of(lines[-1])


class Matcher:
    """A Filter made ready. Most lines are refused by a look at their bytes, without decoding them."""

    def __init__(self, match: Filter) -> None:
        self._match = match
        self._exact = {name for name in match.types if not name.endswith("*")}
        self._families = tuple(name[:-1] for name in match.types if name.endswith("*"))
        needles = [
            b'"%b":%b' % (key, _escape.encode(value))
            for key, value in ((b"execution", match.execution), (b"session", match.session))
            if value is not None
        ]
        if len(self._exact) == 1 and not self._families:
            needles.append(b'"type":' + _escape.encode(next(iter(self._exact))))
        self._needles = needles
        self._text = match.grep.casefold()
        self._plain = match.grep.lower().encode() if _PLAIN.fullmatch(match.grep) else None

    def find(self, line: bytes) -> Record | None:
        """The record when it is wanted, else None; None also when it cannot be read."""
        for needle in self._needles:
            if needle not in line:
                return None
        if (
            self._plain
            and b"\\u" not in line
            and line.isascii()
            and self._plain not in line.lower()
        ):
            return None
        try:
            found = record.decode_record(line)
        except ValueError:
            return None
        return found if self.wants(found) else None

    def wants(self, found: Record) -> bool:
        """Whether a record is wanted."""
        match = self._match
        return (
            (not match.types or found.type in self._exact or found.type.startswith(self._families))
            and (match.execution is None or found.execution == match.execution)
            and (match.session is None or found.session == match.session)
            and (match.since_us is None or found.ts >= match.since_us)
            and (match.until_us is None or found.ts < match.until_us)
            and (not self._text or self._has_text(found))
            and (match.where is None or match.where(found))
        )

    def _has_text(self, found: Record) -> bool:
        try:
            data = _decoder.decode(found.data)
        except (ValueError, RecursionError):  # nested deeper than any text people look for
            return False
        room = GREP_BYTES
        waiting = [data]
        while waiting and room > 0:
            item: Any = waiting.pop()
            if isinstance(item, str):
                if self._text in item[:room].casefold():
                    return True
                room -= len(item)
            elif isinstance(item, dict):
                waiting.extend(item.values())
            elif isinstance(item, list):
                waiting.extend(item)
        return False
