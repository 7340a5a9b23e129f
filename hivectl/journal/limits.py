"""Every limit of the journal, in one place."""

from __future__ import annotations

import msgspec

MIB = 1024 * 1024


class JournalLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When segments end, how long they stay, how much is held in memory."""

    segment_bytes: int = 64 * MIB
    """A segment ends before it would grow beyond this (one batch may be larger). At most 2 GiB."""
    segment_age_s: float = 86400.0
    """A segment ends with the first append after this time."""
    segment_lines: int = 1_000_000
    """A segment ends before it would hold more records (one batch may hold more)."""
    retention_bytes: int | None = None
    """Oldest segments of a stream go, whenever one has ended, while it takes more than this on disk;
    None = keep all."""
    retention_age_s: float | None = None
    """Segments go when their last record is older; None = keep all."""
    sync_interval_s: float = 0.1
    """What is appended is on the disk itself after this time at the latest."""
    spill_bytes: int = 256 * 1024
    """Lines longer than this belong into a blob; the caller sees to it."""
    ring_bytes: int = MIB
    """Newest lines of each open stream kept in memory for readers near its head."""
    ring_lines: int = 4096
    snapshot_bytes: int = 512 * 1024
    """A snapshot of the writer's state stands at least this often: what opening has to read."""
