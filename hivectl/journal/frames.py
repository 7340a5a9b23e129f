"""Sealed segments: independent zstd frames of 256 KiB and a table that says where each one starts.

The table is a skippable frame at the end, so any zstd tool unpacks the file. Each frame carries its
checksum. Layout of the table: magic, length, one u64 offset per frame, frame size u32, count u32, tag.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from hivectl.journal.disk import Disk

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME_BYTES = 256 * 1024
LEVEL = 3
_SKIPPABLE = 0x184D2A50
_HEAD = struct.Struct("<II")
_TAIL = struct.Struct("<II8s")
_TAG = b"hivectl1"
_OPTIONS = {
    int(zstd.CompressionParameter.compression_level): LEVEL,
    int(zstd.CompressionParameter.checksum_flag): 1,
}


class DamagedSegmentError(OSError):
    """A sealed segment cannot be read: its table of frames is damaged."""


def compress_file(
    source: Path, target: Path, disk: Disk, *, should_stop: Callable[[], bool]
) -> int:
    """Write `source` as frames to `target`, durable; the bytes of `target`, or 0 when told to stop.

    Raises OSError; the caller removes what is there of `target` then."""
    offsets: list[int] = []
    written = 0
    out = disk.create(target)
    try:
        with source.open("rb") as plain:
            while block := plain.read(FRAME_BYTES):
                if should_stop():
                    return 0
                frame = zstd.compress(block, options=_OPTIONS)
                offsets.append(written)
                disk.write(out, [frame])
                written += len(frame)
            total = plain.tell()
        body = struct.pack(f"<{len(offsets)}QQ", *offsets, total)
        body += _TAIL.pack(FRAME_BYTES, len(offsets), _TAG)
        table = _HEAD.pack(_SKIPPABLE, len(body)) + body
        disk.write(out, [table])
        disk.sync(out)
    finally:
        os.close(out)
    return written + len(table)


class FrameFile:
    """Random reading of a sealed segment by offset in the plain text. Not to be shared by threads."""

    def __init__(self, fd: int) -> None:
        """Takes over `fd`. Raises DamagedSegmentError when the table cannot be read; fd is closed then."""
        self._fd = fd
        self._cached = -1
        self._block = b""
        self.is_damaged = False
        """A frame that was read could not be unpacked; line breaks stand in its place."""
        try:
            self._read_table()
        except BaseException:
            os.close(fd)
            raise

    def _read_table(self) -> None:
        end = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _TAIL.size, max(0, end - _TAIL.size))
        if len(tail) < _TAIL.size:
            raise DamagedSegmentError("sealed segment is too short")
        self._frame_bytes, count, tag = _TAIL.unpack(tail)
        body = 8 * (count + 1)
        start = end - _TAIL.size - body
        if tag != _TAG or not self._frame_bytes or start < _HEAD.size:
            raise DamagedSegmentError("sealed segment has no table of frames")
        *offsets, self.size = struct.unpack(f"<{count + 1}Q", os.pread(self._fd, body, start))
        self._offsets = (*offsets, start - _HEAD.size)

    def _frame(self, number: int) -> bytes:
        if number != self._cached:
            first, after = self._offsets[number], self._offsets[number + 1]
            length = min(self._frame_bytes, self.size - number * self._frame_bytes)
            try:
                self._block = zstd.decompress(os.pread(self._fd, after - first, first))
            except zstd.ZstdError:
                self._block = b""
            if len(self._block) != length:
                # Its neighbours are good: readers see empty lines here and go on behind them.
                self._block = b"\n" * length
                self.is_damaged = True
            self._cached = number
        return self._block

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the plain text; short at its end. Raises OSError."""
        parts: list[bytes] = []
        end = min(offset + length, self.size)
        while offset < end:
            number, skip = divmod(offset, self._frame_bytes)
            part = self._frame(number)[skip : skip + end - offset]
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
