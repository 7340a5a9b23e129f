"""Work orders and executions in SQL: accept, claim, move, end, with the events each raises.

A state is assigned in `move` and `_move_order` only, where the tables of `hivectl.model.work` are applied;
the row count of the guarded UPDATE is checked, so nobody overwrites a state he has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hivectl.kit import failpoint
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.work import (
    EXECUTION_ENDS,
    EXECUTION_MOVES,
    LIVE_STATES,
    ORDER_MOVES,
    Execution,
    ExecutionState,
    Order,
    OrderState,
    Outcome,
)
from hivectl.store import projects, rows, usage
from hivectl.store.database import Tx

E_COLUMNS = rows.columns(Execution)
O_COLUMNS = rows.columns(Order)
LIVE_SQL = "('starting','running','waiting')"

BOOST_US = {"high": 3_600_000_000, "normal": 0, "low": -3_600_000_000}
"""An hour of age outweighs one step of priority: a static key, so that the head of a lane stays valid."""


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


def find_order(tx: Tx, id_: str) -> Order:
    """A work order. Raises WORK_ORDER_NOT_FOUND."""
    row = tx.one(f"SELECT {O_COLUMNS} FROM orders WHERE id = ?", id_)
    if row is None:
        raise HiveError("WORK_ORDER_NOT_FOUND", f"There is no work order {id_!r}.")
    return rows.read(Order, row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
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


def enqueue(tx: Tx, wish: Wish) -> tuple[Execution, bool]:
    """Accept a prompt: a work order and its first, pending execution. True when it is a replay of the same key.

    Raises PROJECT_NOT_FOUND, PROJECT_BUSY, QUEUE_FULL, IDEMPOTENCY_MISMATCH.
    """
    if earlier := replayed(tx, wish.actor, wish.key, wish.hash, age_us=wish.key_age_us):
        return earlier, True
    project = projects.find(tx, wish.project.id)  # it may have been deleted since it was looked up
    lane = project.id
    if wish.refuse_if_busy:
        _refuse_if_busy(tx, project, lane)
    waiting = tx.one("SELECT count(*) FROM orders WHERE state = 'queued'")
    assert waiting is not None
    if waiting[0] >= wish.max_orders:
        raise HiveError(
            "QUEUE_FULL", f"{waiting[0]} work orders wait.", details={"limit": "queue.max_orders"}
        )
    tx.run(
        "INSERT INTO orders(id, project, lane, state, priority, rank, attempt, prompt, prompt_uuid, session, fork, options, actor,"
        " created_us) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        wish.order, project.id, lane, OrderState.QUEUED, wish.priority, tx.now_us - BOOST_US[wish.priority], 1, wish.prompt,
        wish.prompt_uuid, wish.session, int(wish.fork), rows.dump(wish.options), wish.actor, tx.now_us,
    )  # fmt: skip
    tx.run(
        "INSERT INTO executions(id, order_id, project, lane, state, attempt, actor, options, created_us) VALUES (?,?,?,?,?,?,?,?,?)",
        wish.execution, wish.order, project.id, lane, ExecutionState.PENDING, 1, wish.actor, rows.dump(wish.options), tx.now_us,
    )  # fmt: skip
    if wish.key is not None:
        tx.run(
            "INSERT OR REPLACE INTO idempotency(actor, key, hash, order_id, created_us) VALUES (?,?,?,?,?)",
            wish.actor, wish.key, wish.hash, wish.order, tx.now_us,
        )  # fmt: skip
    _refresh_head(tx, lane)
    tx.run("UPDATE projects SET activity_us = ? WHERE id = ?", tx.now_us, project.id)
    data = {
        "work_order": wish.order,
        "state": ExecutionState.PENDING,
        "attempt": 1,
        "priority": wish.priority,
        "prompt": wish.prompt[:200],
        "prompt_bytes": len(wish.prompt.encode()),
        "session": wish.session,
        "fork": wish.fork,
        "options": wish.options,
    }
    who = {"execution": wish.execution, "actor": wish.actor, "request": wish.request}
    tx.emit(project.stream, "execution.created", data, **who)
    tx.emit(project.stream, "message", wish.message, **who)
    failpoint.hit("enqueue_before_commit")
    return find(tx, wish.execution), False


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


def _refresh_head(tx: Tx, lane: str) -> None:
    tx.run(
        "UPDATE lanes SET (head_rank, head) = (SELECT rank, id FROM orders WHERE lane = lanes.lane AND state = 'queued'"
        " ORDER BY rank, id LIMIT 1) WHERE lane = ?",
        lane,
    )
    if tx.one("SELECT 1 FROM orders WHERE lane = ? AND state = 'queued' LIMIT 1", lane) is None:
        tx.run("UPDATE lanes SET head_rank = NULL, head = NULL WHERE lane = ?", lane)


def claim(tx: Tx, *, max_live: int, process: str) -> Execution | None:
    """Take the next work order whose lane is free; None when there is none or the global cap is reached."""
    live = tx.one(f"SELECT count(*) FROM executions WHERE state IN {LIVE_SQL}")
    assert live is not None
    if live[0] >= max_live:
        return None
    head = tx.one(
        "SELECT lane, head FROM lanes WHERE busy = 0 AND paused = 0 AND head IS NOT NULL"
        " AND project NOT IN (SELECT key FROM budget_blocks WHERE scope = 'project' AND until_us > ?)"
        " AND (SELECT actor FROM orders WHERE id = head) NOT IN"
        " (SELECT key FROM budget_blocks WHERE scope = 'user' AND until_us > ?)"
        " ORDER BY head_rank, head LIMIT 1",
        tx.now_us,
        tx.now_us,
    )
    if head is None:
        return None
    execution = find(tx, head["head"])
    _move_order(tx, execution, OrderState.CLAIMED)
    tx.run("UPDATE lanes SET busy = 1 WHERE lane = ?", head["lane"])
    _refresh_head(tx, head["lane"])
    move(tx, execution, ExecutionState.STARTING, process=process)
    projects.announce_state(tx, execution.project)
    return find(tx, execution.id)


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
        data |= {
            name: value for name, value in changes.items() if name in ("process", "pid", "session")
        }
        if to is ExecutionState.WAITING:
            data["waiting_for"] = [r["id"] for r in _pending_approvals(tx, execution.id)]
        tx.emit(execution.stream, "execution.state", data, execution=execution.id)


def _pending_approvals(tx: Tx, execution: str) -> list[Any]:
    return tx.all("SELECT id FROM approvals WHERE execution = ? AND state = 'pending'", execution)


def _move_order(tx: Tx, execution: Execution, to: OrderState, *, actor: str | None = None) -> None:
    order = find_order(tx, execution.order_id)
    if to not in ORDER_MOVES[order.state]:
        raise HiveError(
            "INVALID_STATE", f"Work order {order.id} is {order.state} and cannot become {to}."
        )
    ended = tx.now_us if to not in (OrderState.QUEUED, OrderState.CLAIMED) else None
    count = tx.run(
        "UPDATE orders SET state = ?, ended_us = ? WHERE id = ? AND state = ?",
        to,
        ended,
        order.id,
        order.state,
    )
    if count != 1:
        raise HiveError("INVALID_STATE", f"Work order {order.id} is no longer {order.state}.")
    data = {"work_order": order.id, "state": to, "from": order.state, "attempt": order.attempt}
    tx.emit(execution.stream, "work_order.state", data, execution=execution.id, actor=actor)


def prepare(
    tx: Tx, id_: str, *, session: str, resume: bool, fork_from: str | None, trusted: bool
) -> Execution:
    """Store how the process will be started, before it is."""
    tx.run(
        "UPDATE executions SET session = ?, resume = ?, fork_from = ?, trusted = ? WHERE id = ?",
        session, int(resume), fork_from, int(trusted), id_,
    )  # fmt: skip
    return find(tx, id_)


def started(tx: Tx, id_: str, *, pid: int | None) -> Execution:
    """The process lives."""
    execution = find(tx, id_)
    if execution.state is ExecutionState.STARTING:
        move(tx, execution, ExecutionState.RUNNING, pid=pid, started_us=tx.now_us)
        projects.announce_state(tx, execution.project)
    return find(tx, id_)


def note(tx: Tx, id_: str, **changes: Any) -> None:
    """Change flags that are shown but are no state: stalled, retrying. Tells only what differs."""
    execution = find(tx, id_)
    differing = {
        name: value for name, value in changes.items() if getattr(execution, name) != value
    }
    if not differing or execution.state in EXECUTION_ENDS:
        return
    assignments = ", ".join(f"{name} = ?" for name in differing)
    tx.run(f"UPDATE executions SET {assignments} WHERE id = ?", *differing.values(), id_)
    data = {
        "state": execution.state,
        "from": execution.state,
        "attempt": execution.attempt,
        **differing,
    }
    tx.emit(execution.stream, "execution.state", data, execution=id_)


def store_verdict(tx: Tx, id_: str, verdict: dict[str, Any]) -> None:
    """What Claude said of its turn. The first verdict on our turn stands; usage adds up over all."""
    execution = find(tx, id_)
    total = {name: execution.usage.get(name, 0) + value for name, value in verdict["usage"].items()}
    models = verdict.get("models", ())
    verdict = {**verdict, "models": ()}  # they are in the book
    keep = execution.verdict if execution.verdict is not None or verdict["origin"] else verdict
    tx.run(
        "UPDATE executions SET verdict = ?, usage = ?, cost_usd = ?, retrying = NULL WHERE id = ?",
        rows.dump(keep) if keep is not None else None, rows.dump(total), total["cost_usd"], id_,
    )  # fmt: skip
    usage.tell(tx, execution, total, list(models), is_estimate=False)


def add_evidence(tx: Tx, id_: str, kind: str, found: dict[str, Any]) -> None:
    """Keep an API error or a limit that Claude reported, for the judgement at the end."""
    execution = find(tx, id_)
    evidence = dict(execution.evidence)
    evidence[kind] = [*evidence.get(kind, [])[-9:], found]
    tx.run("UPDATE executions SET evidence = ? WHERE id = ?", rows.dump(evidence), id_)


def wait_for_person(tx: Tx, id_: str) -> None:
    """A person must answer: the wall clock stands still."""
    execution = find(tx, id_)
    if execution.state in (ExecutionState.RUNNING, ExecutionState.STARTING):
        move(
            tx,
            execution,
            ExecutionState.WAITING,
            waiting_since_us=tx.now_us,
        )
        projects.announce_state(tx, execution.project)


def go_on(tx: Tx, id_: str) -> Execution:
    """Nothing waits any more: running again, if it was waiting and no approval is pending."""
    execution = find(tx, id_)
    if execution.state is ExecutionState.WAITING and not _pending_approvals(tx, id_):
        since = execution.waiting_since_us or tx.now_us
        waited = execution.waited_us + max(0, tx.now_us - since)
        move(tx, execution, ExecutionState.RUNNING, waiting_since_us=None, waited_us=waited)
        projects.announce_state(tx, execution.project)
    return find(tx, id_)


def want_stop(tx: Tx, id_: str, *, mode: str, reason: str, by: str, note: str = "") -> Execution:
    """Store that somebody stops it, before anything is done; a pending one is cancelled here and now."""
    execution = find(tx, id_)
    if execution.state is ExecutionState.PENDING:
        _move_order(tx, execution, OrderState.CANCELLED, actor=by)
        _refresh_head(tx, execution.lane)
        outcome = {
            "cause": "killed",
            "message": note or "Cancelled before it started.",
            "ended_us": tx.now_us,
        }
        move(tx, execution, ExecutionState.CANCELLED, stop_by=by, **outcome)
        _emit_end(tx, find(tx, id_), swept=0, actor=by)
    elif execution.state in LIVE_STATES and _is_harder(mode, execution.stop_mode):
        tx.run(
            "UPDATE executions SET stop_mode = ?, stop_reason = ?, stop_by = ?, stop_note = ? WHERE id = ?",
            mode, reason, by, note, id_,
        )  # fmt: skip
    return find(tx, id_)


_HARDNESS = ("interrupt", "terminate", "kill")


def _is_harder(mode: str, before: str | None) -> bool:
    """A softer stop takes nothing back: after a restart the hardest is repeated."""
    return before is None or _HARDNESS.index(mode) > _HARDNESS.index(before)


def end(tx: Tx, id_: str, outcome: Outcome, *, swept: int = 0) -> Execution:
    """The end of a live execution: its state, its order's, its lane's and its project's in one step."""
    execution = find(tx, id_)
    if execution.state in EXECUTION_ENDS:
        return execution
    usage.close(tx, execution)
    since = execution.waiting_since_us
    waited = execution.waited_us + (max(0, tx.now_us - since) if since else 0)
    for row in _pending_approvals(tx, id_):
        expire_approval(tx, row["id"])
    move(
        tx, execution, outcome.state,
        cause=outcome.cause, message=outcome.message, exit_code=outcome.exit_code, signal=outcome.signal,
        subtype=outcome.subtype, result=outcome.result, stderr=outcome.stderr, resets_at=outcome.resets_at,
        survivors=outcome.survivors, ended_us=tx.now_us, waited_us=waited, waiting_since_us=None, stalled=None, retrying=None,
        structured=rows.dump(outcome.structured) if outcome.structured is not None else None,
    )  # fmt: skip
    _move_order(tx, execution, _order_end(outcome.state))
    tx.run("UPDATE lanes SET busy = 0 WHERE lane = ?", execution.lane)
    _refresh_head(tx, execution.lane)
    ended = find(tx, id_)
    tx.run(
        "UPDATE projects SET executions = executions + 1, cost_usd = cost_usd + ?, input_tokens = input_tokens + ?,"
        " output_tokens = output_tokens + ?, activity_us = ? WHERE id = ?",
        ended.cost_usd, ended.usage.get("input_tokens", 0), ended.usage.get("output_tokens", 0), tx.now_us, ended.project,
    )  # fmt: skip
    tx.run(
        "UPDATE sessions SET state = CASE state WHEN 'active' THEN 'idle' ELSE state END, executions = executions + 1,"
        " cost_usd = cost_usd + ?, activity_us = ? WHERE id = ?",
        ended.cost_usd, tx.now_us, ended.session,
    )  # fmt: skip
    _emit_end(tx, ended, swept=swept, actor=ended.stop_by)
    if outcome.is_session_lost and projects.find(tx, ended.project).session == ended.session:
        # Else every later prompt of the project would fail in the same way, all night.
        projects.reset_session(tx, ended.project, actor="system", request="")
    projects.announce_state(tx, ended.project)
    return ended


def _order_end(state: ExecutionState) -> OrderState:
    if state is ExecutionState.COMPLETED:
        return OrderState.COMPLETED
    return OrderState.CANCELLED if state is ExecutionState.CANCELLED else OrderState.FAILED


def _emit_end(tx: Tx, ended: Execution, *, swept: int, actor: str | None) -> None:
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
    }
    tx.emit(
        ended.stream,
        "execution.ended",
        data,
        execution=ended.id,
        session=ended.session,
        actor=actor,
    )


def expire_approval(tx: Tx, id_: str) -> None:
    """Nobody needs to answer any more: Claude withdrew it, or its execution ended."""
    from hivectl.store import people  # noqa: PLC0415  people and work tell of each other

    people.withdraw(tx, id_)


def live(tx: Tx) -> list[Execution]:
    """Every execution that has, or is about to get, a process."""
    found = tx.all(f"SELECT {E_COLUMNS} FROM executions WHERE state IN {LIVE_SQL} ORDER BY id")
    return [rows.read(Execution, row) for row in found]


def of_project(tx: Tx, project: str) -> list[Execution]:
    """What a project executes or has pending, live ones last: a kill cancels the waiting ones first."""
    found = tx.all(
        f"SELECT {E_COLUMNS} FROM executions WHERE project = ? AND state IN ('pending','starting','running','waiting')"
        " ORDER BY state <> 'pending', id",
        project,
    )
    return [rows.read(Execution, row) for row in found]


def forget_keys(tx: Tx, *, older_us: int) -> None:
    """Drop idempotency keys that are too old to count."""
    before = tx.now_us - older_us
    if tx.one("SELECT 1 FROM idempotency WHERE created_us < ? LIMIT 1", before) is not None:
        tx.run("DELETE FROM idempotency WHERE created_us < ?", before)


def mark_applied(tx: Tx, id_: str, end_: int) -> None:
    """The effects of the output up to `end_` are stored."""
    tx.run(
        "UPDATE executions SET applied_end = ? WHERE id = ? AND applied_end < ?", end_, id_, end_
    )


def name_session(tx: Tx, id_: str, session: str, model: str | None) -> None:
    """Claude named the conversation this execution runs in."""
    tx.run(
        "UPDATE executions SET session = ?, model = coalesce(?, model) WHERE id = ?",
        session,
        model,
        id_,
    )


def mend_lanes(tx: Tx) -> None:
    """Make every lane's flag and head agree with its orders: what a start does once."""
    busy = (
        f"EXISTS (SELECT 1 FROM executions e WHERE e.lane = lanes.lane AND e.state IN {LIVE_SQL})"
    )
    head = "(SELECT id FROM orders WHERE lane = lanes.lane AND state = 'queued' ORDER BY rank, id LIMIT 1)"
    # Only those that differ: a start on a full disk must not need room for what it does not change.
    for row in tx.all(f"SELECT lane FROM lanes WHERE busy <> {busy} OR head IS NOT {head}"):
        tx.run(f"UPDATE lanes SET busy = {busy} WHERE lane = ?", row["lane"])
        _refresh_head(tx, row["lane"])
