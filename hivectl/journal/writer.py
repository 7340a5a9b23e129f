"""The journal: all streams below one directory, with the threads that sync, compress and clean up.

One process at a time writes a journal (the daemon's lock sees to it), from one thread.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import deque
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import msgspec

from hivectl.journal import segment
from hivectl.journal.disk import Disk
from hivectl.journal.limits import JournalLimits
from hivectl.journal.stream import House, OnAppend, StreamLog, View
from hivectl.journal.syncer import Syncer
from hivectl.journal.upkeep import Upkeep
from hivectl.kit import ids
from hivectl.kit.clock import MICROSECOND, Clock

_STREAM = re.compile(r"([a-z]+)(?::([A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}))?")
_REMOVED = ".removed-"
_MOST_NOTICES = 1000

__all__ = ["Journal", "JournalLimits", "Notice", "OnAppend", "StreamLog", "View"]


class Notice(msgspec.Struct, frozen=True):
    """Something the operator should hear of."""

    stream: str
    kind: str
    """torn, damaged, epoch_changed, index, snapshot, sync_failed, compress_failed, remove_failed."""
    text: str
    ts: int


class Journal:
    """All streams below `root`."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        limits: JournalLimits | None = None,
        boot_id: str,
        disk: Disk | None = None,
    ) -> None:
        """Nothing is read yet. `boot_id` changes with every boot of the machine. Raises OSError when
        `root` cannot be made."""
        self.root = root
        self.limits = limits or JournalLimits()
        self.notices: deque[Notice] = deque(maxlen=_MOST_NOTICES)
        """What went wrong or was mended, oldest first; the daemon takes them from the left."""
        self.on_append: OnAppend | None = None
        """Given to every stream opened later."""
        self._clock = clock
        self._disk = disk or Disk()
        self._logs: dict[str, StreamLog] = {}
        self._syncer = Syncer(self.limits.sync_interval_s)
        self._upkeep = Upkeep(self._disk)
        self._house = House(
            disk=self._disk,
            limits=self.limits,
            clock=clock,
            boot_id=boot_id,
            syncer=self._syncer,
            note=self._note,
            sealed=self._sealed,
        )
        self._disk.make_dir(root)
        for left in root.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def open(self, stream: str) -> StreamLog:
        """The log of `stream` (`project:<id>`, `system`), made when it is new, mended when it must be.

        Reads the tail only; a second call returns the same object. Raises ValueError for a name that
        is none, JournalFormatError for a later format, OSError when the disk refuses."""
        log = self._logs.get(stream)
        if log is None:
            directory = self._directory(stream)
            log = StreamLog(self._house, stream, directory)
            log.on_append = self.on_append
            self._logs[stream] = log
            self._tidy(log)
        return log

    def streams(self) -> list[str]:
        """Names of all streams on disk, sorted."""
        names = (path.name.replace(".", ":", 1) for path in self.root.iterdir() if path.is_dir())
        return sorted(name for name in names if _STREAM.fullmatch(name))

    def has(self, stream: str) -> bool:
        """Whether there is such a stream on disk."""
        return self._directory(stream).is_dir()

    def remove(self, stream: str) -> None:
        """Delete a stream with everything in it. Nothing happens when there is none."""
        log = self._logs.pop(stream, None)
        if log is not None:
            log.abandon()
        directory = self._directory(stream)
        target = self.root / f"{_REMOVED}{ids.make_id('j')}"
        try:
            self._disk.rename(directory, target)
        except FileNotFoundError:
            return
        shutil.rmtree(target, ignore_errors=True)

    def disk_bytes(self, stream: str | None = None) -> int:
        """Bytes on disk of one stream, or of all open ones. Costs no disk access for open streams."""
        if stream is None:
            return sum(log.disk_bytes for log in self._logs.values())
        if stream in self._logs:
            return self._logs[stream].disk_bytes
        try:
            sizes, blob_bytes = segment.list_segments(self._directory(stream))
        except FileNotFoundError:
            return 0
        return sum(sizes.values()) + blob_bytes

    def maintain(self) -> None:
        """Apply retention to all open streams, also idle ones; cheap, to be called now and then."""
        for log in self._logs.values():
            self._retain(log)

    async def settle(self) -> None:
        """Wait until compression and removal asked for so far are done."""
        await asyncio.to_thread(self._upkeep.settle)

    async def close(self) -> None:
        """Mark all streams as closed in order, make them durable, end the threads."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self._upkeep.close()
        self._syncer.close()

    def _directory(self, stream: str) -> Path:
        found = _STREAM.fullmatch(stream)
        if found is None:
            raise ValueError(f"{stream!r} names no stream")
        return self.root / stream.replace(":", ".", 1)

    def _note(self, stream: str, kind: str, text: str) -> None:
        self.notices.append(Notice(stream, kind, text, self._clock.now_us()))

    # --- old segments -----------------------------------------------------------------------------

    def _sealed(self, log: StreamLog, first: int) -> None:
        self._retain(log)
        self._compress(log, first)

    def _tidy(self, log: StreamLog) -> None:
        """Go on with what the last process could not finish."""
        for path in log.directory.glob("*.tmp"):
            self._disk.unlink(path)
        self._retain(log)
        for first in log.view.segments[:-1]:
            if segment.segment_path(log.directory, first).exists():
                self._compress(log, first)

    def _compress(self, log: StreamLog, first: int) -> None:
        if first >= log.first_seq:
            future = self._upkeep.compress(log, first)
            future.add_done_callback(partial(self._done, log.stream, "compress_failed"))

    def _retain(self, log: StreamLog) -> None:
        count, _ = self._surplus(log, self.limits.retention_bytes, self.limits.retention_age_s)
        self._drop(log, count)

    def prune(
        self, stream: str, *, most_bytes: int | None, most_age_s: float | None, is_trial: bool
    ) -> int:
        """Drop whole segments now by these measures instead of the configured ones, never the last one.

        Returns the bytes that go; with `is_trial` nothing does."""
        log = self.open(stream)
        count, size = self._surplus(log, most_bytes, most_age_s)
        if not is_trial:
            self._drop(log, count)
        return size

    def _surplus(
        self, log: StreamLog, most_bytes: int | None, most_age_s: float | None
    ) -> tuple[int, int]:
        """How many of the oldest segments are too much or too old, and their bytes."""
        segments = log.view.segments
        size = log.disk_bytes
        count = 0
        while count < len(segments) - 1:
            is_over = most_bytes is not None and size > most_bytes
            if not is_over and not self._is_old(log, segments[count + 1], most_age_s):
                break
            size -= log.sizes.get(segments[count], 0)
            count += 1
        return count, log.disk_bytes - size

    def _drop(self, log: StreamLog, count: int) -> None:
        if count:
            future = self._upkeep.remove(log, log.drop_segments(count))
            future.add_done_callback(partial(self._done, log.stream, "remove_failed"))

    def _is_old(self, log: StreamLog, following: int, most_age_s: float | None) -> bool:
        """Whether the segment before `following` ended longer ago than `most_age_s`."""
        if most_age_s is None:
            return False
        ended_us = log.started_us(following)
        return ended_us is not None and (self._clock.now_us() - ended_us > most_age_s * MICROSECOND)

    def _done(self, stream: str, kind: str, future: Future[None]) -> None:
        error = future.exception()
        if error is not None and stream in self._logs:  # else it was removed meanwhile
            self._note(stream, kind, f"{type(error).__name__}: {error}")
