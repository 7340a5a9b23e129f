"""What becomes of a work order when its execution ends: done, tried again, parked, given up; and of those behind it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from hivectl.kit.clock import MICROSECOND, format_us
from hivectl.kit.ids import jitter, make_id, make_uuid
from hivectl.logic import retry
from hivectl.model.work import (
    Cause,
    Execution,
    ExecutionState,
    Hold,
    Order,
    OrderState,
    Outcome,
)
from hivectl.store import lanes, rows
from hivectl.store.database import Tx
from hivectl.store.moves import find, find_order, move, move_order

PROMPT_TEXT_MAX = 2000
PROMPT_REPEATED_MAX = 32_768
"""Characters of a prompt that the log repeats whole for each further attempt."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that decide about further attempts."""

    backoff: retry.Backoff = msgspec.field(
        default_factory=lambda: retry.Backoff(base_s=10.0, max_s=900.0)
    )
    on_usage_limit: str = "park"
    max_resumptions: int = 5
    """How often one order is taken up again by itself after a usage limit."""
    limit_wait_s: float = 3600.0
    """How long an account is parked when Claude did not say when its limit ends."""


class Settled(msgspec.Struct, frozen=True):
    """What became of the order."""

    state: OrderState
    next_execution: str | None = None
    retry_at: str | None = None

    @property
    def told(self) -> dict[str, Any]:
        """For the event of the execution's end."""
        return {
            "order_state": self.state,
            "next_execution": self.next_execution,
            "retry_at": self.retry_at,
        }


def settle(tx: Tx, ended: Execution, outcome: Outcome, rules: Rules) -> Settled:
    """Move the order of an execution that has just ended, and those that follow it."""
    order = find_order(tx, ended.order_id)
    if outcome.state is ExecutionState.COMPLETED:
        move_order(tx, order, OrderState.COMPLETED, execution=ended.id)
        _let_follow(tx, order.id)
        return Settled(OrderState.COMPLETED)
    if outcome.is_session_lost:
        # What it was to continue is gone: another attempt begins anew.
        order = replace(order, session="new", fork=False)
    if outcome.cause is Cause.USAGE_LIMIT:
        settled = _park(tx, order, ended, outcome, rules)
        if settled is not None:
            return settled
    decided = retry.decide(
        outcome.state, outcome.cause,
        retries=order.retries, retry_count=order.retry_count, is_idempotent=order.is_idempotent,
        backoff=rules.backoff, share=jitter(),
    )  # fmt: skip
    if outcome.is_final:
        decided = retry.GiveUp(is_dead=False)
    if isinstance(decided, retry.Again):
        at_us = tx.now_us + int(decided.delay_s * MICROSECOND)
        return put_back(
            tx, order, ended, hold=Hold.RETRY, not_before_us=at_us, message=outcome.message,
            told={"cause": outcome.cause}, retry_count=order.retry_count + 1, is_session_lost=outcome.is_session_lost,
        )  # fmt: skip
    state = OrderState.DEAD if decided.is_dead else OrderState.FAILED
    if outcome.state is ExecutionState.CANCELLED:
        state = OrderState.CANCELLED
    move_order(
        tx, order, state, execution=ended.id, message=outcome.message,
        told={"cause": outcome.cause, "message": outcome.message},
    )  # fmt: skip
    _give_up_followers(tx, order.id, f"{order.id}, which it was to follow, is {state}.")
    return Settled(state)


# --- another attempt -------------------------------------------------------------------------------


def put_back(
    tx: Tx,
    order: Order,
    ended: Execution,
    *,
    hold: Hold | None,
    not_before_us: int | None,
    message: str,
    is_session_lost: bool = False,
    told: dict[str, Any] | None = None,
    actor: str | None = None,
    **changes: Any,
) -> Settled:
    """Queue an order again, with a new pending execution; the conversation of the last attempt is continued."""
    attempt = ended.attempt + 1
    session, fork = order.session, order.fork
    if ended.session is not None and not is_session_lost and _began(tx, ended.session):
        session, fork = ended.session, False
    changes = {
        "attempt": attempt, "hold": hold, "not_before_us": not_before_us, "message": message,
        "prompt_uuid": make_uuid(), "session": session, "fork": int(fork), **changes,
    }  # fmt: skip
    at = format_us(not_before_us) if not_before_us else None
    new = make_id("x")
    move_order(
        tx, replace(order, attempt=attempt), OrderState.QUEUED, execution=ended.id, actor=actor,
        told={
            "hold": hold, "retry_at": at, "message": message, "next_execution": new,
            "retry_count": changes.get("retry_count", order.retry_count),
            "resumptions": changes.get("resumptions", order.resumptions), **(told or {}),
        },
        **changes,
    )  # fmt: skip
    tx.run(
        "INSERT INTO executions(id, order_id, project, lane, state, attempt, actor, options, created_us)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        new, order.id, order.project, order.lane, ExecutionState.PENDING, attempt, order.actor,
        rows.dump(order.options), tx.now_us,
    )  # fmt: skip
    lanes.refresh_head(tx, order.lane)
    data = {
        "work_order": order.id, "lane": order.lane, "state": ExecutionState.PENDING, "attempt": attempt, "priority": order.priority,
        "prompt": order.prompt[:200], "prompt_bytes": len(order.prompt.encode()), "session": session, "fork": fork,
        "options": order.options, "follows": ended.id, "retry_at": at,
    }  # fmt: skip
    stream = f"project:{order.project}"
    tx.emit(stream, "execution.created", data, execution=new, actor=order.actor)
    tx.emit(
        stream,
        "message",
        _prompt_again(order, ended.id, changes["prompt_uuid"]),
        execution=new,
        actor=order.actor,
    )
    return Settled(OrderState.QUEUED, new, at)


def _prompt_again(order: Order, ended: str, uuid: str) -> dict[str, Any]:
    """The prompt as a message of the new attempt; a large one stands with the attempt it `follows`."""
    message: dict[str, Any] = {
        "kind": "prompt", "direction": "in", "text": order.prompt[:PROMPT_TEXT_MAX], "follows": ended
    }  # fmt: skip
    if len(order.prompt) <= PROMPT_REPEATED_MAX:
        content = {"role": "user", "content": order.prompt}
        message["raw"] = {"type": "user", "message": content, "uuid": uuid}
    return message


def _began(tx: Tx, session: str) -> bool:
    """Whether Claude got as far as naming the conversation: else there is nothing to continue."""
    return tx.one("SELECT 1 FROM sessions WHERE id = ?", session) is not None


# --- usage limits ----------------------------------------------------------------------------------


def _park(tx: Tx, order: Order, ended: Execution, outcome: Outcome, rules: Rules) -> Settled | None:
    """The account's queue stops until its limit ends; None: this order's wish is to fail."""
    mode = order.on_usage_limit or rules.on_usage_limit
    if mode == "fail":
        return None
    until_us = (outcome.resets_at or 0) * MICROSECOND
    is_known = until_us > tx.now_us
    if not is_known:
        until_us = tx.now_us + int(rules.limit_wait_s * MICROSECOND)
    park_account(
        tx,
        order.account,
        kind=_limit_kind(ended),
        until_us=until_us,
        is_known=is_known,
        execution=ended,
    )
    resumes = mode == "resume" and order.resumptions < rules.max_resumptions
    message = outcome.message
    if mode == "resume" and not resumes:
        message += f" It was taken up again {order.resumptions} times, the most allowed (queue.max_resumptions)."
    return put_back(
        tx, order, ended, hold=Hold.USAGE_LIMIT, not_before_us=until_us if resumes else None, message=message,
        told={"cause": outcome.cause, "resets_at": format_us(until_us), "resumes": resumes},
        resumptions=order.resumptions + resumes,
    )  # fmt: skip


def _limit_kind(ended: Execution) -> str:
    limits = ended.evidence.get("limits", [])
    return str(limits[-1].get("kind") or "") if limits else ""


def park_account(
    tx: Tx, account: str, *, kind: str, until_us: int, is_known: bool, execution: Execution
) -> None:
    """Nothing of this account is claimed before `until_us`."""
    tx.run(
        "INSERT INTO parked_accounts(account, kind, until_us, is_known, execution, since_us) VALUES (?,?,?,?,?,?)"
        # What Claude said counts more than what was guessed before; of two that it said the later.
        " ON CONFLICT(account) DO UPDATE SET kind = excluded.kind, execution = excluded.execution,"
        " until_us = CASE WHEN is_known = excluded.is_known THEN max(until_us, excluded.until_us)"
        " WHEN is_known THEN until_us ELSE excluded.until_us END, is_known = max(is_known, excluded.is_known)",
        account, kind, until_us, int(is_known), execution.id, tx.now_us,
    )  # fmt: skip
    lanes.set_bit(tx, lanes.PARKED, "account", account, is_on=True)
    data = {
        "action": "parked", "account": account, "kind": kind, "until": format_us(until_us), "is_known": is_known,
        "execution": execution.id,
    }  # fmt: skip
    tx.emit("system", "queue.changed", data)


def unpark_account(tx: Tx, account: str, *, actor: str = "system") -> bool:
    """The account's work may be claimed again; False when it was not parked."""
    if tx.run("DELETE FROM parked_accounts WHERE account = ?", account) == 0:
        return False
    lanes.set_bit(tx, lanes.PARKED, "account", account, is_on=False)
    tx.emit("system", "usage_limit.cleared", {"account": account}, actor=actor)
    return True


# --- orders that follow ----------------------------------------------------------------------------


def hold_of(tx: Tx, order: str, not_before_us: int | None, *, is_retry: bool) -> Hold | None:
    """What keeps an order from being claimed, beside usage limits."""
    if tx.one("SELECT 1 FROM order_needs WHERE order_id = ? LIMIT 1", order) is not None:
        return Hold.AFTER
    if not_before_us is not None and not_before_us > tx.now_us:
        return Hold.RETRY if is_retry else Hold.NOT_BEFORE
    return None


def _let_follow(tx: Tx, order: str, *, only_any: bool = False) -> None:
    for row in tx.all(
        "SELECT order_id FROM order_needs WHERE needs = ? AND is_any >= ?", order, int(only_any)
    ):
        tx.run("DELETE FROM order_needs WHERE order_id = ? AND needs = ?", row["order_id"], order)
        follower = find_order(tx, row["order_id"])
        if follower.state is OrderState.QUEUED and follower.hold is Hold.AFTER:
            hold = hold_of(tx, follower.id, follower.not_before_us, is_retry=False)
            set_hold(tx, follower, hold)


def set_hold(tx: Tx, order: Order, hold: Hold | None) -> None:
    """Hold a queued order back, or let it go."""
    tx.run("UPDATE orders SET hold = ? WHERE id = ?", hold, order.id)
    lanes.refresh_head(tx, order.lane)


def _give_up_followers(tx: Tx, order: str, why: str) -> int:
    waiting, count = [(order, why)], 0
    while waiting:  # a chain may be long: no recursion
        needed, reason = waiting.pop()
        _let_follow(tx, needed, only_any=True)
        for row in tx.all("SELECT order_id FROM order_needs WHERE needs = ?", needed):
            follower = find_order(tx, row["order_id"])
            tx.run("DELETE FROM order_needs WHERE order_id = ?", follower.id)
            if follower.state is OrderState.QUEUED:
                _cancel_one(tx, follower, message=reason, actor="system")
                count += 1
                waiting.append(
                    (follower.id, f"{follower.id}, which it was to follow, is cancelled.")
                )
    return count


def cancel(tx: Tx, order: Order, *, message: str, actor: str) -> int:
    """Cancel a queued order and what was to follow it; how many it were."""
    tx.run("DELETE FROM order_needs WHERE order_id = ?", order.id)
    _cancel_one(tx, order, message=message, actor=actor)
    why = f"{order.id}, which it was to follow, is cancelled."
    return 1 + _give_up_followers(tx, order.id, why)


def _cancel_one(tx: Tx, order: Order, *, message: str, actor: str) -> None:
    execution = find(tx, order.id)
    move_order(
        tx, order, OrderState.CANCELLED, execution=execution.id, actor=actor, message=message, hold=None, not_before_us=None,
        told={"message": message},
    )  # fmt: skip
    lanes.refresh_head(tx, order.lane)
    move(
        tx, execution, ExecutionState.CANCELLED,
        cause=Cause.KILLED, message=message, ended_us=tx.now_us, stop_by=actor,
    )  # fmt: skip
    emit_end(
        tx, find(tx, execution.id), swept=0, actor=actor, settled=Settled(OrderState.CANCELLED)
    )


def emit_end(tx: Tx, ended: Execution, *, swept: int, actor: str | None, settled: Settled) -> None:
    """Tell of an execution's end."""
    data = {
        "state": ended.state,
        "work_order": ended.order_id,
        "cause": ended.cause,
        "message": ended.message,
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "subtype": ended.subtype,
        "result": (ended.result or "")[:10_000] if ended.result is not None else None,
        "stderr": ended.stderr,
        "resets_at": ended.resets_at,
        "usage": ended.usage,
        "cost_usd": ended.cost_usd,
        "swept": swept,
        "survivors": ended.survivors,
        **settled.told,
    }
    tx.emit(
        ended.stream,
        "execution.ended",
        data,
        execution=ended.id,
        session=ended.session,
        actor=actor,
    )
