from __future__ import annotations

import hashlib
from typing import Any

import pytest

from hivectl.journal import blobs


def test_a_blob_is_read_back_in_parts(make_journal: Any) -> None:
    log = make_journal().open("project:p_1")
    data = bytes(range(256)) * 2000
    ref = blobs.write_blob(log, data)
    assert ref["size"] == len(data)
    assert ref["sha256"] == hashlib.sha256(data).hexdigest()
    assert blobs.read_blob(log, ref["blob"], 0, 10**9) == data
    assert blobs.read_blob(log, ref["blob"], 100_000, 300) == data[100_000:100_300]
    assert blobs.read_blob(log, ref["blob"], len(data), 10) == b""
    assert blobs.read_blob(log, ref["blob"], 0, -1) == b""
    path = log.directory / "blobs" / ref["blob"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["", "../0000000000000001.jsonl", "0000000000000001-b_short.blob", "x" * 500, "a/b"]
)
def test_only_blobs_are_read(make_journal: Any, name: str) -> None:
    log = make_journal().open("project:p_1")
    with pytest.raises(FileNotFoundError):
        blobs.read_blob(log, name, 0, 10)


def test_blobs_count_as_bytes_on_disk_also_after_a_restart(make_journal: Any) -> None:
    journal = make_journal()
    log = journal.open("project:p_1")
    before = log.disk_bytes
    blobs.write_blob(log, b"x" * 50_000)
    assert log.disk_bytes == before + 50_000
    journal._close()
    log = make_journal().open("project:p_1")
    assert log.disk_bytes > 50_000


def test_a_blob_is_synced_with_the_records_that_name_it(make_journal: Any, drafts: Any) -> None:
    log = make_journal().open("project:p_1")
    ref = blobs.write_blob(log, b"x" * 1000)
    log.append(drafts(1, 1))
    assert len(log._unsynced_blobs) == 1
    log.sync_files()
    assert log._unsynced_blobs == []
    assert blobs.read_blob(log, ref["blob"], 0, 1) == b"x"


def test_blobs_go_with_the_segments_that_name_them_never_before(
    make_journal: Any, drafts: Any
) -> None:
    journal = make_journal(segment_lines=10, retention_bytes=40_000)
    log = journal.open("project:p_1")
    refs: dict[int, str] = {}
    for first in range(1, 401, 5):
        refs[first] = blobs.write_blob(log, b"b" * 500)["blob"]
        log.append(drafts(first, 5))
    journal._upkeep.settle()
    assert log.first_seq > 100
    left = {path.name for path in (log.directory / "blobs").iterdir()}
    kept = {seq for seq, name in refs.items() if name in left}
    assert {seq for seq in refs if seq >= log.first_seq} <= kept
    assert min(kept) >= log.first_seq - 10
    assert log.blob_bytes == 500 * len(left)
