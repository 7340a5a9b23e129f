"""Bytes to lines, whatever the split, with bounded memory and without ever decoding.

Invariant: the raw bytes of all lines, with their line feeds, are the bytes that were fed. What is
longer than the limit comes in pieces of a fixed size, so a line of 1 GB costs no more than the limit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import msgspec

LINE_BYTES_MAX = 16 << 20
PIECE_BYTES = 1 << 20
OVERSIZED = "oversized"
OVERSIZED_END = "oversized_end"


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line without its line feed, or (`piece` not empty) a part of an oversized one."""

    raw: bytes
    end: int
    """Offset of the first byte after it (and after its line feed)."""
    piece: str = ""


class LineSplitter:
    """Keeps the half line between two feeds."""

    def __init__(
        self, offset: int, *, max_line_bytes: int = LINE_BYTES_MAX, piece_bytes: int = PIECE_BYTES
    ) -> None:
        """The first byte fed is the one at `offset`, a line's start."""
        if not 1 <= piece_bytes <= max_line_bytes:
            raise ValueError("piece_bytes must lie between 1 and max_line_bytes")
        self._held = bytearray()
        self._max = max_line_bytes
        self._piece = piece_bytes
        self._is_oversized = False
        self.position = offset
        """Offset after the last byte that was fed."""
        self.consumed = offset
        """Offset after the last line, or piece, that was given out."""

    def feed(self, data: bytes, offset: int) -> list[Line]:
        """The lines that end in `data`, which starts at `offset`.

        Raises ValueError when bytes are missing or come twice."""
        if offset != self.position:
            raise ValueError(f"bytes of offset {offset} came where {self.position} was next")
        found: list[Line] = []
        lines = io.BytesIO(data).readlines()  # three times as quick as looking for line feeds
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        at, most = offset, self._max + 1
        for raw in lines:
            if self._held or len(raw) > most:
                found += self._piecewise(raw)
            else:
                found.append(Line(raw[:-1], at + len(raw)))
            at += len(raw)
            self.position = self.consumed = at
        found += self._piecewise(rest)
        return found

    def _piecewise(self, raw: bytes) -> Iterator[Line]:
        """Go on with the line that is held, or begin to hold one."""
        has_end = raw.endswith(b"\n")
        yield from self._take(raw, 0, len(raw) - has_end)
        if has_end:
            self.position += 1
            yield self._close(self.position)

    def _take(self, data: bytes, start: int, stop: int) -> Iterator[Line]:
        """Hold data[start:stop]; what is too much of one line is given out in pieces."""
        view = memoryview(data)
        while start < stop:
            room = (self._piece if self._is_oversized else self._max) + 1 - len(self._held)
            taken = min(room, stop - start)
            self._held += view[start : start + taken]
            self.position += taken
            start += taken
            # A piece is given out only when a byte follows it: the last one is never empty.
            self._is_oversized |= len(self._held) > self._max
            while self._is_oversized and len(self._held) > self._piece:
                yield self._cut()

    def _cut(self) -> Line:
        raw = bytes(memoryview(self._held)[: self._piece])
        del self._held[: self._piece]
        self.consumed += len(raw)
        return Line(raw, self.consumed, OVERSIZED)

    def _close(self, end: int) -> Line:
        line = Line(bytes(self._held), end, OVERSIZED_END if self._is_oversized else "")
        self._held = bytearray()
        self._is_oversized = False
        self.consumed = end
        return line

    def flush(self) -> Iterator[Line]:
        """The last line when it has no line feed."""
        if self._held:
            yield self._close(self.position)
