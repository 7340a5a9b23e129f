"""The database: group commit, savepoints, durability order, damage, limits."""

import asyncio
import errno
import sqlite3
import time

import pytest

from hivectl.kit import failpoint
from hivectl.kit.clock import FakeClock
from hivectl.model.errors import HiveError
from hivectl.store import database
from hivectl.store.database import Database, DatabaseDamaged, load_migrations, set_aside


@pytest.fixture
async def db(tmp_path):
    database = await Database.open(tmp_path / "hive.db", FakeClock())
    yield database
    failpoint.configure("")
    await database.close()


def put(key, value):
    return lambda tx: tx.run("INSERT INTO meta(key, value) VALUES (?, ?)", key, value)


async def test_a_write_is_seen_by_the_next_read(db):
    await db.write(put("a", "1"))
    row = await db.one("SELECT value FROM meta WHERE key = ?", "a")
    assert row["value"] == "1"


async def test_operations_that_wait_together_share_one_commit(db):
    before = db.commits
    await asyncio.gather(*(db.write(put(f"k{n}", "v")) for n in range(200)))
    assert db.commits - before < 100
    assert (await db.one("SELECT count(*) FROM meta"))[0] == 200


async def test_a_refused_operation_undoes_only_itself(db):
    def refuse(tx):
        tx.run("INSERT INTO meta(key, value) VALUES ('bad', '1')")
        tx.emit("system", "never", {})
        raise HiveError("PROJECT_BUSY")

    results = await asyncio.gather(
        db.write(put("x", "1")), db.write(refuse), db.write(put("y", "2")), return_exceptions=True
    )
    assert isinstance(results[1], HiveError)
    keys = {row["key"] for row in await db.all("SELECT key FROM meta")}
    assert keys == {"x", "y"}
    assert (await db.one("SELECT count(*) FROM outbox"))[0] == 0


async def test_events_are_told_in_commit_order_and_before_who_waits_hears_of_it(db):
    told = []
    db.on_commit = lambda companion, events: told.extend(event.type for event in events)

    async def one(n):
        await db.write(lambda tx: tx.emit("system", f"e{n}", {"n": n}))
        assert f"e{n}" in told

    await asyncio.gather(*(one(n) for n in range(50)))
    stored = [row["type"] for row in await db.all("SELECT type FROM outbox ORDER BY id")]
    assert told == stored


async def test_a_full_disk_at_commit_fails_all_that_waited_and_keeps_nothing_of_them(db):
    failpoint.configure("store_commit@1:error=ENOSPC")
    with pytest.raises(HiveError) as caught:
        await db.write(put("lost", "1"))
    assert caught.value.code == "STORAGE_FULL"
    assert await db.one("SELECT 1 FROM meta WHERE key = 'lost'") is None
    await db.write(put("kept", "1"))
    assert await db.one("SELECT 1 FROM meta WHERE key = 'kept'") is not None


async def test_what_was_written_before_close_is_there_after_it(tmp_path):
    db = await Database.open(tmp_path / "hive.db", FakeClock())
    pending = [asyncio.ensure_future(db.write(put(f"k{n}", "v"))) for n in range(20)]
    await asyncio.sleep(0)
    await db.close()
    await asyncio.gather(*pending)
    with pytest.raises(HiveError) as caught:
        await db.write(put("late", "1"))
    assert caught.value.code == "SHUTTING_DOWN"
    again = await Database.open(tmp_path / "hive.db", FakeClock())
    assert (await again.one("SELECT count(*) FROM meta"))[0] == 20
    await again.close()


async def test_the_file_is_private_and_the_schema_is_numbered(tmp_path):
    db = await Database.open(tmp_path / "hive.db", FakeClock())
    assert (tmp_path / "hive.db").stat().st_mode & 0o777 == 0o600
    assert (await db.one("PRAGMA user_version"))[0] == load_migrations()[-1][0]
    await db.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    db = await Database.open(tmp_path / "hive.db", FakeClock())
    await db.close()
    conn = sqlite3.connect(tmp_path / "hive.db")
    conn.execute("PRAGMA user_version = 9999")
    conn.commit()
    conn.close()
    with pytest.raises(HiveError, match="newer hivectl"):
        await Database.open(tmp_path / "hive.db", FakeClock())


@pytest.mark.parametrize("damage", ["garbage", "zeroed middle"])
async def test_a_damaged_file_is_told_and_can_be_set_aside(tmp_path, damage):
    path = tmp_path / "hive.db"
    db = await Database.open(path, FakeClock())
    await asyncio.gather(*(db.write(put(f"k{n}", "v" * 500)) for n in range(200)))
    await db.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "garbage":
            file.write(b"this is no database" * 100)
        else:
            file.seek(size // 2)
            file.write(b"\x00" * (size // 4))
    with pytest.raises(DatabaseDamaged):
        await Database.open(path, FakeClock())
    aside = set_aside(path, "test")
    assert aside.exists()
    assert not path.exists()
    fresh = await Database.open(path, FakeClock())
    await fresh.close()


async def test_damage_that_shows_in_use_ends_the_daemon_and_is_looked_for_at_the_next_start(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)
    path, told = tmp_path / "hive.db", []
    db = await Database.open(path, FakeClock())
    await asyncio.gather(*(db.write(put(f"k{n}", "v" * 500)) for n in range(200)))
    await db.close()
    page = path.read_bytes().index(b"vvvv") // 4096
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\x00" * 4096)
    db = await Database.open(path, FakeClock())  # too large to be looked at whole
    db.on_fault = told.append
    with pytest.raises(HiveError) as caught:
        await db.write(lambda tx: tx.all("SELECT max(length(value)) FROM meta"))
    assert caught.value.code == "STORAGE_ERROR"
    assert [type(fault) for fault in told] == [DatabaseDamaged]
    await db.close()
    with pytest.raises(DatabaseDamaged):
        await Database.open(path, FakeClock())
    set_aside(path, "test")
    assert [item.name for item in tmp_path.iterdir() if "suspect" in item.name] == []


async def test_an_operation_that_needs_no_room_does_not_suffer_from_one_that_found_none(db):
    def needs_room(_tx):
        raise OSError(errno.ENOSPC, "no space left")

    db._ops.put(database._Op(lambda _tx: time.sleep(0.05), asyncio.get_running_loop().create_future()))  # fmt: skip
    full, free = await asyncio.gather(
        db.write(needs_room), db.write(lambda tx: tx.one("SELECT 1")[0]), return_exceptions=True
    )
    assert isinstance(full, HiveError)
    assert (full.code, free) == ("STORAGE_FULL", 1)


async def test_an_unreadable_file_is_an_error_and_never_replaced(tmp_path):
    path = tmp_path / "hive.db"
    path.mkdir()
    with pytest.raises(HiveError) as caught:
        await Database.open(path, FakeClock())
    assert caught.value.code == "STORAGE_ERROR"
    assert path.is_dir()


async def test_the_audit_chain_refuses_change_and_deletion(db):
    from hivectl.store import people

    await db.write(lambda tx: people.audit(tx, {"method": "kill", "actor": "user:me"}))
    for sql in ("UPDATE audit SET body = 'x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            await db.write(lambda tx, sql=sql: tx.run(sql))
