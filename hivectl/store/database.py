"""The SQLite file: one writer thread with group commit, read-only connections, numbered migrations.

Everything that waits for the writer goes into one transaction, each operation under a savepoint of its
own, so an operation that fails takes nothing with it. Events an operation emits are rows of the outbox in
the same transaction; after the commit they are handed, in commit order and on the event loop, to one
callback before anybody who waits hears of it. With a single writing connection and `mode=ro` readers the
WAL-reset fault of SQLite before 3.51.3 (sqlite.org/wal.html#walresetbug) cannot occur.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiosqlite
import msgspec

from hivectl.kit import failpoint
from hivectl.kit.clock import Clock
from hivectl.model.errors import HiveError

T = TypeVar("T")

MAX_BATCH = 256
"""Most operations in one transaction: bounds how long the first of them waits for the last."""
MAX_WAITING = 10_000
"""Most operations that may wait for the writer; beyond it callers get RESOURCE_LIMIT."""
BUSY_TIMEOUT_MS = 5000
CHECKED_BYTES = 64 * 1024 * 1024
"""A larger file is not checked whole at the start: that would cost seconds. Damage then shows at its first use."""
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class OutboxEvent(msgspec.Struct, frozen=True):
    """An event committed with its change, on its way into the log."""

    id: int
    stream: str
    ts: int
    type: str
    data: bytes
    execution: str | None = None
    session: str | None = None
    request: str | None = None
    actor: str | None = None


class Tx:
    """One operation's view of the transaction it runs in."""

    def __init__(self, conn: sqlite3.Connection, now_us: int) -> None:
        """Made by the writer for each operation."""
        self.conn = conn
        self.now_us = now_us
        self.events: list[OutboxEvent] = []

    def run(self, sql: str, *args: Any) -> int:
        """Execute and return how many rows changed."""
        return self.conn.execute(sql, args).rowcount

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute once for each row."""
        self.conn.executemany(sql, rows)

    def one(self, sql: str, *args: Any) -> sqlite3.Row | None:
        """The first row, or None."""
        row: sqlite3.Row | None = self.conn.execute(sql, args).fetchone()
        return row

    def all(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """All rows."""
        return self.conn.execute(sql, args).fetchall()

    def emit(
        self,
        stream: str,
        type_: str,
        data: dict[str, Any],
        *,
        execution: str | None = None,
        session: str | None = None,
        request: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Commit an event with this operation's change."""
        body = msgspec.json.encode(data)
        cursor = self.conn.execute(
            "INSERT INTO outbox(stream, ts, type, execution, session, request, actor, data) VALUES (?,?,?,?,?,?,?,?)",
            (stream, self.now_us, type_, execution, session, request, actor, body),
        )
        self.events.append(
            OutboxEvent(
                cursor.lastrowid or 0,
                stream,
                self.now_us,
                type_,
                body,
                execution,
                session,
                request,
                actor,
            )
        )


class _Op(msgspec.Struct, Generic[T]):
    work: Callable[[Tx], T]
    future: asyncio.Future[T]
    companion: Any = None
    result: T | None = None
    error: BaseException | None = None
    events: list[OutboxEvent] = msgspec.field(default_factory=list)


OnCommit = Callable[[Any, list[OutboxEvent]], None]


class Database:
    """The state of record. Open with `await Database.open(...)`, end with `await close()`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Use `open`."""
        self.path = path
        self._clock = clock
        self._ops: queue.SimpleQueue[_Op[Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._conn = _connect(path)
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._reader: aiosqlite.Connection | None = None
        self._is_closed = False
        self.on_commit: OnCommit = lambda _companion, _events: None
        self.on_fault: Callable[[Exception], None] = _raise
        """Hears of an `on_commit` that failed, or of a damaged file; the daemon must not go on then."""
        self.commits = 0

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> Database:
        """Open or make the file and bring it to the newest schema.

        Raises HiveError STORAGE_ERROR when it cannot be opened, is locked by another process for longer
        than the busy timeout, or was written by a newer hivectl; DatabaseDamaged when it is corrupt.
        """
        self = cls(path, clock)
        try:
            await asyncio.to_thread(_prepare, self._conn, path)
            self._reader = await aiosqlite.connect(
                f"file:{path}?mode=ro", uri=True, isolation_level=None
            )
            self._reader.row_factory = sqlite3.Row
            await self._reader.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        except BaseException:
            self._conn.close()
            if self._reader is not None:
                await self._reader.close()
            raise
        self._thread.start()
        return self

    async def write(self, work: Callable[[Tx], T], companion: Any = None) -> T:
        """Run `work` in the writer's next transaction and return its result once that is durable.

        `work` must be quick and touch nothing but its Tx. `companion` is handed to `on_commit` with the
        events, so that what belongs before them in the log gets there. A HiveError raised by `work` undoes only its own
        changes. Raises STORAGE_FULL or STORAGE_ERROR when the commit fails.
        """
        if self._is_closed:
            raise HiveError("SHUTTING_DOWN")
        if self._ops.qsize() > MAX_WAITING:
            raise HiveError(
                "RESOURCE_LIMIT", "Too many operations wait for the database.", retry_after_ms=1000
            )
        op: _Op[T] = _Op(work, self._loop.create_future(), companion)
        self._ops.put(op)
        return await asyncio.shield(op.future)

    async def all(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """All rows of a read."""
        assert self._reader is not None
        return list(await self._reader.execute_fetchall(sql, args))

    async def one(self, sql: str, *args: Any) -> sqlite3.Row | None:
        """The first row of a read, or None."""
        rows = await self.all(sql, *args)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Finish what waits, then close. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._ops.put(None)
        await asyncio.to_thread(self._thread.join, 30)
        if self._reader is not None:
            await self._reader.close()
        await asyncio.to_thread(_close, self._conn)

    # --- the writer thread ---------------------------------------------------------------------------

    def _write_loop(self) -> None:
        while True:
            op = self._ops.get()
            if op is None:
                return
            batch = [op]
            is_last = False
            while len(batch) < MAX_BATCH:
                try:
                    more = self._ops.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    is_last = True
                    break
                batch.append(more)
            self._transact(batch)
            self._loop.call_soon_threadsafe(self._settle, batch)
            if is_last:
                return

    def _transact(self, batch: Sequence[_Op[Any]]) -> None:
        conn = self._conn
        has_begun = False
        try:
            conn.execute("BEGIN IMMEDIATE")
            has_begun = True
            for op in batch:
                self._run_op(conn, op)
            failpoint.hit("store_commit")
            conn.execute("COMMIT")
            self.commits += 1
        except Exception as exc:  # noqa: BLE001  whatever it was, it belongs to those who wait
            _rollback(conn)
            if _is_damage(exc):
                self._tell_damage(exc)
            elif has_begun and len(batch) > 1:
                # Which of them it was cannot be told, and those that need no room must not suffer.
                for op in batch:
                    op.error, op.events = None, []
                    self._transact([op])
                return
            error = _translate(exc)
            for op in batch:
                op.error, op.events = error, []

    def _tell_damage(self, exc: Exception) -> None:
        """Have the next start look at the whole file, however large, and this daemon end."""
        with suppress(OSError):
            _mark(self.path).touch()
        self._loop.call_soon_threadsafe(self.on_fault, DatabaseDamaged(str(exc)))

    def _run_op(self, conn: sqlite3.Connection, op: _Op[Any]) -> None:
        tx = Tx(conn, self._clock.now_us())
        conn.execute("SAVEPOINT op")
        try:
            op.result = op.work(tx)
        except (sqlite3.OperationalError, OSError) as exc:
            if isinstance(exc, OSError) or getattr(exc, "sqlite_errorcode", 0) & 0xFF in _FULL:
                raise
            op.error = _translate(exc)
        except Exception as exc:  # one operation must not sink the others of its batch
            if _is_damage(exc):
                raise
            op.error = exc
        if op.error is None:
            op.events = tx.events
        else:
            conn.execute("ROLLBACK TO op")
        conn.execute("RELEASE op")

    def _settle(self, batch: Sequence[_Op[Any]]) -> None:
        for op in batch:
            if op.error is None and (op.events or op.companion is not None):
                try:
                    self.on_commit(op.companion, op.events)
                except Exception as exc:  # noqa: BLE001
                    # Committed and not in the log: later events must not overtake it. The next start completes it.
                    self.on_fault(exc)
        for op in batch:
            if op.future.done():
                continue
            if op.error is not None:
                op.future.set_exception(op.error)
            else:
                op.future.set_result(op.result)


def _raise(exc: Exception) -> None:
    raise exc


class DatabaseDamaged(Exception):  # noqa: N818  it says what is found
    """The file is corrupt; `args[0]` says how."""


def _is_damage(exc: Exception) -> bool:
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in damage


def _mark(path: Path) -> Path:
    """Stands beside a database in whose use damage showed."""
    return path.with_name(f"{path.name}.suspect")


def _connect(path: Path) -> sqlite3.Connection:
    try:
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, "not readable and writable for this user")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.close(fd)
        conn = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
    except (OSError, sqlite3.Error) as exc:
        if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
            raise HiveError("STORAGE_FULL") from exc
        raise HiveError("STORAGE_ERROR", f"The database {path} cannot be opened: {exc}") from exc
    conn.row_factory = sqlite3.Row
    return conn


def _prepare(conn: sqlite3.Connection, path: Path) -> None:
    try:
        conn.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"journal_size_limit={64 * 1024 * 1024}",
        ):
            conn.execute(f"PRAGMA {pragma}")
        mark = _mark(path)
        if path.stat().st_size <= CHECKED_BYTES or mark.exists():
            found = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise DatabaseDamaged(str(found))
            mark.unlink(missing_ok=True)
        _migrate(conn)
    except sqlite3.DatabaseError as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if _is_damage(exc):
            raise DatabaseDamaged(str(exc)) from exc
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise HiveError(
                "STORAGE_ERROR",
                f"Another process has locked {path}.",
                hint="End it (`fuser` shows it), then start again.",
            ) from exc
        raise _translate(exc) from exc


def load_migrations() -> list[tuple[int, str]]:
    """All migrations as (number, SQL), in order."""
    folder = resources.files("hivectl.store") / "migrations"
    found = [
        (int(item.name.removesuffix(".sql")), item.read_text())
        for item in folder.iterdir()
        if item.name.endswith(".sql")
    ]
    return sorted(found)


def _migrate(conn: sqlite3.Connection) -> None:
    at = conn.execute("PRAGMA user_version").fetchone()[0]
    migrations = load_migrations()
    newest = migrations[-1][0]
    if at > newest:
        raise HiveError(
            "STORAGE_ERROR",
            f"The database was written by a newer hivectl (schema {at}, this one knows {newest}).",
            hint="Upgrade hivectl.",
        )
    for number, sql in migrations:
        if number > at:
            conn.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={number};\nCOMMIT;")


def _translate(exc: Exception) -> HiveError:
    if isinstance(exc, HiveError):
        return exc
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (
        isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
    ):
        error = HiveError("STORAGE_FULL", retry_after_ms=1000)
    else:
        error = HiveError("STORAGE_ERROR", f"The database refused: {exc}")
    error.__cause__ = exc
    return error


def _rollback(conn: sqlite3.Connection) -> None:
    try:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
    except sqlite3.Error:
        # SQLite has rolled back by itself (it does on a full disk); nothing of ours is left to undo.
        return


def _close(conn: sqlite3.Connection) -> None:
    try:
        conn.execute("PRAGMA optimize")
    except sqlite3.Error:
        # Only a hint for the next start; a full disk must not keep us from closing.
        pass
    finally:
        conn.close()


def set_aside(path: Path, label: str) -> Path:
    """Move a damaged database (with its WAL) out of the way; returns where it lies now."""
    aside = path.with_name(f"{path.name}.corrupt-{label}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    _mark(path).unlink(missing_ok=True)
    return aside
