from __future__ import annotations

import json
from typing import Any

import pytest

from hivectl.journal import reader, scan
from hivectl.journal.record import Draft
from hivectl.journal.scan import Filter

TEXTS = ["Straße", "nothing here", 'He said "hi\\there"', "tab\there", "K\u212aelvin", "error 17"]


@pytest.fixture
def log(make_journal: Any) -> Any:
    log = make_journal(ring_lines=1, segment_bytes=5000).open("system")
    for number in range(1, 121):
        data = {"kind": "user", "raw": {"content": [{"text": TEXTS[number % 6]}], "n": number}}
        log.append(
            [
                Draft(
                    ["message", "execution.state", "execution.ended"][number % 3],
                    json.dumps(data, ensure_ascii=number % 2 == 0).encode(),
                    number * 10,
                    f"x_{number % 4}",
                    f"s_{number % 5}",
                )
            ]
        )
    return log


def found_by(log: Any, **wanted: Any) -> list[int]:
    page = scan.scan(log, match=Filter(**wanted), limit=1000, after=0)
    assert page.is_end
    assert page.scanned == 120
    return [record.seq for record in page.records]


def where(test: Any) -> list[int]:
    return [number for number in range(1, 121) if test(number)]


def test_records_are_chosen_by_type_family_execution_session_and_time(log: Any) -> None:
    assert found_by(log) == where(lambda n: True)
    assert found_by(log, types=("message",)) == where(lambda n: n % 3 == 0)
    assert found_by(log, types=("execution.*",)) == where(lambda n: n % 3 > 0)
    assert found_by(log, types=("message", "execution.ended")) == where(lambda n: n % 3 != 1)
    assert found_by(log, execution="x_1") == where(lambda n: n % 4 == 1)
    assert found_by(log, session="s_2", execution="x_0") == where(lambda n: n % 20 == 12)
    assert found_by(log, since_us=500, until_us=600) == where(lambda n: 50 <= n < 60)
    assert found_by(log, where=lambda record: record.seq > 100) == where(lambda n: n > 100)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("error 17", 5),
        ("ERROR", 5),
        ("STRASSE", 0),
        ("straße", 0),
        ('"hi\\there"', 2),
        ("tab\there", 3),
        ("kkelvin", 4),
    ],
)
def test_text_is_found_as_people_read_it_whatever_its_escapes(
    log: Any, text: str, kind: int
) -> None:
    assert found_by(log, grep=text) == where(lambda n: n % 6 == kind)


def test_keys_and_numbers_are_not_text(log: Any) -> None:
    assert found_by(log, grep="content") == []
    assert found_by(log, grep="kind") == []


def test_text_is_looked_for_in_a_bounded_part_of_a_line() -> None:
    matcher = scan.Matcher(Filter(grep="needle"))
    line = b'{"seq":1,"ts":1,"type":"t","data":{"text":"%b needle"}}'
    assert matcher.find(line % (b"x" * 1000)) is not None
    assert matcher.find(line % (b"x" * scan.GREP_BYTES)) is None


def test_a_scan_goes_on_where_its_budget_ended(log: Any) -> None:
    found: list[int] = []
    position, rounds = 0, 0
    while True:
        page = scan.scan(
            log, match=Filter(execution="x_3"), limit=4, after=position, budget_lines=9
        )
        assert page.scanned <= 9
        found += [record.seq for record in page.records]
        position = page.position
        rounds += 1
        if page.is_end:
            break
    assert found == where(lambda n: n % 4 == 3)
    assert rounds >= 120 // 9


def test_a_backward_scan_gives_the_newest_first(log: Any) -> None:
    page = scan.scan(log, match=Filter(types=("message",)), limit=3, before=61)
    assert [record.seq for record in page.records] == [60, 57, 54]
    assert (page.position, page.is_end) == (54, False)
    rest = scan.scan(log, match=Filter(types=("message",)), limit=500, before=page.position)
    assert [record.seq for record in rest.records] == list(range(51, 0, -3))
    assert rest.is_end


def test_a_page_of_matches_is_bounded_by_bytes(log: Any) -> None:
    page = scan.scan(log, match=Filter(), limit=100, after=0, max_bytes=500)
    assert 1 <= len(page.records) < 10
    following = scan.scan(log, match=Filter(), limit=1, after=page.position)
    assert following.records[0].seq == page.records[-1].seq + 1


def test_a_direction_must_be_given(log: Any) -> None:
    with pytest.raises(ValueError, match="one of after and before"):
        scan.scan(log, match=Filter(), limit=1)


def test_where_everything_is_wanted_no_more_is_read_than_what_is_shown(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def lines_after(log: Any, seq: int, count: int, *, max_bytes: int) -> list[bytes]:
        asked.append(count)
        return read(log, seq, count, max_bytes=max_bytes)

    read = reader.lines_after
    monkeypatch.setattr(reader, "lines_after", lines_after)
    page = scan.scan(log, match=Filter(), limit=7, after=20)
    assert [record.seq for record in page.records] == list(range(21, 28))
    assert (page.position, page.is_end, page.scanned) == (27, False, 7)
    assert asked == [7]
    scan.scan(log, match=Filter(execution="x_1"), limit=7, after=20)
    assert asked[1] > 7
