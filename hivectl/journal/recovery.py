"""Opening a stream for writing: find the writer's state at its end and mend what a crash left there.

Only the tail is read: from the last snapshot that stands at least TAIL_BYTES before the end. In it every
line must be whole JSON in UTF-8, numbers must be dense, and blocks must fit the checksums of the index.
What remains is a prefix of what was written; the rest is moved to `<segment>.torn-<time>`.
"""

from __future__ import annotations

import os
import re
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec

from hivectl.journal import index, record
from hivectl.journal.disk import Disk
from hivectl.journal.index import Entry
from hivectl.journal.record import HEADER_PREFIX, Header
from hivectl.journal.segment import INDEX, PLAIN, SegmentReader, segment_path

TAIL_BYTES = 64 * 1024
_BACK_STEP = 256 * 1024
_COPY_BYTES = 1024 * 1024
_ENVELOPES = re.compile(rb'^\{"seq":(\d+),"ts":(\d+),', re.MULTILINE)


class JournalFormatError(ValueError):
    """The segment was written by a later version of hivectl."""


class State(msgspec.Struct):
    """What the writer knows after the last good line."""

    seq: int = 0
    epoch: str = ""
    """Empty when no snapshot was found."""
    boot: str = ""
    top: int = 0
    outbox: int = 0
    sources: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    is_closed: bool = False
    """The last line is the mark of an orderly close."""
    last_snapshot: int = 0
    """Offset of the last snapshot."""

    def restore(self, header: Header, offset: int) -> None:
        """Take over what a snapshot says."""
        self.seq, self.epoch, self.boot = header.seq, header.epoch, header.boot
        self.top, self.outbox, self.is_closed = header.top, header.ob, header.closed
        self.sources = {(src.process, src.spool): src.end for src in header.src}
        self.last_snapshot = offset

    def apply(self, found: record.Record) -> None:
        """Take over what a record says."""
        self.seq = found.seq
        self.top = max(self.top, found.ts)
        self.outbox = max(self.outbox, found.ob)
        self.is_closed = False
        if found.src is not None:
            self.sources[found.src.process, found.src.spool] = found.src.end


class Tail(msgspec.Struct):
    """The end of a segment as it was found."""

    state: State
    good_end: int
    """Offset after the last good line."""
    size: int
    damaged_lines: int = 0
    """Unreadable lines before good_end; none of them was a record."""
    has_lost_records: bool = False
    """Behind good_end stood more than one unfinished line: something acknowledged is gone."""


# --- reading --------------------------------------------------------------------------------------


def read_tail(directory: Path, firsts: list[int]) -> Tail:
    """The end of the last segment of `firsts`; nothing is changed.

    Raises JournalFormatError, OSError (DamagedSegmentError)."""
    first = firsts[-1]
    with SegmentReader(directory, first) as reader:
        start, header = _last_snapshot(reader)
        if header is not None:
            state = State()
            state.restore(header, start)
        else:
            state = _state_before(directory, firsts)
        entries, _ = index.read_last_entries(segment_path(directory, first, INDEX), first)
        data = reader.read(start, reader.size - start)
        tail = Tail(state, start, reader.size)
    _follow(tail, data, start, _first_bad_block(data, start, entries))
    ahead = entries[-1].end if entries else 0
    tail.has_lost_records = b"\n" in data[tail.good_end - start :] or ahead > tail.good_end
    return tail


def _state_before(directory: Path, firsts: list[int]) -> State:
    """The state at the start of the last segment, from the one before it."""
    state = State()
    if len(firsts) > 1:
        with suppress(OSError):
            state = read_tail(directory, firsts[:-1]).state
    state.seq = firsts[-1] - 1
    state.is_closed = False
    state.last_snapshot = 0
    return state


def _last_snapshot(reader: SegmentReader) -> tuple[int, Header | None]:
    """The last readable snapshot at least TAIL_BYTES before the end, else the first; else (0, None)."""
    needle = b"\n" + HEADER_PREFIX
    high = max(0, reader.size - TAIL_BYTES)
    while high > 0:
        low = max(0, high - _BACK_STEP)
        # A little more than the step, so that no line start falls between two steps.
        window = reader.read(low, high - low + len(needle))
        at = len(window)
        while (at := window.rfind(needle, 0, at)) >= 0:
            if (header := _header_at(reader, low + at + 1)) is not None:
                return low + at + 1, header
        high = low
    return 0, _header_at(reader, 0)


def _header_at(reader: SegmentReader, offset: int) -> Header | None:
    length = 4096
    while True:
        line, found, _ = reader.read(offset, length).partition(b"\n")
        if found:
            return _parse_header(line)
        if offset + length >= reader.size or not line.startswith(HEADER_PREFIX):
            return None
        length *= 4


def _parse_header(line: bytes) -> Header | None:
    try:
        header = record.decode_header(line)
    except ValueError:
        return None
    if header.v > record.FORMAT_VERSION:
        raise JournalFormatError(
            f"the log of {header.stream} was written by a later version of hivectl"
            f" (format {header.v}); use that version"
        )
    return header


def _parse_record(line: bytes) -> record.Record | None:
    try:
        line.decode()  # the decoder does not look at the characters of what it skips
        return record.decode_record(line)
    except ValueError:
        return None


def _first_bad_block(data: bytes, start: int, entries: list[Entry]) -> int:
    """Offset of the first block whose damage only its checksum shows; the end when there is none.

    A bad block with an unreadable line is no such block: going through its lines finds the place."""
    end = start + len(data)
    view = memoryview(data)
    for entry in entries:
        if entry.offset < start or entry.end > end:
            continue
        at, stop = entry.offset - start, entry.end - start
        if zlib.crc32(view[at:stop]) == entry.crc:
            continue
        # Its last line may have lost its end, and be one with the beginning of the next block's first.
        stop = data.find(b"\n", stop - 1) + 1
        if stop and _is_readable(data[at:stop]):
            return entry.offset
    return end


def _is_readable(lines: bytes) -> bool:
    # Numbers that jump do not count: two halves may have become one line, with the number of the first.
    for line in lines.split(b"\n")[:-1]:
        parse = _parse_header if line.startswith(HEADER_PREFIX) else _parse_record
        if parse(line) is None:
            return False
    return True


def _follow(tail: Tail, data: bytes, start: int, limit: int) -> None:
    """Apply line after line, leaving `tail` behind the last good one before `limit`.

    An unreadable line is passed over when the numbers around it are dense: it was no record. A readable one
    out of its turn (an old block that came back) is where the good part ends: a reader would show it."""
    state = tail.state
    at = tail.good_end = start
    passed = 0
    while at < limit:
        stop = start + data.find(b"\n", at - start) + 1
        if stop == start:
            break
        line = data[at - start : stop - start - 1]
        header = _parse_header(line) if line.startswith(HEADER_PREFIX) else None
        found = None if header else _parse_record(line)
        if header is not None and header.seq == state.seq:
            state.restore(header, at)
        elif found is not None and found.seq == state.seq + 1:
            state.apply(found)
        elif header is not None or found is not None:
            break
        else:
            passed += 1
            at = stop
            continue
        tail.damaged_lines += passed
        passed = 0
        tail.good_end = at = stop


# --- mending --------------------------------------------------------------------------------------


def set_aside(disk: Disk, path: Path, tail: Tail, now_us: int) -> Path | None:
    """Move what stands behind the good end into a file of its own and cut it off.

    None when nothing stood there, or it was an unfinished line and could not be kept. Raises OSError
    when it must be kept and cannot be: nothing is cut then."""
    if tail.good_end >= tail.size:
        return None
    torn: Path | None = path.with_name(f"{path.name}.torn-{now_us}")
    source = disk.open_write(path)
    try:
        try:
            _copy_tail(disk, source, tail.good_end, path.with_name(f"{path.name}.torn-{now_us}"))
        except OSError:
            if tail.has_lost_records:
                raise
            torn = None
        disk.truncate(source, tail.good_end)
    finally:
        os.close(source)
    return torn


def _copy_tail(disk: Disk, source: int, offset: int, target: Path) -> None:
    out = disk.create(target)
    try:
        while block := os.pread(source, _COPY_BYTES, offset):
            disk.write(out, [block])
            offset += len(block)
        disk.sync(out)
    except BaseException:
        disk.unlink(target)
        raise
    finally:
        os.close(out)


def resume_index(disk: Disk, directory: Path, first: int, good_end: int) -> index.IndexWriter:
    """An index writer that covers the mended segment; good entries are kept, the rest made again.

    Raises OSError only when the file cannot be opened: what cannot be written waits in memory."""
    path = segment_path(directory, first, INDEX)
    entries, base = index.read_last_entries(path, first)
    kept = [entry for entry in entries if entry.is_final and entry.end <= good_end]
    slots = base + len(kept) if kept else 0
    offset = kept[-1].end if kept else 0
    writer = index.IndexWriter(disk, disk.open_write(path), entries=slots, offset=offset)
    with suppress(OSError):
        writer.restart()
    seq, top = first, kept[-1].top if kept else 0
    with SegmentReader(directory, first, size=good_end) as reader:
        for chunk in reader.chunks(offset):
            for block in _blocks(chunk):
                found = _ENVELOPES.findall(block)
                if found:
                    seq = int(found[0][0])
                    top = max(top, *(int(ts) for _, ts in found))
                elif (header := _parse_header(block.partition(b"\n")[0])) is not None:
                    seq = header.seq + 1
                writer.add_all([(seq, block, top)])
    return writer


def created_us(directory: Path, first: int) -> int | None:
    """When a segment was started; None when its first line cannot be read. Raises OSError."""
    with SegmentReader(directory, first) as reader:
        header = _header_at(reader, 0)
    return header.ts if header else None


def _blocks(chunk: bytes) -> list[bytes]:
    blocks: list[bytes] = []
    at = 0
    while at < len(chunk):
        stop = chunk.find(b"\n", min(at + index.BLOCK_BYTES, len(chunk)) - 1) + 1
        blocks.append(chunk[at : stop or len(chunk)])
        at = stop or len(chunk)
    return blocks


def plain_path(directory: Path, first: int) -> Path:
    """The plain file of a segment."""
    return segment_path(directory, first, PLAIN)
