"""Lanes: each carries one live execution at a time, and its head, so that a claim never looks behind it.

`paused` is a set of bits; a lane is free for a claim when none is set. Whoever changes what decides a
bit sets it here, in the same transaction.
"""

from __future__ import annotations

from hivectl.model.worker import LOCAL_POOL
from hivectl.model.worktree import lane_of as worktree_lane
from hivectl.store.database import Tx
from hivectl.store.moves import LIVE_SQL

PAUSED = 1
"""A person paused the project."""
PARKED = 2
"""The account's usage limit is reached."""


def lane_of(project: str, pool: str, worktree: str | None = None) -> str:
    """The lane of a project's orders for a pool: what others carry does not wait for our own runs, nor what
    runs in a worktree for what runs beside it."""
    if worktree is not None:
        return worktree_lane(project, worktree)
    return project if pool == LOCAL_POOL else f"{project}@{pool}"


def ensure(tx: Tx, lane: str, project: str, *, pool: str, account: str) -> None:
    """Make a lane, or tell a known one whose limit it counts against now."""
    paused = PAUSED * (tx.one("SELECT 1 FROM pauses WHERE scope = ?", project) is not None)
    known = tx.one("SELECT account FROM lanes WHERE lane = ?", lane)
    if known is None:
        tx.run(
            "INSERT INTO lanes(lane, project, pool, paused) VALUES (?,?,?,?)",
            lane, project, pool, paused,
        )  # fmt: skip
    elif known["account"] == account:
        return
    parked = tx.one("SELECT 1 FROM parked_accounts WHERE account = ?", account) is not None
    tx.run(
        "UPDATE lanes SET account = ?, paused = (paused & ~?) | ? WHERE lane = ?",
        account, PARKED, PARKED * parked, lane,
    )  # fmt: skip


def set_bit(tx: Tx, bit: int, where: str, value: str, *, is_on: bool) -> int:
    """Set or clear a bit on the lanes of a project or account (`where` names the column); how many changed."""
    assert where in ("project", "account")
    change = "paused | ?" if is_on else "paused & ~?"
    return tx.run(
        f"UPDATE lanes SET paused = {change} WHERE {where} = ? AND (paused & ?) <> ?",
        bit, value, bit, bit if is_on else 0,
    )  # fmt: skip


def set_busy(tx: Tx, lane: str, *, is_busy: bool) -> None:
    """Taken by a live execution, or free again; its head is looked up anew."""
    tx.run("UPDATE lanes SET busy = ? WHERE lane = ?", int(is_busy), lane)
    refresh_head(tx, lane)


def refresh_head(tx: Tx, lane: str) -> None:
    """Which order of the lane is next: after any change to what is ready in it."""
    head = tx.one(
        "SELECT rank, id, actor FROM orders WHERE lane = ? AND state = 'queued' AND hold IS NULL ORDER BY rank, id LIMIT 1",
        lane,
    )
    tx.run(
        "UPDATE lanes SET head_rank = ?, head = ?, head_actor = ? WHERE lane = ?",
        *((head["rank"], head["id"], head["actor"]) if head else (None, None, None)), lane,
    )  # fmt: skip


def mend(tx: Tx) -> None:
    """Make every lane's flag and head agree with its orders: what a start does once."""
    busy = (
        f"EXISTS (SELECT 1 FROM executions e WHERE e.lane = lanes.lane AND e.state IN {LIVE_SQL})"
    )
    head = (
        "(SELECT id FROM orders WHERE lane = lanes.lane AND state = 'queued' AND hold IS NULL"
        " ORDER BY rank, id LIMIT 1)"
    )
    # Only those that differ: a start on a full disk must not need room for what it does not change.
    for row in tx.all(
        f"SELECT lane FROM lanes WHERE busy <> {busy} OR head IS NOT {head}"
        " OR (head IS NOT NULL AND head_actor IS NULL)"
    ):
        tx.run(f"UPDATE lanes SET busy = {busy} WHERE lane = ?", row["lane"])
        refresh_head(tx, row["lane"])
