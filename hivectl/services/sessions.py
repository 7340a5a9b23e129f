"""Claude's conversations: look at them with what executes in them, and end them."""

from __future__ import annotations

from typing import Any

from hivectl.engine import keeping
from hivectl.kit.clock import format_duration, format_us
from hivectl.kit.ids import make_uuid
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.model.session import EndReason, SessionState
from hivectl.services.house import Handler, House, parse_cursor
from hivectl.services.projects import Projects
from hivectl.store import sessions as table

HOUR_US = 3_600_000_000

_SESSIONS = (
    "SELECT s.*, p.name AS name, p.session AS current, e.id AS execution, e.order_id AS work_order, e.process AS process, e.worker AS worker,"
    f" {table.DUE} AS due, {table.HELD} AS held"
    " FROM sessions s JOIN projects p ON p.id = s.project"
    " LEFT JOIN executions e ON e.session = s.id AND e.state IN ('starting','running','waiting')"
)


class Sessions:
    """Answers `session.list|get|fork|end`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "session.list": self.list,
            "session.get": self.get,
            "session.fork": self.fork,
            "session.end": self.end,
        }

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, newest first."""
        project = (await self._projects.find(p.project)).id if p.project else None
        before_us, before = parse_cursor(p.cursor)
        found = await self._h.db.all(
            f"{_SESSIONS} WHERE (? IS NULL OR s.project = ?) AND (? IS NULL OR (s.activity_us, s.id) < (?, ?))"
            " ORDER BY s.activity_us DESC, s.id DESC LIMIT ?",
            *self._limits_us(), project, project, before_us, before_us, before, p.limit,
        )  # fmt: skip
        last = found[-1] if len(found) == p.limit else None
        cursor = None if last is None else f"{last['activity_us']}.{last['id']}"
        return {"items": [self._view(row) for row in found], "next_cursor": cursor}

    async def get(self, caller: Caller, p: Any) -> dict[str, Any]:
        """One conversation."""
        return self._view(await self._row(p.session))

    async def _row(self, id_: str) -> Any:
        row = await self._h.db.one(f"{_SESSIONS} WHERE s.id = ?", *self._limits_us(), id_)
        if row is None:
            raise HiveError("SESSION_NOT_FOUND", f"There is no session {id_!r}.")
        return row

    async def fork(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A copy becomes the project's current conversation, whatever state the copied one is in."""
        made, age_us = make_uuid(), self._h.settings().number("queue.idempotency_h") * HOUR_US
        copy = await self._h.db.write(
            lambda tx: table.fork(
                tx, p.session, new=made, key=p.idempotency_key, key_age_us=age_us, actor=caller.actor, request=caller.request
            )
        )  # fmt: skip
        return self._view(await self._row(copy))

    async def end(self, caller: Caller, p: Any) -> dict[str, Any]:
        """End it; its live process, if one waits, is closed."""
        await self._h.db.write(
            lambda tx: table.end(tx, p.session, actor=caller.actor, request=caller.request)
        )
        return await self.get(caller, p)

    def _limits_us(self) -> tuple[int, int]:
        return keeping.policy(self._h.engine.world).limits_us

    def _view(self, row: Any) -> dict[str, Any]:
        parked = self._h.engine.parking.find(row["id"])
        is_ended = row["state"] == SessionState.ENDED
        is_kept = row["held"] or row["due"] >= table.NEVER_US
        is_running_out = row["state"] == SessionState.IDLE and not is_kept
        return {
            "session": row["id"],
            "project": row["project"],
            "project_name": row["name"],
            "state": row["state"],
            "end_reason": row["end_reason"] if is_ended else None,
            "is_current": row["current"] == row["id"],
            "is_warm": parked is not None,
            "process": row["process"] or (parked.process if parked is not None else None),
            "execution": row["execution"],
            "work_order": row["work_order"],
            "worker": row["worker"],
            "executions": row["executions"],
            "last_execution": row["last_execution"],
            "cost_usd": round(row["cost_usd"], 6),
            "model": row["model"],
            "forked_from": row["forked_from"],
            "created_at": format_us(row["created_us"]),
            "last_activity_at": format_us(row["activity_us"]),
            "ended_at": format_us(row["ended_us"]) if is_ended and row["ended_us"] else None,
            "expires_at": format_us(row["due"]) if is_running_out else None,
        }


async def expiry_warnings(house: House, session: str | None) -> list[str]:
    """What becomes of a current conversation that has ended: told with the prompt that meets it."""
    found = await house.db.one(
        "SELECT state, end_reason, activity_us, ended_us FROM sessions WHERE id = ?", session
    )
    if found is None or found["state"] != SessionState.ENDED:
        return []
    idle_s = max(0, (found["ended_us"] or 0) - found["activity_us"]) / 1_000_000
    why = {
        EndReason.IDLE: f"had ended after {format_duration(idle_s)} of idleness",
        EndReason.AGE: "had ended because of its age",
    }.get(found["end_reason"], "had been ended by hand")
    if begins_fresh(house):
        return [f"The conversation {why}: this prompt begins a fresh one."]
    return [f"The conversation {why}: this prompt resumes it."]


def begins_fresh(house: House) -> bool:
    """Whether a prompt in a current conversation that has ended begins a fresh one."""
    return house.settings().text("session.on_expiry") == "fresh"
