"""Every way to a page of the long log finds the same lines; what cannot be made is refused before it is begun."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import long_log
from hivectl.journal import reader, record

STREAM = "project:p_bench"
LINES = 3000


def test_the_log_and_the_plain_file_have_the_same_lines(tmp_path: Path) -> None:
    plain = tmp_path / "plain.jsonl"
    long_log.fill(tmp_path / "log", STREAM, LINES, plain)
    journal, log = long_log.open_log(tmp_path / "log", STREAM)
    try:
        assert (log.first_seq, log.last_seq) == (1, LINES)
        for after in (0, 1, 1234, LINES - long_log.PAGE):
            page = reader.lines_after(log, after, long_log.PAGE)
            assert [record.seq_of(line) for line in page] == list(range(after + 1, after + 101))
            assert [line + b"\n" for line in page] == long_log.by_iterating(plain, after)
            assert [line + b"\n" for line in page] == long_log.by_binary_search(plain, after)
    finally:
        asyncio.run(journal.close())


def test_what_a_stream_had_before_is_in_the_plain_file_too(tmp_path: Path) -> None:
    for lines, name in ((7, "first"), (300, "second")):
        long_log.fill(tmp_path / "log", STREAM, lines, tmp_path / name)
    numbers = [record.seq_of(line) for line in (tmp_path / "second").read_bytes().splitlines()]
    assert numbers == list(range(1, 301))


def test_without_the_room_nothing_is_made(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemExit, match="name another place with --dir, or fewer with --lines"),
        long_log.made(tmp_path, 10**15),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
