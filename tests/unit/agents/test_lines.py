"""Framing: every split gives the same lines, no byte is lost, memory stays bounded."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.agents.lines import Line, LineSplitter


def split(data: bytes, cuts: list[int], *, longest: int = 8, piece: int = 3) -> list[Line]:
    splitter = LineSplitter(100, max_line_bytes=longest, piece_bytes=piece)
    lines: list[Line] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(edges):
        lines += splitter.feed(data[start:stop], 100 + start)
    lines += splitter.flush()
    assert splitter.consumed == splitter.position == 100 + len(data)
    return lines


def test_half_lines_are_kept_until_their_end_comes() -> None:
    splitter = LineSplitter(0)
    assert list(splitter.feed(b"ab", 0)) == []
    assert splitter.consumed == 0
    assert list(splitter.feed(b"c\nd", 2)) == [Line(b"abc", 4)]
    assert splitter.consumed == 4
    assert list(splitter.flush()) == [Line(b"d", 5)]
    assert list(splitter.flush()) == []


def test_a_gap_or_a_repeat_is_refused() -> None:
    splitter = LineSplitter(10)
    list(splitter.feed(b"x\n", 10))
    for offset in (10, 11, 13):
        with pytest.raises(ValueError, match="where 12 was next"):
            splitter.feed(b"y\n", offset)


def test_a_line_of_the_longest_length_is_whole_and_one_byte_more_comes_in_pieces() -> None:
    assert split(b"12345678\n", []) == [Line(b"12345678", 109)]
    assert split(b"123456789\nx\n", []) == [
        Line(b"123", 103, "oversized"),
        Line(b"456", 106, "oversized"),
        Line(b"789", 110, "oversized_end"),
        Line(b"x", 112),
    ]


def test_a_piece_may_not_be_larger_than_a_line() -> None:
    with pytest.raises(ValueError, match="piece_bytes"):
        LineSplitter(0, max_line_bytes=2, piece_bytes=3)


@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"\r\n", b"\xff\x00", b"0123456789"])).map(
        b"".join
    ),
    cuts=st.lists(st.integers(0, 500), max_size=12),
)
def test_any_split_gives_the_same_lines_and_every_byte(data: bytes, cuts: list[int]) -> None:
    lines = split(data, cuts)
    assert lines == split(data, [])
    rebuilt = b"".join(line.raw + (b"" if line.piece == "oversized" else b"\n") for line in lines)
    assert rebuilt == data or rebuilt == data + b"\n"
    starts = [100, *(line.end for line in lines)]
    for line, start in zip(lines, starts, strict=False):
        assert data[start - 100 : line.end - 100].removesuffix(b"\n") == line.raw.removesuffix(
            b"\n"
        )


def test_a_line_of_256_mib_costs_far_less_than_64_mib() -> None:
    splitter = LineSplitter(0)
    chunk = b"x" * (1 << 20)
    total = pieces = 0
    tracemalloc.start()
    try:
        for offset in range(0, 256 << 20, len(chunk)):
            for line in splitter.feed(chunk, offset):
                total += len(line.raw)
                pieces += 1
        for line in splitter.feed(b"\n", 256 << 20):
            total += len(line.raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 256 << 20
    assert pieces == 255
    assert peak < 48 << 20
