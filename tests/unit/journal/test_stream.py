from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hivectl.journal import reader
from hivectl.journal.disk import Disk
from hivectl.journal.record import Draft, Source
from hivectl.kit import failpoint
from hivectl.kit.clock import FakeClock


class FillingDisk(Disk):
    """Has room for so many bytes more, as a real disk: a write stops short, then fails."""

    room = 10**9

    def write(self, fd: int, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        fits = data[: self.room]
        super().write(fd, [fits] if fits else [])
        self.room -= len(fits)
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_at(self, fd: int, data: bytes, offset: int) -> None:
        if self.room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write_at(fd, data, offset)


@pytest.fixture
def log(make_journal: Any) -> Any:
    return make_journal().open("project:p_1")


def test_numbers_start_at_one_and_are_dense(log: Any, drafts: Any) -> None:
    assert (log.first_seq, log.last_seq) == (1, 0)
    assert log.append(drafts(1, 3)) == 1
    assert log.append(drafts(4, 2)) == 4
    assert log.append([]) == 6
    assert (log.first_seq, log.last_seq) == (1, 5)


def test_lines_are_json_of_their_own_on_disk_at_once(log: Any, drafts: Any) -> None:
    log.append(drafts(1, 3))
    lines = (log.directory / "0000000000000001.jsonl").read_bytes().split(b"\n")
    assert [line[:9] for line in lines] == [
        b'{"hdr":{"',
        *[b'{"seq":%d,' % n for n in (1, 2, 3)],
        b"",
    ]


def test_who_listens_hears_lines_that_can_be_read_already(log: Any, drafts: Any) -> None:
    heard: list[tuple[int, int]] = []

    def hear(stream: Any, first: int, lines: list[bytes]) -> None:
        assert reader.lines_after(stream, first - 1, 100) == lines
        heard.append((first, len(lines)))

    log.on_append = hear
    log.append(drafts(1, 3))
    log.append(drafts(4, 1))
    assert heard == [(1, 3), (4, 1)]


def test_a_line_break_in_data_is_refused_and_nothing_kept(log: Any, drafts: Any) -> None:
    with pytest.raises(ValueError, match="one line"):
        log.append([*drafts(1, 2), Draft("t", b'{"a":\n1}', 1)])
    assert log.last_seq == 0
    assert log.append(drafts(1, 1)) == 1


def test_offsets_and_outbox_ids_survive_every_kind_of_end(
    make_journal: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal(segment_bytes=2000, snapshot_bytes=700)
    log = journal.open("project:p_1")
    for number in range(1, 101):
        log.append([Draft("t", b"{}", 1, src=Source(f"pr_{number % 3}", "oe"[number % 2], number))])
        log.append([Draft("t", b"{}", 1, ob=number * 2)])
    crash(journal)
    for orderly in (True, False, True):
        journal = make_journal(segment_bytes=2000, snapshot_bytes=700)
        log = journal.open("project:p_1")
        assert log.source_end("pr_1", "e") == 97
        assert log.source_end("pr_1", "o") == 100
        assert log.source_end("pr_2", "o") == 98
        assert log.source_end("pr_9", "o") == 0
        assert log.source_processes() == {"pr_0", "pr_1", "pr_2"}
        assert log.last_outbox == 200
        assert log.last_seq == 200
        journal._close() if orderly else crash(journal)


def test_forgotten_sources_are_no_longer_carried(make_journal: Any) -> None:
    journal = make_journal()
    log = journal.open("system")
    log.append([Draft("t", b"{}", 1, src=Source(name, "o", 5)) for name in ("pr_1", "pr_2")])
    log.forget_source("pr_1")
    assert (log.source_end("pr_1", "o"), log.source_end("pr_2", "o")) == (0, 5)
    journal._close()
    log = make_journal().open("system")
    assert log.source_processes() == {"pr_2"}


@pytest.mark.parametrize("room", [0, 1, 150, 2000, 40_000])
def test_a_full_disk_keeps_nothing_of_a_batch_and_goes_on_when_there_is_room(
    make_journal: Any, drafts: Any, crash: Callable[..., None], room: int
) -> None:
    disk = FillingDisk()
    journal = make_journal(disk=disk, segment_bytes=30_000)
    log = journal.open("system")
    log.append(drafts(1, 20))
    disk.room = room
    refused = 0
    for _ in range(20):
        try:
            log.append(drafts(log.last_seq + 1, 20))
        except OSError as exc:
            refused += exc.errno == errno.ENOSPC
            before = log.last_seq
            assert len(reader.read_after(log, 0, 10_000)) == before
    assert refused
    data = max(log.directory.glob("*.jsonl")).read_bytes()
    assert data.endswith(b"\n")
    assert len(data) == log.view.end
    disk.room = 10**9
    assert log.append(drafts(log.last_seq + 1, 30)) == before + 1
    crash(journal)
    log = make_journal().open("system")
    assert [found.seq for found in reader.read_after(log, 0, 10_000)] == [*range(1, before + 31)]


def test_segments_end_by_size_count_and_age(
    make_journal: Any, drafts: Any, clock: FakeClock
) -> None:
    log = make_journal(segment_bytes=5000, segment_lines=30, segment_age_s=60).open("system")
    log.append(drafts(1, 20, size=10))
    assert log.view.segments == (1,)
    log.append(drafts(21, 20, size=10))
    assert log.view.segments == (1, 21)
    log.append(drafts(41, 2, size=2000))
    assert log.view.segments == (1, 21, 41)
    clock.advance(61)
    log.append(drafts(43, 1))
    assert log.view.segments == (1, 21, 41, 43)
    clock.advance(59)
    log.append(drafts(44, 1))
    assert log.view.segments == (1, 21, 41, 43)


def test_a_batch_larger_than_a_segment_is_kept_whole(make_journal: Any, drafts: Any) -> None:
    log = make_journal(segment_bytes=1000).open("system")
    log.append(drafts(1, 100))
    log.append(drafts(101, 1))
    assert log.view.segments == (1, 101)


def test_the_ring_is_bounded_by_bytes_and_by_count(make_journal: Any, drafts: Any) -> None:
    log = make_journal(ring_bytes=10_000, ring_lines=50).open("system")
    for size in (10, 300, 10):
        for _ in range(40):
            log.append(drafts(log.last_seq + 1, 7, size=size))
            ring = log.ring
            assert len(ring.lines) <= 50
            assert sum(map(len, ring.lines)) <= 10_000
            assert ring.first_seq + len(ring.lines) == log.last_seq + 1
    log.append(drafts(log.last_seq + 1, 1, size=50_000))
    assert log.ring.lines == []
    assert reader.read_after(log, log.last_seq - 1, 5)[0].seq == log.last_seq


@pytest.mark.parametrize("place", ["log_write", "log_roll"])
def test_a_failpoint_stops_an_append_before_anything_is_kept(
    make_journal: Any, drafts: Any, place: str
) -> None:
    log = make_journal(segment_lines=5).open("system")
    log.append(drafts(1, 5))
    failpoint.configure(f"{place}@1:error=ENOSPC")
    try:
        with pytest.raises(OSError, match=place):
            log.append(drafts(6, 5))
        assert log.last_seq == 5
        assert log.append(drafts(6, 5)) == 6
    finally:
        failpoint.configure("")
    assert [found.seq for found in reader.read_after(log, 0, 50)] == [*range(1, 11)]


async def test_sync_returns_at_once_when_nothing_is_new(log: Any, drafts: Any) -> None:
    log.append(drafts(1, 1))
    await log.sync()
    log._house.syncer.close()
    await log.sync()
    assert log._synced == log._written


async def test_sync_makes_blobs_names_and_lines_durable_in_that_order(
    make_journal: Any, drafts: Any
) -> None:
    done: list[str] = []

    class WatchedDisk(Disk):
        def sync(self, fd: int) -> None:
            done.append(Path(f"/proc/self/fd/{fd}").readlink().name[-6:])
            super().sync(fd)

        def sync_dir(self, path: Path) -> None:
            done.append("dir")
            super().sync_dir(path)

    from hivectl.journal import blobs

    log = make_journal(disk=WatchedDisk()).open("system")
    blobs.write_blob(log, b"x")
    log.append(drafts(1, 1))
    await log.sync()
    assert [name[-5:] for name in done] == [".blob", "dir", "jsonl"]


def test_a_closed_log_refuses_to_append(log: Any, drafts: Any) -> None:
    log.close()
    log.close()
    with pytest.raises(RuntimeError, match="closed"):
        log.append(drafts(1, 1))


def test_files_are_private(make_journal: Any, drafts: Any) -> None:
    old = os.umask(0)
    try:
        journal = make_journal(segment_lines=5)
        log = journal.open("project:p_1")
        for first in range(1, 30, 5):
            log.append(drafts(first, 5))
        journal._upkeep.settle()
    finally:
        os.umask(old)
    for path in log.directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in (log.directory, log.directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
