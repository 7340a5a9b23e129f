"""What happens to segments after they ended: compressed, and removed when retention says so.

All of it runs in one worker thread, in order, and never touches the segment being written.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from hivectl.journal import blobs, frames, segment
from hivectl.journal.disk import Disk
from hivectl.journal.stream import StreamLog
from hivectl.kit import failpoint

_TEMPORARY = ".zst.tmp"


class Upkeep:
    """The worker thread and its jobs."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hivectl-journal-upkeep")

    def compress(self, log: StreamLog, first: int) -> Future[None]:
        """Seal a segment that has ended. The future raises OSError; the plain file is kept then."""
        return self._pool.submit(self._compress, log, first)

    def remove(self, log: StreamLog, firsts: list[int]) -> Future[None]:
        """Delete segments that `log` no longer shows, oldest first."""
        return self._pool.submit(self._remove, log, firsts)

    def settle(self) -> None:
        """Wait until everything asked for so far is done. Blocks."""
        self._pool.submit(_nothing).result()

    def close(self) -> None:
        """Give up compressing and end the thread. Blocks."""
        self._stop.set()
        self._pool.shutdown(wait=True)

    def _compress(self, log: StreamLog, first: int) -> None:
        if self._stop.is_set() or first < log.first_seq:
            return
        plain = segment.segment_path(log.directory, first)
        temporary = segment.segment_path(log.directory, first, _TEMPORARY)
        try:
            size = frames.compress_file(plain, temporary, self._disk, should_stop=self._stop.is_set)
            if not size:
                self._disk.unlink(temporary)
                return
            failpoint.hit("log_compress_before_rename")
            self._disk.rename(temporary, segment.segment_path(log.directory, first, segment.SEALED))
        except OSError:
            self._disk.unlink(temporary)
            raise
        self._disk.sync_dir(log.directory)
        self._disk.unlink(plain)
        index = segment.segment_path(log.directory, first, segment.INDEX)
        log.sizes[first] = size + (index.stat().st_size if index.exists() else 0)

    def _remove(self, log: StreamLog, firsts: list[int]) -> None:
        for first in firsts:
            # What is beside it first, then the segment: a crash leaves no nameless rest.
            for path in sorted(log.directory.glob(f"{first:016d}.*"), reverse=True):
                if not segment.first_seq_of(path.name):
                    self._disk.unlink(path)
            self._disk.unlink(segment.segment_path(log.directory, first))
            self._disk.unlink(segment.segment_path(log.directory, first, segment.SEALED))
            log.sizes.pop(first, None)
        # A blob's number is that of the next record when it was made; one segment of distance makes
        # sure that no line which is still there names it.
        if firsts:
            log.freed_blob_bytes += blobs.remove_before(self._disk, log.directory, firsts[-1])


def _nothing() -> None:
    pass
