"""Workers outside: they register, live as long as they are heard of, and carry one work order each.

Fencing: an execution is one attempt, and a worker's id is made anew at each registration. Whoever names a
pair that no longer belongs together is refused with LEASE_LOST, and what it sends is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from hivectl.kit.clock import MICROSECOND
from hivectl.kit.ids import make_id
from hivectl.logic import outcome as outcomes
from hivectl.model.errors import HiveError
from hivectl.model.work import EXECUTION_ENDS, Cause, Execution, ExecutionState, Outcome
from hivectl.model.worker import Worker, WorkerKind, WorkerStatus
from hivectl.store import queue, rows, work, workers
from hivectl.store.attempts import Rules
from hivectl.store.database import Tx
from hivectl.store.workers import COLUMNS

LAPSE_BATCH = 100
"""Most workers that go offline in one transaction; the rest in the next."""
_SLOT = re.compile(r"slot-[0-9]+")
SILENT = "Its worker {name} was not heard of for {lease:g} s; what it did is not known."
REPLACED = "Its worker {name} was started anew; what the earlier one did is not known."
LEFT = "Its worker {name} left without finishing it."
UNKNOWN = "The worker that carried it is not known any more; what it did is not known."


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it presents itself. `limit`: most external workers there may be."""

    name: str
    pools: tuple[str, ...]
    lease_s: float
    actor: str
    request: str
    limit: int


# --- the life of a worker --------------------------------------------------------------------------


def register(tx: Tx, new: Newcomer, rules: Rules) -> tuple[Worker, str | None]:
    """A worker comes, or comes back: then it takes over its name, and what it carried before has ended.

    Returns the worker and that execution. Raises INVALID_PARAMS, FORBIDDEN (the name is another's) and
    RESOURCE_LIMIT."""
    known = tx.one(f"SELECT {COLUMNS} FROM workers WHERE name = ?", new.name)
    lost = None
    if known is not None or _SLOT.fullmatch(new.name):
        earlier = rows.read(Worker, known) if known is not None else None
        if earlier is None or earlier.kind is WorkerKind.LOCAL:
            raise HiveError(
                "INVALID_PARAMS", f"name: {new.name} is a name of this daemon's own workers.",
                details={"errors": [{"pointer": "/name", "message": "is a name of the daemon's own workers"}]},
            )  # fmt: skip
        _check_actor(earlier, new.actor)
        lost = _lose(tx, earlier, rules, REPLACED.format(name=earlier.name))
        tx.run("DELETE FROM workers WHERE id = ?", earlier.id)
    else:
        _make_room(tx, new.limit)
    lease_us = int(new.lease_s * MICROSECOND)
    id_ = make_id("w")
    tx.run(
        "INSERT INTO workers(id, name, kind, pools, heartbeat_us, lease_until_us, lease_us, actor, registered_us)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        id_, new.name, WorkerKind.EXTERNAL, rows.dump(list(new.pools)), tx.now_us, tx.now_us + lease_us, lease_us,
        new.actor, tx.now_us,
    )  # fmt: skip
    worker = workers.find(tx, id_)
    _tell(tx, worker, WorkerStatus.IDLE, actor=new.actor, request=new.request)
    return worker, lost


def _make_room(tx: Tx, limit: int) -> None:
    """Forget who has been offline for the longest. Raises RESOURCE_LIMIT when all are online."""
    count = tx.one("SELECT count(*) AS n FROM workers WHERE kind = 'external'")
    assert count is not None
    if count["n"] < limit:
        return
    gone = tx.run(
        "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE kind = 'external' AND is_offline = 1"
        " AND execution IS NULL ORDER BY lease_until_us LIMIT ?)",
        count["n"] - limit + 1,
    )
    if count["n"] - gone >= limit:
        raise HiveError(
            "RESOURCE_LIMIT", f"{limit} workers are registered, the most allowed.",
            details={"limit": "worker.max_external", "max": limit},
        )  # fmt: skip


def find(tx: Tx, id_: str, *, actor: str) -> Worker:
    """A worker outside, by its id only: a name may have another bearer by now. Raises WORKER_NOT_FOUND, FORBIDDEN."""
    row = tx.one(f"SELECT {COLUMNS} FROM workers WHERE id = ? AND kind = 'external'", id_)
    if row is None:
        raise HiveError(
            "WORKER_NOT_FOUND", f"There is no worker {id_!r}, or another took over its name.",
            hint="Register again.", details={"worker": id_},
        )  # fmt: skip
    worker = rows.read(Worker, row)
    _check_actor(worker, actor)
    return worker


def _check_actor(worker: Worker, actor: str) -> None:
    if worker.actor != actor:
        raise HiveError(
            "FORBIDDEN",
            f"Worker {worker.name} belongs to {worker.actor}.",
            details={"worker": worker.id},
        )


def renew(tx: Tx, id_: str, *, actor: str) -> Worker:
    """It was heard of: it is online for another lease."""
    worker = find(tx, id_, actor=actor)
    tx.run(
        "UPDATE workers SET heartbeat_us = ?, lease_until_us = ?, is_offline = 0 WHERE id = ?",
        tx.now_us, tx.now_us + worker.lease_us, id_,
    )  # fmt: skip
    if worker.execution is not None and _row(tx, worker.execution) is None:
        # Its project was deleted, and the execution with it.
        tx.run("UPDATE workers SET execution = NULL WHERE id = ?", id_)
    renewed = find(tx, id_, actor=actor)
    if worker.is_offline:
        _tell(tx, renewed, renewed.status(now_us=tx.now_us, is_waiting=False), actor=actor)
    return renewed


def beat(
    tx: Tx, id_: str, *, actor: str, fault: str | None, leaves: bool, timeout_s: float
) -> tuple[Worker, Execution | None]:
    """A heartbeat, with what it carries. `fault`: what is wrong with it, empty when nothing is any more;
    `leaves`: it takes nothing new. What has taken longer than it may is to be stopped."""
    worker = renew(tx, id_, actor=actor)
    if fault is not None and (fault or None) != worker.fault:
        tx.run("UPDATE workers SET fault = ? WHERE id = ?", fault or None, id_)
        worker = find(tx, id_, actor=actor)
        status = worker.status(now_us=tx.now_us, is_waiting=False)
        _tell(tx, worker, status, actor=actor, fault=worker.fault)
    if leaves and not worker.is_draining:
        worker = workers.set_draining(tx, worker.name, is_draining=True, actor=actor)[0]
    if worker.execution is None:
        return worker, None
    return worker, _watch_time(tx, work.find(tx, worker.execution), timeout_s)


def _watch_time(tx: Tx, execution: Execution, timeout_s: float) -> Execution:
    limit = execution.options.get("timeout_s") or timeout_s
    if execution.state is not ExecutionState.RUNNING or execution.stop_mode is not None:
        return execution
    used_us = tx.now_us - (execution.started_us or tx.now_us) - execution.waited_us
    if used_us < limit * MICROSECOND:
        return execution
    return work.want_stop(
        tx, execution.id, mode="terminate", reason="timeout", by="system",
        note=f"It took longer than the {limit:g} s it may.",
    )  # fmt: skip


def deregister(
    tx: Tx, id_: str, rules: Rules, *, actor: str, request: str
) -> tuple[Worker, str | None]:
    """It goes for good; what it still carries has ended without a result. Returns that execution too."""
    worker = find(tx, id_, actor=actor)
    lost = _lose(tx, worker, rules, LEFT.format(name=worker.name))
    tx.run("DELETE FROM workers WHERE id = ?", id_)
    _tell(tx, worker, WorkerStatus.OFFLINE, actor=actor, request=request)
    return worker, lost


def lapse(
    tx: Tx, rules: Rules, *, alive: Sequence[str], grace: bool
) -> tuple[list[Worker], int | None]:
    """Who was silent for longer than its lease is offline, and its execution has ended.

    `alive` are ids of workers that wait for work on an open request. `grace`: nobody could be heard (the
    daemon was down, or the machine slept), so every lease begins anew. Returns who went offline, and when
    the next lease ends."""
    if grace:
        tx.run(
            "UPDATE workers SET lease_until_us = ? + lease_us WHERE kind = 'external' AND is_offline = 0",
            tx.now_us,
        )
        _end_orphans(tx, rules)
    for id_ in alive:
        tx.run(
            "UPDATE workers SET heartbeat_us = ?, lease_until_us = ? + lease_us WHERE id = ? AND is_offline = 0",
            tx.now_us, tx.now_us, id_,
        )  # fmt: skip
    due = tx.all(
        f"SELECT {COLUMNS} FROM workers WHERE lease_until_us <= ? AND is_offline = 0 ORDER BY lease_until_us LIMIT ?",
        tx.now_us, LAPSE_BATCH,
    )  # fmt: skip
    lapsed = [rows.read(Worker, row) for row in due]
    for worker in lapsed:
        tx.run("UPDATE workers SET is_offline = 1 WHERE id = ?", worker.id)
        why = SILENT.format(name=worker.name, lease=worker.lease_us / MICROSECOND)
        lost = _lose(tx, worker, rules, why)
        _tell(tx, worker, WorkerStatus.OFFLINE, lost=lost)
    row = tx.one("SELECT min(lease_until_us) AS at FROM workers WHERE is_offline = 0")
    return lapsed, row["at"] if row is not None else None


def _end_orphans(tx: Tx, rules: Rules) -> None:
    """Executions outside that nobody carries: the database was lost meanwhile, and their workers with it."""
    for row in tx.all(
        f"SELECT id FROM executions WHERE state IN {work.LIVE_SQL} AND process IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.execution = executions.id)"
    ):
        execution = work.find(tx, row["id"])
        work.end(tx, execution.id, _unfinished(execution, UNKNOWN), rules=rules)


def _lose(tx: Tx, worker: Worker, rules: Rules, why: str) -> str | None:
    """End what a worker carries and will not finish; its id."""
    if worker.execution is None or _row(tx, worker.execution) is None:
        return None
    execution = work.find(tx, worker.execution)
    work.end(tx, execution.id, _unfinished(execution, why), rules=rules)
    return execution.id


def _unfinished(execution: Execution, why: str) -> Outcome:
    if execution.stop_mode is not None:
        return outcomes.of_stop(execution.stop_reason or "", execution.stop_note or "")
    return Outcome(state=ExecutionState.LOST, cause=Cause.LEASE, message=why)


def _row(tx: Tx, execution: str) -> Any:
    return tx.one("SELECT 1 FROM executions WHERE id = ?", execution)


def _tell(
    tx: Tx, worker: Worker, status: WorkerStatus, *, actor: str | None = None, request: str | None = None, **more: Any
) -> None:  # fmt: skip
    data = {
        "worker": worker.id, "name": worker.name, "status": status, "is_draining": worker.is_draining,
        "execution": worker.execution, "pools": worker.pools,
    }  # fmt: skip
    tx.emit("system", "worker.state", data | more, actor=actor, request=request)


# --- claims ----------------------------------------------------------------------------------------


def give(tx: Tx, ids: Sequence[str], caps: queue.Caps) -> dict[str, Execution]:
    """Work for those that wait for some, the longest waiting first: by worker's id, where there is any.

    One that carries something already gets just that: the answer to its claim may have been lost."""
    given: dict[str, Execution] = {}
    barren: set[tuple[str, ...]] = set()
    for id_ in ids:
        row = tx.one(f"SELECT {COLUMNS} FROM workers WHERE id = ? AND is_offline = 0", id_)
        if row is None:
            continue
        worker = rows.read(Worker, row)
        pools = tuple(worker.pools)
        if worker.execution is not None:
            given[id_] = work.find(tx, worker.execution)
        elif not worker.is_draining and pools not in barren:
            execution = _claim(tx, worker, caps)
            if execution is None:
                barren.add(pools)
            else:
                given[id_] = execution
    return given


def _claim(tx: Tx, worker: Worker, caps: queue.Caps) -> Execution | None:
    if caps.only_resume or not queue.has_room(tx, caps):
        return None
    heads = [queue.next_head(tx, pool, per_user=caps.per_user) for pool in worker.pools]
    found = [head for head in heads if head is not None]
    if not found:
        return None
    best = min(found, key=lambda head: (head["head_rank"], head["head"]))
    started = queue.start(tx, best["head"], worker.name, process=None)
    return work.started(tx, started.id, pid=None)


# --- what a worker says of its work -----------------------------------------------------------------


def carried(tx: Tx, id_: str, execution: str, *, actor: str) -> tuple[Worker, Execution]:
    """The worker and what it carries, its lease renewed. Raises LEASE_LOST when it carries something else by now."""
    row = tx.one("SELECT execution FROM workers WHERE id = ?", id_)
    if row is None or row["execution"] != execution or _row(tx, execution) is None:
        raise _lost(tx, execution)
    return renew(tx, id_, actor=actor), work.find(tx, execution)


def _lost(tx: Tx, execution: str) -> HiveError:
    row = tx.one("SELECT state, cause, worker FROM executions WHERE id = ?", execution)
    if row is None:
        return HiveError("LEASE_LOST", f"There is no execution {execution!r}.")
    return HiveError(
        "LEASE_LOST",
        f"The worker does not carry {execution} any more: it is {row['state']}.",
        details={"execution": execution, "state": row["state"], "cause": row["cause"]},
    )


def post(
    tx: Tx, execution: Execution, first: int, messages: Sequence[tuple[dict[str, Any], int]], *, max_bytes: int
) -> tuple[int, bool]:  # fmt: skip
    """Append messages, each with its size, the first of which is the `first`-th (from 0) of this execution.

    Those that are in the log already are passed over. Returns the number of the next one, and whether the
    execution has now said more than it may. Raises INVALID_STATE when some before `first` are missing."""
    row = tx.one("SELECT outputs, output_bytes FROM executions WHERE id = ?", execution.id)
    assert row is not None
    known, size = row["outputs"], row["output_bytes"]
    if first > known:
        raise HiveError(
            "INVALID_STATE",
            f"Message {first} cannot be taken: {known} is the next one.",
            hint="Send what is missing first.",
            details={"next": known},
        )
    for data, bytes_ in messages[known - first :]:
        tx.emit(execution.stream, "message", data, execution=execution.id)
        known, size = known + 1, size + bytes_
    tx.run(
        "UPDATE executions SET outputs = ?, output_bytes = ? WHERE id = ?",
        known,
        size,
        execution.id,
    )
    return known, size > max_bytes


def finish(
    tx: Tx, id_: str, execution: str, outcome: Outcome, rules: Rules, *, actor: str
) -> Execution:
    """The worker says how it ended; said again it changes nothing. Raises LEASE_LOST.

    Where somebody wanted it stopped, it was."""
    if (ended := _finished_by(tx, id_, execution)) is not None:
        return ended
    _, found = carried(tx, id_, execution, actor=actor)
    work.book(tx, found.id, outcome.usage)
    if found.stop_mode is not None:
        stop = outcomes.of_stop(found.stop_reason or "", found.stop_note or "")
        outcome = Outcome(
            state=stop.state, cause=stop.cause, message=stop.message, result=outcome.result
        )
    return work.end(tx, found.id, outcome, rules=rules)


def _finished_by(tx: Tx, id_: str, execution: str) -> Execution | None:
    """The execution, where this very worker has ended it: its answer was lost, and it says so again."""
    row = tx.one(
        "SELECT 1 FROM executions e JOIN workers w ON w.name = e.worker WHERE e.id = ? AND w.id = ?"
        " AND e.started_us >= w.registered_us AND e.cause <> ?",
        execution, id_, Cause.LEASE,
    )  # fmt: skip
    if row is None:
        return None
    found = work.find(tx, execution)
    return found if found.state in EXECUTION_ENDS else None


def stop_now(tx: Tx, id_: str, rules: Rules) -> Execution:
    """End an execution outside though its worker has not said a word: what it still sends is dropped."""
    execution = work.find(tx, id_)
    outcome = outcomes.of_stop(execution.stop_reason or "", execution.stop_note or "")
    return work.end(tx, id_, outcome, rules=rules)


def serving(tx: Tx, pool: str) -> tuple[int, int]:
    """How many workers serve a pool now, and how many of them may take something."""
    row = tx.one(
        "SELECT count(*) AS n, total(execution IS NULL AND is_draining = 0) AS free FROM workers"
        " WHERE kind = 'external' AND is_offline = 0 AND EXISTS (SELECT 1 FROM json_each(pools) WHERE value = ?)",
        pool,
    )
    assert row is not None
    return row["n"], int(row["free"])
