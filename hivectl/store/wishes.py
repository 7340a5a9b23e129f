"""Prompts as they are accepted: a wish becomes a work order with its first execution, once for each key."""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.kit import failpoint
from hivectl.kit.clock import format_us
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.work import Execution, ExecutionState, Hold, OrderState
from hivectl.model.worker import LOCAL_POOL
from hivectl.store import attempts, lanes, projects, rows, worktrees
from hivectl.store.database import Tx
from hivectl.store.moves import find, find_order

BOOST_US = {"high": 3_600_000_000, "normal": 0, "low": -3_600_000_000}
"""An hour of age outweighs one step of priority: a static key, so that the head of a lane stays valid."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt as it was accepted: everything `enqueue` stores."""

    order: str
    execution: str
    project: Project
    prompt: str
    prompt_uuid: str
    message: dict[str, Any]
    """The prompt as an event of the log."""
    session: str
    fork: bool
    options: dict[str, Any]
    priority: str
    actor: str
    request: str
    key: str | None
    hash: str
    refuse_if_busy: bool
    max_orders: int
    key_age_us: int
    pool: str = LOCAL_POOL
    account: str = ""
    after: tuple[str, ...] = ()
    """Orders (or executions of them) that must be completed first."""
    after_any: tuple[str, ...] = ()
    """Orders that must have ended first, however."""
    not_before_us: int | None = None
    retries: int = 0
    on_usage_limit: str | None = None
    is_idempotent: bool = False
    worktree: worktrees.Wanted | None = None
    """Run beside the project's directory, in a lane of its own."""


def enqueue(tx: Tx, wish: Wish) -> tuple[Execution, bool]:
    """Accept a prompt: a work order and its first, pending execution. True when it is a replay of the same key.

    Raises PROJECT_NOT_FOUND, PROJECT_BUSY, QUEUE_FULL, IDEMPOTENCY_MISMATCH.
    """
    if earlier := replayed(tx, wish.actor, wish.key, wish.hash, age_us=wish.key_age_us):
        return earlier, True
    project = projects.find(tx, wish.project.id)  # it may have been deleted since it was looked up
    lane = lanes.lane_of(project.id, wish.pool, wish.worktree.id if wish.worktree else None)
    lanes.ensure(tx, lane, project.id, pool=wish.pool, account=wish.account)
    if wish.refuse_if_busy:
        _refuse_if_busy(tx, project, lane)
    waiting = tx.one("SELECT n FROM order_counts WHERE state = 'queued'")
    if waiting is not None and waiting["n"] >= wish.max_orders:
        raise HiveError(
            "QUEUE_FULL", f"{waiting['n']} work orders wait.", details={"limit": "queue.max_orders"}
        )
    if wish.worktree is not None:
        worktrees.open_(
            tx, wish.worktree, project=project.id, order=wish.order, execution=wish.execution, actor=wish.actor
        )  # fmt: skip
    _insert_order(tx, wish, lane)
    if wish.key is not None:
        tx.run(
            "INSERT OR REPLACE INTO idempotency(actor, key, hash, order_id, created_us) VALUES (?,?,?,?,?)",
            wish.actor, wish.key, wish.hash, wish.order, tx.now_us,
        )  # fmt: skip
    hold = _add_needs(tx, wish)
    lanes.refresh_head(tx, lane)
    tx.run("UPDATE projects SET activity_us = ? WHERE id = ?", tx.now_us, project.id)
    data = {
        "work_order": wish.order,
        "lane": lane,
        "state": ExecutionState.PENDING,
        "attempt": 1,
        "priority": wish.priority,
        "prompt": wish.prompt[:200],
        "prompt_bytes": len(wish.prompt.encode()),
        "session": wish.session,
        "fork": wish.fork,
        "options": wish.options,
        "pool": wish.pool,
        "account": wish.account,
        "on_usage_limit": wish.on_usage_limit,
        "retries": wish.retries,
        "idempotent": wish.is_idempotent,
        "hold": hold,
        "after": list(wish.after),
        "after_any": list(wish.after_any),
        "not_before": format_us(wish.not_before_us) if wish.not_before_us else None,
    }
    who = {"execution": wish.execution, "actor": wish.actor, "request": wish.request}
    tx.emit(project.stream, "execution.created", data, **who)
    tx.emit(project.stream, "message", wish.message, **who)
    failpoint.hit("enqueue_before_commit")
    return find(tx, wish.execution), False


def _insert_order(tx: Tx, wish: Wish, lane: str) -> None:
    options = rows.dump(wish.options)
    tx.run(
        "INSERT INTO orders(id, project, lane, state, priority, rank, attempt, prompt, prompt_uuid, session, fork, options, actor,"
        " created_us, pool, account, retries, not_before_us, on_usage_limit, is_idempotent)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        wish.order, wish.project.id, lane, OrderState.QUEUED, wish.priority, tx.now_us - BOOST_US[wish.priority], 1, wish.prompt,
        wish.prompt_uuid, wish.session, int(wish.fork), options, wish.actor, tx.now_us,
        wish.pool, wish.account, wish.retries, wish.not_before_us, wish.on_usage_limit, int(wish.is_idempotent),
    )  # fmt: skip
    tx.run(
        "INSERT INTO executions(id, order_id, project, lane, state, attempt, actor, options, created_us) VALUES (?,?,?,?,?,?,?,?,?)",
        wish.execution, wish.order, wish.project.id, lane, ExecutionState.PENDING, 1, wish.actor, options, tx.now_us,
    )  # fmt: skip


def _add_needs(tx: Tx, wish: Wish) -> Hold | None:
    """Note what the order is to follow. Raises WORK_ORDER_NOT_FOUND, or INVALID_STATE when that has failed already."""
    for is_any, refs in ((False, wish.after), (True, wish.after_any)):
        for ref in refs:
            needed = find_order(tx, ref)
            if needed.state in (OrderState.QUEUED, OrderState.CLAIMED):
                tx.run(
                    "INSERT OR IGNORE INTO order_needs(order_id, needs, is_any) VALUES (?,?,?)",
                    wish.order, needed.id, int(is_any),
                )  # fmt: skip
            elif needed.state is not OrderState.COMPLETED and not is_any:
                raise HiveError(
                    "INVALID_STATE", f"{ref} is {needed.state}: nothing can follow it.",
                    hint=f"Queue it again first: `hivectl queue retry {needed.id}`.",
                    details={"work_order": needed.id, "state": needed.state},
                )  # fmt: skip
    hold = attempts.hold_of(tx, wish.order, wish.not_before_us, is_retry=False)
    if hold is not None:
        tx.run("UPDATE orders SET hold = ? WHERE id = ?", hold, wish.order)
    return hold


def replayed(tx: Tx, actor: str, key: str | None, hash_: str, *, age_us: int) -> Execution | None:
    """What the same request led to, when it was accepted before. Raises IDEMPOTENCY_MISMATCH."""
    row = tx.one(
        "SELECT hash, order_id, created_us FROM idempotency WHERE actor = ? AND key = ?", actor, key
    )
    if row is None or row["created_us"] < tx.now_us - age_us:
        return None
    if row["hash"] != hash_:
        raise HiveError(
            "IDEMPOTENCY_MISMATCH", f"The key {key!r} was used for a different request."
        )
    return find(tx, row["order_id"])


def _refuse_if_busy(tx: Tx, project: Project, lane: str) -> None:
    busy = tx.one(
        "SELECT id FROM executions WHERE lane = ? AND state IN ('pending','starting','running','waiting') LIMIT 1",
        lane,
    )
    if busy is not None:
        raise HiveError(
            "PROJECT_BUSY",
            f"Project {project.name!r} is executing.",
            retry_after_ms=3000,
            details={"execution": busy["id"]},
        )


def forget_keys(tx: Tx, *, older_us: int) -> None:
    """Drop idempotency keys that are too old to count."""
    before = tx.now_us - older_us
    if tx.one("SELECT 1 FROM idempotency WHERE created_us < ? LIMIT 1", before) is not None:
        tx.run("DELETE FROM idempotency WHERE created_us < ?", before)
