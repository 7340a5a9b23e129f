"""What the parts that drive one execution share: its facts, its process and log, and their patience.

A full disk, a locked database or a frozen shim pass; a run's facts must not be lost meanwhile. So whatever
the machine may refuse for a while is asked again from here, and told once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from hivectl.config import Settings
from hivectl.engine import directory
from hivectl.engine.bus import Bus
from hivectl.engine.publisher import Companion, Publisher
from hivectl.journal.writer import Journal, StreamLog
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.model.errors import HiveError
from hivectl.model.work import Execution
from hivectl.ports import Agent, Conversation, Handle, ProcessHost, StopMode, StopReason
from hivectl.store import work
from hivectl.store.database import Database, Tx

_log = logging.getLogger(__name__)
T = TypeVar("T")

STORAGE_RETRY_S = 0.5
ADOPT_RETRY_S = 5.0
UNREACHABLE = frozenset({"UNAVAILABLE", "PROTOCOL_MISMATCH"})
RETRYABLE = frozenset({"STORAGE_FULL", "STORAGE_ERROR", "RESOURCE_LIMIT"})
"""A full disk, a database that somebody else has locked: a run's facts wait, they are not dropped."""
PASSING = directory.EXHAUSTED | {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN}
"""What the machine may refuse for a while."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What all runners share."""

    settings: Callable[[], Settings]
    clock: Clock
    db: Database
    journal: Journal
    publisher: Publisher
    bus: Bus
    host: ProcessHost
    agent: Agent
    nursery: Nursery
    deny_read: tuple[str, ...]


class Live:
    """One live execution, as its parts see it: the runner fills it in, reading and writing go by it."""

    def __init__(self, world: World, execution: Execution, *, is_adopting: bool) -> None:
        """`is_adopting` after a restart: its process may live, have ended, or never have started."""
        assert execution.process is not None
        self.world = world
        self.id = execution.id
        self.process = execution.process
        self.execution = execution
        """As last read or written here; others change the stored one too."""
        self.is_adopting = is_adopting
        self.handle: Handle | None = None
        self.conversation: Conversation | None = None
        self.stream: StreamLog | None = None
        self.stop = _stop_of(execution)
        self.signature: str | None = None
        """What the process was started as, where it may be kept warm for the next prompt."""

    @property
    def log(self) -> StreamLog:
        """The open log of its stream."""
        assert self.stream is not None
        return self.stream

    async def patiently(self, act: Callable[[], T]) -> T:
        """Do what the machine may refuse for a while for want of room, descriptors or memory."""
        is_told = False
        while True:
            try:
                return act()
            except OSError as exc:
                if exc.errno not in PASSING:
                    raise
                if not is_told:
                    _log.error(
                        "waiting for the machine", extra={"execution": self.id, "error": str(exc)}
                    )
                    is_told = True
                await asyncio.sleep(STORAGE_RETRY_S)

    async def insist(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask the shim for what must happen, however long it does not answer: it may be frozen with its run."""
        while True:
            try:
                return await ask()
            except HiveError as exc:
                if exc.code not in UNREACHABLE:
                    raise
                _log.warning(
                    "shim does not answer", extra={"execution": self.id, "error": exc.message}
                )
                await asyncio.sleep(ADOPT_RETRY_S)

    async def end_by(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder, after it is stored who wants it."""
        self.stop = (mode, reason)
        if self.handle is not None:
            await self.insist(partial(self.handle.stop, mode, reason))

    async def find(self) -> Execution:
        """As stored."""
        return await self.commit(lambda tx: work.find(tx, self.id))

    async def commit(self, change: Callable[[Tx], T], companion: Companion | None = None) -> T:
        """Write, and wait while the disk is full: a run's facts must not be dropped."""
        while True:
            try:
                return await self.world.db.write(change, companion)
            except HiveError as exc:
                if exc.code not in RETRYABLE:
                    raise
                await asyncio.sleep(STORAGE_RETRY_S)

    async def note(self, **changes: Any) -> None:
        """Change flags that are shown: stalled, retrying."""
        await self.commit(lambda tx: work.note(tx, self.id, **changes))


async def let_go(world: World, process: str, handle: Handle | None) -> None:
    """Give back what an ended process has; what is left of it is cleared at the next start."""
    try:
        if handle is not None:
            await handle.aclose()
        world.host.remove(process)
    except (HiveError, OSError):
        _log.warning("cannot clear a process", extra={"process_id": process}, exc_info=True)


def _stop_of(execution: Execution) -> tuple[StopMode, StopReason] | None:
    """How somebody wanted to stop it before the daemon ended."""
    if execution.stop_mode is None:
        return None
    return StopMode(execution.stop_mode), StopReason(execution.stop_reason or StopReason.USER)
