"""The wall clock of one execution: it stands still while a person thinks."""

from __future__ import annotations

from functools import partial

from hivectl.engine.live import Live
from hivectl.model.work import Execution, ExecutionState


class Deadline:
    """The limit on one execution's time, kept by its shim."""

    def __init__(self, live: Live) -> None:
        """It runs from the start on."""
        self._live = live
        self.is_lifted = False

    async def tend(self, execution: Execution) -> None:
        """Let the wall clock stand or run, as the state says: two decide (the reading, and each answer)."""
        is_waiting = execution.state is ExecutionState.WAITING
        if is_waiting is not self.is_lifted:
            await self.set(None if is_waiting else self._time_left(execution))

    async def set(self, seconds: float | None) -> None:
        """Replace it, counted from now; None lifts it."""
        assert self._live.handle is not None
        self.is_lifted = seconds is None
        await self._live.insist(partial(self._live.handle.set_deadline, seconds))

    def _time_left(self, execution: Execution) -> float:
        limit = execution.options.get("timeout_s") or self._live.world.settings().seconds(
            "execution.timeout_s"
        )
        used = (
            self._live.world.clock.now_us()
            - (execution.started_us or execution.created_us)
            - execution.waited_us
        )
        return max(0.1, float(limit) - used / 1_000_000)
