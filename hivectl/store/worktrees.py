"""Worktrees in SQL: opened with their work order, moved by the table of `hivectl.model.worktree`.

Its lane stays when it is gone: a work order that is tried again is claimed all the same, and gets a fresh
worktree or an answer, instead of waiting for ever.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.model.errors import HiveError
from hivectl.model.work import Execution, Order
from hivectl.model.worktree import (
    WORKTREE_ENDS,
    WORKTREE_MOVES,
    AcceptStep,
    Worktree,
    WorktreeState,
    lane_of,
    worktree_of,
)
from hivectl.store import rows
from hivectl.store.database import Tx

COLUMNS = rows.columns(Worktree)
OPEN_SQL = "state NOT IN ('accepted', 'discarded')"


def find(tx: Tx, id_: str) -> Worktree:
    """A worktree. Raises WORKTREE_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM worktrees WHERE id = ?", id_)
    if row is None:
        raise HiveError("WORKTREE_NOT_FOUND", f"There is no worktree {id_!r}.")
    return rows.read(Worktree, row)


def of_execution(tx: Tx, execution: Execution) -> Worktree:
    """The worktree an execution runs or ran in. Raises WORKTREE_NOT_FOUND."""
    id_ = worktree_of(execution.lane)
    if id_ is None:
        raise HiveError(
            "WORKTREE_NOT_FOUND",
            f"Execution {execution.id} ran in its project's own directory, not in a worktree.",
            hint="`hivectl exec --worktree` runs a prompt in a worktree; `git diff` shows the project's changes.",
            details={"execution": execution.id},
        )
    return find(tx, id_)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A worktree as it is asked for with a prompt."""

    id: str
    path: str
    branch: str
    prefix: str
    limit: int
    """Most open ones of the project."""


def open_(tx: Tx, wanted: Wanted, *, project: str, order: str, execution: str, actor: str) -> None:
    """Enter a wanted worktree, with its work order. Raises RESOURCE_LIMIT."""
    id_ = wanted.id
    held = tx.one(f"SELECT count(*) FROM worktrees WHERE project = ? AND {OPEN_SQL}", project)
    assert held is not None
    if held[0] >= wanted.limit:
        raise HiveError(
            "RESOURCE_LIMIT",
            f"The project has {held[0]} worktrees that were neither accepted nor discarded.",
            hint="`hivectl worktree list` shows them; accept or discard some, or raise `worktree.max_per_project`.",
            details={"limit": "worktree.max_per_project", "max": wanted.limit},
        )
    tx.run(
        "INSERT INTO worktrees(id, project, order_id, execution, path, branch, prefix, state, actor, created_us, changed_us)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        id_, project, order, execution, wanted.path, wanted.branch, wanted.prefix, WorktreeState.CREATING, actor, tx.now_us,
        tx.now_us,
    )  # fmt: skip
    _tell(tx, find(tx, id_), before=None)


def move(
    tx: Tx, worktree: Worktree, to: WorktreeState, *, actor: str | None = None, **changes: Any
) -> Worktree:
    """One step, with the columns that change with it. Raises INVALID_STATE."""
    if to not in WORKTREE_MOVES[worktree.state]:
        raise HiveError(
            "INVALID_STATE",
            f"Worktree {worktree.id} is {worktree.state} and cannot become {to}.",
            details={
                "state": worktree.state,
                "allowed": sorted(WORKTREE_MOVES[worktree.state]),
                "worktree": worktree.id,
            },
        )
    if to is not WorktreeState.ACCEPTING:
        changes.setdefault("step", None)
    _set(tx, worktree, {"state": to, **changes})
    moved = find(tx, worktree.id)
    _tell(tx, moved, before=worktree.state, actor=actor)
    return moved


def note(tx: Tx, worktree: Worktree, **changes: Any) -> Worktree:
    """Store what the next step needs, before it is taken. Raises INVALID_STATE when it moved meanwhile."""
    _set(tx, worktree, changes)
    return find(tx, worktree.id)


def _set(tx: Tx, worktree: Worktree, changes: dict[str, Any]) -> None:
    assignments = ", ".join(f"{name} = ?" for name in (*changes, "changed_us"))
    count = tx.run(
        f"UPDATE worktrees SET {assignments} WHERE id = ? AND state = ? AND step IS ?",
        *changes.values(), tx.now_us, worktree.id, worktree.state, worktree.step,
    )  # fmt: skip
    if count != 1:
        raise HiveError("INVALID_STATE", f"Worktree {worktree.id} is no longer {worktree.state}.")


def _tell(
    tx: Tx, worktree: Worktree, *, before: WorktreeState | None, actor: str | None = None
) -> None:
    data = {
        "worktree": worktree.id,
        "state": worktree.state,
        "from": before,
        "work_order": worktree.order_id,
        "path": worktree.path,
        "branch": worktree.branch,
        "prefix": worktree.prefix,
        "base": worktree.base,
        "programs": worktree.programs,
        "tip": worktree.tip,
        "merged": worktree.merged,
        "problem": worktree.problem,
    }
    who = actor or (worktree.actor if before is None else None)
    tx.emit(worktree.stream, "worktree.state", data, execution=worktree.execution, actor=who)


def order_ended(tx: Tx, order: Order) -> None:
    """A work order came to its end: a worktree that git never heard of is wanted no more."""
    id_ = worktree_of(order.lane)
    if id_ is None:
        return
    row = tx.one(f"SELECT {COLUMNS} FROM worktrees WHERE id = ?", id_)
    if row is None:
        return
    worktree = rows.read(Worktree, row)
    if worktree.state is WorktreeState.CREATING and worktree.base is None:
        move(tx, worktree, WorktreeState.DISCARDED)


def open_ones(tx: Tx, project: str | None = None) -> list[Worktree]:
    """All that were neither accepted nor discarded, of one project or of all."""
    found = tx.all(
        f"SELECT {COLUMNS} FROM worktrees WHERE {OPEN_SQL} AND (? IS NULL OR project = ?) ORDER BY id",
        project, project,
    )  # fmt: skip
    return [rows.read(Worktree, row) for row in found]


def live_in(tx: Tx, worktree: Worktree) -> str | None:
    """The execution that runs in it, or waits to."""
    row = tx.one(
        "SELECT id FROM executions WHERE lane = ? AND state IN ('pending','starting','running','waiting') LIMIT 1",
        lane_of(worktree.project, worktree.id),
    )
    return None if row is None else str(row["id"])


def directory_of(tx: Tx, execution: Execution, otherwise: str) -> str:
    """Where an execution runs: its worktree, or its project's directory, which the caller knows."""
    id_ = worktree_of(execution.lane)
    if id_ is None:
        return otherwise
    row = tx.one(f"SELECT {COLUMNS} FROM worktrees WHERE id = ?", id_)
    return otherwise if row is None else rows.read(Worktree, row).cwd


def find_idle(tx: Tx, id_: str) -> Worktree:
    """A worktree in which nothing runs or waits to. Raises INVALID_STATE, WORKTREE_NOT_FOUND."""
    worktree = find(tx, id_)
    live = live_in(tx, worktree)
    if live is not None:
        raise HiveError(
            "INVALID_STATE",
            f"Execution {live} runs in that worktree, or waits to.",
            hint=f"Wait for it (`hivectl wait {live}`) or end it (`hivectl kill {live}`).",
            details={"execution": live, "worktree": id_},
        )
    return worktree


def begin_end(
    tx: Tx, id_: str, to: WorktreeState, *, actor: str, step: AcceptStep | None = None
) -> Worktree:
    """Begin an accept or a discard, unless something runs there. Raises INVALID_STATE."""
    worktree = find_idle(tx, id_)
    if worktree.state in WORKTREE_ENDS:
        raise HiveError(
            "WORKTREE_NOT_FOUND",
            f"The worktree of {worktree.execution} was {worktree.state} already.",
            details={"worktree": id_, "state": worktree.state},
        )
    return move(tx, worktree, to, actor=actor, step=step, problem="")


def restore(tx: Tx, project: str, told: dict[str, Any], *, execution: str, actor: str) -> None:
    """Enter a worktree as its last event tells of it: for a database that is rebuilt from the log."""
    tx.run(
        "INSERT INTO worktrees(id, project, order_id, execution, path, branch, prefix, base, programs, state, step, tip, merged,"
        " problem, actor, created_us, changed_us) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        told["worktree"], project, told["work_order"], execution, told["path"], told["branch"], told["prefix"], told["base"],
        told["programs"], told["state"],
        AcceptStep.COMMITTING if told["state"] == WorktreeState.ACCEPTING else None,
        told["tip"], told["merged"], told["problem"], actor, tx.now_us, tx.now_us,
    )  # fmt: skip
