"""Places in the queue, of many orders at once."""

from __future__ import annotations

from collections.abc import Collection

from hivectl.store.database import Database

_FRONT = -(2**62)
"""Smaller than every rank."""


async def places(db: Database, orders: Collection[str]) -> dict[str, int]:
    """Order to its place, from 1; what is held back, runs or has ended has none.

    Each is counted from the one before, so that all together cost one walk along the index: counted anew
    from the front, a page of a long queue would take seconds."""
    marks = ",".join("?" for _ in orders)
    found = await db.all(
        f"SELECT id, rank FROM orders WHERE id IN ({marks}) AND state = 'queued' AND hold IS NULL ORDER BY rank, id",
        *orders,
    )
    placed: dict[str, int] = {}
    place, before = 1, (_FRONT, "")
    for row in found:
        here = (row["rank"], row["id"])
        between = await db.one(
            "SELECT count(*) FROM orders INDEXED BY orders_rank WHERE state = 'queued' AND hold IS NULL"
            " AND (rank, id) >= (?, ?) AND (rank, id) < (?, ?)",
            *before, *here,
        )  # fmt: skip
        place += between[0] if between is not None else 0
        before = here
        placed[row["id"]] = place
    return placed
