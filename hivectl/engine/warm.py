"""Warm sessions: a process that has done its work waits for the next prompt of its conversation.

It is used again only for a start that would be the same in every respect; all else closes it first, so that
two processes never have one conversation. While it waits it belongs to no execution: its shim ends it when
the daemon does not come back, and a restart sweeps it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from hivectl.engine.live import World, let_go
from hivectl.journal.writer import StreamLog
from hivectl.logic.environment import MARK
from hivectl.model.errors import HiveError
from hivectl.model.work import Execution
from hivectl.ports import AgentInfo, Handle, Launch, StopMode, StopReason

_log = logging.getLogger(__name__)

ALONE_S = 60.0
"""How much longer than an idle conversation a waiting process lives when no daemon closes it."""
CLOSE_S = 30.0
"""How long a waiting process may take to end by itself: what its shim gives it, and its stop ladder."""
OUTPUT_SHARE = 10
"""A process that has written this part of the most output is not kept: the limit is that of one execution."""


class Parked(msgspec.Struct, kw_only=True):
    """A process that waits, with all that whoever takes it over needs."""

    process: str
    handle: Handle
    session: str
    execution: str
    """The last one it carried: what its descendants count as."""
    stream: StreamLog
    signature: str
    out: int
    err: int
    """How far its output is in the log."""
    watcher: asyncio.Task[Any] | None = None


def signature_of(launch: Launch, info: AgentInfo, *, trust_hash: str | None) -> str:
    """What must be the same for a process to carry another prompt. `launch` names no session and no
    execution; what cannot be told apart by it (the executable's version, trusted files) is added."""
    env = {name: value for name, value in sorted(launch.env.items()) if name != MARK}
    facts = replace(launch, env=env, mark="", files={}, deadline_s=None)
    files = sorted(launch.files.items())
    return hashlib.sha256(repr((facts, files, info, trust_hash)).encode()).hexdigest()


def has_done_well(execution: Execution) -> bool:
    """Claude's verdict is stored, it is a success, and nobody wants the process gone; nor has it a budget
    of its own."""
    verdict = execution.verdict
    if verdict is None or execution.stop_mode is not None:
        return False
    if execution.options.get("max_budget_usd") is not None:
        return False  # Claude counts it for its process: the next prompt would find it used
    return verdict["subtype"] == "success" and not verdict["is_error"]


def is_sound(handle: Handle) -> bool:
    """It lives, and its shim with it."""
    return handle.exit is None and handle.is_supervised


class Parking:
    """The processes that wait, at most one a conversation."""

    def __init__(self, world: World) -> None:
        """Empty; open until `close_all`."""
        self._w = world
        self._parked: dict[str, Parked] = {}
        """By session, the one that waits longest first."""
        self._closing: dict[str, asyncio.Event] = {}
        self.is_open = True

    @property
    def parked(self) -> list[Parked]:
        """All that wait."""
        return list(self._parked.values())

    def find(self, session: str) -> Parked | None:
        """The process that waits for this conversation's next prompt."""
        return self._parked.get(session)

    async def settle(self, handle: Handle) -> None:
        """Let the clocks of a process be those of one that waits. Raises HiveError UNAVAILABLE."""
        idle_s = self._w.settings().seconds_or_none("session.idle_s")
        await handle.set_deadline(None if idle_s is None else idle_s + ALONE_S)

    def park(self, parked: Parked) -> None:
        """Keep a process whose execution is about to end; the one that waits longest makes room."""
        if (other := self._parked.pop(parked.session, None)) is not None:
            self._begin_close(other)
        self._parked[parked.session] = parked
        parked.watcher = self._w.nursery.start(self._watch(parked), name=f"warm {parked.process}")
        excess = len(self._parked) - self._w.settings().number("session.max_warm")
        for oldest in self.parked[: max(0, excess)]:
            self._drop(oldest)

    async def take(self, session: str, signature: str | None) -> Parked | None:
        """The process for the next prompt of a conversation, when it fits; else none is left when this returns."""
        parked = self._parked.get(session)
        if parked is not None:
            fits = parked.signature == signature and is_sound(parked.handle) and self.is_open
            if fits:
                self._remove(parked)
                return parked
            self._drop(parked)
        if (closing := self._closing.get(session)) is not None:
            await closing.wait()
        return None

    def close(self, session: str) -> None:
        """Begin to close the process of a conversation, if there is one."""
        if (parked := self._parked.get(session)) is not None:
            self._drop(parked)

    def close_stream(self, stream: str) -> None:
        """Begin to close all of one project."""
        for parked in self.parked:
            if parked.stream.stream == stream:
                self._drop(parked)

    async def close_all(self, *, within_s: float) -> None:
        """Keep nothing any more, and wait until what is there is gone."""
        self.is_open = False
        for parked in self.parked:
            self._drop(parked)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for closing in list(self._closing.values()):
                    await closing.wait()

    # --- one of them --------------------------------------------------------------------------------

    def _remove(self, parked: Parked) -> None:
        self._parked.pop(parked.session, None)
        if parked.watcher is not None:
            parked.watcher.cancel()

    def _drop(self, parked: Parked) -> None:
        self._remove(parked)
        self._begin_close(parked)

    def _begin_close(self, parked: Parked) -> None:
        self._closing[parked.session] = done = asyncio.Event()
        task = self._w.nursery.start(self._close(parked), name=f"closing {parked.process}")
        task.add_done_callback(lambda _task: self._closed(parked.session, done))

    def _closed(self, session: str, done: asyncio.Event) -> None:
        done.set()
        if self._closing.get(session) is done:
            del self._closing[session]

    async def _close(self, parked: Parked) -> None:
        """Its input ends, and so it does; one that does not is killed."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await parked.handle.close_stdin(hang=True)
                await parked.handle.wait_exit()
        except (HiveError, TimeoutError):
            _log.warning("a warm process does not end", extra={"process_id": parked.process})
            with suppress(HiveError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await parked.handle.stop(StopMode.KILL, StopReason.SHUTDOWN)
                    await parked.handle.wait_exit()
        await self._clear(parked)

    async def _watch(self, parked: Parked) -> None:
        """One that ends while it waits is gone; the next prompt starts another."""
        await parked.handle.wait_exit()
        if self._parked.get(parked.session) is parked:
            del self._parked[parked.session]
        _log.info("a warm process ended by itself", extra={"process_id": parked.process})
        await self._clear(parked)

    async def _clear(self, parked: Parked) -> None:
        parked.stream.forget_source(parked.process)
        await let_go(self._w, parked.process, parked.handle)
