"""From commit to log: order, exactly-once after a crash, and a disk that is full for a while."""

import asyncio
import errno

import pytest

from hivectl.engine import publisher as publishing
from hivectl.engine.bus import Bus
from hivectl.engine.publisher import Companion, Publisher
from hivectl.journal import reader
from hivectl.journal.record import Draft
from hivectl.journal.writer import Journal
from hivectl.kit import failpoint
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import FakeClock
from hivectl.store.database import Database


class House:
    def __init__(self, path):
        self.path, self.clock, self.failures = path, FakeClock(), []

    async def open(self):
        self.db = await Database.open(self.path / "hive.db", self.clock)
        self.journal = Journal(self.path / "log", clock=self.clock, boot_id="b")
        self.nursery = Nursery(lambda name, error: self.failures.append((name, error)))
        self.publisher = Publisher(self.journal, Bus(self.journal, self.clock), self.nursery)
        self.publisher.attach(self.db)

    async def close(self):
        await self.nursery.close(within_s=1)
        await self.db.close()
        await self.journal.close()

    def types(self, stream="system"):
        return [record.type for record in reader.read_after(self.journal.open(stream), 0, 1000)]


@pytest.fixture
async def house(tmp_path):
    found = House(tmp_path)
    await found.open()
    yield found
    failpoint.configure("")
    await found.close()
    assert not found.failures


async def test_committed_events_are_in_the_log_when_the_write_returns(house):
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {"n": 1}))
    assert house.types() == ["system.notice"]


async def test_messages_that_go_with_a_commit_come_before_its_events(house):
    draft = Draft("message", b'{"kind":"result"}', 1)
    await house.db.write(
        lambda tx: tx.emit("system", "usage.updated", {}), Companion("system", [draft])
    )
    assert house.types() == ["message", "usage.updated"]


async def test_what_was_committed_before_a_crash_is_completed_once_at_the_next_start(house):
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {"n": 1}))
    house.db.on_commit = lambda companion, events: None  # died between commit and log
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {"n": 2}))
    await house.close()
    await house.open()
    assert await house.publisher.recover() == 1
    assert house.types() == ["system.notice"] * 2
    await house.close()
    await house.open()
    assert await house.publisher.recover() == 0
    assert house.types() == ["system.notice"] * 2


async def test_rows_leave_the_outbox_once_the_log_is_synced(house):
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {}))
    await house.publisher.close()
    assert (await house.db.one("SELECT count(*) FROM outbox"))[0] == 0


async def test_a_full_disk_holds_events_in_order_and_lets_them_go_when_there_is_room(
    house, monkeypatch
):
    log = house.journal.open("system")
    is_full = True
    append = log.append

    def maybe(drafts):
        if is_full:
            raise OSError(errno.ENOSPC, "full")
        return append(drafts)

    monkeypatch.setattr(type(log), "append", lambda self, drafts: maybe(drafts))
    for n in range(3):
        await house.db.write(lambda tx, n=n: tx.emit("system", f"e{n}", {}))
    assert house.publisher.is_blocked
    assert log.last_seq == 0
    is_full = False
    async with asyncio.timeout(10):
        await house.publisher.wait_clear("system")
    assert house.types() == ["e0", "e1", "e2"]
    assert not house.publisher.is_blocked


async def test_nothing_overtakes_an_event_that_a_fault_kept_out_of_the_log(house):
    faults = []
    house.db.on_fault = faults.append
    failpoint.configure("end_after_commit@1:error=EIO")
    await house.db.write(lambda tx: tx.emit("system", "execution.ended", {"n": 1}))
    assert len(faults) == 1
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {"n": 2}))
    house.publisher.append("system", [Draft("message", b"{}", 1)])
    assert house.types() == []
    await house.publisher.close()
    await house.close()
    failpoint.configure("")

    await house.open()
    assert await house.publisher.recover() == 2
    assert house.types() == ["execution.ended", "system.notice"]


async def test_an_outbox_that_could_not_be_trimmed_keeps_its_rows_and_is_trimmed_later(
    house, monkeypatch
):
    monkeypatch.setattr(publishing, "TRIM_S", 0.01)
    log, refusals = house.journal.open("system"), [errno.EIO, errno.EIO]
    sync = log.sync

    async def refuses():
        if refusals:
            raise OSError(refusals.pop(), "no")
        await sync()

    monkeypatch.setattr(log, "sync", refuses)
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {}))
    async with asyncio.timeout(10):
        while refusals:
            assert await house.db.all("SELECT id FROM outbox")
            await asyncio.sleep(0.005)
        while await house.db.all("SELECT id FROM outbox"):
            await asyncio.sleep(0.005)


async def test_a_stream_removed_while_the_outbox_is_trimmed_is_not_made_anew(house):
    for stream in ("system", "project:p_1"):
        await house.db.write(lambda tx, s=stream: tx.emit(s, "system.notice", {}))
    log, sync = house.journal.open("system"), asyncio.Event()

    async def waits():
        await sync.wait()

    log.sync = waits
    trimming = asyncio.ensure_future(house.publisher._trim_outbox())
    await asyncio.sleep(0)
    house.publisher.forget("project:p_1")
    house.journal.remove("project:p_1")
    sync.set()
    await trimming
    assert house.journal.streams() == ["system"]


async def test_a_log_that_cannot_be_opened_keeps_neither_the_start_nor_the_others(house):
    await house.db.write(lambda tx: tx.emit("project:p_bad", "e1", {}))
    house.db.on_commit = lambda companion, events: None  # died between commit and log
    await house.db.write(lambda tx: tx.emit("project:p_bad", "e2", {}))
    await house.close()
    directory = house.path / "log" / "project.p_bad"
    directory.rename(house.path / "kept")
    directory.write_text("in the way")
    await house.open()
    assert await house.publisher.recover() == 2
    assert house.publisher.is_held("project:p_bad")
    await house.db.write(lambda tx: tx.emit("system", "system.notice", {}))
    assert house.types() == ["system.notice"]
    directory.unlink()
    (house.path / "kept").rename(directory)
    async with asyncio.timeout(10):
        await house.publisher.wait_clear("project:p_bad")
    assert house.types("project:p_bad") == ["e1", "e2"]


async def test_what_is_made_of_events_before_they_are_forgotten_is_made_once_across_a_crash(house):
    def make(tx, upto):
        for row in tx.all("SELECT type FROM outbox WHERE id <= ?", upto):
            tx.run("INSERT INTO meta(key, value) VALUES (?, 'made')", row["type"])

    await house.db.write(lambda tx: tx.emit("system", "system.notice", {"n": 1}))
    await house.close()  # as a crash: the event is in the log and in the outbox
    await house.open()
    house.publisher.before_forgetting = make
    await house.publisher.recover()
    await house.publisher.close()
    await house.publisher._trim_outbox()  # a second making would break the key
    assert [row["key"] for row in await house.db.all("SELECT key FROM meta")] == ["system.notice"]
    assert await house.db.all("SELECT 1 FROM outbox") == []
