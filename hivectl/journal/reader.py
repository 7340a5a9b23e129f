"""Reading a stream by number and by time, forward and backward.

Everything here may be called from any thread: it works on an atomically replaced view of the stream and
on files opened read-only. Near the head no file is touched.
"""

from __future__ import annotations

from bisect import bisect_right

from hivectl.journal import record
from hivectl.journal.record import Record
from hivectl.journal.segment import SegmentReader
from hivectl.journal.stream import StreamLog, View

MAX_BYTES = 4 * 1024 * 1024
_PAGE_LINES = 512
_NO_BOUND = 1 << 62


def read_after(
    log: StreamLog, after_seq: int, limit: int, *, max_bytes: int = MAX_BYTES
) -> list[Record]:
    """The records that follow `after_seq`, oldest first.

    At most `limit`, and at most `max_bytes` of lines unless the first one alone is longer. Empty only
    when nothing follows. When `after_seq` lies before what retention kept, it starts at `first_seq`;
    unreadable lines are left out. Raises OSError."""
    while lines := lines_after(log, after_seq, limit, max_bytes=max_bytes):
        if found := _decode(lines):
            return found
        after_seq = record.seq_of(lines[-1])
    return []


def read_before(
    log: StreamLog,
    before_seq: int | None,
    limit: int,
    *,
    max_bytes: int = MAX_BYTES,
    descending: bool = False,
) -> list[Record]:
    """The last records before `before_seq` (None = the newest), oldest first unless `descending`.

    Limits as in `read_after`; what does not fit is missing at the old end. Raises OSError."""
    before_seq = log.last_seq + 1 if before_seq is None else min(before_seq, log.last_seq + 1)
    while lines := lines_before(log, before_seq, limit, max_bytes=max_bytes):
        if found := _decode(lines):
            if descending:
                found.reverse()
            return found
        before_seq = record.seq_of(lines[0])
    return []


def read_one(log: StreamLog, seq: int) -> Record | None:
    """The record `seq`; None when there is none (yet, or any more). Raises OSError."""
    for line in _lines(log, seq, seq, 1, MAX_BYTES):
        for found in _decode([line]):
            return found if found.seq == seq else None
    return None


def find_time(log: StreamLog, ts_us: int) -> int:
    """Number of the first record with `ts` at or after `ts_us`; last_seq + 1 when there is none.

    Exact also when the clock was set back in between. Raises OSError."""
    view = log.view
    low, high = 0, len(view.segments) - 1
    while low < high:  # the first segment whose records reach that time
        middle = (low + high) // 2
        if _reaches(log, view.segments[middle], ts_us):
            high = middle
        else:
            low = middle + 1
    for at in range(low, len(view.segments)):
        size = view.end if at == len(view.segments) - 1 else None
        try:
            with SegmentReader(log.directory, view.segments[at], size=size) as reader:
                found = _first_at(reader, ts_us)
        except FileNotFoundError:
            continue
        if found:
            return found
    return view.last_seq + 1


def lines_after(
    log: StreamLog, after_seq: int, limit: int, *, max_bytes: int = MAX_BYTES
) -> list[bytes]:
    """As `read_after`, but the lines as they are on disk, without line break and not decoded.

    A line damaged in the middle may be among them."""
    return _lines(log, max(0, after_seq) + 1, _NO_BOUND, limit, max_bytes)


def lines_before(
    log: StreamLog, before_seq: int, limit: int, *, max_bytes: int = MAX_BYTES
) -> list[bytes]:
    """As `read_before`, oldest first, but the lines as they are on disk."""
    found: list[bytes] = []
    room = max_bytes
    step = min(limit, 128)
    while limit > len(found) and before_seq > log.first_seq:
        start = max(log.first_seq, before_seq - min(step, limit - len(found)))
        some = _all_lines(log, start, before_seq - 1)
        for line in reversed(some):
            room -= len(line)
            if room < 0 and found:
                return found[::-1]
            found.append(line)
        before_seq = start
        step = _PAGE_LINES
    return found[::-1]


def _all_lines(log: StreamLog, seq: int, last: int) -> list[bytes]:
    found: list[bytes] = []
    while seq <= last:
        some = _lines(log, seq, last, last + 1 - seq, MAX_BYTES)
        if not some:
            break
        found += some
        seq = record.seq_of(some[-1]) + 1
    return found


def _decode(lines: list[bytes]) -> list[Record]:
    try:
        b"".join(lines).decode()  # the decoder does not look at the characters of what it skips
        return [record.decode_record(line) for line in lines]
    except ValueError:
        return [record.decode_record(line) for line in lines if record.is_record(line)]


def _lines(log: StreamLog, seq: int, last: int, limit: int, max_bytes: int) -> list[bytes]:
    """Lines of records numbered `seq` to `last`."""
    ring = log.ring
    if seq >= ring.first_seq:
        skip = seq - ring.first_seq
        # Empty at the head, or for a moment while the writer has changed the view but not the ring.
        if near := ring.lines[skip : min(skip + limit, last + 1 - ring.first_seq)]:
            return _fit(near, max_bytes)
    view = log.view
    found: list[bytes] = []
    while len(found) < limit and seq <= min(last, view.last_seq):
        at = max(0, bisect_right(view.segments, seq) - 1)
        seq = max(seq, view.segments[at])
        is_newest = at == len(view.segments) - 1
        following = view.last_seq + 1 if is_newest else view.segments[at + 1]
        count = min(limit - len(found), last + 1 - seq, following - seq)
        try:
            some, is_cut = _segment_lines(log, view, at, seq, count, max_bytes)
        except FileNotFoundError:
            # Retention took it meanwhile.
            newer = log.view
            if is_newest and newer is view:
                raise
            view, seq = newer, max(seq, newer.segments[0])
            continue
        if some and record.seq_of(some[-1]) > last:  # behind a damaged stretch
            some = [line for line in some if record.seq_of(line) <= last]
        if found and some and len(some[0]) > max_bytes:
            break
        found += some
        max_bytes -= sum(map(len, some))
        if is_cut or max_bytes <= 0:
            break
        seq = seq + count if len(some) == count else following
    return found


def _segment_lines(
    log: StreamLog, view: View, at: int, seq: int, count: int, max_bytes: int
) -> tuple[list[bytes], bool]:
    size = view.end if at == len(view.segments) - 1 else None
    with SegmentReader(log.directory, view.segments[at], size=size) as reader:
        return reader.lines(seq, count, max_bytes=max_bytes)


def _fit(lines: list[bytes], max_bytes: int) -> list[bytes]:
    if sum(map(len, lines)) <= max_bytes:
        return lines
    for at, line in enumerate(lines):
        max_bytes -= len(line)
        if max_bytes < 0:
            return lines[: max(1, at)]
    return lines


def _reaches(log: StreamLog, first: int, ts_us: int) -> bool:
    try:
        with SegmentReader(log.directory, first) as reader:
            return reader.last_top() >= ts_us
    except FileNotFoundError:
        return False


def _first_at(reader: SegmentReader, ts_us: int) -> int:
    """Number of the segment's first record at or after a time; 0 when there is none."""
    for chunk in reader.chunks(reader.start_of_time(ts_us)):
        for line in chunk.split(b"\n"):
            if record.ts_of(line) >= ts_us and (seq := record.seq_of(line)):
                return seq
    return 0
