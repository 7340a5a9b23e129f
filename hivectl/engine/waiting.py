"""Who waits for the end of an execution or a work order, and hears of it."""

from __future__ import annotations

import asyncio

from hivectl.model.errors import HiveError
from hivectl.model.work import EXECUTION_ENDS, ORDER_ENDS, Execution, ExecutionState, Order
from hivectl.store import work
from hivectl.store.database import Database, OutboxEvent, Tx


class Waiting:
    """Waiters by what they wait for: an execution's id, or an order's where it was named by that."""

    def __init__(self, db: Database) -> None:
        """Nobody waits yet."""
        self._db = db
        self._waiters: dict[str, set[asyncio.Event]] = {}

    async def wait(self, ref: str, *, timeout_s: float | None, or_waiting: bool) -> Execution:
        """Return when the execution has ended; of a work order when it will not be tried again by itself.

        Raises WAIT_TIMEOUT."""
        changed = asyncio.Event()
        execution, _ = await self._db.write(lambda tx: _look(tx, ref))
        key = ref if ref.startswith("o_") else execution.id
        waiters = self._waiters.setdefault(key, set())
        waiters.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    changed.clear()
                    execution, order = await self._db.write(lambda tx: _look(tx, ref))
                    is_over = execution.state in EXECUTION_ENDS
                    if key == ref and ref.startswith("o_"):
                        is_over = order.state in ORDER_ENDS
                    if is_over or (or_waiting and execution.state is ExecutionState.WAITING):
                        return execution
                    await changed.wait()
        except TimeoutError:
            raise HiveError(
                "WAIT_TIMEOUT",
                f"Execution {execution.id} was still {execution.state} after {timeout_s:g} s.",
                details={"execution": execution.id, "state": execution.state},
            ) from None
        finally:
            waiters.discard(changed)
            if not waiters:
                self._waiters.pop(key, None)

    def on_event(self, event: OutboxEvent) -> None:
        """Something happened to an execution."""
        if event.execution is not None and event.type.startswith("execution."):
            self._tell(event.execution)
        if self._waiters and event.type in ("work_order.state", "execution.state"):
            self._tell_orders()

    def _tell(self, key: str) -> None:
        for changed in self._waiters.get(key, ()):
            changed.set()

    def _tell_orders(self) -> None:
        """Who waits for an order hears of its attempts too: which order is it, an event of a state does not say."""
        for key in [key for key in self._waiters if key.startswith("o_")]:
            self._tell(key)


def _look(tx: Tx, ref: str) -> tuple[Execution, Order]:
    execution = work.find(tx, ref)
    return execution, work.find_order(tx, execution.order_id)
