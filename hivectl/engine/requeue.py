"""The queue of a database that is rebuilt: what the log tells of holds, pauses, limits and workers."""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.kit.clock import parse_time_us
from hivectl.model.work import EXECUTION_ENDS, ORDER_ENDS, ExecutionState, Hold
from hivectl.store import attempts, lanes, queue, workers
from hivectl.store.database import Tx

ENDED = {ExecutionState.COMPLETED: "completed", ExecutionState.CANCELLED: "cancelled"}
"""What an order became by its last execution, when its own last event is not there. Else: failed."""

TELLING = frozenset({"queue.changed", "usage_limit.cleared"})


class QueueTold(msgspec.Struct):
    """What the stream `system` tells of the queue."""

    pauses: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    parked: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    slots: int | None = None
    resumed: dict[str, int] = msgspec.field(default_factory=dict)
    """When people last took up what a usage limit had stopped: of a project, or of all."""
    released: dict[str, int] = msgspec.field(default_factory=dict)
    """When people let go single orders."""

    def hear(self, type_: str, data: dict[str, Any], *, ts: int, actor: str | None) -> None:
        """One event; the newest of its kind counts."""
        if type_ == "usage_limit.cleared":
            self.parked.pop(data["account"], None)
            return
        scope = data.get("project") or queue.ALL
        match data.get("action"):
            case "paused":
                first = self.pauses.get(scope, {"ts": ts, "actor": actor or "system"})
                self.pauses[scope] = {**first, "reason": data.get("reason", "")}
            case "resumed":
                self.pauses.pop(scope, None)
                self.resumed[scope] = ts
            case "released":
                self.released[data["work_order"]] = ts
            case "parked":
                self.parked[data["account"]] = {**data, "ts": ts}
            case "scaled":
                self.slots = None if data.get("is_default") else data["slots"]
            case _:
                pass

    def was_let_go(self, order: str, project: str, hold: Hold, since: int) -> bool:
        """Whether people let an order go that was held back at `since`."""
        if hold is Hold.USAGE_LIMIT:
            taken_up = max(self.resumed.get(queue.ALL, 0), self.resumed.get(project, 0))
            if taken_up >= since:
                return True
        return self.released.get(order, 0) >= since


def state_of(state: ExecutionState, told: dict[str, Any]) -> str:
    """The state of an order by that of its newest execution, and by the last that was told of itself."""
    if state is ExecutionState.PENDING:
        return "queued"
    if state not in EXECUTION_ENDS:
        return "claimed"
    return told["state"] if told.get("state") in ORDER_ENDS else ENDED.get(state, "failed")


def hold_of(
    created: dict[str, Any], order: dict[str, Any], state: ExecutionState, queued: QueueTold, project: str
) -> Hold | None:  # fmt: skip
    """What held a waiting order back, as its last events told, unless people let it go since."""
    if state is not ExecutionState.PENDING:
        return None
    is_first = not created.get("follows")
    named = created.get("hold") if is_first else order.get("hold")
    if not named:
        return None
    hold, since = Hold(named), created["ts"] if is_first else order["ts"]
    return None if queued.was_let_go(created["work_order"], project, hold, since) else hold


def restore_needs(tx: Tx, follows: list[tuple[str, list[tuple[str, int]]]]) -> None:
    """What orders were to follow, as far as that has not been completed."""
    for id_, needs in follows:
        for ref, is_any in needs:
            needed = tx.one(
                "SELECT id, state FROM orders WHERE id = ? OR id = (SELECT order_id FROM executions WHERE id = ?)",
                ref,
                ref,
            )
            if needed is not None and needed["state"] in ("queued", "claimed"):
                tx.run(
                    "INSERT OR IGNORE INTO order_needs(order_id, needs, is_any) VALUES (?,?,?)",
                    id_, needed["id"], is_any,
                )  # fmt: skip
        not_before = tx.one("SELECT not_before_us FROM orders WHERE id = ?", id_)
        at_us = not_before["not_before_us"] if not_before is not None else None
        hold = attempts.hold_of(tx, id_, at_us, is_retry=False)
        tx.run("UPDATE orders SET hold = ? WHERE id = ?", hold, id_)


def restore(tx: Tx, told: QueueTold) -> None:
    """Pauses, parked accounts and the number of workers: before the projects, whose lanes look at them."""
    for scope, pause in told.pauses.items():
        tx.run(
            "INSERT INTO pauses(scope, reason, actor, since_us) VALUES (?,?,?,?)",
            scope, pause["reason"], pause["actor"], pause["ts"],
        )  # fmt: skip
    for account, parked in told.parked.items():
        tx.run(
            "INSERT INTO parked_accounts(account, kind, until_us, is_known, execution, since_us) VALUES (?,?,?,?,?,?)",
            account, parked["kind"], parse_time_us(parked["until"]), int(parked["is_known"]), parked["execution"], parked["ts"],
        )  # fmt: skip
    if told.slots is not None:
        tx.run(
            "INSERT INTO meta(key, value) VALUES (?,?)", workers.SLOTS_KEY, str(told.slots)
        )  # fmt: skip


def settle_pauses(tx: Tx) -> None:
    """The lanes of paused projects are paused; a pause of a project that is no more is none."""
    tx.run(
        "DELETE FROM pauses WHERE scope <> ? AND scope NOT IN (SELECT id FROM projects)", queue.ALL
    )
    for row in tx.all("SELECT scope FROM pauses WHERE scope <> ?", queue.ALL):
        lanes.set_bit(tx, lanes.PAUSED, "project", row["scope"], is_on=True)
