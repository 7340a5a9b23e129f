from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hivectl.journal import reader, segment
from hivectl.journal.record import Draft

SEGMENT = {"segment_bytes": 20_000, "snapshot_bytes": 6_000}


def numbers(records: list[Any]) -> list[int]:
    return [found.seq for found in records]


@pytest.fixture(params=["plain", "sealed", "in memory"])
def log_of_1000(request: Any, make_journal: Any, drafts: Any) -> Any:
    """A stream of 1000 records in many segments."""
    ring = 10_000 if request.param == "in memory" else 1
    limits = {} if request.param == "in memory" else SEGMENT
    journal = make_journal(ring_lines=ring, ring_bytes=10**7, **limits)
    log = journal.open("system")
    for first in range(1, 1001, 10):
        log.append(drafts(first, 10))
    if request.param == "sealed":
        journal._upkeep.settle()
        assert len(list(log.directory.glob("*.zst"))) > 4
    return log


@pytest.mark.parametrize(
    ("after", "limit", "first", "last"),
    [(-3, 5, 1, 5), (0, 1, 1, 1), (7, 100, 8, 107), (95, 400, 96, 495), (990, 100, 991, 1000)],
)
def test_pages_go_forward_across_segments(
    log_of_1000: Any, after: int, limit: int, first: int, last: int
) -> None:
    found = reader.read_after(log_of_1000, after, limit)
    assert numbers(found) == list(range(first, last + 1))
    assert all(record.ts == record.seq * 1000 for record in found)


@pytest.mark.parametrize("after", [1000, 1001, 5000])
def test_nothing_follows_the_newest_record(log_of_1000: Any, after: int) -> None:
    assert reader.read_after(log_of_1000, after, 10) == []
    assert reader.read_after(log_of_1000, 5, 0) == []


@pytest.mark.parametrize(
    ("before", "limit", "first", "last"),
    [(None, 3, 998, 1000), (9999, 3, 998, 1000), (500, 120, 380, 499), (3, 10, 1, 2)],
)
def test_pages_go_backward_across_segments(
    log_of_1000: Any, before: int | None, limit: int, first: int, last: int
) -> None:
    assert numbers(reader.read_before(log_of_1000, before, limit)) == list(range(first, last + 1))
    down = reader.read_before(log_of_1000, before, limit, descending=True)
    assert numbers(down) == list(range(last, first - 1, -1))


def test_nothing_precedes_the_first_record(log_of_1000: Any) -> None:
    assert reader.read_before(log_of_1000, 1, 10) == []
    assert reader.read_before(log_of_1000, -4, 10) == []


def test_a_page_of_bytes_keeps_the_end_it_was_asked_from(log_of_1000: Any) -> None:
    room = 10 * len(reader.lines_after(log_of_1000, 499, 1)[0])
    assert numbers(reader.read_after(log_of_1000, 499, 100, max_bytes=room)) == [*range(500, 510)]
    assert numbers(reader.read_before(log_of_1000, 510, 100, max_bytes=room)) == [*range(500, 510)]
    assert numbers(reader.read_after(log_of_1000, 499, 100, max_bytes=1)) == [500]
    assert numbers(reader.read_before(log_of_1000, 510, 100, max_bytes=1)) == [509]


def test_one_record_is_found_by_number(log_of_1000: Any) -> None:
    for seq in (1, 77, 500, 1000):
        found = reader.read_one(log_of_1000, seq)
        assert found is not None
        assert found.seq == seq
    assert reader.read_one(log_of_1000, 1001) is None
    assert reader.read_one(log_of_1000, 0) is None


def test_a_time_is_found_in_any_segment(log_of_1000: Any) -> None:
    for ts, seq in [(0, 1), (1000, 1), (1001, 2), (499_999, 500), (10**6, 1000), (10**6 + 1, 1001)]:
        assert reader.find_time(log_of_1000, ts) == seq


def test_a_time_is_found_although_the_clock_was_set_back(make_journal: Any) -> None:
    log = make_journal(segment_bytes=3000, ring_lines=1).open("system")
    times = [(seq * 7919) % 1000 for seq in range(1, 401)]
    for ts in times:
        log.append([Draft("t", b"{}", ts)])
    assert len(log.view.segments) > 3
    for wanted in range(0, 1001, 13):
        expected = next((at for at, ts in enumerate(times, 1) if ts >= wanted), 401)
        assert reader.find_time(log, wanted) == expected


def test_an_empty_stream_reads_as_empty(make_journal: Any) -> None:
    log = make_journal().open("system")
    assert reader.read_after(log, 0, 10) == []
    assert reader.read_before(log, None, 10) == []
    assert reader.find_time(log, 5) == 1
    assert (log.first_seq, log.last_seq) == (1, 0)


def test_reading_before_the_first_kept_record_starts_there(make_journal: Any, drafts: Any) -> None:
    journal = make_journal(retention_bytes=30_000, ring_lines=1, **SEGMENT)
    log = journal.open("system")
    for first in range(1, 1001, 10):
        log.append(drafts(first, 10))
    assert log.first_seq > 500
    assert numbers(reader.read_after(log, 0, 3)) == [*range(log.first_seq, log.first_seq + 3)]
    page = reader.read_before(log, log.first_seq + 2, 100)
    assert numbers(page) == [log.first_seq, log.first_seq + 1]
    assert reader.read_one(log, log.first_seq - 1) is None


def test_an_unreadable_line_is_left_out_and_does_not_end_the_log(
    make_journal: Any, drafts: Any, crash: Callable[..., None]
) -> None:
    journal = make_journal(ring_lines=1, **SEGMENT)
    log = journal.open("system")
    for first in range(1, 301, 10):
        log.append(drafts(first, 10))
    journal._upkeep.close()
    oldest = segment.segment_path(log.directory, 1)
    if not oldest.exists():
        oldest.write_bytes(
            segment.SegmentReader(log.directory, 1).read(0, 10**6)  # sealed meanwhile: plain again
        )
    data = bytearray(oldest.read_bytes())
    at = data.index(b'{"seq":30,') + 60
    data[at] = 0xFF
    at = data.index(b'{"seq":50,')
    data[at : at + 3] = b"\n\n\n"
    oldest.write_bytes(data)
    found: list[int] = []
    while page := reader.read_after(log, found[-1] if found else 0, 7):
        found += numbers(page)
    assert found == [seq for seq in range(1, 301) if seq not in {30, 50}]
    assert reader.read_one(log, 30) is None
    assert numbers(reader.read_before(log, 31, 1)) == [29]
    crash(journal)


def test_a_damaged_frame_of_a_sealed_segment_hides_only_its_own_records(
    make_journal: Any,
) -> None:
    journal = make_journal(segment_bytes=2_000_000, ring_lines=1)
    log = journal.open("system")
    for seq in range(1, 2601):
        log.append([Draft("t", b'{"p":"%b"}' % (b"%d" % (seq * 7919**5) * 50), seq)])
    journal._upkeep.settle()
    sealed = segment.segment_path(log.directory, 1, segment.SEALED)
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 0xFF
    sealed.write_bytes(data)
    found: list[int] = []
    while page := reader.read_after(log, found[-1] if found else 0, 500):
        found += numbers(page)
    missing = sorted(set(range(1, 2601)) - set(found))
    assert 0 < len(missing) < 400
    assert missing == list(range(missing[0], missing[-1] + 1))
