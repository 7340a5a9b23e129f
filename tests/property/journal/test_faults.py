"""Every single change on disk fails once, and then for a while: nothing that was accepted is lost."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hivectl.journal import reader
from hivectl.journal.disk import Disk
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import Journal, JournalLimits, StreamLog
from hivectl.kit.clock import FakeClock


class FaultyDisk(Disk):
    """Fails the operations from number `first` on, `count` of them; a write leaves half of its bytes."""

    def __init__(self, first: int, count: int, code: int) -> None:
        self.failing = range(first, first + count)
        self.code = code
        self.done = 0
        self.struck: list[str] = []
        self._lock = threading.Lock()

    def _pass(self, name: str) -> bool:
        with self._lock:
            self.done += 1
            if self.done not in self.failing:
                return True
            self.struck.append(name)
            return False

    def _check(self, name: str) -> None:
        if not self._pass(name):
            raise OSError(self.code, os.strerror(self.code))

    def make_dir(self, path: Path) -> None:
        self._check("make_dir")
        super().make_dir(path)

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)

    def open_write(self, path: Path) -> int:
        self._check("open_write")
        return super().open_write(path)

    def write(self, fd: int, parts: Sequence[bytes]) -> None:
        if not self._pass("write"):
            data = b"".join(parts)
            super().write(fd, [data[: len(data) // 2]])
            raise OSError(self.code, os.strerror(self.code))
        super().write(fd, parts)

    def write_at(self, fd: int, data: bytes, offset: int) -> None:
        if not self._pass("write_at"):
            super().write_at(fd, data[: len(data) // 2], offset)
            raise OSError(self.code, os.strerror(self.code))
        super().write_at(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._check("truncate")
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._check("sync")
        super().sync(fd)

    def sync_dir(self, path: Path) -> None:
        self._check("sync_dir")
        super().sync_dir(path)

    def rename(self, old: Path, new: Path) -> None:
        self._check("rename")
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._check("unlink")
        super().unlink(path)


LIMITS = JournalLimits(
    segment_bytes=30_000, snapshot_bytes=9_000, ring_lines=4, sync_interval_s=1000
)


def insist(attempt: Callable[[], Any]) -> Any:
    """Do it until the disk lets us, as the engine does; a bounded number of times."""
    for _ in range(60):
        try:
            return attempt()
        except OSError:
            continue
    raise AssertionError("the disk never recovered")


class Story:
    """Batches, rolls, syncs, a crash, a close: what the journal went through and must remember."""

    def __init__(self, root: Path, disk: FaultyDisk) -> None:
        self.root = root
        self.disk = disk
        self.kept: list[bytes] = []
        self.journal: Journal
        self.log: StreamLog

    def start(self) -> None:
        self.journal = insist(
            lambda: Journal(
                self.root, clock=FakeClock(), limits=LIMITS, boot_id="b", disk=self.disk
            )
        )
        self.log = insist(lambda: self.journal.open("system"))
        self.journal._upkeep.settle()  # its operations come in the same order every time

    def append(self, size: int, length: int) -> None:
        number = len(self.kept)
        drafts = [
            Draft(
                "t", b'{"n":"%b"}' % (b"%d" % (number + at) * length), number + at,
                src=Source("pr_1", "o", number + at + 1), ob=number + at + 1,
            )
            for at in range(size)
        ]  # fmt: skip

        def attempt() -> None:
            before = self.log.last_seq, self.log.source_end("pr_1", "o"), self.log.last_outbox
            try:
                first = self.log.append(drafts)
            except OSError:
                after = self.log.last_seq, self.log.source_end("pr_1", "o"), self.log.last_outbox
                assert after == before
                assert len(reader.lines_after(self.log, number, 10)) == 0
                raise
            assert first == number + 1

        insist(attempt)
        self.journal._upkeep.settle()
        self.kept += [draft.data for draft in drafts]

    def crash(self) -> None:
        self.journal._upkeep.close()
        self.log.abandon()
        self.journal._syncer.close()

    def check(self) -> None:
        records = []
        while some := reader.read_after(self.log, len(records), 100):
            records += some
        assert [record.seq for record in records] == list(range(1, len(self.kept) + 1))
        assert [bytes(record.data) for record in records] == self.kept
        assert self.log.source_end("pr_1", "o") == len(self.kept)
        assert self.log.last_outbox == len(self.kept)


def play(root: Path, disk: FaultyDisk) -> None:
    story = Story(root, disk)
    story.start()
    for size, length in [(1, 5), (30, 100), (3, 3000), (40, 60), (1, 20_000), (2, 10), (60, 80)]:
        story.append(size, length)
    insist(story.log.sync_files)
    story.crash()
    story.start()
    story.check()
    story.append(5, 500)
    story.journal._upkeep.settle()
    story.journal._close()
    story.start()
    story.check()
    story.append(2, 40)
    story.check()
    story.crash()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("count", [1, 7])
def test_nothing_accepted_is_lost_whichever_operation_fails(
    tmp_path: Path, count: int, code: int
) -> None:
    struck: set[str] = set()
    for number in range(1, 1000):
        disk = FaultyDisk(number, count, code)
        try:
            play(tmp_path / str(number), disk)
        except BaseException as exc:
            exc.add_note(f"operation {number} ({disk.struck})")
            raise
        if not disk.struck:
            break
        struck.update(disk.struck)
    else:
        pytest.fail("the story never ran without a fault")
    assert struck >= {"create", "write", "write_at", "sync", "sync_dir", "rename", "unlink"}
