"""The measures of the daemon (`stats`), shown every ten seconds while somebody wants them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hivectl.engine.bus import Bus
from hivectl.kit.clock import Clock
from hivectl.server.deadlines import Deadlines
from hivectl.server.limits import STATS_S

Stats = Callable[[], Awaitable[dict[str, Any]]]
Run = Callable[[Coroutine[Any, Any, None], str], None]


class Measures:
    """One for the server."""

    def __init__(
        self, bus: Bus, clock: Clock, deadlines: Deadlines, *, stats: Stats, run: Run
    ) -> None:
        """`run(work, name)` starts a task."""
        self._bus = bus
        self._clock = clock
        self._deadlines = deadlines
        self._stats = stats
        self._run = run
        self._due = math.inf

    def want(self, *, is_wanted: bool) -> None:
        """Whether somebody follows them now."""
        if not is_wanted:
            self._due = math.inf
            self._deadlines.remove(self)
        elif self._due == math.inf:
            self._due = self._clock.monotonic() + STATS_S
            self._deadlines.wake(self, self._due)

    def tick(self, now: float) -> float:
        """Show them when they are due."""
        if now >= self._due:
            self._due = now + STATS_S
            self._run(self._show(), "stats")
        return self._due

    async def _show(self) -> None:
        self._bus.ephemeral("system", "stats", await self._stats())
