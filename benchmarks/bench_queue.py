"""The queue in SQLite: inserts and claims by 32 callers at once, and a claim out of 100,000 waiting orders.

    python -m benchmarks.bench_queue [--rounds N] [--quick] [--json FILE]

Three ways do the same work on the same schema with the same durability (WAL, synchronous=FULL): our
writer thread with group commit, `sqlite3` called straight from the event loop with a transaction each, and
aiosqlite with a transaction each. A claim takes the head of a free lane and marks both. Then the whole
house: prompts accepted, claimed and ended by the store's own functions with all their events, and a
claim where half of the queue waits behind one busy project, against the usual NOT EXISTS query.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks import figures
from hivectl.kit.clock import SystemClock
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import Cause, ExecutionState, Outcome
from hivectl.store import projects, queue, work, workers
from hivectl.store.database import Database, Tx

CALLERS = 32
SCHEMA = (
    "CREATE TABLE sent(id INTEGER PRIMARY KEY, caller INTEGER NOT NULL, body TEXT NOT NULL) STRICT;"
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY, state TEXT NOT NULL, owner INTEGER) STRICT;"
    "CREATE INDEX jobs_waiting ON jobs(id) WHERE state = 'queued';"
)
INSERT = "INSERT INTO sent(caller, body) VALUES (?, ?)"
HEAD = "SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1"
TAKE = "UPDATE jobs SET state = 'claimed', owner = ? WHERE id = ? AND state = 'queued'"
BODY = "x" * 200
Operation = Callable[[int], Awaitable[Any]]


async def by_callers(operation: Operation, count: int) -> tuple[float, float]:
    """Operations a second by 32 callers, and the 99th percentile of one in milliseconds."""
    taken: list[float] = []

    async def caller(number: int) -> None:
        for _ in range(count // CALLERS):
            begun = time.perf_counter()
            await operation(number)
            taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(caller(number))
    elapsed = time.perf_counter() - begun
    return len(taken) / elapsed, statistics.quantiles(taken, n=100)[98] * 1000


def prepare(path: Path, jobs: int) -> None:
    conn = sqlite3.connect(path)
    conn.executescript(SCHEMA)
    conn.executemany("INSERT INTO jobs(state) VALUES (?)", [("queued",)] * jobs)
    conn.commit()
    conn.close()


def insert(run: Any, caller: int) -> None:
    run(INSERT, caller, BODY)


def claim(tx: Any, caller: int) -> int:
    found = tx.one(HEAD)
    assert found is not None, "there are jobs for everybody"
    assert tx.run(TAKE, caller, found[0]) == 1
    return int(found[0])


async def ours(path: Path, count: int) -> dict[str, tuple[float, float]]:
    db = await Database.open(path, SystemClock())
    await db.write(lambda tx: [tx.conn.execute(part) for part in SCHEMA.split(";") if part])
    await db.write(
        lambda tx: tx.conn.executemany(
            "INSERT INTO jobs(state) VALUES (?)", [("queued",)] * count * 2
        )
    )
    claimed: list[int] = []

    async def take(caller: int) -> None:
        claimed.append(await db.write(lambda tx: claim(tx, caller)))

    try:
        sent = await by_callers(lambda c: db.write(lambda tx: insert(tx.run, c)), count)
        taken = await by_callers(take, count)
    finally:
        await db.close()
    assert len(set(claimed)) == len(claimed), "no job may be claimed twice"
    return {"insert": sent, "claim": taken}


class Raw:
    """sqlite3 on the event loop, a transaction each."""

    def __init__(self, path: Path) -> None:
        self.conn = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        self.conn.execute("PRAGMA journal_mode=WAL")
        self.conn.execute("PRAGMA synchronous=FULL")

    def run(self, sql: str, *args: Any) -> int:
        return self.conn.execute(sql, args).rowcount

    def one(self, sql: str, *args: Any) -> Any:
        return self.conn.execute(sql, args).fetchone()

    async def transact(self, change: Callable[[], Any]) -> None:
        self.conn.execute("BEGIN IMMEDIATE")
        change()
        self.conn.execute("COMMIT")
        await asyncio.sleep(0)


async def raw(path: Path, count: int) -> dict[str, tuple[float, float]]:
    prepare(path, count * 2)
    db = Raw(path)
    sent = await by_callers(lambda c: db.transact(lambda: insert(db.run, c)), count)
    taken = await by_callers(lambda c: db.transact(lambda: claim(db, c)), count)
    db.conn.close()
    return {"insert": sent, "claim": taken}


async def with_aiosqlite(path: Path, count: int) -> dict[str, tuple[float, float]]:
    prepare(path, count * 2)
    conn = await aiosqlite.connect(path, isolation_level=None)
    lock = asyncio.Lock()  # one connection: transactions must not mix
    await conn.execute("PRAGMA journal_mode=WAL")
    await conn.execute("PRAGMA synchronous=FULL")

    async def send(caller: int) -> None:
        async with lock:
            await conn.execute("BEGIN IMMEDIATE")
            await conn.execute(INSERT, (caller, BODY))
            await conn.execute("COMMIT")

    async def take(caller: int) -> None:
        async with lock:
            await conn.execute("BEGIN IMMEDIATE")
            found = await (await conn.execute(HEAD)).fetchone()
            assert found is not None
            await conn.execute(TAKE, (caller, found[0]))
            await conn.execute("COMMIT")

    try:
        return {"insert": await by_callers(send, count), "claim": await by_callers(take, count)}
    finally:
        await conn.close()


# --- the whole house ------------------------------------------------------------------------------


def project(tx: Tx, number: int) -> Project:
    made = Project(
        id=make_id("p"), name=f"p{number}", path=f"/srv/{number}", dev=1, ino=number, trust_hash=None, trust_broken=False,
        defaults={}, env={}, version=1, session=None, state=ProjectState.IDLE, error=None, executions=0, input_tokens=0,
        output_tokens=0, cost_usd=0.0, created_us=tx.now_us, activity_us=tx.now_us,
    )  # fmt: skip
    projects.insert(tx, made, limit=1_000_000, actor="user:b", request="r")
    return made


def wish(of: Project, priority: str = "normal") -> work.Wish:
    return work.Wish(
        order=make_id("o"), execution=make_id("x"), project=of, prompt="hi", prompt_uuid=make_uuid(), message={"kind": "prompt"},
        session="current", fork=False, options={}, priority=priority, actor="user:b", request="r", key=None, hash="",
        refuse_if_busy=False, max_orders=1_000_000, key_age_us=1,
    )  # fmt: skip


async def house(path: Path, count: int) -> float:
    """Prompts a second from acceptance to their end, 32 at once, with every event they raise."""
    db = await Database.open(path, SystemClock())
    made = await db.write(lambda tx: [project(tx, number) for number in range(CALLERS)])
    await db.write(lambda tx: workers.sync_slots(tx, default=CALLERS))
    caps = queue.Caps(max_live=CALLERS)

    async def one(caller: int) -> None:
        await db.write(lambda tx: work.enqueue(tx, wish(made[caller])))
        claimed = None
        while claimed is None:
            claimed = await db.write(lambda tx: queue.claim(tx, caps, process=make_id("pr")))
        done = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK)
        await db.write(lambda tx: work.end(tx, claimed.execution.id, done))

    try:
        return (await by_callers(one, count))[0]
    finally:
        await db.close()


NOT_EXISTS = (
    "SELECT o.id FROM orders o WHERE o.state = 'queued' AND o.hold IS NULL AND NOT EXISTS (SELECT 1 FROM executions e"
    " WHERE e.lane = o.lane AND e.state IN ('starting','running','waiting')) ORDER BY o.rank, o.id LIMIT 1"
)


async def crowded(path: Path, orders: int) -> tuple[float, float, float]:
    """Microseconds of a claim and of an end out of a long queue, half of it behind one busy project at top
    priority; and of the usual query for who is next."""
    db = await Database.open(path, SystemClock())
    made = await db.write(lambda tx: [project(tx, number) for number in range(500)])
    await db.write(lambda tx: workers.sync_slots(tx, default=4))

    def fill(tx: Tx, number: int) -> None:
        for index in range(number, min(number + 1000, orders)):
            is_behind = index % 2 == 0
            of = made[0] if is_behind else made[1 + index % 499]
            work.enqueue(tx, wish(of, "high" if is_behind else "normal"))
        tx.events.clear()
        tx.run("DELETE FROM outbox")

    for number in range(0, orders, 1000):
        await db.write(lambda tx, n=number: fill(tx, n))  # type: ignore[misc]
    caps = queue.Caps(max_live=64)
    done = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK)
    claims, ends, usual = [], [], []

    def turns(tx: Tx) -> None:
        queue.claim(tx, caps, process=make_id("pr"))  # the busy project's
        for _ in range(200):
            begun = time.perf_counter()
            claimed = queue.claim(tx, caps, process=make_id("pr"))
            claims.append(time.perf_counter() - begun)
            assert claimed is not None
            begun = time.perf_counter()
            work.end(tx, claimed.execution.id, done)
            ends.append(time.perf_counter() - begun)
        for _ in range(10):
            begun = time.perf_counter()
            assert tx.one(NOT_EXISTS) is not None
            usual.append(time.perf_counter() - begun)

    try:
        await db.write(turns)
    finally:
        await db.close()
    return tuple(statistics.median(taken) * 1e6 for taken in (claims, ends, usual))  # type: ignore[return-value]


SIDES = {"hivectl": ours, "sqlite3 on the loop": raw, "aiosqlite": with_aiosqlite}


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--operations", type=int, help="of each kind and side (16000)")
    parser.add_argument("--orders", type=int, help="in the long queue (100000)")
    options = figures.parse(parser, argv)
    count = options.given.operations or (3_200 if options.is_quick else 16_000)
    orders = options.given.orders or (10_000 if options.is_quick else 100_000)
    report = figures.Report("queue", "Queue: SQLite, 32 callers at once, synchronous=FULL")
    for number in range(options.rounds):
        figures.say(f"queue: round {number + 1} of {options.rounds}")
        root = Path(tempfile.mkdtemp(prefix="hivectl-bench-"))
        try:
            for name, side in SIDES.items():
                found = asyncio.run(side(root / f"{name}.db", count))
                for what, (rate, p99_ms) in found.items():
                    report.add(f"{what}, {name}", rate, "1/s")
                    report.add(f"{what} p99, {name}", p99_ms, "ms")
            report.add(
                "prompts accepted, claimed, ended",
                asyncio.run(house(root / "house.db", max(count // 4, CALLERS))),
                "1/s",
            )
            claim_us, end_us, usual_us = asyncio.run(crowded(root / "crowd.db", orders))
            report.add("claim in a long queue", claim_us, "us")
            report.add("end in a long queue", end_us, "us")
            report.add("NOT EXISTS in a long queue", usual_us, "us")
        finally:
            shutil.rmtree(root, ignore_errors=True)
    for what in ("insert", "claim"):
        report.compare(f"{what}, hivectl", f"{what}, sqlite3 on the loop", ">= 1.5")
        report.compare(f"{what}, hivectl", f"{what}, aiosqlite", ">= 6")
    report.compare("NOT EXISTS in a long queue", "claim in a long queue")
    report.note(
        f"long queue: {orders:,} orders, half of them behind one busy project; p99 target 1.5 ms"
    )
    return figures.finish(report, options)


if __name__ == "__main__":
    main(sys.argv[1:])
