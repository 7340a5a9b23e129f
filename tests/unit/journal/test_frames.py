from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from hivectl.journal import frames
from hivectl.journal.disk import Disk, open_read
from hivectl.journal.frames import DamagedSegmentError, FrameFile


def seal(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "plain").write_bytes(data)
    size = frames.compress_file(
        tmp_path / "plain", tmp_path / "sealed", Disk(), should_stop=lambda: False
    )
    assert size == (tmp_path / "sealed").stat().st_size
    return tmp_path / "sealed"


def text_of(size: int) -> bytes:
    chance = random.Random(size)
    return b"".join(b"%d\n" % chance.randint(0, 99_999) for _ in range(size // 2 + 1))[:size]


@pytest.mark.parametrize("size", [1, 1000, frames.FRAME_BYTES, 3 * frames.FRAME_BYTES + 17])
def test_any_part_of_a_sealed_segment_reads_as_the_plain_one(tmp_path: Path, size: int) -> None:
    data = text_of(size)
    sealed = FrameFile(open_read(seal(tmp_path, data)))
    assert sealed.size == size
    chance = random.Random(1)
    for _ in range(50):
        offset, length = chance.randint(0, size + 5), chance.randint(0, size)
        assert sealed.read(offset, length) == data[offset : offset + length]
    sealed.close()


def test_ordinary_tools_unpack_a_sealed_segment(tmp_path: Path) -> None:
    data = text_of(600_000)
    path = seal(tmp_path, data)
    with frames.zstd.open(path) as unpacked:
        assert unpacked.read() == data
    if tool := shutil.which("zstd"):
        found = subprocess.run([tool, "-dcq", path], capture_output=True, check=True)
        assert found.stdout == data


def test_a_damaged_frame_reads_as_empty_lines_and_its_neighbours_as_written(
    tmp_path: Path,
) -> None:
    data = text_of(3 * frames.FRAME_BYTES)
    path = seal(tmp_path, data)
    spoiled = bytearray(path.read_bytes())
    spoiled[len(spoiled) // 2] ^= 0xFF
    path.write_bytes(spoiled)
    sealed = FrameFile(open_read(path))
    size = frames.FRAME_BYTES
    assert sealed.read(0, size) == data[:size]
    assert not sealed.is_damaged
    assert sealed.read(size, size) == b"\n" * size
    assert sealed.is_damaged
    assert sealed.read(2 * size, size) == data[2 * size :]
    sealed.close()


@pytest.mark.parametrize("content", [b"", b"short", bytes(500)])
def test_a_file_without_a_table_is_refused_and_closed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sealed").write_bytes(content)
    fd = open_read(tmp_path / "sealed")
    with pytest.raises(DamagedSegmentError):
        FrameFile(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_compressing_stops_when_told(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(text_of(1000))
    made = frames.compress_file(
        tmp_path / "plain", tmp_path / "sealed", Disk(), should_stop=lambda: True
    )
    assert made == 0
