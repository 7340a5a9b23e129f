"""The one place where states of executions and work orders are assigned.

The tables of `hivectl.model.work` are applied here; the row count of each guarded UPDATE is checked, so
nobody overwrites a state he has not seen.
"""

from __future__ import annotations

from typing import Any

from hivectl.model.errors import HiveError
from hivectl.model.work import (
    EXECUTION_ENDS,
    EXECUTION_MOVES,
    ORDER_ENDS,
    ORDER_MOVES,
    Execution,
    ExecutionState,
    Order,
    OrderState,
)
from hivectl.store import rows, worktrees
from hivectl.store.database import Tx
from hivectl.store.pending import pending_of

__all__ = [
    "E_COLUMNS",
    "LIVE_SQL",
    "O_COLUMNS",
    "find",
    "find_order",
    "move",
    "move_order",
    "pending_of",
]

E_COLUMNS = rows.columns(Execution)
O_COLUMNS = rows.columns(Order)
LIVE_SQL = "('starting','running','waiting')"


def find(tx: Tx, ref: str) -> Execution:
    """The execution of an id, or the newest attempt of a work order's. Raises EXECUTION_NOT_FOUND."""
    by = "order_id" if ref.startswith("o_") else "id"
    row = tx.one(
        f"SELECT {E_COLUMNS} FROM executions WHERE {by} = ? ORDER BY attempt DESC LIMIT 1", ref
    )
    if row is None:
        raise HiveError(
            "EXECUTION_NOT_FOUND", f"There is no execution {ref!r}.", details={"execution": ref}
        )
    return rows.read(Execution, row)


def find_order(tx: Tx, ref: str) -> Order:
    """A work order, by its id or one of its executions'. Raises WORK_ORDER_NOT_FOUND."""
    of = "(SELECT order_id FROM executions WHERE id = ?)" if ref.startswith("x_") else "?"
    row = tx.one(f"SELECT {O_COLUMNS} FROM orders WHERE id = {of}", ref)
    if row is None:
        raise HiveError(
            "WORK_ORDER_NOT_FOUND", f"There is no work order {ref!r}.", details={"work_order": ref}
        )
    return rows.read(Order, row)


def move(tx: Tx, execution: Execution, to: ExecutionState, **changes: Any) -> None:
    """One step of an execution, with the columns that change with it. Raises INVALID_STATE."""
    if to not in EXECUTION_MOVES[execution.state]:
        allowed = sorted(EXECUTION_MOVES[execution.state])
        raise HiveError(
            "INVALID_STATE",
            f"Execution {execution.id} is {execution.state} and cannot become {to}.",
            details={"state": execution.state, "allowed": allowed},
        )
    assignments = "".join(f", {name} = ?" for name in changes)
    count = tx.run(
        f"UPDATE executions SET state = ?{assignments} WHERE id = ? AND state = ?",
        to, *changes.values(), execution.id, execution.state,
    )  # fmt: skip
    if count != 1:
        raise HiveError(
            "INVALID_STATE", f"Execution {execution.id} is no longer {execution.state}."
        )
    if to not in EXECUTION_ENDS:
        data: dict[str, Any] = {"state": to, "from": execution.state, "attempt": execution.attempt}
        data |= {name: value for name, value in changes.items() if name in _TOLD}
        if to is ExecutionState.WAITING:
            data["waiting_for"] = pending_of(tx, execution.id)
        tx.emit(execution.stream, "execution.state", data, execution=execution.id)


_TOLD = ("process", "pid", "session", "worker")


def move_order(
    tx: Tx,
    order: Order,
    to: OrderState,
    *,
    execution: str,
    actor: str | None = None,
    told: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """One step of a work order; `told` goes into the event beside what it always says. Raises INVALID_STATE."""
    if to not in ORDER_MOVES[order.state]:
        raise HiveError(
            "INVALID_STATE",
            f"Work order {order.id} is {order.state} and cannot become {to}.",
            details={"state": order.state, "allowed": sorted(ORDER_MOVES[order.state])},
        )
    changes["ended_us"] = tx.now_us if to in ORDER_ENDS else None
    assignments = "".join(f", {name} = ?" for name in changes)
    count = tx.run(
        f"UPDATE orders SET state = ?{assignments} WHERE id = ? AND state = ?",
        to, *changes.values(), order.id, order.state,
    )  # fmt: skip
    if count != 1:
        raise HiveError("INVALID_STATE", f"Work order {order.id} is no longer {order.state}.")
    if to in ORDER_ENDS:
        worktrees.order_ended(tx, order)
    data = {"work_order": order.id, "state": to, "from": order.state, "attempt": order.attempt}
    stream = f"project:{order.project}"
    tx.emit(stream, "work_order.state", data | (told or {}), execution=execution, actor=actor)
