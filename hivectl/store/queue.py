"""The queue in SQL: who is next, what holds whom back, and what people do to it."""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.model.errors import HiveError
from hivectl.model.work import (
    Execution,
    ExecutionState,
    Hold,
    Order,
    OrderState,
)
from hivectl.model.worker import LOCAL_POOL
from hivectl.store import attempts, lanes, projects, rows, usage, workers
from hivectl.store.database import Tx
from hivectl.store.moves import LIVE_SQL, O_COLUMNS, find, find_order, move, move_order
from hivectl.store.work import BOOST_US

ALL = "*"
DUE_BATCH = 1000
"""Most orders that become due in one transaction; the rest in the next."""
BEHIND_MAX = 1000
"""So many of the oldest orders are looked at for one behind a user whose budget is used up."""


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """How much may run at once. `per_user` 0 means no cap."""

    max_live: int
    max_waiting: int = 1_000_000
    per_user: int = 0
    only_resume: bool = False
    """Start nothing new: the daemon drains."""


class Claimed(msgspec.Struct, frozen=True):
    """An execution that has a slot now."""

    execution: Execution
    is_resumed: bool
    """It waited for a person and was answered; its process lives."""


# --- who is next -----------------------------------------------------------------------------------


def claim(tx: Tx, caps: Caps, *, process: str) -> Claimed | None:
    """Give the next in line a slot of this daemon: one that was answered, or the head of a free lane."""
    slot = workers.free_slot(tx)
    running, waiting = _live(tx)
    if slot is None or running >= caps.max_live:
        return None
    answered = tx.one(  # never of a worker outside: that goes on by itself
        "SELECT id, wants_slot FROM executions WHERE wants_slot IS NOT NULL AND process IS NOT NULL ORDER BY wants_slot, id LIMIT 1"
    )
    head = None
    if not caps.only_resume and waiting < caps.max_waiting:
        head = next_head(tx, LOCAL_POOL, per_user=caps.per_user)
    if answered is not None and (head is None or answered["wants_slot"] <= head["head_rank"]):
        return Claimed(_resume(tx, answered["id"], slot), is_resumed=True)
    if head is None:
        return None
    return Claimed(start(tx, head["head"], slot, process=process), is_resumed=False)


def has_room(tx: Tx, caps: Caps) -> bool:
    """Whether anything new may start at all."""
    running, waiting = _live(tx)
    return running < caps.max_live and waiting < caps.max_waiting


def _live(tx: Tx) -> tuple[int, int]:
    """How many executions run, and how many wait for people: by the index of the live ones."""
    row = tx.one(
        "SELECT total(state <> 'waiting') AS running, total(state = 'waiting') AS waiting FROM executions"
        f" WHERE state IN {LIVE_SQL}"
    )
    assert row is not None
    return int(row["running"]), int(row["waiting"])


def next_head(tx: Tx, pool: str, *, per_user: int) -> Any:
    """The row (lane, head, head_rank) that is next in a pool; None when nothing may be claimed."""
    if tx.one("SELECT 1 FROM pauses WHERE scope = ?", ALL) is not None:
        return None
    capped = _capped(tx, per_user)
    but = f" AND head_actor NOT IN ({','.join('?' for _ in capped)})" if capped else ""
    head = tx.one(
        "SELECT lane, head, head_rank FROM lanes WHERE pool = ? AND busy = 0 AND paused = 0 AND head IS NOT NULL"
        f"{but}{_WITHIN_BUDGET} ORDER BY head_rank, head LIMIT 1",
        pool, *capped, tx.now_us, tx.now_us,
    )  # fmt: skip
    behind = _behind_blocked(tx, pool, capped)
    if behind is not None and (head is None or behind["head_rank"] < head["head_rank"]):
        return behind
    return head


def _behind_blocked(tx: Tx, pool: str, capped: list[str]) -> Any:
    """What stands behind the head of a user who may run no more now, by his cap or his budget: he holds
    nobody else back."""
    barred = [*usage.blocked_users(tx), *capped]
    if not barred:
        return None
    marks = ",".join("?" for _ in barred)
    return tx.one(
        "SELECT o.lane, o.id AS head, o.rank AS head_rank FROM (SELECT id, lane, rank, actor FROM orders"
        " WHERE state = 'queued' AND hold IS NULL ORDER BY rank, id LIMIT ?) o JOIN lanes l ON l.lane = o.lane"
        f" WHERE l.pool = ? AND l.busy = 0 AND l.paused = 0 AND l.head_actor IN ({marks}) AND o.actor NOT IN ({marks})"
        " AND l.project NOT IN (SELECT key FROM budget_blocks WHERE scope = 'project' AND until_us > ?)"
        " ORDER BY o.rank, o.id LIMIT 1",
        BEHIND_MAX, pool, *barred, *barred, tx.now_us,
    )  # fmt: skip


_WITHIN_BUDGET = (
    " AND project NOT IN (SELECT key FROM budget_blocks WHERE scope = 'project' AND until_us > ?)"
    " AND head_actor NOT IN (SELECT key FROM budget_blocks WHERE scope = 'user' AND until_us > ?)"
)


def _capped(tx: Tx, per_user: int) -> list[str]:
    """Who runs as much at once as one user may."""
    if per_user <= 0:
        return []
    found = tx.all(
        "SELECT actor FROM executions WHERE state IN ('starting','running') GROUP BY actor HAVING count(*) >= ?",
        per_user,
    )
    return [row["actor"] for row in found]


def start(tx: Tx, order: str, worker: str, *, process: str | None) -> Execution:
    """The order is claimed by the worker, its execution starts."""
    execution = find(tx, order)
    move_order(
        tx,
        find_order(tx, order),
        OrderState.CLAIMED,
        execution=execution.id,
        told={"worker": worker},
    )
    lanes.set_busy(tx, execution.lane, is_busy=True)
    workers.occupy(tx, worker, execution.id)
    move(tx, execution, ExecutionState.STARTING, process=process, worker=worker)
    projects.announce_state(tx, execution.project)
    return find(tx, execution.id)


def _resume(tx: Tx, id_: str, slot: str) -> Execution:
    execution = find(tx, id_)
    since = execution.waiting_since_us or tx.now_us
    waited = execution.waited_us + max(0, tx.now_us - since)
    workers.occupy(tx, slot, id_)
    move(
        tx, execution, ExecutionState.RUNNING,
        waiting_since_us=None, waited_us=waited, wants_slot=None, worker=slot,
    )  # fmt: skip
    projects.announce_state(tx, execution.project)
    return find(tx, id_)


def release_due(tx: Tx) -> int | None:
    """Let go what was held back until now; when the next is due, in microseconds since the epoch."""
    due = tx.all(
        f"SELECT {O_COLUMNS} FROM orders INDEXED BY orders_due WHERE state = 'queued' AND not_before_us IS NOT NULL AND not_before_us <= ?"
        " ORDER BY not_before_us LIMIT ?",
        tx.now_us, DUE_BATCH,
    )  # fmt: skip
    for row in due:
        order = rows.read(Order, row)
        tx.run("UPDATE orders SET not_before_us = NULL WHERE id = ?", order.id)
        if order.hold is not Hold.AFTER:
            attempts.set_hold(tx, order, None)
    for row in tx.all("SELECT account FROM parked_accounts WHERE until_us <= ?", tx.now_us):
        attempts.unpark_account(tx, row["account"])
    following = tx.one(
        "SELECT min(at) AS at FROM (SELECT min(not_before_us) AS at FROM orders INDEXED BY orders_due WHERE state = 'queued' AND not_before_us IS NOT NULL"
        " UNION ALL SELECT min(until_us) FROM parked_accounts)"
    )
    return following["at"] if following is not None else None


# --- what people do to it --------------------------------------------------------------------------


def pause(tx: Tx, project: str | None, *, reason: str, actor: str, request: str) -> None:
    """Start nothing new, of one project or at all; what runs goes on."""
    scope = project or ALL
    tx.run(
        "INSERT INTO pauses(scope, reason, actor, since_us) VALUES (?,?,?,?) ON CONFLICT(scope) DO UPDATE SET reason = excluded.reason",
        scope, reason, actor, tx.now_us,
    )  # fmt: skip
    if project is not None:
        lanes.set_bit(tx, lanes.PAUSED, "project", project, is_on=True)
    data = {"action": "paused", "project": project, "reason": reason}
    tx.emit("system", "queue.changed", data, actor=actor, request=request)


def resume(
    tx: Tx, project: str | None, *, now: bool, actor: str, request: str
) -> tuple[int, list[str]]:
    """Take a pause back, and take up what a usage limit interrupted; with `now` before the limit ends.

    Returns how many interrupted orders were let go, and the accounts that were unparked."""
    scope = project or ALL
    tx.run("DELETE FROM pauses WHERE scope = ?", scope)
    if project is not None:
        lanes.set_bit(tx, lanes.PAUSED, "project", project, is_on=False)
    held = tx.all(
        f"SELECT {O_COLUMNS} FROM orders INDEXED BY orders_held WHERE state = 'queued' AND hold = ? AND (? IS NULL OR project = ?)",
        Hold.USAGE_LIMIT, project, project,
    )  # fmt: skip
    accounts: list[str] = []
    if now:
        parked = tx.all(
            "SELECT account FROM parked_accounts WHERE ? IS NULL OR account IN (SELECT account FROM lanes WHERE project = ?)",
            project, project,
        )  # fmt: skip
        accounts = [row["account"] for row in parked]
        for account in accounts:
            attempts.unpark_account(tx, account, actor=actor)
    for row in held:
        # Where its account is still parked the lane keeps it until the limit ends.
        order = rows.read(Order, row)
        tx.run("UPDATE orders SET not_before_us = NULL WHERE id = ?", order.id)
        attempts.set_hold(tx, order, None)
    data = {"action": "resumed", "project": project, "orders": len(held), "accounts": accounts}
    tx.emit("system", "queue.changed", data, actor=actor, request=request)
    return len(held), accounts


def relocate(
    tx: Tx,
    ref: str,
    *,
    to: str | None,
    before: str | None,
    priority: str | None,
    actor: str,
    request: str,
) -> Order:
    """Give a waiting order another place. Raises INVALID_STATE when it waits no more."""
    order = _waiting(tx, ref)
    if priority is not None:
        rank = order.created_us - BOOST_US[priority]
    elif before is not None:
        rank = _rank_before(tx, order, _waiting(tx, before))
    else:
        edge = "min(rank) - 1" if to == "first" else "max(rank) + 1"
        row = tx.one(
            f"SELECT {edge} AS rank FROM orders INDEXED BY orders_queued WHERE state = 'queued' AND id <> ?",
            order.id,
        )
        rank = row["rank"] if row is not None and row["rank"] is not None else order.rank
    tx.run(
        "UPDATE orders SET rank = ?, priority = coalesce(?, priority) WHERE id = ?",
        rank, priority, order.id,
    )  # fmt: skip
    lanes.refresh_head(tx, order.lane)
    data = {
        "action": "moved",
        "work_order": order.id,
        "project": order.project,
        "priority": priority,
    }
    tx.emit("system", "queue.changed", data, actor=actor, request=request)
    return find_order(tx, order.id)


def _rank_before(tx: Tx, order: Order, other: Order) -> int:
    """A rank right before the other's. Where there is no gap, all that is before it goes on by two."""
    if order.id == other.id:
        return order.rank
    taken = tx.one(
        "SELECT 1 FROM orders INDEXED BY orders_queued WHERE state = 'queued' AND rank IN (?, ?) AND (rank, id) < (?, ?) AND id <> ?",
        other.rank - 1, other.rank, other.rank, other.id, order.id,
    )  # fmt: skip
    if taken is not None:
        tx.run(
            "UPDATE orders SET rank = rank - 2 WHERE state = 'queued' AND (rank, id) < (?, ?) AND id <> ?",
            other.rank, other.id, order.id,
        )  # fmt: skip
        tx.run(
            "UPDATE lanes SET head_rank = (SELECT rank FROM orders WHERE id = head) WHERE head IS NOT NULL"
        )
    return other.rank - 1


def _waiting(tx: Tx, ref: str) -> Order:
    order = find_order(tx, ref)
    if order.state is not OrderState.QUEUED:
        raise HiveError(
            "INVALID_STATE", f"Work order {order.id} is {order.state}: only what waits has a place.",
            details={"state": order.state, "allowed": [OrderState.QUEUED]},
        )  # fmt: skip
    return order


def retry(tx: Tx, ref: str, *, actor: str) -> Execution:
    """Queue again what was given up, with all its retries; or at once what waits for a time or a usage limit.

    Returns the execution that is pending now. Raises INVALID_STATE."""
    order = find_order(tx, ref)
    last = find(tx, order.id)
    if order.state is OrderState.QUEUED and order.hold in (
        Hold.RETRY,
        Hold.USAGE_LIMIT,
        Hold.NOT_BEFORE,
    ):
        tx.run("UPDATE orders SET not_before_us = NULL WHERE id = ?", order.id)
        attempts.set_hold(tx, order, None)
        data = {"action": "released", "work_order": order.id, "project": order.project}
        tx.emit("system", "queue.changed", data, actor=actor)
        return last
    if order.state not in (OrderState.FAILED, OrderState.DEAD, OrderState.CANCELLED):
        raise HiveError(
            "INVALID_STATE", f"Work order {order.id} is {order.state}: only what ended badly can be retried.",
            details={"state": order.state, "allowed": ["failed", "dead", "cancelled"]},
        )  # fmt: skip
    settled = attempts.put_back(
        tx,
        order,
        last,
        hold=None,
        not_before_us=None,
        message="",
        actor=actor,
        retry_count=0,
        resumptions=0,
    )
    assert settled.next_execution is not None
    return find(tx, settled.next_execution)


def cancel(tx: Tx, ref: str, *, message: str, actor: str) -> Order:
    """Cancel a waiting order. Raises INVALID_STATE for one that runs or has ended."""
    order = find_order(tx, ref)
    if order.state is not OrderState.QUEUED:
        raise HiveError(
            "INVALID_STATE", f"Work order {order.id} is {order.state}: only what waits can be cancelled.",
            hint=f"Stop what runs with `hivectl kill {order.id}`." if order.state is OrderState.CLAIMED else "",
            details={"state": order.state, "allowed": [OrderState.QUEUED]},
        )  # fmt: skip
    attempts.cancel(tx, order, message=message or "Cancelled before it started.", actor=actor)
    return find_order(tx, order.id)


CLEAR_BATCH = 500


def clear(tx: Tx, project: str | None, *, actor: str, message: str) -> int:
    """Cancel CLEAR_BATCH waiting orders, of one project or all, and what was to follow them; how many it were."""
    found = tx.all(
        # The newest first: what follows goes before what it follows, so that no chain makes a batch longer.
        "SELECT id FROM orders WHERE state = 'queued' AND (? IS NULL OR project = ?) ORDER BY id DESC LIMIT ?",
        project, project, CLEAR_BATCH,
    )  # fmt: skip
    count = 0
    for row in found:
        order = find_order(tx, row["id"])
        if order.state is OrderState.QUEUED:  # it may have followed one that was cancelled just now
            count += attempts.cancel(tx, order, message=message, actor=actor)
    return count
