"""One stream of the journal, open for writing. Used from one thread; reading and syncing run beside it.

Invariants: numbers are dense; a batch is kept whole or not at all; what `view` shows is written. The
index, retention and compression may fail without an append failing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from hivectl.journal import record, recovery, segment
from hivectl.journal.disk import Disk
from hivectl.journal.index import ENTRY_BYTES, IndexWriter
from hivectl.journal.limits import JournalLimits
from hivectl.journal.record import Entry, Header, LineBuilder, Source
from hivectl.journal.segment import INDEX, LAST_SEQ, segment_path
from hivectl.journal.syncer import Syncer
from hivectl.kit import failpoint, ids
from hivectl.kit.clock import MICROSECOND, Clock

_ONE_PART_BYTES = 16 * 1024
_PART_BYTES = 16 * 1024
OnAppend = Callable[["StreamLog", int, list[bytes]], None]


class View(NamedTuple):
    """What may be read, replaced as a whole with every append: safe to take from any thread."""

    segments: tuple[int, ...]
    """First numbers of the segments, oldest first; the last one is being written."""
    end: int
    """Bytes of the last segment that may be read."""
    last_seq: int


class Ring(NamedTuple):
    """The newest lines. `lines` only grows; the whole ring is replaced when it is too large."""

    first_seq: int
    lines: list[bytes]


class House(msgspec.Struct, frozen=True, kw_only=True):
    """What all streams of a journal share."""

    disk: Disk
    limits: JournalLimits
    clock: Clock
    boot_id: str
    syncer: Syncer
    note: Callable[[str, str, str], None]
    """Report (stream, kind, text); from any thread."""
    sealed: Callable[[StreamLog, int], None]
    """A segment has ended: it may be compressed, and old ones removed."""


class StreamLog:
    """The journal of one stream. Made by `Journal.open`."""

    def __init__(self, house: House, stream: str, directory: Path) -> None:
        self.stream = stream
        self.directory = directory
        self.on_append: OnAppend | None = None
        """Hears of every batch (first number, lines without line break) after it was written. It must
        not raise and must not append to this stream."""
        self._house = house
        self._disk = house.disk
        self._limits = house.limits
        self._builder = LineBuilder()
        self._sources: dict[tuple[str, str], int] = {}
        self._fd = -1
        self._fd_lock = threading.Lock()
        """Held while the descriptor is synced (sync thread) or changed (writer)."""
        self._unsynced_blobs: list[int] = []
        self._is_dir_dirty = False
        self._is_dirty = False
        self._written = self._synced = 0
        self._needs_cut = False
        self._needs_snapshot = False
        self._ring_bytes = 0
        self.sizes: dict[int, int]
        """Bytes on disk of each segment but the last, index included."""
        self._blob_bytes: int
        self.freed_blob_bytes = 0
        """Counted by the upkeep thread alone."""
        self._started: dict[int, int | None] = {}
        self._load()

    # --- what it is -------------------------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        """Number of the oldest record that can be read; last_seq + 1 when there is none."""
        return self.view.segments[0]

    @property
    def last_seq(self) -> int:
        """Number of the newest record; 0 when there never was one."""
        return self.view.last_seq

    def source_end(self, process: str, spool: str) -> int:
        """Offset behind the last recorded line of a spool; 0 when none was recorded."""
        return self._sources.get((process, spool), 0)

    def source_processes(self) -> set[str]:
        """Processes whose offsets are still carried."""
        return {process for process, _ in self._sources}

    def forget_source(self, process: str) -> None:
        """Stop carrying the offsets of a process: nothing of it will be ingested any more."""
        for key in [key for key in self._sources if key[0] == process]:
            del self._sources[key]

    @property
    def disk_bytes(self) -> int:
        """Bytes this stream takes on disk; what retention has dropped no longer counts."""
        index_bytes = self._index.written * ENTRY_BYTES
        view = self.view
        old = sum(self.sizes.get(first, 0) for first in view.segments[:-1])
        return old + view.end + index_bytes + self.blob_bytes

    @property
    def blob_bytes(self) -> int:
        """Bytes of spilled lines on disk."""
        return self._blob_bytes - self.freed_blob_bytes

    @property
    def disk(self) -> Disk:
        """Where changes go."""
        return self._disk

    def started_us(self, first: int) -> int | None:
        """When a segment was started; None when that cannot be told."""
        if first not in self._started:
            with suppress(OSError):
                self._started[first] = recovery.created_us(self.directory, first)
        return self._started.get(first)

    # --- opening ----------------------------------------------------------------------------------

    def _load(self) -> None:
        self._disk.make_dir(self.directory)
        self.sizes, self._blob_bytes = segment.list_segments(self.directory)
        firsts = sorted(self.sizes)
        tail, is_lost = None, False
        while firsts and tail is None:
            tail = recovery.read_tail(self.directory, firsts)
            is_lost |= tail.has_lost_records
            path = recovery.plain_path(self.directory, firsts[-1])
            if not path.exists():
                break
            self._mend(path, tail)
            if not tail.good_end and len(firsts) > 1:
                # Nothing of it is good (mostly the crash came while it was being started): go on with the
                # one before it.
                self._disk.unlink(path)
                self._disk.unlink(segment_path(self.directory, firsts.pop(), INDEX))
                tail = None
        state = tail.state if tail else recovery.State()
        self._restore(state)
        if tail is None or not recovery.plain_path(self.directory, firsts[-1]).exists():
            self.view = View((*firsts, state.seq + 1), 0, state.seq)
            self._choose_epoch(state, is_lost=is_lost)
            self._fd, self._index = self._start_segment(state.seq + 1)
            return
        tail.has_lost_records = is_lost
        self._resume(tuple(firsts), tail)

    def _restore(self, state: recovery.State) -> None:
        self.last_outbox = state.outbox
        self._top = state.top
        self._sources = dict(state.sources)
        self._last_snapshot = state.last_snapshot
        self._is_marked_closed = state.is_closed
        self._ring = Ring(state.seq + 1, [])

    def _resume(self, firsts: tuple[int, ...], tail: recovery.Tail) -> None:
        """Continue the last segment."""
        state, first = tail.state, firsts[-1]
        self.view = View(firsts, tail.good_end, state.seq)
        self.sizes.pop(first, None)
        self._fd = self._disk.open_write(recovery.plain_path(self.directory, first))
        try:
            os.lseek(self._fd, tail.good_end, os.SEEK_SET)
            self._index = recovery.resume_index(self._disk, self.directory, first, tail.good_end)
            self._created_us = self.started_us(first) or self._house.clock.now_us()
            is_new = self._choose_epoch(state, is_lost=tail.has_lost_records)
            self._needs_snapshot = is_new or state.is_closed or state.boot != self._house.boot_id
            if is_new:
                self._write_snapshot()
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise

    def _mend(self, path: Path, tail: recovery.Tail) -> None:
        now_us = self._house.clock.now_us()
        torn = recovery.set_aside(self._disk, path, tail, now_us)
        if tail.good_end < tail.size:
            where = torn.name if torn else "nowhere, the disk is full"
            text = (
                f"{tail.size - tail.good_end} bytes behind record {tail.state.seq} kept in {where}"
            )
            self._house.note(self.stream, "torn", text)
        if tail.damaged_lines:
            text = f"{tail.damaged_lines} unreadable lines that held no record"
            self._house.note(self.stream, "damaged", text)

    def _choose_epoch(self, state: recovery.State, *, is_lost: bool) -> bool:
        """Keep the epoch, or begin one when history was or may have been lost."""
        rebooted = bool(state.epoch) and state.boot != self._house.boot_id
        if state.epoch and not is_lost and (state.is_closed or not rebooted):
            self.epoch = state.epoch
            return False
        self.epoch = ids.make_id("e")
        if state.epoch or state.seq:
            why = "records were lost" if is_lost or not state.epoch else "the machine went down"
            self._house.note(self.stream, "epoch_changed", f"{why}; now {self.epoch}")
        return True

    # --- appending --------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> int:
        """Write a batch and return the number of its first record.

        Raises OSError (ENOSPC, EIO ...): nothing of the batch is kept, and a later append works."""
        if self._fd < 0:
            raise RuntimeError(f"the log of {self.stream} is closed")
        first = self.view.last_seq + 1
        batch = self._builder.build(entries, first)
        lines = batch.lines
        if not lines:
            return first
        size = sum(map(len, lines)) + len(lines)
        if self._is_segment_over(size, len(lines)):
            self._roll()
        self._top = self._write(lines, first, size, max(self._top, batch.top))
        self._keep(lines, first, size)
        for src in batch.sources:
            self._sources[src.process, src.spool] = src.end
        self.last_outbox = max(self.last_outbox, batch.outbox)
        if self.on_append is not None:
            self.on_append(self, first, lines)
        return first

    def _write(self, lines: list[bytes], first: int, size: int, top: int) -> int:
        """Write lines, then index; gives `top` back. Raises OSError or ValueError: nothing is kept."""
        parts: list[tuple[int, bytes, int]] = []
        view = self.view
        has_snapshot = self._needs_snapshot or (
            view.end - self._last_snapshot >= self._limits.snapshot_bytes
        )
        if has_snapshot:
            parts.append((first, self._snapshot(), self._top))
            size += len(parts[0][1])
        step = len(lines)
        if size > _ONE_PART_BYTES:
            step = max(1, step * _PART_BYTES // size)
        for at in range(0, len(lines), step):
            some = lines[at : at + step]
            if b"\n" in b"".join(some):  # several times as quick as counting them
                raise ValueError("a record is one line: its data must not hold a line break")
            parts.append((first + at, b"\n".join([*some, b""]), top))
        failpoint.hit("log_write")
        self._put([part for _, part, _ in parts])
        if has_snapshot:
            self._last_snapshot = view.end
            self._needs_snapshot = False
        self._is_marked_closed = False
        self.view = View(view.segments, view.end + size, first + len(lines) - 1)
        self._cover(parts, starts_block=has_snapshot)
        self._mark_dirty()
        return top

    def _put(self, parts: list[bytes]) -> None:
        """Write at the end of the readable bytes, or cut back what an error left there."""
        end = self.view.end
        if self._needs_cut:
            self._cut(end)
        try:
            self._disk.write(self._fd, parts)
        except BaseException:
            self._needs_cut = True
            self._cut(end)
            raise

    def _cut(self, end: int) -> None:
        self._disk.truncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        self._needs_cut = False

    def _cover(self, parts: list[tuple[int, bytes, int]], *, starts_block: bool) -> None:
        try:
            failpoint.hit("log_between_data_and_index")
        except OSError as exc:
            self._house.note(self.stream, "index", f"not written: {exc}")
        if starts_block:
            self._index.end_block()
        self._index.add_all(parts)

    def _keep(self, lines: list[bytes], first: int, size: int) -> None:
        ring = self._ring
        ring.lines.extend(lines)
        self._ring_bytes += size
        limits = self._limits
        if self._ring_bytes > limits.ring_bytes or len(ring.lines) > limits.ring_lines:
            kept = ring.lines[len(ring.lines) // 2 + 1 :]
            self._ring_bytes = sum(map(len, kept)) + len(kept)
            if self._ring_bytes > limits.ring_bytes:
                kept, self._ring_bytes = [], 0
            self._ring = Ring(first + len(lines) - len(kept), kept)

    @property
    def ring(self) -> Ring:
        """The newest lines; may be taken from any thread."""
        return self._ring

    # --- snapshots and segments -------------------------------------------------------------------

    def _snapshot(self, *, is_closed: bool = False) -> bytes:
        return record.encode_header(
            Header(
                v=record.FORMAT_VERSION,
                stream=self.stream,
                epoch=self.epoch,
                boot=self._house.boot_id,
                seq=self.view.last_seq,
                ts=self._house.clock.now_us(),
                top=self._top,
                ob=self.last_outbox,
                src=tuple(Source(*key, end) for key, end in self._sources.items()),
                closed=is_closed,
            )
        )

    def _write_snapshot(self, *, is_closed: bool = False) -> None:
        """Append a snapshot of its own; when it cannot be written, the next append tries again."""
        line = self._snapshot(is_closed=is_closed)
        view = self.view
        try:
            self._put([line])
        except OSError as exc:
            self._needs_snapshot = True
            self._house.note(self.stream, "snapshot", f"not written: {exc}")
            return
        self._last_snapshot = view.end
        self._needs_snapshot = self._is_marked_closed = is_closed
        self.view = View(view.segments, view.end + len(line), view.last_seq)
        self._index.end_block()
        self._index.add_all([(view.last_seq + 1, line, self._top)])
        self._mark_dirty()

    def _is_segment_over(self, size: int, count: int) -> bool:
        view, limits = self.view, self._limits
        records = view.last_seq + 1 - view.segments[-1]
        if not records:
            return False
        age_us = self._house.clock.now_us() - self._created_us
        return (
            view.end + size > limits.segment_bytes
            or records + count > limits.segment_lines
            or age_us > limits.segment_age_s * MICROSECOND
        )

    def _roll(self) -> None:
        """End the segment and start the next one. Raises OSError: the old one is continued then.

        The old segment is durable before the new one exists: a power loss leaves no hole."""
        if self._needs_cut:
            self._cut(self.view.end)
        view = self.view
        with self._fd_lock:
            if self._synced != self._written:
                self._sync_locked()
            fd, new_index = self._start_segment(view.last_seq + 1)
            old_fd, old_index = self._fd, self._index
            self._fd, self._index = fd, new_index
            os.close(old_fd)
        old_index.finish()
        self.sizes[view.segments[-1]] = view.end + old_index.written * ENTRY_BYTES
        self._house.sealed(self, view.segments[-1])

    def _start_segment(self, first: int) -> tuple[int, IndexWriter]:
        """Make the files of a segment with its first line and show it in the view."""
        if first > LAST_SEQ:
            raise OverflowError(f"the log of {self.stream} is full")
        path = segment_path(self.directory, first)
        index_path = segment_path(self.directory, first, INDEX)
        line = self._snapshot()
        fd = index_fd = -1
        try:
            fd = self._disk.create(path)
            failpoint.hit("log_roll")
            index_fd = self._disk.create(index_path)
            self._disk.write(fd, [line])
        except BaseException:
            for opened in (fd, index_fd):
                if opened >= 0:
                    os.close(opened)
            self._disk.unlink(path)
            self._disk.unlink(index_path)
            raise
        new_index = IndexWriter(self._disk, index_fd, entries=0, offset=0)
        new_index.add_all([(first, line, self._top)])
        segments = self.view.segments
        if segments[-1] != first:
            segments = (*segments, first)
        self.view = View(segments, len(line), first - 1)
        self._last_snapshot = 0
        self._needs_snapshot = False
        self._is_marked_closed = False
        self._created_us = self._started[first] = self._house.clock.now_us()
        self._is_dir_dirty = True
        self._mark_dirty()
        return fd, new_index

    def drop_segments(self, count: int) -> list[int]:
        """Stop showing the `count` oldest segments and return them, for the caller to remove."""
        view = self.view
        gone = list(view.segments[:count])
        for first in gone:
            self._started.pop(first, None)
        self.view = View(view.segments[count:], view.end, view.last_seq)
        return gone

    # --- durability -------------------------------------------------------------------------------

    def _mark_dirty(self) -> None:
        self._written += 1
        if not self._is_dirty:
            self._is_dirty = True
            self._house.syncer.mark(self)

    def add_blob(self, fd: int, size: int) -> None:
        """Take over the descriptor of a new blob, to be synced before the lines that name it."""
        self._unsynced_blobs.append(fd)
        self._blob_bytes += size
        self._mark_dirty()

    async def sync(self) -> None:
        """Return when everything appended before the call is durable. Raises OSError when the disk
        refuses; the lines may be gone after a power loss then."""
        if self._synced != self._written:
            await self._house.syncer.wait(self)

    def sync_files(self) -> None:
        """The sync thread's part of `sync`."""
        with self._fd_lock:
            self._is_dirty = False
            written = self._written
            if self._fd < 0:
                return
            try:
                self._sync_locked()
            except OSError as exc:
                self._is_dir_dirty = True
                self._house.note(self.stream, "sync_failed", str(exc))
                raise
            self._synced = written

    def _sync_locked(self) -> None:
        """Blobs before the lines that name them, then names, then lines."""
        while self._unsynced_blobs:
            fd = self._unsynced_blobs.pop()
            try:
                self._disk.sync(fd)
            finally:
                os.close(fd)
        if self._is_dir_dirty:
            self._is_dir_dirty = False
            self._disk.sync_dir(self.directory)
        self._disk.sync(self._fd)

    def close(self) -> None:
        """Write the mark of an orderly close, sync, and let go of the files. Blocks."""
        if self._fd < 0:
            return
        if not self._is_marked_closed:
            self._write_snapshot(is_closed=True)
        with suppress(OSError):  # noted; the next start finds what the disk kept
            self.sync_files()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files as they are; nothing more can be appended."""
        if self._fd < 0:
            return
        with self._fd_lock:
            self._house.syncer.forget(self)
            self._index.close()
            os.close(self._fd)
            self._fd = -1
            while self._unsynced_blobs:
                os.close(self._unsynced_blobs.pop())
