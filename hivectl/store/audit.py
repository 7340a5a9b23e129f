"""The audit chain: each row's hash covers its time, its text and the hash before it (S46).

Pure. Whoever runs as the daemon's user can rewrite the database and the chain with it; only a copy of the
last hash kept elsewhere, the anchor, proves that nothing was cut off or written anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

GENESIS = "0" * 64
"""What stands before the first row."""


class Row(msgspec.Struct, frozen=True):
    """One row of the table `audit`. `body` is JSON text, as it is stored."""

    id: int
    at_us: int
    body: str
    hash: str


class Fault(msgspec.Struct, frozen=True):
    """The first row that is not as it was written, and why."""

    id: int
    why: str


def link(before: str, at_us: int, body: str) -> str:
    """The hash of a row that follows the one with the hash `before`."""
    return hashlib.sha256(f"{before}\n{at_us}\n{body}".encode("utf-8", "surrogatepass")).hexdigest()


def verify(rows: Iterable[Row], *, anchor: tuple[int, str] | None = None) -> Fault | None:
    """The first fault of all rows in the order of their ids; None when the chain is whole.

    `anchor` is the id and hash of a row that was noted outside the database: it must still be there.
    """
    reader = Reader(anchor)
    for row in rows:
        fault = reader.take(row)
        if fault is not None:
            return fault
    return reader.end()


class Reader:
    """`verify` row by row, for a chain that is read in pages."""

    def __init__(self, anchor: tuple[int, str] | None = None) -> None:
        self._anchor = anchor
        self._is_anchored = anchor is None
        self.entries = 0
        """How many are whole."""
        self.last_hash = GENESIS

    def take(self, row: Row) -> Fault | None:
        """The next row: what is wrong with it. Nothing may follow a fault."""
        expected = self.entries + 1
        if row.id != expected:
            return Fault(expected, "is missing" if row.id > expected else "is out of order")
        if row.hash != link(self.last_hash, row.at_us, row.body):
            return Fault(row.id, "was changed, or what stood before it was")
        if self._anchor is not None and row.id == self._anchor[0]:
            if row.hash != self._anchor[1]:
                return Fault(row.id, "is not the one that was noted")
            self._is_anchored = True
        self.entries, self.last_hash = row.id, row.hash
        return None

    def end(self) -> Fault | None:
        """After the last row."""
        if self._is_anchored:
            return None
        return Fault(self.entries + 1, "is missing: the end was cut off")
