"""What happened between two times: the page for the morning, and the words of the daily message.

Answers from the database; the log is asked for changed files only, in bounded reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from hivectl.journal import reader, scan
from hivectl.journal.record import Record
from hivectl.journal.writer import StreamLog
from hivectl.kit.clock import format_us
from hivectl.kit.daytime import parse_moment_us, wall
from hivectl.logic import files_changed
from hivectl.logic.notices import plain
from hivectl.model.access import Caller
from hivectl.model.approval import Approval
from hivectl.model.errors import HiveError
from hivectl.services.house import Handler, House
from hivectl.services.projects import Projects
from hivectl.services.views import time_or_none
from hivectl.store import rows

PROJECTS_MAX = 100
"""Most projects one summary shows, those with the most executions first."""
LISTED = 20
"""Most executions, and most waiting requests, that are listed of a project; the counts are whole."""
FILES_MAX = 50
QUESTION_CHARS = 200
SCAN_RECORDS = 100_000
"""Most records of a project's log that are looked at for changed files, newest first."""
WORDS_PROJECTS = 12
_FAILED = ("failed", "timed_out", "lost")
_NOW = ("waiting", "running", "starting", "pending")


class Summaries:
    """Answers `summary`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {"summary": self.summary}

    async def summary(self, caller: Caller, p: Any) -> dict[str, Any]:
        """The whole page."""
        now_us = self._h.clock.now_us()
        since_us = self._time(p.since, "since", now_us)
        until_us = now_us if p.until is None else self._time(p.until, "until", now_us)
        if until_us < since_us:
            raise _unfit("until", "it lies before since")
        project = (await self._projects.find(p.project)).id if p.project else None
        return await self.between(since_us, until_us, project)

    def _time(self, text: str, name: str, now_us: int) -> int:
        try:
            return parse_moment_us(text, now_us)
        except ValueError as exc:
            raise _unfit(name, str(exc)) from None

    async def between(
        self, since_us: int, until_us: int, project: str | None = None, *, has_files: bool = True
    ) -> dict[str, Any]:
        """What happened after `since_us`, up to `until_us`."""
        sums = await self._h.db.all(_SUMS, project, project, since_us, until_us)
        live = await self._h.db.all(_LIVE, project, project)
        items: dict[str, dict[str, Any]] = {}
        for row in sums:
            _count(_project(items, row), row)
        for row in live:
            _project(items, row)["counts"][row["state"]] = row["n"]
        chosen = sorted(items.values(), key=lambda item: -sum(item["counts"].values()))
        chosen = chosen[:PROJECTS_MAX]
        for item in chosen:
            await self._fill(item, since_us, until_us, has_files=has_files)
        every = [item["counts"] for item in items.values()]
        limits = await self._h.db.one(_LIMITS, project, project, since_us, until_us)
        return {
            "since": format_us(since_us),
            "until": format_us(until_us),
            "counts": {name: sum(each.get(name, 0) for each in every) for name in _names(every)},
            **{name: _sum(items.values(), name) for name in ("input_tokens", "output_tokens", "duration_ms")},
            "cost_usd": round(_sum(items.values(), "cost_usd"), 6),
            "usage_limits": limits[0] if limits is not None else 0,
            "projects": sorted(chosen, key=lambda item: str(item["project_name"])),
        }  # fmt: skip

    async def _fill(
        self, item: dict[str, Any], since_us: int, until_us: int, *, has_files: bool
    ) -> None:
        """What of a project is listed."""
        id_ = item["project"]
        for name, states in (("done", ("completed",)), ("failed", _FAILED)):
            if any(item["counts"].get(state) for state in states):
                marks = ",".join("?" * len(states))
                found = await self._h.db.all(
                    _RUNS.format(marks=marks), id_, since_us, until_us, *states, LISTED
                )
                item[name] = [_run(row) for row in found]
        found = await self._h.db.all(
            f"SELECT {rows.columns(Approval)} FROM approvals WHERE state = 'pending' AND project = ? ORDER BY id LIMIT ?",
            id_, LISTED,
        )  # fmt: skip
        item["waiting"] = [_wait(rows.read(Approval, row)) for row in found]
        found = await self._h.db.all(
            "SELECT id, execution, text, created_us FROM questions WHERE state = 'pending' AND project = ? ORDER BY id LIMIT ?",
            id_, LISTED,
        )  # fmt: skip
        item["waiting"] += [_ask(row) for row in found]
        found = await self._h.db.all(
            "SELECT decided_by, count(*) AS n FROM approvals WHERE state = 'decided' AND project = ?"
            " AND decided_us > ? AND decided_us <= ? GROUP BY decided_by ORDER BY n DESC LIMIT ?",
            id_, since_us, until_us, LISTED,
        )  # fmt: skip
        item["approvals"] = {str(row["decided_by"]): row["n"] for row in found}
        if has_files:
            log = self._h.journal.open(f"project:{id_}")
            files, is_whole = await asyncio.to_thread(_files, log, since_us, until_us)
            item["files"], item["files_more"] = (
                files[:FILES_MAX],
                max(0, len(files) - FILES_MAX),
            )
            item["files_whole"] = is_whole

    async def words(self, since_us: int, until_us: int) -> tuple[str, str]:
        """Title and text of the daily message."""
        found = await self.between(since_us, until_us, has_files=False)
        title = f"hivectl since {wall(since_us, None):%H:%M}: {_in_words(found['counts'])}"
        lines = []
        for item in found["projects"][:WORDS_PROJECTS]:
            lines.append(plain(f"{item['project_name']}: {_in_words(item['counts'])}"))
            lines += [
                plain(f"  {run['cause']}: {run['message'] or run['prompt']}", 160)
                for run in item["failed"][:3]
            ]
            lines += [plain(f"  waits: {each['text']}", 160) for each in item["waiting"][:3]]
        if len(found["projects"]) > WORDS_PROJECTS:
            lines.append(f"and {len(found['projects']) - WORDS_PROJECTS} more projects")
        if found["cost_usd"]:
            lines.append(f"cost: ${found['cost_usd']:.2f}")
        return title, "\n".join(lines) or "Nothing was executed."


_SUMS = (
    "SELECT e.project AS project, p.name AS name, e.state AS state, count(*) AS runs,"
    " sum(NOT EXISTS (SELECT 1 FROM executions x WHERE x.order_id = e.order_id AND x.attempt > e.attempt)) AS n,"
    " sum(e.cost_usd) AS cost_usd, sum(coalesce(json_extract(e.usage, '$.input_tokens'), 0)) AS input_tokens,"
    " sum(coalesce(json_extract(e.usage, '$.output_tokens'), 0)) AS output_tokens,"
    " sum(max(0, e.ended_us - coalesce(e.started_us, e.ended_us) - e.waited_us)) AS active_us"
    " FROM executions e JOIN projects p ON p.id = e.project WHERE (? IS NULL OR e.project = ?)"
    " AND e.ended_us > ? AND e.ended_us <= ? GROUP BY e.project, e.state"
)
"""An execution that was tried again counts with its cost, but not as failed: only the last one of an order does."""
_LIVE = (
    "SELECT e.project AS project, p.name AS name, e.state AS state, count(*) AS n FROM executions e"
    " JOIN projects p ON p.id = e.project WHERE (? IS NULL OR e.project = ?)"
    " AND e.state IN ('pending', 'starting', 'running', 'waiting') GROUP BY e.project, e.state"
)
_LIMITS = (
    "SELECT count(*) FROM executions WHERE (? IS NULL OR project = ?) AND ended_us > ? AND ended_us <= ?"
    " AND cause = 'usage_limit'"
)
_RUNS = (
    "SELECT e.*, substr(o.prompt, 1, 200) AS prompt FROM executions e JOIN orders o ON o.id = e.order_id"
    " WHERE e.project = ? AND e.ended_us > ? AND e.ended_us <= ? AND e.state IN ({marks})"
    " AND NOT EXISTS (SELECT 1 FROM executions x WHERE x.order_id = e.order_id AND x.attempt > e.attempt)"
    " ORDER BY e.ended_us DESC LIMIT ?"
)


def _project(items: dict[str, dict[str, Any]], row: Any) -> dict[str, Any]:
    empty = {
        "project": row["project"],
        "project_name": row["name"],
        "counts": {},
        "done": [],
        "failed": [],
        "waiting": [],
        "cost_usd": 0.0,
        "input_tokens": 0,
        "output_tokens": 0,
        "duration_ms": 0,
        "approvals": {},
        "files": [],
        "files_more": 0,
        "files_whole": True,
    }
    return items.setdefault(row["project"], empty)


def _count(item: dict[str, Any], row: Any) -> None:
    if row["n"]:
        item["counts"][row["state"]] = row["n"]
    retried = row["runs"] - row["n"]
    if retried:
        item["counts"]["retried"] = item["counts"].get("retried", 0) + retried
    item["cost_usd"] = round(item["cost_usd"] + row["cost_usd"], 6)
    item["input_tokens"] += row["input_tokens"]
    item["output_tokens"] += row["output_tokens"]
    item["duration_ms"] += row["active_us"] // 1000


def _names(every: list[dict[str, int]]) -> list[str]:
    return sorted({name for each in every for name in each})


def _sum(items: Iterable[dict[str, Any]], name: str) -> Any:
    return sum(item[name] for item in items)


def _run(row: Any) -> dict[str, Any]:
    start = row["started_us"] or row["created_us"]
    resets = row["resets_at"]
    return {
        "execution": row["id"],
        "state": row["state"],
        "cause": row["cause"],
        "message": row["message"],
        "prompt": row["prompt"],
        "cost_usd": round(row["cost_usd"], 6),
        "duration_ms": max(0, row["ended_us"] - start) // 1000,
        "ended_at": time_or_none(row["ended_us"]),
        "resets_at": None if resets is None else format_us(resets * 1_000_000),
    }


def _wait(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "kind": approval.kind,
        "execution": approval.execution,
        "text": approval.summary,
        "created_at": format_us(approval.created_us),
    }


def _ask(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": "question",
        "execution": row["execution"] or "",
        "text": row["text"][:QUESTION_CHARS],
        "created_at": format_us(row["created_us"]),
    }


def _in_words(counts: dict[str, int]) -> str:
    failed = sum(counts.get(state, 0) for state in _FAILED)
    named = [
        (counts.get("completed", 0), "done"),
        (failed, "failed"),
        (counts.get("waiting", 0), "waiting for you"),
        (counts.get("running", 0) + counts.get("starting", 0), "running"),
        (counts.get("pending", 0), "in the queue"),
        (counts.get("cancelled", 0), "cancelled"),
    ]
    return ", ".join(f"{count} {name}" for count, name in named if count) or "nothing happened"


def _files(log: StreamLog, since_us: int, until_us: int) -> tuple[list[str], bool]:
    """Paths that changed, and whether all of the log's part was looked at. Blocks: for a thread."""
    low = reader.find_time(log, since_us)
    high = reader.find_time(log, until_us + 1) - 1
    if low > high:
        return [], True
    kept = files_changed.Files()
    position, left = high + 1, SCAN_RECORDS
    while left > 0:
        page = scan.scan(
            log, match=_WRITES, limit=SCAN_RECORDS, before=position, last=low, budget_lines=left
        )
        for record in page.records:
            kept.see(record.type, bytes(record.data))
        position, left = page.position, left - page.scanned
        if page.is_end:
            return kept.paths(), True
    return kept.paths(), False


def _is_write(record: Record) -> bool:
    return record.type == "file.changed" or files_changed.may_write(bytes(record.data))


_WRITES = scan.Filter(types=("file.changed", "message"), where=_is_write)


def _unfit(name: str, why: str) -> HiveError:
    return HiveError(
        "INVALID_PARAMS",
        f"{name}: {why}.",
        details={"errors": [{"pointer": f"/{name}", "message": why}]},
    )
