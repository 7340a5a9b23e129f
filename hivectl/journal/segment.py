"""Reading one segment, plain or sealed, from any thread: opened read-only, no state is shared.

A segment is named by the number of its first record. Readers prefer the plain file; while a segment is
being sealed both exist, and an open file stays readable when retention removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from hivectl.journal import index, record
from hivectl.journal.disk import open_read
from hivectl.journal.frames import FrameFile
from hivectl.journal.record import HEADER_PREFIX, is_header, seq_of

PLAIN = ".jsonl"
SEALED = ".jsonl.zst"
INDEX = ".idx"
BLOBS = "blobs"
LAST_SEQ = 10**16 - 1
_FIRST_READ = 64 * 1024
_LARGEST_READ = 1024 * 1024
_STEP = index.ENTRY_BYTES
_WINDOW = 64


def segment_path(directory: Path, first_seq: int, ending: str = PLAIN) -> Path:
    """The file of the segment that starts with `first_seq`."""
    return directory / f"{first_seq:016d}{ending}"


def first_seq_of(name: str) -> int:
    """The number in a segment's file name; 0 when it is none."""
    digits = name[:16]
    is_segment = name[16:] in {PLAIN, SEALED} and digits.isascii() and digits.isdigit()
    return int(digits) if is_segment else 0


def list_segments(directory: Path) -> tuple[dict[int, int], int]:
    """Segments by first number with their bytes on disk (index and torn parts included), and the bytes
    of blobs. Raises OSError."""
    sizes: dict[int, int] = {}
    beside: list[tuple[int, int]] = []
    blob_bytes = 0
    with os.scandir(directory) as found:
        for item in found:
            if item.name == BLOBS:
                with os.scandir(item.path) as blobs:
                    blob_bytes = sum(blob.stat(follow_symlinks=False).st_size for blob in blobs)
            elif first := first_seq_of(item.name):
                sizes[first] = sizes.get(first, 0) + item.stat(follow_symlinks=False).st_size
            elif item.name[:16].isdigit():
                beside.append((int(item.name[:16]), item.stat(follow_symlinks=False).st_size))
    for first, size in beside:
        if first in sizes:
            sizes[first] += size
    return sizes, blob_bytes


class _Bytes(Protocol):
    size: int
    is_damaged: bool

    def read(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...


class _PlainFile:
    is_damaged = False

    def __init__(self, fd: int, size: int | None) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size if size is None else size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, max(0, min(length, self.size - offset)), offset)

    def close(self) -> None:
        os.close(self._fd)


class SegmentReader:
    """One open segment. Not to be shared by threads."""

    def __init__(self, directory: Path, first_seq: int, *, size: int | None = None) -> None:
        """Open the segment; `size` bounds what is read of one that is still being written.

        Raises FileNotFoundError when retention has removed it, OSError (DamagedSegmentError) when it
        cannot be read."""
        self.first_seq = first_seq
        self._directory = directory
        self._data = self._open(size)
        self.size = self._data.size
        self._index = -1
        self._entries = 0

    def _open(self, size: int | None) -> _Bytes:
        plain = segment_path(self._directory, self.first_seq)
        try:
            return _PlainFile(open_read(plain), size)
        except FileNotFoundError:
            return FrameFile(open_read(segment_path(self._directory, self.first_seq, SEALED)))

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._data.close()
        if self._index >= 0:
            os.close(self._index)
            self._index = -1

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the plain text."""
        return self._data.read(offset, length)

    # --- the index -------------------------------------------------------------------------------

    def _open_index(self) -> None:
        try:
            self._index = open_read(segment_path(self._directory, self.first_seq, INDEX))
        except FileNotFoundError:
            return
        self._entries = os.fstat(self._index).st_size // _STEP

    def entry(self, number: int) -> index.Entry | None:
        """A final entry of the index whose block lies in the data; None when it is none such."""
        return self._usable(index.unpack(os.pread(self._index, _STEP, number * _STEP)))

    def _usable(self, entry: index.Entry | None) -> index.Entry | None:
        return entry if entry and entry.is_final and entry.end <= self.size else None

    def _search(self, *, seq: int = 0, top: int = 0) -> index.Entry | None:
        """The last entry that starts at or before `seq`, or whose times all lie before `top`.

        None when there is none such, or none can be found because the index is damaged: then the
        reader starts further ahead, at worst at the segment's start, and only loses time."""
        if self._index < 0:
            self._open_index()

        def is_before(entry: index.Entry) -> bool:
            return entry.seq <= seq if seq else entry.top < top

        low, high = self._guess(seq) if seq else (0, self._entries)
        best: index.Entry | None = None
        while high - low > _WINDOW:
            middle = (low + high) // 2
            entry = self.entry(middle)
            if entry is not None and is_before(entry):
                best, low = entry, middle + 1
            else:
                high = middle
        data = os.pread(self._index, (high - low) * _STEP, low * _STEP) if high > low else b""
        base, high = low, low + len(data) // _STEP
        while low < high:
            middle = (low + high) // 2
            entry = self._usable(index.unpack(data, (middle - base) * _STEP))
            if entry is not None and is_before(entry):
                best, low = entry, middle + 1
            else:
                high = middle
        return best

    def _guess(self, seq: int) -> tuple[int, int]:
        """The slots where the entry for `seq` must be: few when records are of similar length."""
        last = self.entry(self._entries - 1) if self._entries > _WINDOW else None
        if last is None or not self.first_seq <= seq < last.seq:
            return 0, self._entries
        share = (seq - self.first_seq) / (last.seq - self.first_seq)
        low = min(max(0, int(share * self._entries) - _WINDOW // 2), self._entries - _WINDOW)
        first, after = self.entry(low), self.entry(low + _WINDOW - 1)
        if first is not None and after is not None and first.seq <= seq < after.seq:
            return low, low + _WINDOW
        return 0, self._entries

    def last_top(self) -> int:
        """Highest time up to the end of the last indexed block; 0 when there is no index."""
        entry = self._search(top=1 << 63)
        return entry.top if entry else 0

    def start_of(self, seq: int) -> int:
        """Offset of a line start at or before record `seq`, near it where the index helps."""
        entry = self._search(seq=seq)
        return entry.offset if entry and self._is_line_start(entry) else 0

    def start_of_time(self, ts: int) -> int:
        """Offset of a line start before which all records are older than `ts`."""
        entry = self._search(top=ts)
        return entry.end if entry and self._is_line_start(entry) else 0

    def _is_line_start(self, entry: index.Entry) -> bool:
        head = self.read(entry.offset, 32)
        return head.startswith(HEADER_PREFIX) or seq_of(head) == entry.seq

    # --- lines -----------------------------------------------------------------------------------

    def chunks(self, offset: int) -> Iterator[bytes]:
        """Whole lines from `offset` (a line's start) on, in growing chunks that end with a break.

        What follows the last line break of the segment is not shown."""
        length = _FIRST_READ
        rest: list[bytes] = []
        while data := self.read(offset, length):
            offset += len(data)
            length = min(length * 4, _LARGEST_READ)
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest.append(data)
                continue
            rest.append(data[:cut])
            yield b"".join(rest)
            rest = [data[cut:]] if cut < len(data) else []

    def lines(self, seq: int, count: int, *, max_bytes: int) -> tuple[list[bytes], bool]:
        """At most `count` record lines from `seq` on, and whether `max_bytes` cut them short.

        The first line is given however long it is. Lines that are no records (damage) are left out."""
        found: list[bytes] = []
        room = max_bytes
        for chunk in self.chunks(self.start_of(seq)):
            some = pick_lines(chunk, seq, count - len(found))
            if self._data.is_damaged:
                some = [line for line in some if record.is_record(line)]
            room -= sum(map(len, some))
            found += some
            if room < 0:
                while room < 0 and len(found) > 1:
                    room += len(found.pop())
                return found, True
            if len(found) >= count:
                break
        return found, False


def pick_lines(chunk: bytes, seq: int, count: int) -> list[bytes]:
    """Of the lines of `chunk`, at most `count` records numbered `seq` or later."""
    first = seq_of(chunk[:32])
    if first:
        # Numbers are dense, so the place of a record is known. Both ends are checked: a line between
        # them that is no record (a snapshot, damage) would shift the last one.
        skip = max(0, seq - first)
        lines = chunk.split(b"\n", skip + count)
        lines.pop()
        some = lines[skip:]
        if not some:
            some = lines[-1:]
            skip = len(lines) - 1
        if (
            some
            and seq_of(some[0]) == first + skip
            and seq_of(some[-1]) == first + skip + len(some) - 1
            and record.is_record(some[-1])
        ):
            return some if seq <= first + skip else []
    rest = (line for line in chunk.split(b"\n") if not is_header(line) and seq_of(line) >= seq)
    picked = list(islice(rest, count))
    is_dense = picked and seq_of(picked[-1]) - seq_of(picked[0]) == len(picked) - 1
    if not is_dense or not record.is_record(picked[-1]):
        # What cannot be read has no say in the numbers: with a lower one readers would begin again there,
        # with a higher one they would pass over good records.
        picked = [line for line in (*picked, *rest) if record.is_record(line)][:count]
    return picked
