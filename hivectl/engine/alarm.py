"""One thing that is to happen at times which are stored: asleep until then, at no cost.

A restart computes the time anew; a change of what is stored, or of the settings, wakes it early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hivectl.kit.clock import Clock

MICROSECOND = 1_000_000


class Alarm:
    """Calls `ring` when its time has come; `ring` says when the next time is."""

    def __init__(self, clock: Clock, ring: Callable[[], Awaitable[int | None]]) -> None:
        """`ring` does what is due and returns the next time (microseconds since the epoch), or None when
        nothing is to come before a `wake`."""
        self._clock = clock
        self._ring = ring
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look again now: what is stored has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Ring and sleep, for ever; at once the first time."""
        while True:
            self._wake.clear()
            due_us = await self._ring()
            left_s = None if due_us is None else (due_us - self._clock.now_us()) / MICROSECOND
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
