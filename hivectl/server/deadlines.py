"""One timer for the deadlines of all connections; there is none while nothing is due."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from hivectl.kit.clock import Clock

TICK_S = 0.02
"""Deadlines closer together than this are served together."""


class Ticking(Protocol):
    """What has deadlines."""

    def tick(self, now: float) -> float:
        """Do what is due; return when something is due next (math.inf = nothing)."""
        ...


class Deadlines:
    """One for the server; lives on the event loop. Times are the clock's monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._due: dict[Ticking, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def remove(self, one: Ticking) -> None:
        """It has no deadlines any more."""
        self._due.pop(one, None)
        if not self._due:
            self.close()

    def wake(self, one: Ticking, due: float) -> None:
        """Call its `tick` at `due` at the latest."""
        if due < self._due.get(one, math.inf):
            self._due[one] = due
            self._set_timer(due)

    def close(self) -> None:
        """Wake nobody any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf

    def _set_timer(self, due: float) -> None:
        if due >= self._timer_at - TICK_S:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        delay = max(due - self._clock.monotonic(), TICK_S)
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._clock.monotonic()
        for one in [one for one, due in self._due.items() if due <= now]:
            if one in self._due:
                self._due[one] = math.inf
                self.wake(one, one.tick(now))
        if self._due:
            self._set_timer(min(self._due.values()))
