from __future__ import annotations

import json

import pytest

from hivectl.journal import record
from hivectl.journal.record import Draft, Header, LineBuilder, Lines, Source, count_of

HEADER = Header(
    v=1, stream="system", epoch="e_1", boot="b", seq=7, ts=5, src=(Source("pr_1", "o", 9),)
)


def build_one(draft: Draft, seq: int = 3) -> bytes:
    return LineBuilder().build([draft], seq).lines[0]


def test_data_is_spliced_in_byte_for_byte() -> None:
    data = '{ "a" : 1.50, "b":"ü\\u00fc" }'.encode()
    line = build_one(Draft("message", data, 17))
    assert line.endswith(b'"data":' + data + b"}")
    assert bytes(record.decode_record(line).data) == data


def test_every_field_comes_back() -> None:
    draft = Draft(
        "execution.state", b"{}", 17, "x_1", "s-1", "r_1", "user:ann", 4, Source("pr_1", "e", 99)
    )
    found = record.decode_record(build_one(draft))
    assert (found.seq, found.ts, found.type, bytes(found.data)) == (3, 17, "execution.state", b"{}")
    assert (found.execution, found.session, found.request) == ("x_1", "s-1", "r_1")
    assert (found.actor, found.ob, found.src) == ("user:ann", 4, Source("pr_1", "e", 99))


def test_fields_that_are_not_set_are_not_written() -> None:
    assert json.loads(build_one(Draft("t", b"{}", 1))) == {
        "seq": 3, "ts": 1, "type": "t", "data": {}
    }  # fmt: skip


def test_strings_of_the_envelope_are_escaped() -> None:
    found = record.decode_record(build_one(Draft("t", b"{}", 1, 'x"\\\n', actor="ü")))
    assert (found.execution, found.actor) == ('x"\\\n', "ü")


def test_a_batch_tells_what_it_changes() -> None:
    drafts = [
        Draft("t", b"{}", 9, src=Source("pr_1", "o", 10)),
        Draft("t", b"{}", 12, src=Source("pr_1", "o", 20)),
        Draft("t", b"{}", 11, src=Source("pr_1", "e", 5)),
        Draft("t", b"{}", 10, ob=8),
        Draft("t", b"{}", 10, ob=6),
    ]
    batch = LineBuilder().build(drafts, 1)
    assert (batch.top, batch.outbox) == (12, 8)
    assert {(src.process, src.spool): src.end for src in batch.sources} == {
        ("pr_1", "o"): 20,
        ("pr_1", "e"): 5,
    }
    assert [record.seq_of(line) for line in batch.lines] == [1, 2, 3, 4, 5]


def test_lines_that_were_read_together_are_written_as_drafts_of_each_would_be() -> None:
    data = [b'{"n":%d,"p":"%%d"}' % number for number in range(3)]
    lines = Lines("message", 17, "x_1", "100% s\u00fc\\", "pr_1", "o", data, [10, 20, 30])
    drafts = [
        Draft("message", each, 17, "x_1", "100% s\u00fc\\", src=Source("pr_1", "o", end))
        for each, end in zip(data, [10, 20, 30], strict=True)
    ]
    before, after = Draft("t", b"{}", 20), Draft("t", b"{}", 3, ob=4)
    batch = LineBuilder().build([before, lines, after], 5)
    assert batch.lines == LineBuilder().build([before, *drafts, after], 5).lines
    assert (batch.top, batch.outbox, batch.sources) == (20, 4, [Source("pr_1", "o", 30)])
    assert count_of([before, lines, after]) == 5


def test_no_lines_are_no_records() -> None:
    batch = LineBuilder().build([Lines("message", 17, "x_1", None, "pr_1", "o", [], [])], 5)
    assert (batch.lines, batch.sources) == ([], [])


def test_the_envelope_cache_is_bounded() -> None:
    builder = LineBuilder()
    for number in range(2000):
        builder.build([Draft("t", b"{}", 1, f"x_{number}")], 1)
    assert len(builder._envelopes) <= 512


@pytest.mark.parametrize(
    ("line", "seq", "ts"),
    [
        (b'{"seq":12,"ts":34,"type":"t","data":{}}', 12, 34),
        (b'{"seq":1234567890123456,"ts":1,"type":"t"}', 1234567890123456, 1),
        (b'{"hdr":{"v":1}}', 0, -1),
        (b'{"seq":x,"ts":1}', 0, -1),
        (b'{"seq":', 0, -1),
        (b"", 0, -1),
    ],
)
def test_number_and_time_are_read_without_decoding(line: bytes, seq: int, ts: int) -> None:
    assert record.seq_of(line) == seq
    assert record.ts_of(line) == ts


def test_a_snapshot_comes_back() -> None:
    line = record.encode_header(HEADER)
    assert line.endswith(b"\n")
    assert record.is_header(line)
    assert record.decode_header(line[:-1]) == HEADER
    assert not record.is_header(build_one(Draft("t", b'{"hdr":{}}', 1)))


def test_any_flipped_bit_of_a_snapshot_is_found() -> None:
    line = record.encode_header(HEADER)[:-1]
    for at in range(len(line)):
        for bit in (0, 3, 6):
            spoiled = bytearray(line)
            spoiled[at] ^= 1 << bit
            if record.is_header(bytes(spoiled)):
                with pytest.raises(ValueError):  # noqa: PT011  its kinds differ, its root is promised
                    record.decode_header(bytes(spoiled))


@pytest.mark.parametrize(
    "line",
    [b'{"seq":1,"ts":1,"type":"t","data":{"a":"\xff"}}', b'{"seq":1,"ts":1,"type":"t","data":{'],
)
def test_a_line_that_is_broken_anywhere_is_no_record(line: bytes) -> None:
    assert not record.is_record(line)
    assert record.is_record(b'{"seq":1,"ts":1,"type":"t","data":{}}')


def test_data_nested_deeper_than_the_decoder_goes_is_kept_as_it_is() -> None:
    data = b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    line = build_one(Draft("t", data, 17, 'x "data": y', ob=5))
    found = record.decode_record(line)
    assert (found.seq, found.ts, found.ob, found.execution) == (3, 17, 5, 'x "data": y')
    assert bytes(found.data) == data
    assert record.is_record(line)
    with pytest.raises(ValueError, match="damaged"):
        record.decode_header(b'{"hdr":' + b"[" * 50_000)
