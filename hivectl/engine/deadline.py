"""The clock of one execution: it stands still while a person thinks, and nobody's setting of the time moves it."""

from __future__ import annotations

from functools import partial

from hivectl.engine.live import Live
from hivectl.kit.clock import MICROSECOND
from hivectl.model.work import Execution, ExecutionState


class Deadline:
    """The limit on one execution's time, kept by its shim."""

    def __init__(self, live: Live) -> None:
        """It runs from now on."""
        self._live = live
        self.is_lifted = False
        self._ran_s = 0.0
        """How long it had run at `_since`."""
        self._since = live.world.clock.monotonic()

    async def adopt(self, execution: Execution) -> None:
        """Take it over from the daemon before us: what is stored is all that is known of its time."""
        now_us = execution.waiting_since_us or self._live.world.clock.now_us()
        begun_us = execution.started_us or execution.created_us
        self._ran_s = max(0.0, (now_us - begun_us - execution.waited_us) / MICROSECOND)
        self._since = self._live.world.clock.monotonic()
        is_waiting = execution.state is ExecutionState.WAITING
        await self.set(None if is_waiting else self._time_left(execution))

    async def tend(self, execution: Execution) -> None:
        """Let the clock stand or run, as the state says: two decide (the reading, and each answer)."""
        is_waiting = execution.state is ExecutionState.WAITING
        if is_waiting is not self.is_lifted:
            await self.set(None if is_waiting else self._time_left(execution))

    async def set(self, seconds: float | None) -> None:
        """Replace it, counted from now; None lifts it."""
        assert self._live.handle is not None
        self._ran_s = self._used_s()
        self._since = self._live.world.clock.monotonic()
        self.is_lifted = seconds is None
        await self._live.insist(partial(self._live.handle.set_deadline, seconds))

    def _used_s(self) -> float:
        if self.is_lifted:
            return self._ran_s
        return self._ran_s + self._live.world.clock.monotonic() - self._since

    def _time_left(self, execution: Execution) -> float:
        limit = execution.options.get("timeout_s") or self._live.world.settings().seconds(
            "execution.timeout_s"
        )
        return max(0.1, float(limit) - self._used_s())
