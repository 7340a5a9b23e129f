"""From commit to log to eyes: the one place where events and messages get their sequence number.

Called by the store on the event loop after each commit, in commit order, and by runners for what Claude
says. When the log cannot be written (disk full) what was committed waits here in order, and nothing of
the stream is shown before it; the outbox keeps it if the daemon dies meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from hivectl.engine.bus import Bus
from hivectl.journal.record import Draft, Entry, bytes_of, count_of
from hivectl.journal.recovery import JournalFormatError
from hivectl.journal.writer import Journal
from hivectl.kit import failpoint
from hivectl.kit.aio import Nursery
from hivectl.model.errors import HiveError
from hivectl.store.database import Database, OutboxEvent, Tx

_log = logging.getLogger(__name__)

RETRY_S = 0.5
"""How often a log that could not be written is tried again."""
_EVENT_COLUMNS = ("id", "stream", "ts", "type", "data", "execution", "session", "request", "actor")
TRIM_S = 1.0
"""How long after an event its outbox row is removed, once the log is synced."""

_FAILPOINTS = {
    "execution.created": "enqueue_after_commit",
    "execution.ended": "end_after_commit",
    "approval.requested": "approval_after_commit",
}


class Companion(msgspec.Struct, frozen=True):
    """Messages that belong before the events of the same commit."""

    stream: str
    entries: Sequence[Entry]


class Publisher:
    """Appends to the journal and tells the bus; keeps order when the disk is full."""

    def __init__(self, journal: Journal, bus: Bus, nursery: Nursery) -> None:
        """`attach` must follow before anything is committed."""
        self._journal = journal
        self._bus = bus
        self._nursery = nursery
        self._db: Database | None = None
        self._held: dict[str, list[Entry]] = {}
        self._clear = asyncio.Event()
        self._clear.set()
        self._appended = 0
        self._touched: dict[str, int] = {}
        """The newest event of each stream that still has rows in the outbox."""
        self._trim: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_broken = False
        self.events = 0
        """Records written since the start."""
        self.bytes = 0
        """Bytes of their data."""
        self.on_event: Callable[[OutboxEvent], None] = lambda _event: None
        self.before_forgetting: Callable[[Tx, int], None] = lambda _tx, _upto: None
        """Called in the store's thread and transaction before outbox rows up to an id go: what is made of
        them there is made exactly once, whenever the daemon dies."""

    def attach(self, db: Database) -> None:
        """Hear of every commit of `db`."""
        self._db = db
        db.on_commit = self._on_commit

    async def recover(self) -> int:
        """Append what was committed but did not reach the log before the last end. Returns how many."""
        assert self._db is not None
        missing = 0
        for row in await self._db.all("SELECT * FROM outbox ORDER BY id"):
            self._appended = row["id"]
            self._touched[row["stream"]] = row["id"]
            if self._is_missing(row["stream"], row["id"]):
                event = OutboxEvent(*(row[name] for name in _EVENT_COLUMNS))
                self.append(event.stream, [_draft(event)])
                missing += 1
        self._schedule_trim()
        return missing

    def _is_missing(self, stream: str, id_: int) -> bool:
        """Whether the log lacks an event. One that cannot be opened lacks all, and must not keep the daemon from starting."""
        try:
            return id_ > self._journal.open(stream).last_outbox
        except (OSError, JournalFormatError):
            return True

    def is_held(self, stream: str) -> bool:
        """Whether this log cannot be written at the moment."""
        return stream in self._held

    @property
    def is_blocked(self) -> bool:
        """Whether some log cannot be written at the moment."""
        return bool(self._held)

    def append(self, stream: str, entries: Sequence[Entry]) -> bool:
        """Number, write and announce. False when the log could not be written: then it happens later."""
        if not entries:
            return True
        if self._is_broken:
            # Nothing may overtake what a fault kept out of the log; the next start completes it.
            self._held.setdefault(stream, []).extend(entries)
            return False
        if (held := self._held.get(stream)) is not None:
            held.extend(entries)
            return False
        if not self._write(stream, entries):
            self._held[stream] = list(entries)
            self._clear.clear()
            _ = self._nursery.start(self._retry(stream), name=f"log of {stream}")
            return False
        return True

    async def wait_clear(self, stream: str) -> None:
        """Return when nothing of the stream is held: a reader of output must not run ahead of a full disk."""
        while stream in self._held:
            await self._clear.wait()
            if stream in self._held:
                await asyncio.sleep(RETRY_S)

    def position(self, stream: str) -> tuple[str, int]:
        """Epoch and newest sequence number of a stream."""
        log = self._journal.open(stream)
        return log.epoch, log.last_seq

    def positions(self) -> dict[str, tuple[str, int]]:
        """The same for every stream that was appended to, or looked at, since the start."""
        return {stream: self.position(stream) for stream in self._bus.opened()}

    def forget(self, stream: str) -> None:
        """The stream is about to be removed: neither sync nor retry it."""
        self._touched.pop(stream, None)
        self._held.pop(stream, None)
        self._bus.forget(stream)

    async def close(self) -> None:
        """Remove what the log has from the outbox."""
        self._is_closed = True
        if self._trim is not None:
            self._trim.cancel()
        if self._db is not None and self._touched:
            await self._trim_outbox()

    def _on_commit(self, companion: Companion | None, events: list[OutboxEvent]) -> None:
        if self._is_broken:
            return  # in the outbox it waits for the next start
        try:
            self._publish(companion, events)
        except Exception:
            self._is_broken = True
            self._clear.clear()
            raise

    def _publish(self, companion: Companion | None, events: list[OutboxEvent]) -> None:
        for event in events:
            if (name := _FAILPOINTS.get(event.type)) is not None:
                failpoint.hit(name)
        batches: dict[str, list[Entry]] = {}
        if companion is not None:
            batches[companion.stream] = list(companion.entries)
        for event in events:
            batches.setdefault(event.stream, []).append(_draft(event))
        for stream, entries in batches.items():
            self.append(stream, entries)
        for event in events:
            self.on_event(event)
        if events:
            self._appended = events[-1].id
            self._touched.update((event.stream, event.id) for event in events)
            self._schedule_trim()

    def _write(self, stream: str, entries: Sequence[Entry]) -> bool:
        try:
            if entries:
                self._journal.open(stream).append(entries)
        except (OSError, JournalFormatError) as exc:
            _log.error("log cannot be written", extra={"stream": stream, "error": str(exc)})
            return False
        self.events += count_of(entries)
        self.bytes += bytes_of(entries)
        self._bus.notify(stream, entries)
        return True

    async def _retry(self, stream: str) -> None:
        while stream in self._held:
            await asyncio.sleep(RETRY_S)
            if self._is_broken:
                return
            late = [
                entry
                for entry in self._held.get(stream, [])
                if not _outbox(entry) or self._is_missing(stream, _outbox(entry))
            ]
            if stream in self._held and self._write(stream, late):
                del self._held[stream]
        _log.info("log is written again", extra={"stream": stream})
        if not self._held:
            self._clear.set()

    def _schedule_trim(self) -> None:
        if self._trim is None and not self._is_closed:
            self._trim = asyncio.get_running_loop().call_later(TRIM_S, self._start_trim)

    def _start_trim(self) -> None:
        self._trim = None
        if not self._is_closed:
            _ = self._nursery.start(self._try_trim(), name="outbox")

    async def _try_trim(self) -> None:
        try:
            await self._trim_outbox()
        except (HiveError, OSError) as exc:
            _log.warning("the outbox is trimmed later", extra={"error": str(exc)})
            self._schedule_trim()

    async def _trim_outbox(self) -> None:
        assert self._db is not None
        if self._is_broken:
            return
        upto, touched = self._appended, dict(self._touched)
        held = [
            ob for entries in self._held.values() for entry in entries if (ob := _outbox(entry))
        ]
        if held:
            upto = min(held) - 1
        for stream in touched:
            if stream in self._touched:  # else it was removed meanwhile
                await self._journal.open(stream).sync()
        await self._db.write(lambda tx: self._forget(tx, upto))
        for stream, newest in touched.items():
            if self._touched.get(stream) == newest:
                del self._touched[stream]

    def _forget(self, tx: Tx, upto: int) -> None:
        self.before_forgetting(tx, upto)
        tx.run("DELETE FROM outbox WHERE id <= ?", upto)


def _outbox(entry: Entry) -> int:
    """The id of the event an entry tells of; 0 for lines of output."""
    return entry.ob if isinstance(entry, Draft) else 0


def _draft(event: OutboxEvent) -> Draft:
    return Draft(
        event.type,
        event.data,
        event.ts,
        event.execution,
        event.session,
        event.request,
        event.actor,
        ob=event.id,
    )
