"""Why a work order is not running, in words, from what the store knows now."""

from __future__ import annotations

from typing import Any

from hivectl.kit.clock import format_us
from hivectl.model.work import Hold, Order, OrderState
from hivectl.model.worker import LOCAL_POOL
from hivectl.store import leases, queue, usage, workers
from hivectl.store.database import Database, Tx
from hivectl.store.moves import find, pending_of

NAMED_MAX = 5
"""Most orders named in one sentence."""
NO_WORKER = "There is no local worker: `hivectl worker scale 1` makes one."


def reasons(tx: Tx, order: Order, caps: queue.Caps) -> tuple[list[str], int | None]:
    """Sentences, the weightiest first, and when the longest of the known waits ends."""
    if order.state is OrderState.CLAIMED:
        return _claimed(tx, order), None
    if order.state is not OrderState.QUEUED:
        ended = f"It has ended: {order.state}." + (f" {order.message}" if order.message else "")
        again = order.state in (OrderState.FAILED, OrderState.DEAD, OrderState.CANCELLED)
        retry = f"`hivectl queue retry {order.id}` queues it again."
        return ([ended, retry] if again else [ended]), None
    said: list[str] = []
    until: list[int] = []
    _held(tx, order, said, until)
    _paused(tx, order, said, until)
    _lane(tx, order, said)
    if not said:
        _slots(tx, order, caps, said)
    return said, max(until) if until else None


def _claimed(tx: Tx, order: Order) -> list[str]:
    execution = find(tx, order.id)
    if execution.state != "waiting":
        return []
    if execution.wants_slot is not None:
        return [
            "It was answered and goes on as soon as a worker is free; it is first of its priority.",
            *([NO_WORKER] if workers.wanted_now(tx) == 0 else []),
        ]
    ids = ", ".join(pending_of(tx, execution.id))
    return [f"It runs, and waits for a person: {ids}. `hivectl inbox` shows what is asked."]


def _held(tx: Tx, order: Order, said: list[str], until: list[int]) -> None:
    at = order.not_before_us
    if at is not None:
        until.append(at)
    if order.hold is Hold.AFTER:
        found = tx.all(
            "SELECT o.id, o.state, n.is_any FROM order_needs n JOIN orders o ON o.id = n.needs WHERE n.order_id = ? LIMIT ?",
            order.id, NAMED_MAX,
        )  # fmt: skip
        named = ", ".join(f"{row['id']} ({row['state']})" for row in found)
        how = "ended" if all(row["is_any"] for row in found) else "completed"
        said.append(f"It follows {named}, which must be {how} first.")
    if order.hold in (Hold.NOT_BEFORE, Hold.AFTER) and at:
        said.append(f"It is not to start before {_time(at)}.")
    if order.hold is Hold.RETRY and at:
        said.append(
            f"Attempt {order.attempt - 1} failed ({order.message.rstrip('.')}); retry {order.retry_count} of {order.retries}"
            f" starts at {_time(at)}. `hivectl queue retry {order.id}` starts it now."
        )
    if order.hold is Hold.USAGE_LIMIT:
        when = (
            f"It is taken up again at {_time(at)}."
            if at
            else "`hivectl queue resume` takes it up again."
        )
        said.append(f"A usage limit stopped it ({order.message.rstrip('.')}). {when}")


def _paused(tx: Tx, order: Order, said: list[str], until: list[int]) -> None:
    said += [_pause(row) for row in tx.all(_PAUSES, queue.ALL, order.project)]
    parked = tx.one(_PARKED, order.account)
    if parked is not None:
        until.append(parked["until_us"])
        said.append(_parked(parked))
    if (spent := usage.is_blocked(tx, order.project, order.actor)) is not None:
        said.append(spent)


_PAUSES = "SELECT x.*, p.name AS name FROM pauses x LEFT JOIN projects p ON p.id = x.scope WHERE scope IN (?, ?)"
_PARKED = "SELECT * FROM parked_accounts WHERE account = ?"


def _pause(row: Any) -> str:
    what = "The queue" if row["scope"] == queue.ALL else f"Project {row['name']}"
    why = f": {row['reason']}" if row["reason"] else ""
    undo = "hivectl queue resume" + ("" if row["scope"] == queue.ALL else f" {row['name']}")
    return (
        f"{what} was paused by {row['actor']} at {_time(row['since_us'])}{why}. `{undo}` goes on."
    )


def _parked(row: Any) -> str:
    known = "ends at" if row["is_known"] else "is looked at again at"
    return (
        f"The usage limit of this account is reached; it {known} {_time(row['until_us'])}."
        " `hivectl queue resume --now` does not wait for that."
    )


async def obstacles(db: Database, *, project: str, account: str, pool: str) -> list[str]:
    """What nobody's end of work removes, so that whoever asks for more must hear of it at once."""
    said = [_pause(row) for row in await db.all(_PAUSES, queue.ALL, project)]
    if (parked := await db.one(_PARKED, account)) is not None:
        said.append(_parked(parked))
    wanted = await db.one("SELECT value FROM meta WHERE key = ?", workers.WANTED_KEY)
    if pool == LOCAL_POOL and wanted is not None and wanted["value"] == "0":
        said.append(NO_WORKER)
    return said


def _lane(tx: Tx, order: Order, said: list[str]) -> None:
    if order.hold is not None:
        return
    live = tx.one(
        "SELECT id, state FROM executions WHERE lane = ? AND state IN ('starting','running','waiting')",
        order.lane,
    )
    if live is not None:
        waits = " for a person: `hivectl inbox`" if live["state"] == "waiting" else ""
        said.append(
            f"The project is executing {live['id']}, which is {live['state']}{waits}; one runs at a time."
        )
    ahead = tx.one(
        "SELECT count(*) AS n FROM orders WHERE lane = ? AND state = 'queued' AND hold IS NULL AND (rank, id) < (?, ?)",
        order.lane, order.rank, order.id,
    )  # fmt: skip
    if ahead is not None and ahead["n"]:
        said.append(
            f"{ahead['n']} more of this project {'is' if ahead['n'] == 1 else 'are'} before it."
        )


def _slots(tx: Tx, order: Order, caps: queue.Caps, said: list[str]) -> None:
    if caps.only_resume:
        said.append("The daemon is stopping and starts nothing new.")
    if order.pool != LOCAL_POOL:
        count, free = leases.serving(tx, order.pool)
        if count == 0:
            said.append(
                f"No worker that serves the pool {order.pool!r} is there: `hivectl worker list`."
            )
        elif free == 0:
            said.append(f"All {count} workers of the pool {order.pool!r} are taken.")
        _caps(tx, order, caps, said)
        if not said:
            said.append(f"A worker of the pool {order.pool!r} has yet to claim it.")
        return
    slots = _row(
        tx,
        "SELECT count(*) AS n, total(execution IS NOT NULL) AS busy, total(is_draining) AS draining FROM workers WHERE kind = 'local'",
    )
    if slots["n"] == 0 or workers.wanted_now(tx) == 0:
        said.append(NO_WORKER)
    elif slots["busy"] + slots["draining"] >= slots["n"]:
        draining = f", {slots['draining']:.0f} drained" if slots["draining"] else ""
        said.append(f"All {slots['n']} workers are taken ({slots['busy']:.0f} busy{draining}).")
    _caps(tx, order, caps, said)
    place = _row(
        tx, "SELECT count(*) AS n FROM orders INDEXED BY orders_rank WHERE state = 'queued' AND hold IS NULL AND (rank, id) < (?, ?)", order.rank, order.id
    )  # fmt: skip
    if place["n"]:
        said.append(f"{place['n']} {'is' if place['n'] == 1 else 'are'} before it in the queue.")
    elif not said:
        said.append("It is next.")


def _caps(tx: Tx, order: Order, caps: queue.Caps, said: list[str]) -> None:
    live = _row(
        tx,
        "SELECT total(state <> 'waiting') AS running, total(state = 'waiting') AS waiting FROM executions WHERE state IN ('starting','running','waiting')",
    )
    if live["running"] >= caps.max_live:
        said.append(f"{live['running']:.0f} executions run, the most allowed (execution.max_live).")
    if live["waiting"] >= caps.max_waiting:
        said.append(
            f"{live['waiting']:.0f} executions wait for people, the most allowed (execution.max_waiting)."
        )
    if caps.per_user:
        mine = _row(
            tx,
            "SELECT count(*) AS n FROM executions WHERE actor = ? AND state IN ('starting','running')",
            order.actor,
        )
        if mine["n"] >= caps.per_user:
            said.append(
                f"{order.actor} runs {mine['n']} at once, the most allowed (queue.max_per_user)."
            )


def _row(tx: Tx, sql: str, *args: Any) -> Any:
    row = tx.one(sql, *args)
    assert row is not None
    return row


def _time(us: int) -> str:
    return format_us(us)[:19] + "Z"
