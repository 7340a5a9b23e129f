from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from hivectl.journal import reader
from hivectl.journal.record import Draft


def test_a_stream_is_opened_once(make_journal: Any) -> None:
    journal = make_journal()
    assert journal.open("project:p_1") is journal.open("project:p_1")
    assert journal.open("project:p_1") is not journal.open("project:p_2")


@pytest.mark.parametrize(
    "name", ["", "project:", "../x", "project:../x", "project:a/b", "Project:x", "a:b:c", "system\n", "project:.x"]
)  # fmt: skip
def test_names_that_are_no_streams_are_refused(make_journal: Any, name: str) -> None:
    with pytest.raises(ValueError, match="names no stream"):
        make_journal().open(name)


def test_streams_are_listed_from_disk(make_journal: Any) -> None:
    journal = make_journal()
    for name in ("system", "project:p_2", "project:p_1", "project:a.b-c_d"):
        journal.open(name)
    journal._close()
    (journal.root / "stranger file").write_text("")
    (journal.root / "Stranger").mkdir()
    expected = ["project:a.b-c_d", "project:p_1", "project:p_2", "system"]
    assert make_journal().streams() == expected


def test_a_removed_stream_begins_anew(make_journal: Any, drafts: Any) -> None:
    journal = make_journal()
    log = journal.open("project:p_1")
    log.append(drafts(1, 10))
    journal.remove("project:p_1")
    journal.remove("project:p_1")
    assert journal.streams() == []
    assert list(journal.root.iterdir()) == []
    with pytest.raises(RuntimeError, match="closed"):
        log.append(drafts(11, 1))
    fresh = journal.open("project:p_1")
    assert (fresh.last_seq, fresh.epoch == log.epoch) == (0, False)


def test_what_a_crash_left_of_a_removed_stream_goes_at_the_next_start(make_journal: Any) -> None:
    root = make_journal().root
    (root / ".removed-j_1").mkdir()
    (root / ".removed-j_1" / "0000000000000001.jsonl").write_text("x")
    journal = make_journal()
    assert list(root.iterdir()) == []
    assert journal.streams() == []


def test_bytes_on_disk_are_told_for_one_stream_and_for_all(make_journal: Any, drafts: Any) -> None:
    journal = make_journal()
    for name, count in (("system", 10), ("project:p_1", 1000)):
        journal.open(name).append(drafts(1, count))
    one, other = journal.disk_bytes("system"), journal.disk_bytes("project:p_1")
    assert other > 50 * one / 2 > 0
    assert journal.disk_bytes() == one + other
    journal._close()
    again = make_journal()
    assert again.disk_bytes("project:p_1") >= other
    assert again.disk_bytes("project:absent") == 0
    assert again.disk_bytes() == 0


async def test_a_listener_of_the_journal_hears_every_stream(make_journal: Any, drafts: Any) -> None:
    journal = make_journal()
    heard: list[tuple[str, int, int]] = []
    journal.on_append = lambda log, first, lines: heard.append((log.stream, first, len(lines)))
    journal.open("system").append(drafts(1, 2))
    journal.open("project:p_1").append(drafts(1, 3))
    assert heard == [("system", 1, 2), ("project:p_1", 1, 3)]


async def test_many_streams_sync_together(make_journal: Any, drafts: Any) -> None:
    journal = make_journal()
    logs = [journal.open(f"project:p_{number}") for number in range(50)]
    for log in logs:
        log.append(drafts(1, 3))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for log in logs:
            group.create_task(log.sync())
    assert all(log._synced == log._written for log in logs)


async def test_closing_ends_all_threads_and_marks_every_stream(
    make_journal: Any, drafts: Any
) -> None:
    before = set(threading.enumerate())
    journal = make_journal(segment_lines=10)
    for number in range(3):
        log = journal.open(f"project:p_{number}")
        log.append(drafts(1, 10))
        log.append(drafts(11, 1))
    await journal.close()
    left = [t for t in set(threading.enumerate()) - before if "hivectl-journal" in t.name]
    assert left == []
    journal = make_journal(boot="another")
    for number in range(3):
        assert journal.open(f"project:p_{number}").last_seq == 11
    assert not journal.notices


async def test_a_journal_that_was_only_opened_changes_nothing_on_disk(
    make_journal: Any, drafts: Any
) -> None:
    journal = make_journal()
    journal.open("system").append(drafts(1, 10))
    await journal.close()
    directory = journal.root / "system"
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for boot in ("boot-1", "boot-2"):
        journal = make_journal(boot=boot)
        assert len(reader.read_after(journal.open("system"), 0, 100)) == 10
        await journal.close()
    assert {path.name: path.read_bytes() for path in directory.iterdir()}.keys() == before.keys()
    data = (directory / "0000000000000001.jsonl").read_bytes()
    assert data == before["0000000000000001.jsonl"]


async def test_notices_are_bounded(make_journal: Any) -> None:
    journal = make_journal()
    for number in range(5000):
        journal._note("system", "torn", str(number))
    assert len(journal.notices) == 1000
    assert journal.notices[-1].text == "4999"


async def test_waiting_for_upkeep_waits_for_compression(make_journal: Any, drafts: Any) -> None:
    journal = make_journal(segment_lines=10)
    log = journal.open("system")
    log.append(drafts(1, 10))
    log.append([Draft("t", b"{}", 1)])
    await journal.settle()
    assert [path.name for path in log.directory.glob("*.zst")] == ["0000000000000001.jsonl.zst"]
