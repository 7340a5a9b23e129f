from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import pytest

from hivectl.journal import index
from hivectl.journal.disk import Disk
from hivectl.journal.index import Entry, IndexWriter

BIG = b"x" * index.BLOCK_BYTES
ENTRY = Entry(seq=12, top=10**15, offset=77, length=5000, crc=123)


class FullDisk(Disk):
    is_full = False

    def write_at(self, fd: int, data: bytes, offset: int) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "full")
        super().write_at(fd, data, offset)


def writer_on(path: Path, disk: Disk | None = None) -> IndexWriter:
    disk = disk or Disk()
    return IndexWriter(disk, disk.open_write(path), entries=0, offset=0)


def test_an_entry_takes_32_bytes_and_comes_back() -> None:
    assert len(index.pack(ENTRY)) == index.ENTRY_BYTES == 32
    assert index.unpack(index.pack(ENTRY)) == ENTRY
    provisional = ENTRY._replace(is_final=False)
    assert index.unpack(index.pack(provisional)) == provisional


def test_every_flipped_bit_of_an_entry_is_found() -> None:
    packed = index.pack(ENTRY)
    for bit in range(8 * len(packed)):
        spoiled = bytearray(packed)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert index.unpack(bytes(spoiled)) is None
    assert index.unpack(packed[:-1]) is None


def test_small_appends_make_provisional_entries_that_a_whole_block_replaces(
    tmp_path: Path,
) -> None:
    writer = writer_on(tmp_path / "i")
    writer.add_all([(1, b"a" * 1000, 5)])
    writer.add_all([(2, b"b" * 1000, 6)])
    entries, base = index.read_last_entries(tmp_path / "i", 1)
    assert base == 0
    assert [(entry.seq, entry.offset, entry.is_final) for entry in entries] == [
        (1, 0, False),
        (2, 1000, False),
    ]
    assert entries[1].crc == zlib.crc32(b"b" * 1000)
    writer.add_all([(3, b"c" * 3000, 7), (4, b"d" * 10, 8)])
    entries, _ = index.read_last_entries(tmp_path / "i", 1)
    whole = zlib.crc32(b"a" * 1000 + b"b" * 1000 + b"c" * 3000)
    assert entries == [
        Entry(1, 7, 0, 5000, whole),
        Entry(4, 8, 5000, 10, zlib.crc32(b"d" * 10), is_final=False),
    ]
    writer.close()


def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path) -> None:
    disk = FullDisk()
    writer = writer_on(tmp_path / "i", disk)
    writer.add_all([(1, BIG, 5)])
    disk.is_full = True
    writer.add_all([(2, BIG, 6)])
    writer.add_all([(3, b"z" * 10, 7)])
    assert writer.written == 1
    disk.is_full = False
    writer.add_all([(4, b"z" * 10, 7)])
    entries, _ = index.read_last_entries(tmp_path / "i", 1)
    assert [(entry.seq, entry.is_final) for entry in entries] == [
        (1, True), (2, True), (3, False), (4, False)
    ]  # fmt: skip
    writer.close()


def test_finishing_ends_the_last_block_and_drops_provisional_entries(tmp_path: Path) -> None:
    writer = writer_on(tmp_path / "i")
    for seq in range(1, 6):
        writer.add_all([(seq, b"q" * 50, seq)])
    writer.finish()
    assert (tmp_path / "i").stat().st_size == index.ENTRY_BYTES
    entries, _ = index.read_last_entries(tmp_path / "i", 1)
    assert [(entry.seq, entry.length, entry.top) for entry in entries] == [(1, 250, 5)]


@pytest.mark.parametrize("spoiled_slot", [0, 3, 9])
def test_entries_are_trusted_up_to_the_first_damaged_one(tmp_path: Path, spoiled_slot: int) -> None:
    writer = writer_on(tmp_path / "i")
    writer.add_all([(seq, BIG, seq) for seq in range(1, 11)])
    writer.close()
    data = bytearray((tmp_path / "i").read_bytes())
    data[spoiled_slot * 32] ^= 1
    (tmp_path / "i").write_bytes(data)
    entries, base = index.read_last_entries(tmp_path / "i", 1)
    assert (len(entries), base) == (spoiled_slot, 0)


def test_only_the_end_of_a_long_index_is_read(tmp_path: Path) -> None:
    writer = writer_on(tmp_path / "i")
    writer.add_all([(seq, BIG, seq) for seq in range(1, 2001)])
    writer.close()
    entries, base = index.read_last_entries(tmp_path / "i", 1)
    assert base == 2000 - 512
    assert (entries[0].seq, entries[-1].seq) == (base + 1, 2000)


def test_an_absent_index_has_no_entries(tmp_path: Path) -> None:
    assert index.read_last_entries(tmp_path / "absent", 1) == ([], 0)
    assert not os.listdir(tmp_path)  # noqa: PTH208  looking must make nothing
