"""Approvals whose time is over decide themselves: at stored times, so after a restart too."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from hivectl.engine import permission
from hivectl.engine.alarm import MICROSECOND, Alarm
from hivectl.engine.live import RETRYABLE, World
from hivectl.model.approval import Approval
from hivectl.model.errors import HiveError
from hivectl.store import people
from hivectl.store.database import OutboxEvent, Tx

_log = logging.getLogger(__name__)

BATCH = 100
"""Approvals looked up at once; each is decided in a transaction of its own."""
RETRY_S = 5.0
"""How soon it is tried again on a full disk."""


class Expiring:
    """Decides approvals nobody answered in time."""

    def __init__(
        self, world: World, decide: Callable[[Callable[[Tx], Approval]], Awaitable[Approval]]
    ) -> None:
        """`decide` stores a decision and lets Claude hear it. Nothing happens before `alarm` runs."""
        self._w = world
        self._decide = decide
        self.alarm = Alarm(world.clock, self.look)

    def on_event(self, event: OutboxEvent) -> None:
        """One that was asked just now may be the next to end."""
        if event.type == "approval.requested":
            self.alarm.wake()

    async def look(self) -> int | None:
        """Decide what is due. Returns when the next one is."""
        try:
            while True:
                row = await self._w.db.one(people.NEXT_EXPIRY)
                due_us: int | None = row["due_us"] if row is not None else None
                if due_us is None or due_us > self._w.clock.now_us():
                    return due_us
                for approval in await self._w.db.write(lambda tx: people.expired(tx, limit=BATCH)):
                    await self._expire(approval)
        except HiveError as exc:
            if exc.code not in RETRYABLE:
                raise
            _log.error("approvals cannot be decided yet", extra={"code": exc.code})
            return self._w.clock.now_us() + int(RETRY_S * MICROSECOND)

    async def _expire(self, approval: Approval) -> None:
        try:
            decided = await self._decide(partial(permission.expire, approval=approval))
        except HiveError as exc:
            if exc.code != "ALREADY_DECIDED":
                raise
            return  # somebody answered at the last moment, and that counts
        _log.info(
            "nobody answered in time", extra={"approval": decided.id, "decision": decided.decision}
        )
