"""Workers in SQL: the slots of this daemon, and what each carries."""

from __future__ import annotations

from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.model.worker import LOCAL_POOL, Worker, WorkerKind
from hivectl.store import rows
from hivectl.store.database import Tx
from hivectl.store.moves import LIVE_SQL

COLUMNS = rows.columns(Worker)
SLOTS_KEY = "worker.slots"
"""How many slots a person asked for, in the table `meta`."""
WANTED_KEY = "worker.slots.wanted"
"""How many there are to be, by whomever: more may still end what they carry."""
MAX_SLOTS = 256


def find(tx: Tx, ref: str) -> Worker:
    """A worker by id or name. Raises WORKER_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM workers WHERE id = ? OR name = ?", ref, ref)
    if row is None:
        raise HiveError("WORKER_NOT_FOUND", f"There is no worker {ref!r}.", details={"worker": ref})
    return rows.read(Worker, row)


def wanted_slots(tx: Tx, default: int) -> int:
    """How many slots there are to be: as scaled by a person, else the default."""
    row = tx.one("SELECT value FROM meta WHERE key = ?", SLOTS_KEY)
    return int(row["value"]) if row is not None else default


def scale(tx: Tx, count: int | None, *, default: int, actor: str) -> int:
    """Have `count` slots (None: the default again). Slots too many end when they have become free."""
    if count is None:
        tx.run("DELETE FROM meta WHERE key = ?", SLOTS_KEY)
    else:
        tx.run("INSERT OR REPLACE INTO meta(key, value) VALUES (?,?)", SLOTS_KEY, str(count))
    wanted = sync_slots(tx, default=default)
    data = {"action": "scaled", "slots": wanted, "is_default": count is None}
    tx.emit("system", "queue.changed", data, actor=actor)
    return wanted


def sync_slots(tx: Tx, *, default: int) -> int:
    """Make as many slots as are wanted, and drop those too many that are free. Returns how many are wanted."""
    wanted = wanted_slots(tx, default)
    names = {f"slot-{number}" for number in range(1, wanted + 1)}
    known = {row["name"]: row for row in tx.all("SELECT * FROM workers WHERE kind = 'local'")}
    for name in sorted(names - known.keys(), key=_number):
        _add_slot(tx, name)
    for name in known.keys() - names:
        if known[name]["execution"] is None:  # else it goes when it is free
            tx.run("DELETE FROM workers WHERE name = ?", name)
    if wanted_now(tx) != wanted:
        tx.run("INSERT OR REPLACE INTO meta(key, value) VALUES (?,?)", WANTED_KEY, str(wanted))
    return wanted


def wanted_now(tx: Tx) -> int:
    """How many there are to be, as the last sync found."""
    row = tx.one("SELECT value FROM meta WHERE key = ?", WANTED_KEY)
    return int(row["value"]) if row is not None else MAX_SLOTS


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _add_slot(tx: Tx, name: str) -> None:
    tx.run(
        "INSERT INTO workers(id, name, kind, pools, heartbeat_us, actor, registered_us) VALUES (?,?,?,?,?,?,?)",
        make_id("w"), name, WorkerKind.LOCAL, rows.dump([LOCAL_POOL]), tx.now_us, "system", tx.now_us,
    )  # fmt: skip


def mend(tx: Tx, *, default: int) -> None:
    """At a start: slots as wanted, each with what it really carries; a run without a slot gets one."""
    carried = (
        "(SELECT min(e.id) FROM executions e INDEXED BY executions_live_project WHERE e.worker = workers.name"
        f" AND e.state IN {LIVE_SQL} AND (e.state <> 'waiting' OR e.process IS NULL))"
    )
    for row in tx.all(f"SELECT name FROM workers WHERE execution IS NOT {carried}"):
        tx.run(f"UPDATE workers SET execution = {carried} WHERE name = ?", row["name"])
    sync_slots(tx, default=default)
    homeless = tx.all(
        "SELECT id FROM executions e INDEXED BY executions_actor WHERE state IN ('starting', 'running') AND process IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.execution = e.id) ORDER BY id"
    )
    for number, row in enumerate(homeless):
        slot = free_slot(tx)
        if slot is None:
            # More runs than slots: an earlier version, or fewer slots than before. It ends with its run.
            slot = f"slot-{MAX_SLOTS + number + 1}"
            _add_slot(tx, slot)
        occupy(tx, slot, row["id"])
        tx.run("UPDATE executions SET worker = ? WHERE id = ?", slot, row["id"])


def free_slot(tx: Tx) -> str | None:
    """The name of a slot that carries nothing and takes work."""
    row = tx.one(
        "SELECT name FROM workers WHERE kind = 'local' AND execution IS NULL AND is_draining = 0"
        " ORDER BY length(name), name LIMIT 1"
    )
    return row["name"] if row is not None else None


def occupy(tx: Tx, name: str, execution: str) -> None:
    """The worker carries this now."""
    tx.run("UPDATE workers SET execution = ?, fault = NULL WHERE name = ?", execution, name)


def release(tx: Tx, execution: str) -> None:
    """Whoever carries it is free; a slot too many goes."""
    row = tx.one("SELECT name, kind FROM workers WHERE execution = ?", execution)
    if row is None:
        return
    tx.run("UPDATE workers SET execution = NULL WHERE name = ?", row["name"])
    if row["kind"] == WorkerKind.LOCAL and _number(row["name"]) > wanted_now(tx):
        tx.run("DELETE FROM workers WHERE name = ?", row["name"])


def set_draining(tx: Tx, ref: str | None, *, is_draining: bool, actor: str) -> list[Worker]:
    """Let a worker (None: every slot) finish what it carries and take nothing new, or take work again."""
    if ref is None:
        found = tx.all(f"SELECT {COLUMNS} FROM workers WHERE kind = 'local' ORDER BY id")
        names = [row["name"] for row in found]
    else:
        names = [find(tx, ref).name]
    for name in names:
        tx.run("UPDATE workers SET is_draining = ? WHERE name = ?", int(is_draining), name)
        changed = find(tx, name)
        data = {"worker": changed.id, "name": name, "is_draining": is_draining}
        tx.emit("system", "worker.state", data | {"execution": changed.execution}, actor=actor)
    return [find(tx, name) for name in names]
