"""The keep-alive policy: idle conversations end in time, after a restart too; active ones never do."""

from __future__ import annotations

import logging

from hivectl.engine.alarm import MICROSECOND, Alarm
from hivectl.engine.live import RETRYABLE, World
from hivectl.model.errors import HiveError
from hivectl.store import sessions

_log = logging.getLogger(__name__)

BATCH = 200
"""Conversations ended in one transaction."""
RETRY_S = 5.0
"""How soon it is tried again on a full disk."""


class KeepAlive:
    """Ends conversations whose time has come."""

    def __init__(self, world: World) -> None:
        """Nothing happens before `alarm` runs."""
        self._w = world
        self.alarm = Alarm(world.clock, self.look)

    async def look(self) -> int | None:
        """End what is due. Returns when the next one is."""
        keep = policy(self._w)
        try:
            while True:
                due_us = await sessions.next_due_us(self._w.db, keep)
                if due_us is None or due_us > self._w.clock.now_us():
                    return due_us
                ended = await self._w.db.write(lambda tx: sessions.expire(tx, keep, limit=BATCH))
                _log.info("conversations ended", extra={"count": len(ended)})
        except HiveError as exc:
            if exc.code not in RETRYABLE:
                raise
            _log.error("conversations cannot be ended yet", extra={"code": exc.code})
            return self._w.clock.now_us() + int(RETRY_S * MICROSECOND)


def policy(world: World) -> sessions.KeepAlive:
    """The policy as configured now."""
    settings = world.settings()
    return sessions.KeepAlive(
        settings.seconds_or_none("session.idle_s"), settings.seconds_or_none("session.max_age_s")
    )
