from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hivectl.journal import reader, segment
from hivectl.journal.disk import Disk
from hivectl.kit import failpoint
from hivectl.kit.clock import FakeClock


def fill(log: Any, drafts: Any, upto: int) -> None:
    while log.last_seq < upto:
        log.append(drafts(log.last_seq + 1, 10))


def names(log: Any) -> list[str]:
    return sorted(path.name for path in log.directory.iterdir())


def test_ended_segments_are_compressed_and_read_on(make_journal: Any, drafts: Any) -> None:
    journal = make_journal(segment_lines=100, ring_lines=1)
    log = journal.open("system")
    fill(log, drafts, 350)
    plain_bytes = log.disk_bytes
    journal._upkeep.settle()
    assert names(log) == [
        "0000000000000001.idx", "0000000000000001.jsonl.zst",
        "0000000000000101.idx", "0000000000000101.jsonl.zst",
        "0000000000000201.idx", "0000000000000201.jsonl.zst",
        "0000000000000301.idx", "0000000000000301.jsonl",
    ]  # fmt: skip
    assert log.disk_bytes < plain_bytes / 2
    on_disk = sum(path.stat().st_size for path in log.directory.iterdir())
    assert abs(log.disk_bytes - on_disk) <= 64 * 32  # provisional index entries are not counted
    assert [found.seq for found in reader.read_after(log, 0, 1000)] == [*range(1, 351)]


@pytest.mark.parametrize("where", ["before the rename", "in the middle"])
def test_a_compression_that_fails_keeps_the_plain_segment(
    make_journal: Any, drafts: Any, where: str
) -> None:
    class FussyDisk(Disk):
        is_full = False

        def write(self, fd: int, parts: Sequence[bytes]) -> None:
            if self.is_full and parts[0][:4] == b"\x28\xb5\x2f\xfd":
                raise OSError(errno.ENOSPC, "full")
            super().write(fd, parts)

    disk = FussyDisk()
    if where == "in the middle":
        disk.is_full = True
    else:
        failpoint.configure("log_compress_before_rename@1:error=EIO")
    try:
        journal = make_journal(segment_lines=100, ring_lines=1, disk=disk)
        log = journal.open("system")
        fill(log, drafts, 110)
        journal._upkeep.settle()
    finally:
        failpoint.configure("")
    assert [notice.kind for notice in journal.notices] == ["compress_failed"]
    assert names(log)[:2] == ["0000000000000001.idx", "0000000000000001.jsonl"]
    assert not list(log.directory.glob("*.tmp"))
    assert len(reader.read_after(log, 0, 1000)) == 110
    journal._close()
    disk.is_full = False
    journal = make_journal(segment_lines=100, disk=disk)
    log = journal.open("system")
    journal._upkeep.settle()
    assert "0000000000000001.jsonl.zst" in names(log)
    assert "0000000000000001.jsonl" not in names(log)


def test_a_crash_between_compressing_and_removing_is_finished_at_the_next_start(
    make_journal: Any, drafts: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal(segment_lines=100)
    log = journal.open("system")
    fill(log, drafts, 110)
    journal._upkeep.settle()
    with segment.SegmentReader(log.directory, 1) as sealed:
        plain = sealed.read(0, sealed.size)
    crash(journal)
    segment.segment_path(log.directory, 1).write_bytes(plain)
    (log.directory / "0000000000000001.zst.tmp").write_bytes(b"half")
    journal = make_journal(segment_lines=100)
    log = journal.open("system")
    assert len(reader.read_after(log, 0, 1000)) == 110
    journal._upkeep.settle()
    assert names(log)[:2] == ["0000000000000001.idx", "0000000000000001.jsonl.zst"]
    assert not list(log.directory.glob("*.tmp"))


def test_a_reader_that_has_a_segment_open_reads_it_to_its_end(
    make_journal: Any, drafts: Any
) -> None:
    journal = make_journal(segment_lines=100, ring_lines=1)
    log = journal.open("system")
    fill(log, drafts, 100)
    with segment.SegmentReader(log.directory, 1, size=log.view.end) as held:
        fill(log, drafts, 250)
        journal._upkeep.settle()
        assert not segment.segment_path(log.directory, 1).exists()
        assert len(held.lines(1, 1000, max_bytes=10**9)[0]) == 100


def test_retention_by_bytes_removes_whole_segments_from_the_old_end(
    make_journal: Any, drafts: Any
) -> None:
    journal = make_journal(segment_lines=100, retention_bytes=30_000, ring_lines=1)
    log = journal.open("system")
    for upto in range(100, 3001, 100):
        fill(log, drafts, upto)
        journal._upkeep.settle()
    assert log.first_seq > 1
    assert log.first_seq % 100 == 1
    assert 15_000 < log.disk_bytes <= 30_000 + 15_000  # the newest one grows on
    found = reader.read_after(log, 0, 10_000)
    assert [record.seq for record in found] == [*range(log.first_seq, 3001)]
    assert {int(name[:16]) for name in names(log)} == set(log.view.segments)


def test_retention_by_age_also_takes_idle_streams_but_never_the_newest_segment(
    make_journal: Any, drafts: Any, clock: FakeClock
) -> None:
    journal = make_journal(segment_lines=100, retention_age_s=3600)
    log = journal.open("system")
    fill(log, drafts, 150)
    clock.advance(1800)
    fill(log, drafts, 250)
    clock.advance(1900)
    journal.maintain()
    assert log.first_seq == 101
    clock.advance(10**6)
    journal.maintain()
    journal._upkeep.settle()
    assert log.view.segments == (201,)
    assert names(log) == ["0000000000000201.idx", "0000000000000201.jsonl"]


def test_torn_parts_go_with_their_segment(make_journal: Any, drafts: Any) -> None:
    journal = make_journal(segment_lines=100, retention_bytes=1)
    log = journal.open("system")
    fill(log, drafts, 90)
    torn = log.directory / "0000000000000001.jsonl.torn-5"
    torn.write_bytes(b"x")
    fill(log, drafts, 110)
    journal._upkeep.settle()
    assert not torn.exists()


def test_a_removal_that_fails_is_noted_and_done_at_the_next_start(
    make_journal: Any, drafts: Any
) -> None:
    class StickyDisk(Disk):
        is_stuck = False

        def unlink(self, path: Any) -> None:
            if self.is_stuck:
                raise OSError(errno.EIO, "stuck")
            super().unlink(path)

    disk = StickyDisk()
    journal = make_journal(segment_lines=100, disk=disk)
    log = journal.open("system")
    fill(log, drafts, 250)
    journal._upkeep.settle()
    journal._close()
    disk.is_stuck = True
    journal = make_journal(segment_lines=100, disk=disk, retention_bytes=1)
    log = journal.open("system")
    journal._upkeep.settle()
    assert log.first_seq == 201
    assert [notice.kind for notice in journal.notices] == ["remove_failed"]
    journal._close()
    disk.is_stuck = False
    journal = make_journal(segment_lines=100, disk=disk, retention_bytes=1)
    log = journal.open("system")
    journal._upkeep.settle()
    assert {name[:16] for name in names(log)} == {"0000000000000201"}
