"""The sparse index beside a segment: 32 bytes for each block of at least 4 KiB of lines.

It is written after the data and never trusted beyond it. An entry names its block's first record, place,
length and checksum, and the highest time of any record up to its end; it carries a checksum of its own,
so that a mismatch tells which of the two is damaged.

The block still being filled is covered by *provisional* entries, one per append, in the slots after the
last final one; they exist for recovery alone, and a final entry overwrites the first of them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hivectl.journal.disk import Disk, open_read

BLOCK_BYTES = 4096
ENTRY_BYTES = 32
_FIELDS = struct.Struct("<QQIII")
_CHECK = struct.Struct("<I")
_PROVISIONAL = 1 << 31
_MOST_LENGTH = _PROVISIONAL - 1
_TAIL_ENTRIES = 512


class Entry(NamedTuple):
    """One block of a segment."""

    seq: int
    """First record in the block (or after it, when the block holds none)."""
    top: int
    """Highest ts of the stream up to the block's end."""
    offset: int
    length: int
    crc: int
    is_final: bool = True

    @property
    def end(self) -> int:
        """Offset after the block."""
        return self.offset + self.length


def pack(entry: Entry) -> bytes:
    """The 32 bytes of an entry."""
    length = entry.length if entry.is_final else entry.length | _PROVISIONAL
    fields = _FIELDS.pack(entry.seq, entry.top, entry.offset, length, entry.crc)
    return fields + _CHECK.pack(zlib.crc32(fields))


def unpack(data: bytes, position: int = 0) -> Entry | None:
    """The entry at `position`, or None when it is damaged."""
    if len(data) < position + ENTRY_BYTES:
        return None
    fields = data[position : position + _FIELDS.size]
    (check,) = _CHECK.unpack_from(data, position + _FIELDS.size)
    if zlib.crc32(fields) != check:
        return None
    seq, top, offset, length, crc = _FIELDS.unpack(fields)
    return Entry(seq, top, offset, length & _MOST_LENGTH, crc, not length & _PROVISIONAL)


class IndexWriter:
    """Follows what is appended to one segment and writes its index; an index that cannot be written is
    kept in memory and tried again, it never fails an append."""

    def __init__(self, disk: Disk, fd: int, *, entries: int, offset: int) -> None:
        """Continue an index of `entries` final entries whose blocks end at `offset`. Takes over `fd`."""
        self._disk = disk
        self._fd = fd
        self.written = entries
        """Final entries on disk."""
        self._backlog = bytearray()
        self._provisional = bytearray()
        self._provisional_written = 0
        self._seq = self._top = self._crc = self._length = 0
        self._offset = offset

    def add_all(self, parts: Iterable[tuple[int, bytes, int]]) -> None:
        """Cover parts (first record, whole lines, highest ts up to their end) in the order they were
        appended. What cannot be written waits in memory."""
        for seq, part, top in parts:
            crc = zlib.crc32(part)
            start = self._offset + self._length
            if self._length:
                self._crc = zlib.crc32(part, self._crc)
            else:
                self._seq, self._crc = seq, crc
            self._top = top
            self._length += len(part)
            if self._length >= BLOCK_BYTES:
                self.end_block()
            else:
                self._provisional += pack(Entry(seq, top, start, len(part), crc, is_final=False))
        with suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write the entries that wait. Raises OSError; they wait on then."""
        data = bytes(self._backlog + self._provisional)
        if data:
            slot = self.written + self._provisional_written
            self._disk.write_at(self._fd, data, slot * ENTRY_BYTES)
            self.written += len(self._backlog) // ENTRY_BYTES
            self._provisional_written += len(self._provisional) // ENTRY_BYTES
            self._backlog.clear()
            self._provisional.clear()

    def end_block(self) -> None:
        """End the block being filled, however short: what follows starts a block."""
        if not self._length:
            return
        self._backlog += pack(Entry(self._seq, self._top, self._offset, self._length, self._crc))
        self._offset += self._length
        self._length = self._provisional_written = 0
        self._provisional.clear()

    def restart(self) -> None:
        """Drop what stands behind the final entries. Raises OSError."""
        self._disk.truncate(self._fd, self.written * ENTRY_BYTES)

    def finish(self) -> None:
        """End the last block, drop provisional entries, let go of the file. An index that cannot be
        written stays short: readers then search a little longer."""
        self.end_block()
        with suppress(OSError):
            self.flush()
        with suppress(OSError):
            self.restart()
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def read_last_entries(path: Path, first_seq: int) -> tuple[list[Entry], int]:
    """The trustworthy entries at the end of an index, in order, and the slot of the first.

    They join one another; what follows a damaged entry or one that does not join is left out. Only the
    last few are read; when none of them is good the answer is empty and the index worthless."""
    try:
        fd = open_read(path)
    except FileNotFoundError:
        return [], 0
    try:
        slots = os.fstat(fd).st_size // ENTRY_BYTES
        base = max(0, slots - _TAIL_ENTRIES)
        data = os.pread(fd, (slots - base) * ENTRY_BYTES, base * ENTRY_BYTES)
    finally:
        os.close(fd)
    entries: list[Entry] = []
    end = None if base else 0
    for position in range(0, len(data), ENTRY_BYTES):
        entry = unpack(data, position)
        joins = entry is not None and entry.seq >= first_seq and end in {None, entry.offset}
        if entry is None or not joins:
            break
        entries.append(entry)
        end = entry.end
    return entries, base
