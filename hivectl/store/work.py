"""Executions in SQL: start, note, wait, stop, end, with the events each raises.

They are accepted in `hivectl.store.wishes`, states are assigned in `moves`, what follows from an end is decided in
`attempts`; what those offer is offered here too.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import asdict

from hivectl.model.work import (
    EXECUTION_ENDS,
    LIVE_STATES,
    Execution,
    ExecutionState,
    Outcome,
    Usage,
)
from hivectl.store import attempts, lanes, projects, rows, sessions, usage, workers
from hivectl.store.attempts import Rules
from hivectl.store.database import Tx
from hivectl.store.moves import E_COLUMNS, LIVE_SQL, find, find_order, move, pending_of
from hivectl.store.pending import withdraw_all
from hivectl.store.wishes import BOOST_US, Wish, enqueue, forget_keys, replayed

__all__ = [
    "BOOST_US",
    "LIVE_SQL",
    "Rules",
    "Wish",
    "enqueue",
    "find",
    "find_order",
    "forget_keys",
    "move",
    "pending_of",
    "replayed",
]

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


class _Stated(msgspec.Struct, frozen=True):
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
