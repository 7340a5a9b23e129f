"""What was used: sums over the account book and over the turns that run now, and the budgets of today."""

from __future__ import annotations

from typing import Any

from hivectl.engine.budgets import budgets_of
from hivectl.kit.clock import format_us, parse_duration_s, parse_time_us
from hivectl.logic import days
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.services.house import Handler, House
from hivectl.services.projects import Projects
from hivectl.store import budgets, usage

BUDGETS_MAX = 200
"""Most projects, and most users, whose budgets one answer shows."""


class Usage:
    """Answers `usage`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {"usage": self.usage}

    async def usage(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page of sums."""
        now_us = self._h.clock.now_us()
        since_us = self._time(p.since, "since", now_us)
        until_us = now_us + 1 if p.until is None else self._time(p.until, "until", now_us)
        project = (await self._projects.find(p.project)).id if p.project else None
        skip = int(p.cursor or 0)
        wanted = usage.Wanted(
            since_us=since_us, until_us=until_us, now_us=now_us, project=project, actor=p.user
        )
        sql, args = usage.sums(wanted, p.by)
        found = await self._h.db.all(f"{sql} LIMIT ? OFFSET ?", *args, p.limit, skip)
        sql, args = usage.sums(wanted, None)
        total = await self._h.db.one(sql, *args)
        items = [_row(row) for row in found]
        return {
            "by": p.by,
            "items": items,
            "total": {**_row(total), "key": "", "name": "total"},
            "since": format_us(since_us),
            "until": format_us(min(until_us, now_us)),
            "budgets": await self._budgets(project, p.user),
            "next_cursor": str(skip + p.limit) if len(items) == p.limit else None,
        }

    async def _budgets(self, project: str | None, user: str | None) -> list[dict[str, Any]]:
        limits = budgets_of(self._h.settings())
        today = str(days.day_of(self._h.clock.now_us()))
        rows = await self._h.db.all(
            "SELECT id FROM projects WHERE (? IS NULL OR id = ?) ORDER BY name LIMIT ?",
            project, project, BUDGETS_MAX,
        )  # fmt: skip
        actors = await self._h.db.all(
            "SELECT actor FROM spend WHERE day = ? AND (? IS NULL OR actor = ?) UNION"
            " SELECT actor FROM usage_open WHERE (? IS NULL OR actor = ?) LIMIT ?",
            today, user, user, user, user, BUDGETS_MAX,
        )  # fmt: skip
        found = await self._h.db.write(
            lambda tx: budgets.status(
                tx, limits, projects_=[row[0] for row in rows], users=[row[0] for row in actors]
            )
        )
        return [
            {
                **{name: value for name, value in item.items() if name != "until_us"},
                "is_exceeded": item["used"] >= item["limit"],
                "until": format_us(item["until_us"]),
            }
            for item in found
        ]

    def _time(self, text: str, name: str, now_us: int) -> int:
        try:
            return max(0, now_us - int(parse_duration_s(text) * 1_000_000))
        except (ValueError, OverflowError):
            pass
        try:
            return parse_time_us(text)
        except ValueError:
            raise HiveError(
                "INVALID_PARAMS", f"{name}: {excerpt(text, 80)!r} is neither a time such as 2026-01-31, nor an age such as 7d.",
                details={"errors": [{"pointer": f"/{name}"}]},
            ) from None  # fmt: skip


def _row(row: Any) -> dict[str, Any]:
    return {
        "key": row["key"],
        "name": row["name"],
        "runs": row["runs"],
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "cache_read_tokens": row["cache_read_tokens"],
        "cache_creation_tokens": row["cache_creation_tokens"],
        "active_ms": row["active_ms"],
        "cost_usd": round(row["cost_usd"], 6),
        "estimated_usd": round(row["estimated_usd"], 6),
    }
