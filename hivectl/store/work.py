"""Work orders and executions in SQL: accept, start, note, wait, stop, end, with the events each raises.

States are assigned in `hivectl.store.moves`, what follows from an end is decided in `attempts`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hivectl.kit import failpoint
from hivectl.kit.clock import format_us
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.work import (
    EXECUTION_ENDS,
    LIVE_STATES,
    Execution,
    ExecutionState,
    Hold,
    OrderState,
    Outcome,
    Usage,
)
from hivectl.model.worker import LOCAL_POOL
from hivectl.store import attempts, lanes, projects, rows, sessions, usage, workers, worktrees
from hivectl.store.attempts import Rules
from hivectl.store.database import Tx
from hivectl.store.moves import E_COLUMNS, LIVE_SQL, find, find_order, move, pending_of
from hivectl.store.pending import withdraw_all

__all__ = ["LIVE_SQL", "Rules", "find", "find_order", "move", "pending_of"]

BOOST_US = {"high": 3_600_000_000, "normal": 0, "low": -3_600_000_000}
"""An hour of age outweighs one step of priority: a static key, so that the head of a lane stays valid."""


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


_DEFAULT_RULES = Rules()


def prepare(
    tx: Tx, id_: str, *, session: str, resume: bool, fork_from: str | None, trusted: bool
) -> Execution:
    """Store how the process will be started, before it is."""
    tx.run(
        "UPDATE executions SET session = ?, resume = ?, fork_from = ?, trusted = ? WHERE id = ?",
        session, int(resume), fork_from, int(trusted), id_,
    )  # fmt: skip
    return find(tx, id_)


def started(
    tx: Tx, id_: str, *, pid: int | None, process: str | None = None, output_start: int = 0
) -> Execution:
    """The process lives. `process`: a warm one carries it; its output up to `output_start` was for others."""
    execution = find(tx, id_)
    if execution.state is ExecutionState.STARTING:
        carrier: dict[str, Any] = {}
        if process is not None:
            carrier = {
                "process": process,
                "output_start": output_start,
                "applied_end": output_start,
            }
        move(tx, execution, ExecutionState.RUNNING, pid=pid, started_us=tx.now_us, **carrier)
        projects.announce_state(tx, execution.project)
    return find(tx, id_)


def replaced(tx: Tx, id_: str, *, process: str, pid: int | None) -> Execution:
    """Another process carries it from the beginning: the one it was given died before it heard the prompt."""
    execution = find(tx, id_)
    tx.run(
        "UPDATE executions SET process = ?, pid = ?, output_start = 0, applied_end = 0 WHERE id = ?",
        process, pid, id_,
    )  # fmt: skip
    data = {"state": execution.state, "from": execution.state, "attempt": execution.attempt}
    data |= {"process": process, "pid": pid}
    tx.emit(execution.stream, "execution.state", data, execution=id_)
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


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a worker outside says that it used."""

    usage: Usage
    models: tuple[()] = ()
    is_total: bool = False


def book(tx: Tx, id_: str, used: Usage) -> None:
    """A worker outside states what its execution used."""
    if used == Usage():
        return
    execution = find(tx, id_)
    turn, parts = usage.settle(tx, execution, _Stated(used))
    total = usage.added(execution.usage, turn)
    tx.run(
        "UPDATE executions SET usage = ?, cost_usd = ? WHERE id = ?",
        rows.dump(total), total["cost_usd"], id_,
    )  # fmt: skip
    usage.tell(tx, execution, total, [asdict(part) for part in parts], is_estimate=False)


def add_evidence(tx: Tx, id_: str, kind: str, found: dict[str, Any]) -> None:
    """Keep an API error or a limit that Claude reported, for the judgement at the end."""
    execution = find(tx, id_)
    evidence = dict(execution.evidence)
    evidence[kind] = [*evidence.get(kind, [])[-9:], found]
    tx.run("UPDATE executions SET evidence = ? WHERE id = ?", rows.dump(evidence), id_)


def wait_for_person(tx: Tx, id_: str) -> None:
    """A person must answer: the wall clock stands still, and the slot is free for others."""
    execution = find(tx, id_)
    if execution.state in (ExecutionState.RUNNING, ExecutionState.STARTING):
        given_back: dict[str, Any] = {}
        if not execution.is_outside:
            workers.release(tx, id_)
            given_back["worker"] = None
        move(tx, execution, ExecutionState.WAITING, waiting_since_us=tx.now_us, **given_back)
        projects.announce_state(tx, execution.project)
    elif execution.wants_slot is not None:
        # Asked again before it got a slot: it waits for a person once more.
        tx.run("UPDATE executions SET wants_slot = NULL WHERE id = ?", id_)


def go_on(tx: Tx, id_: str) -> Execution:
    """Nothing waits for a person any more: it is to have a slot again, before everything else of its priority.

    The claim that grants one (`queue.claim`) moves it to running. A worker outside has kept its place: what
    it carries goes on at once."""
    execution = find(tx, id_)
    is_answered = execution.state is ExecutionState.WAITING and not pending_of(tx, id_)
    if is_answered and execution.is_outside:
        since = execution.waiting_since_us or tx.now_us
        waited = execution.waited_us + max(0, tx.now_us - since)
        move(tx, execution, ExecutionState.RUNNING, waiting_since_us=None, waited_us=waited)
        projects.announce_state(tx, execution.project)
    elif is_answered and execution.wants_slot is None:
        order = find_order(tx, execution.order_id)
        head = tx.one(
            "SELECT min(rank) AS rank FROM orders WHERE priority = ? AND state = 'queued' AND hold IS NULL",
            order.priority,
        )
        ahead = head["rank"] if head is not None and head["rank"] is not None else order.rank
        tx.run("UPDATE executions SET wants_slot = ? WHERE id = ?", min(order.rank, ahead), id_)
    return find(tx, id_)


def want_stop(tx: Tx, id_: str, *, mode: str, reason: str, by: str, note: str = "") -> Execution:
    """Store that somebody stops it, before anything is done; a pending one is cancelled here and now."""
    execution = find(tx, id_)
    if execution.state is ExecutionState.PENDING:
        order = find_order(tx, execution.order_id)
        attempts.cancel(tx, order, message=note or "Cancelled before it started.", actor=by)
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


def end(
    tx: Tx, id_: str, outcome: Outcome, *, swept: int = 0, rules: Rules = _DEFAULT_RULES
) -> Execution:
    """The end of a live execution: its state, its order's, its lane's and its project's in one step."""
    execution = find(tx, id_)
    if execution.state in EXECUTION_ENDS:
        return execution
    usage.close(tx, execution)
    since = execution.waiting_since_us
    waited = execution.waited_us + (max(0, tx.now_us - since) if since else 0)
    withdraw_all(tx, id_)
    move(
        tx, execution, outcome.state,
        cause=outcome.cause, message=outcome.message, exit_code=outcome.exit_code, signal=outcome.signal,
        subtype=outcome.subtype, result=outcome.result, stderr=outcome.stderr, resets_at=outcome.resets_at,
        survivors=outcome.survivors, ended_us=tx.now_us, waited_us=waited, waiting_since_us=None, stalled=None, retrying=None, wants_slot=None,
        structured=rows.dump(outcome.structured) if outcome.structured is not None else None,
    )  # fmt: skip
    workers.release(tx, id_)
    ended = find(tx, id_)
    settled = attempts.settle(tx, ended, outcome, rules)
    lanes.set_busy(tx, execution.lane, is_busy=False)
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
    attempts.emit_end(tx, ended, swept=swept, actor=ended.stop_by, settled=settled)
    if outcome.is_session_taken and ended.fork_from is not None:
        sessions.begin(tx, ended.session, ended.id)
    if outcome.is_session_lost and projects.find(tx, ended.project).session == ended.session:
        # Else every later prompt of the project would fail in the same way, all night.
        projects.reset_session(tx, ended.project, actor="system", request="")
    projects.announce_state(tx, ended.project)
    return ended


def live(tx: Tx) -> list[Execution]:
    """Every execution that has, or is about to get, a process."""
    found = tx.all(
        f"SELECT {E_COLUMNS} FROM executions INDEXED BY executions_live_project WHERE state IN {LIVE_SQL} ORDER BY id"
    )
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
