from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hivectl.journal import frames, record, segment
from hivectl.journal.disk import Disk
from hivectl.journal.record import Draft, LineBuilder
from hivectl.journal.segment import SegmentReader


@pytest.fixture
def segment_of(make_journal: Callable[..., Any]) -> Callable[..., tuple[Path, list[bytes]]]:
    """A closed segment of `count` records of all lengths; its directory and its record lines."""

    def make(count: int) -> tuple[Path, list[bytes]]:
        journal = make_journal(snapshot_bytes=20_000)
        log = journal.open("system")
        lines: list[bytes] = []
        log.on_append = lambda _log, _first, new: lines.extend(new)
        while len(lines) < count:
            n = len(lines) + 1
            log.append([Draft("t", b'{"p":"%b"}' % (b"p" * (n * 37 % 400)), n * 10)])
        journal._close()
        return log.directory, lines

    return make


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("0000000000000001.jsonl", 1),
        ("0000000000000452.jsonl.zst", 452),
        ("0000000000000001.idx", 0),
        ("0000000000000001.jsonl.torn-17", 0),
        ("000000000000001.jsonl", 0),
        ("blobs", 0),
        ("²000000000000001.jsonl", 0),
    ],
)
def test_segments_are_known_by_their_names(name: str, first: int) -> None:
    assert segment.first_seq_of(name) == first


def test_listing_counts_everything_that_belongs_to_a_segment(tmp_path: Path) -> None:
    for name, size in {
        "0000000000000001.jsonl.zst": 10,
        "0000000000000001.idx": 5,
        "0000000000000001.jsonl.torn-4": 3,
        "0000000000000030.jsonl": 7,
        "0000000000000099.idx": 100,
        "blobs/b": 20,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert segment.list_segments(tmp_path) == ({1: 18, 30: 7}, 20)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("has_index", [False, True])
def test_any_stretch_of_records_is_found(
    segment_of: Callable[..., Any], sealed: bool, has_index: bool
) -> None:
    directory, lines = segment_of(900)
    plain = segment.segment_path(directory, 1)
    if sealed:
        target = segment.segment_path(directory, 1, segment.SEALED)
        frames.compress_file(plain, target, Disk(), should_stop=lambda: False)
        plain.unlink()
    if not has_index:
        segment.segment_path(directory, 1, segment.INDEX).unlink()
    with SegmentReader(directory, 1) as reader:
        for seq in [1, 2, 3, 99, 100, 450, 899, 900]:
            for count in [1, 7, 300]:
                found, is_cut = reader.lines(seq, count, max_bytes=10**9)
                assert found == lines[seq - 1 : seq - 1 + count]
                assert not is_cut
        assert reader.lines(901, 5, max_bytes=1000) == ([], False)


def test_a_page_is_cut_at_its_bytes_but_never_empty(segment_of: Callable[..., Any]) -> None:
    directory, lines = segment_of(300)
    with SegmentReader(directory, 1) as reader:
        for seq in (1, 10, 150):
            for room in (1, 500, 5000, 30_000):
                found, is_cut = reader.lines(seq, 200, max_bytes=room)
                assert found == lines[seq - 1 : seq - 1 + len(found)]
                assert len(found) == 1 or sum(map(len, found)) <= room
                assert is_cut == (len(found) < min(200, 301 - seq))


def test_nothing_is_read_behind_the_given_size(segment_of: Callable[..., Any]) -> None:
    directory, lines = segment_of(50)
    data = segment.segment_path(directory, 1).read_bytes()
    size = data.index(lines[20])
    with SegmentReader(directory, 1, size=size) as reader:
        assert reader.lines(1, 100, max_bytes=10**9)[0] == lines[:20]


def test_a_damaged_index_only_costs_time(segment_of: Callable[..., Any]) -> None:
    directory, lines = segment_of(900)
    path = segment.segment_path(directory, 1, segment.INDEX)
    good = path.read_bytes()
    slots = len(good) // 32
    for slot in range(0, slots, max(1, slots // 12)):
        spoiled = bytearray(good)
        spoiled[slot * 32 + 3] ^= 8
        path.write_bytes(spoiled)
        with SegmentReader(directory, 1) as reader:
            for seq in (1, 300, 600, 900):
                assert reader.lines(seq, 3, max_bytes=10**9)[0] == lines[seq - 1 : seq + 2]


def test_an_index_of_other_data_is_not_believed(segment_of: Callable[..., Any]) -> None:
    directory, lines = segment_of(200)
    path = segment.segment_path(directory, 1)
    header, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(b" " * 500 + b"\n" + header + b"\n" + rest)
    with SegmentReader(directory, 1) as reader:
        assert reader.lines(150, 3, max_bytes=10**9)[0] == lines[149:152]


def test_a_segment_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentReader(tmp_path, 1)


def test_lines_that_are_no_records_are_left_out() -> None:
    lines = LineBuilder().build([Draft("t", b"{}", 1)] * 6, 1).lines
    chunk = b"\n".join([lines[0], b"rubbish", lines[1], b'{"hdr":{}}', *lines[2:], b""])
    assert segment.pick_lines(chunk, 1, 100) == lines
    assert segment.pick_lines(chunk, 2, 2) == lines[1:3]
    assert segment.pick_lines(chunk, 7, 2) == []
    assert segment.pick_lines(chunk, 6, 1) == [lines[5]]


@pytest.mark.parametrize("number", [2, 4, 6, 7, 99])
def test_an_unreadable_line_hides_no_record_and_is_none_whatever_number_it_names(
    number: int,
) -> None:
    drafts = [Draft("t", b'{"n":%d}' % n, n) for n in range(1, 9)]
    lines = LineBuilder().build(drafts, 1).lines
    spliced = b'{"seq":%d,"ts":4,"type":"t","da":4,"ty' % number
    chunk = b"\n".join([*lines[:5], spliced, *lines[5:], b""])
    for seq in range(1, 9):
        for count in range(1, 9):
            assert segment.pick_lines(chunk, seq, count) == lines[seq - 1 :][:count]
    assert record.seq_of(lines[5]) == 6
