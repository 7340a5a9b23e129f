"""Who gets the next slot: the loop that claims, as soon as there may be something to claim."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Callable, Mapping
from contextlib import suppress

from hivectl.engine import capacity
from hivectl.engine.runner import Runner, World
from hivectl.kit.clock import MICROSECOND
from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.store import queue
from hivectl.store.database import Tx
from hivectl.store.queue import Claimed

_log = logging.getLogger(__name__)

CLAIM_RETRY_S = 0.5
DUE_MARGIN_S = 0.001
"""Added to the time until something is due: timers may be a little early."""
LOOK_AGAIN_S = 60.0
"""Longest sleep while something is held back until a time: the machine's clock may be set meanwhile."""
DESCRIPTORS_OF_RUN = 16
"""What a live run has open in the daemon (about 8), and what its start needs for a moment."""
DESCRIPTORS_KEPT = 64
"""Never used up by runs: connections, the database, logs that are opened."""


class Claims:
    """Gives out slots; what becomes of a claim is the engine's."""

    def __init__(
        self,
        world: World,
        runners: Mapping[str, Runner],
        *,
        begin: Callable[[Claimed], None],
        after: Callable[[], None],
        is_draining: Callable[[], bool],
    ) -> None:
        """`begin` takes what was claimed, `after` is called after each look; nothing happens before `run`."""
        self._w = world
        self._runners = runners
        self._begin = begin
        self._after = after
        self._is_draining = is_draining
        self._wake = asyncio.Event()
        self._had_descriptors = True

    def wake(self) -> None:
        """Something was queued, released or answered, or a slot or lane became free."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            due_us = await self._claim_all()
            self._after()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_s(due_us)):
                    await self._wake.wait()
            self._wake.clear()

    def _until_s(self, due_us: int | None) -> float | None:
        """How long the queue may be left alone: until something held back is due, or somebody wakes us."""
        if due_us is None:
            return None
        left = (due_us - self._w.clock.now_us()) / MICROSECOND
        return min(max(left, 0.0) + DUE_MARGIN_S, LOOK_AGAIN_S)

    async def _claim_all(self) -> int | None:
        """Give out slots until there is nothing to give; when something held back is due."""
        while True:
            claimed, due_us = await self._claim_one()
            if claimed is None:
                return due_us
            self._begin(claimed)

    async def _claim_one(self) -> tuple[Claimed | None, int | None]:
        if self._runners and not self._has_descriptors():
            # What runs must be able to open what it needs; the next one starts when something has ended.
            return None, self._soon_us()
        caps = capacity.caps(self._w.settings(), only_resume=self._is_draining())
        process = make_id("pr")

        def turn(tx: Tx) -> tuple[Claimed | None, int | None]:
            due_us = queue.release_due(tx)
            return queue.claim(tx, caps, process=process), due_us

        try:
            return await self._w.db.write(turn)
        except HiveError as exc:
            _log.error("cannot claim", extra={"code": exc.code, "error": exc.message})
            return None, self._soon_us()

    def _soon_us(self) -> int:
        return self._w.clock.now_us() + int(CLAIM_RETRY_S * MICROSECOND)

    def _has_descriptors(self) -> bool:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            return True
        try:
            used = sum(1 for _ in os.scandir("/dev/fd"))
        except OSError:
            return False
        starting = sum(runner.pid is None for runner in self._runners.values())
        has = used + DESCRIPTORS_OF_RUN * (starting + 1) + DESCRIPTORS_KEPT <= limit
        if has is not self._had_descriptors:
            self._had_descriptors = has
            _log.warning("descriptors", extra={"enough": has, "used": used, "limit": limit})
        return has
