from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hivectl.journal import reader, record, recovery
from hivectl.journal.disk import Disk
from hivectl.journal.record import Draft, Header


@pytest.fixture
def written(make_journal: Any, drafts: Any, crash: Callable[..., None]) -> Any:
    """Write records 1 to `count`, crash, and give back the newest segment's path and the epoch."""

    def write(count: int, **limits: Any) -> tuple[Path, str]:
        journal = make_journal(**limits)
        log = journal.open("system")
        for first in range(1, count + 1, 5):
            log.append(drafts(first, 5))
        epoch = log.epoch
        crash(journal)
        return max(log.directory.glob("*.jsonl")), epoch

    return write


def kinds(journal: Any) -> list[str]:
    return [notice.kind for notice in journal.notices]


def test_an_unfinished_line_is_set_aside_and_the_epoch_goes_on(
    make_journal: Any, written: Any
) -> None:
    path, epoch = written(20)
    with path.open("ab") as file:
        file.write(b'{"seq":21,"ts":1,"ty')
    journal = make_journal()
    log = journal.open("system")
    assert (log.last_seq, log.epoch) == (20, epoch)
    assert kinds(journal) == ["torn"]
    torn = list(log.directory.glob("*.torn-*"))
    assert [file.read_bytes() for file in torn] == [b'{"seq":21,"ts":1,"ty']
    assert re.fullmatch(r"0{15}1\.jsonl\.torn-\d+", torn[0].name)
    assert torn[0].stat().st_mode & 0o777 == 0o600
    assert torn[0].name in journal.notices[0].text


def test_lost_records_begin_a_new_epoch(make_journal: Any, written: Any) -> None:
    path, epoch = written(20)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b'{"seq":18,')])
    journal = make_journal()
    log = journal.open("system")
    assert log.last_seq == 17
    assert log.epoch != epoch
    assert kinds(journal) == ["epoch_changed"]
    assert log.append([Draft("t", b"{}", 1)]) == 18


def test_an_unclean_boot_begins_a_new_epoch_and_numbers_go_on(
    make_journal: Any, written: Any
) -> None:
    _, epoch = written(20)
    journal = make_journal(boot="boot-2")
    log = journal.open("system")
    assert log.epoch != epoch
    assert log.epoch.startswith("e_")
    assert log.append([Draft("t", b"{}", 1)]) == 21
    assert kinds(journal) == ["epoch_changed"]


def test_the_new_epoch_is_the_same_at_the_next_start(
    make_journal: Any, written: Any, crash: Callable[..., None]
) -> None:
    written(20)
    journal = make_journal(boot="boot-2")
    epoch = journal.open("system").epoch
    crash(journal)
    assert make_journal(boot="boot-2").open("system").epoch == epoch


def test_a_boot_after_an_orderly_close_keeps_the_epoch(make_journal: Any, drafts: Any) -> None:
    journal = make_journal()
    log = journal.open("system")
    log.append(drafts(1, 5))
    epoch = log.epoch
    journal._close()
    for boot in ("boot-2", "boot-3"):
        journal = make_journal(boot=boot)
        log = journal.open("system")
        assert log.epoch == epoch
        assert not journal.notices
        journal._close()


def test_the_mark_of_an_orderly_close_does_not_outlive_the_next_append(
    make_journal: Any, drafts: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal()
    log = journal.open("system")
    log.append(drafts(1, 5))
    epoch = log.epoch
    journal._close()
    journal = make_journal(boot="boot-2")
    journal.open("system").append(drafts(6, 1))
    crash(journal)
    log = make_journal(boot="boot-3").open("system")
    assert log.epoch != epoch
    assert log.last_seq == 6


@pytest.mark.parametrize("left", ["nothing", "half a line", "no index", "empty"])
def test_a_crash_while_a_segment_is_started_loses_nothing(
    make_journal: Any, written: Any, left: str
) -> None:
    path, epoch = written(20)
    new = path.with_name("0000000000000021.jsonl")
    first_line = path.read_bytes().partition(b"\n")[0]
    contents = {"half a line": first_line[:50], "empty": b"", "no index": b""}
    if left in contents:
        new.write_bytes(contents[left])
    if left != "no index":
        new.with_suffix(".idx").write_bytes(b"")
    log = make_journal().open("system")
    assert (log.last_seq, log.epoch) == (20, epoch)
    assert log.append([Draft("t", b"{}", 1)]) == 21
    assert [found.seq for found in reader.read_after(log, 0, 100)] == [*range(1, 22)]


def test_a_lost_newest_segment_is_followed_by_a_new_one(
    make_journal: Any, drafts: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal(segment_lines=50)
    log = journal.open("system")
    for first in range(1, 121, 5):
        log.append(drafts(first, 5))
    journal._upkeep.settle()
    crash(journal)
    newest = max(log.directory.glob("*.jsonl"))
    assert newest.name == "0000000000000101.jsonl"
    newest.unlink()
    log = make_journal().open("system")
    assert log.last_seq == 100
    assert log.append(drafts(101, 1)) == 101
    assert [found.seq for found in reader.read_after(log, 0, 1000)] == [*range(1, 102)]


def test_records_of_a_later_format_are_refused_not_damaged(make_journal: Any, written: Any) -> None:
    path, _ = written(5)
    line = record.encode_header(Header(v=2, stream="system", epoch="e_9", boot="b", seq=0, ts=1))
    data = line + path.read_bytes().partition(b"\n")[2]
    path.write_bytes(data)
    with pytest.raises(recovery.JournalFormatError, match="later version"):
        make_journal().open("system")
    assert path.read_bytes() == data


def test_acknowledged_records_are_not_cut_when_they_cannot_be_kept_aside(
    make_journal: Any, written: Any
) -> None:
    class FullDisk(Disk):
        def write(self, fd: int, parts: Any) -> None:
            raise OSError(28, "full")

    path, _ = written(20)
    data = path.read_bytes()
    spoiled = data.replace(b'{"seq":15,', b'{"seq";15,')
    path.write_bytes(spoiled)
    with pytest.raises(OSError, match="full"):
        make_journal(disk=FullDisk()).open("system")
    assert path.read_bytes() == spoiled
    assert not list(path.parent.glob("*.torn-*"))
    path.write_bytes(data + b'{"seq":21')
    assert make_journal(disk=FullDisk()).open("system").last_seq == 20


def test_opening_reads_the_tail_only(
    make_journal: Any, drafts: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal(snapshot_bytes=100_000)
    log = journal.open("system")
    while log.view.end < 20_000_000:
        log.append(drafts(log.last_seq + 1, 500, size=1000))
    last = log.last_seq
    crash(journal)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        journal = make_journal(snapshot_bytes=100_000)
        log = journal.open("system")
        taken.append(time.perf_counter() - start)
        assert log.last_seq == last
        crash(journal)
    # Reading 20 MB line by line takes some 100 ms; the tail is a hundredth of it.
    assert min(taken) < 0.05


def test_what_is_before_the_tail_is_not_looked_at(make_journal: Any, written: Any) -> None:
    path, epoch = written(2000, snapshot_bytes=10_000)
    data = bytearray(path.read_bytes())
    assert len(data) > 4 * recovery.TAIL_BYTES
    at = data.index(b'{"seq":100,')
    data[at : at + 20] = b"#" * 20
    path.write_bytes(data)
    journal = make_journal()
    log = journal.open("system")
    assert (log.last_seq, log.epoch) == (2000, epoch)
    assert not journal.notices


def test_a_deeply_nested_record_does_not_stand_in_the_way(
    make_journal: Any, drafts: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal()
    log = journal.open("system")
    log.append(drafts(1, 5))
    log.append([Draft("t", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 1)])
    log.append(drafts(7, 2))
    crash(journal)
    journal = make_journal()
    log = journal.open("system")
    assert not journal.notices
    assert [found.seq for found in reader.read_after(log, 0, 100)] == [*range(1, 9)]


def test_a_segment_that_is_set_aside_whole_is_a_loss_and_begins_a_new_epoch(
    make_journal: Any, written: Any
) -> None:
    path, epoch = written(40, segment_lines=20)
    assert path.name.startswith("0000000000000021")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"seq":2', b'"seq":7'))
    journal = make_journal()
    log = journal.open("system")
    assert log.last_seq == 20
    assert log.epoch != epoch, "who had seen record 21 would be shown another one under its number"
    assert "epoch_changed" in kinds(journal)


def test_an_old_block_that_came_back_ends_the_good_part(make_journal: Any, written: Any) -> None:
    path, _ = written(20)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:11], *lines[4:8], *lines[11:]]))
    log = make_journal().open("system")
    numbers = [record.seq_of(line) for line in reader.lines_after(log, 0, 100)]
    assert numbers == list(range(1, log.last_seq + 1))


def test_two_halves_that_became_one_line_are_found_by_the_checksum(
    make_journal: Any, written: Any
) -> None:
    path, _ = written(20)
    whole = reader.lines_after(make_journal().open("system"), 0, 100)
    data = path.read_bytes()
    start, stop = data.index(b'{"seq":9,'), data.index(b'{"seq":10,')
    pads = data.index(b"pppp", start), data.index(b"pppp", stop)
    path.write_bytes(data[: pads[0]] + b"p" * (pads[1] - pads[0]) + data[pads[1] :])
    log = make_journal().open("system")
    found = reader.lines_after(log, 0, 100)
    assert found == whole[: len(found)]
