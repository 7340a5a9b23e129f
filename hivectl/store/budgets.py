"""Budgets in SQL: what is used up, who was told, whose work waits for the next day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hivectl.logic import budgets as logic
from hivectl.logic import days
from hivectl.logic.budgets import Finding
from hivectl.model.errors import HiveError
from hivectl.model.usage import (
    Budgets,
    Kind,
    Limits,
    Scope,
    Used,
    execution_limits,
    project_limits,
)
from hivectl.model.work import Execution, ExecutionState
from hivectl.store import projects, rows, usage
from hivectl.store.database import Tx

LOOKED_AT_MAX = 10_000
"""Most projects, and most users, whose sums one look compares."""


class Overrun(msgspec.Struct, frozen=True):
    """A run that must end, and what it is told."""

    execution: str
    sentence: str


def check(tx: Tx, execution: Execution, budgets: Budgets) -> Overrun | None:
    """Look at the budgets a run counts for: its own, its project's and its user's of today.

    Warnings and what is used up are told once; a project or user with nothing left is blocked until the
    day ends. Returns why this run must end, if it must."""
    own = execution_limits(execution.options)
    found = []
    if own:
        found = _look(tx, Scope.EXECUTION, execution.id, own, [execution])
    found += _look_at_project(tx, execution.project, budgets, [execution])
    found += _look_at_user(tx, execution.actor, budgets, [execution])
    for finding in found:
        _tell(tx, finding, execution)
    exceeded = next((finding for finding in found if finding.is_exceeded), None)
    if exceeded is None:
        return None
    return Overrun(execution.id, _sentence(tx, exceeded))


def review(tx: Tx, budgets: Budgets) -> list[Overrun]:
    """Look at all budgets of the day, as a clock does: minutes pass without a word, limits are changed,
    the day ends. Blocks that hold no longer go. Returns the runs that must end; those that wait for a
    person cost nothing and are left."""
    live = _running(tx)
    day = str(days.day_of(tx.now_us))
    stops: dict[str, Overrun] = {}
    exceeded: set[tuple[str, str, str]] = set()
    for scope, column in ((Scope.PROJECT, "project"), (Scope.USER, "actor")):
        spent = tx.all(f"SELECT DISTINCT {column} FROM spend WHERE day = ? LIMIT ?", day, LOOKED_AT_MAX)  # fmt: skip
        keys = {row[0] for row in spent} | {getattr(run, column) for run in live}
        for key in sorted(keys):
            runs = [run for run in live if getattr(run, column) == key]
            look = _look_at_project if scope is Scope.PROJECT else _look_at_user
            for finding in look(tx, key, budgets, runs):
                _tell(tx, finding, runs[0] if runs else None)
                if finding.is_exceeded:
                    exceeded.add((str(scope), key, str(finding.kind)))
                    for run in runs:
                        stops.setdefault(run.id, Overrun(run.id, _sentence(tx, finding)))
    for block in blocks(tx) - exceeded:
        tx.run("DELETE FROM budget_blocks WHERE scope = ? AND key = ? AND kind = ?", *block)
    return list(stops.values())


def blocks(tx: Tx) -> set[tuple[str, str, str]]:
    """(scope, key, kind) of what holds work back, or did until midnight."""
    found = tx.all("SELECT scope, key, kind FROM budget_blocks")
    return {(row["scope"], row["key"], row["kind"]) for row in found}


ANY_SQL = "SELECT 1 FROM projects WHERE defaults LIKE '%\"budget_%' UNION ALL SELECT 1 FROM budget_blocks LIMIT 1"
"""Whether there is anything to review where the settings limit nothing."""


def status(tx: Tx, budgets: Budgets, *, projects_: Sequence[str], users: Sequence[str]) -> list[dict[str, Any]]:  # fmt: skip
    """Where each budget of today stands."""
    found: list[dict[str, Any]] = []
    live = _running(tx)
    until = days.end_of_us(tx.now_us)
    for scope, keys in ((Scope.PROJECT, projects_), (Scope.USER, users)):
        for key in keys:
            name, limits = _limits_of(tx, scope, key, budgets)
            if not limits:
                continue
            runs = [run for run in live if key in (run.project, run.actor)]
            so_far = _used(tx, scope, key, runs)
            found += [
                {
                    "scope": scope,
                    "key": key,
                    "name": name,
                    "kind": kind,
                    "used": round(so_far.of(kind), 6),
                    "limit": limit,
                    "is_estimate": kind is Kind.USD and so_far.estimated_usd > 0,
                    "until_us": until,
                }
                for kind, limit in limits.items()
            ]
    return found


# --- one scope -------------------------------------------------------------------------------------


def _running(tx: Tx) -> list[Execution]:
    found = tx.all(
        f"SELECT {rows.columns(Execution)} FROM executions WHERE state IN ('starting','running') ORDER BY id"
    )
    return [rows.read(Execution, row) for row in found]


def _limits_of(tx: Tx, scope: Scope, key: str, budgets: Budgets) -> tuple[str, Limits]:
    """(what people call it, its limits of a day)."""
    if scope is Scope.USER:
        return key, budgets.user
    try:
        project = projects.find(tx, key)
    except HiveError:
        return key, {}  # deleted since
    return project.name, project_limits(budgets, project.defaults)


def _look_at_project(
    tx: Tx, project: str, budgets: Budgets, runs: Sequence[Execution]
) -> list[Finding]:
    return _look_today(tx, Scope.PROJECT, project, budgets, runs)


def _look_at_user(tx: Tx, actor: str, budgets: Budgets, runs: Sequence[Execution]) -> list[Finding]:
    return _look_today(tx, Scope.USER, actor, budgets, runs)


def _look_today(
    tx: Tx, scope: Scope, key: str, budgets: Budgets, runs: Sequence[Execution]
) -> list[Finding]:
    name, limits = _limits_of(tx, scope, key, budgets)
    return _look(tx, scope, key, limits, runs, name=name) if limits else []


def _look(
    tx: Tx, scope: Scope, key: str, limits: Limits, runs: Sequence[Execution], name: str = ""
) -> list[Finding]:
    so_far = _used(tx, scope, key, runs)
    is_estimate = so_far.estimated_usd > 0
    return logic.look(scope, key, name, limits, so_far, is_estimate=is_estimate)


def _used(tx: Tx, scope: Scope, key: str, runs: Sequence[Execution]) -> Used:
    """What is booked and what runs now; of a day where the budget is one of days."""
    if scope is Scope.EXECUTION:
        return usage.used(tx, scope, key)
    today = days.day_of(tx.now_us)
    since_midnight = (tx.now_us - days.start_of_us(today)) // 1000
    booked = usage.used(tx, scope, key, day=str(today))
    going = sum(
        min(usage.active_ms(run, tx.now_us), since_midnight)
        for run in runs
        if run.state is not ExecutionState.WAITING
    )
    return Used(
        usd=booked.usd,
        tokens=booked.tokens,
        ms=booked.ms + going,
        estimated_usd=booked.estimated_usd,
    )


# --- telling ---------------------------------------------------------------------------------------


def _sentence(tx: Tx, finding: Finding) -> str:
    return finding.sentence(days.clock_text(days.end_of_us(tx.now_us)))


def _tell(tx: Tx, finding: Finding, execution: Execution | None) -> None:
    """Events once a day and limit, and the block that holds back what waits."""
    until = days.end_of_us(tx.now_us)
    if finding.is_exceeded and finding.scope is not Scope.EXECUTION:
        tx.run(
            "INSERT OR REPLACE INTO budget_blocks(scope, key, kind, until_us, reason) VALUES (?,?,?,?,?)",
            finding.scope, finding.key, finding.kind, until, _sentence(tx, finding),
        )  # fmt: skip
    level = "exceeded" if finding.is_exceeded else "warning"
    is_new = tx.run(
        "INSERT OR IGNORE INTO budget_marks(scope, key, kind, day, level, amount) VALUES (?,?,?,?,?,?)",
        finding.scope, finding.key, finding.kind, str(days.day_of(tx.now_us)), level, finding.limit,
    )  # fmt: skip
    if not is_new:
        return
    data: dict[str, Any] = {
        "scope": finding.scope,
        "key": finding.key,
        "name": finding.name,
        "kind": finding.kind,
        "used": round(finding.used, 6),
        "limit": finding.limit,
        "is_estimate": finding.is_estimate,
        "message": _sentence(tx, finding) if finding.is_exceeded else finding.warning(),
    }
    if finding.scope is not Scope.EXECUTION:
        data["until_us"] = until
    stream = "system"
    if execution is not None:
        stream = execution.stream
    elif finding.scope is Scope.PROJECT:
        stream = f"project:{finding.key}"
    id_ = execution.id if execution is not None else None
    tx.emit(stream, f"budget.{level}", data, execution=id_)
