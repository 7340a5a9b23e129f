"""The queue for people: what waits and why, pause and resume, move, retry, clear; the workers."""

from __future__ import annotations

from typing import Any

from hivectl.engine import capacity
from hivectl.kit.clock import MICROSECOND, format_us
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.model.work import Order, OrderState
from hivectl.model.worker import Worker, WorkerKind
from hivectl.services.executions import Executions
from hivectl.services.house import Handler, House, unfit_cursor
from hivectl.services.places import places
from hivectl.services.projects import Projects
from hivectl.services.reasons import reasons
from hivectl.services.views import time_or_none
from hivectl.store import queue, rows, workers
from hivectl.store.moves import find_order

Rows = list[dict[str, Any]]
ATTEMPTS_SHOWN = 20
PROJECTS_SHOWN = 50


class Queue:
    """Answers `queue.*` of people and `worker.*`."""

    def __init__(self, house: House, projects: Projects, executions: Executions) -> None:
        """Over the rooms below, beside projects and executions."""
        self._h = house
        self._projects = projects
        self._executions = executions

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "queue.list": self.list,
            "queue.stats": self.stats,
            "queue.describe": self.describe,
            "queue.pause": self.pause,
            "queue.resume": self.resume,
            "queue.move": self.move,
            "queue.cancel": self.cancel,
            "queue.retry": self.retry,
            "queue.clear": self.clear,
            "worker.list": self.workers,
            "worker.get": self.worker,
            "worker.scale": self.scale,
            "worker.drain": self.drain,
            "worker.resume": self.undrain,
        }

    async def _project(self, ref: str | None) -> str | None:
        return (await self._projects.find(ref)).id if ref else None

    # --- look ---------------------------------------------------------------------------------------

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page: what is ready in the order of its turn, then what is held back."""
        project = await self._project(p.project)
        states = ",".join("?" for _ in p.states)
        held, rank, id_ = _cursor(p.cursor)
        found = await self._h.db.all(
            f"{_ORDERS} WHERE o.state IN ({states}) AND (? IS NULL OR o.project = ?)"
            " AND (o.hold IS NOT NULL, o.rank, o.id) > (?, ?, ?)"
            " ORDER BY o.hold IS NOT NULL, o.rank, o.id LIMIT ?",
            *p.states, project, project, held, rank, id_, p.limit,
        )  # fmt: skip
        placed = await places(self._h.db, [row["id"] for row in found])
        items = [self._render(row, placed.get(row["id"])) for row in found]
        last = found[-1] if len(found) == p.limit else None
        cursor = None
        if last is not None:
            cursor = f"{int(last['hold'] is not None)}.{last['rank']}.{last['id']}"
        return {"items": items, "next_cursor": cursor}

    async def _one(self, ref: str) -> Any:
        order = await self._h.db.write(lambda tx: find_order(tx, ref))
        row = await self._h.db.one(f"{_ORDERS} WHERE o.id = ?", order.id)
        if row is None:
            raise HiveError("WORK_ORDER_NOT_FOUND", f"There is no work order {ref!r}.")
        return row

    async def _view(self, row: Any) -> dict[str, Any]:
        found = await places(self._h.db, [row["id"]])
        return self._render(row, found.get(row["id"]))

    def _render(self, row: Any, place: int | None) -> dict[str, Any]:
        order = rows.read(Order, row)
        return {
            "work_order": order.id,
            "project": order.project,
            "project_name": row["name"],
            "execution": row["execution"],
            "state": order.state,
            "hold": order.hold,
            "place": place,
            "priority": order.priority,
            "attempt": order.attempt,
            "retries": order.retries,
            "retry_count": order.retry_count,
            "pool": order.pool,
            "not_before": time_or_none(order.not_before_us),
            "after": row["needs"].split(",") if row["needs"] else [],
            "message": order.message,
            "prompt": order.prompt[:200],
            "actor": order.actor,
            "created_at": format_us(order.created_us),
            "ended_at": time_or_none(order.ended_us),
        }

    async def describe(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Why is it not running?"""
        row = await self._one(p.work_order)
        order = rows.read(Order, row)
        caps = capacity.caps(self._h.settings(), only_resume=self._h.engine.is_draining)
        said, until_us = await self._h.db.write(lambda tx: reasons(tx, order, caps))
        found = await self._h.db.all(
            "SELECT id FROM executions WHERE order_id = ? ORDER BY attempt DESC LIMIT ?",
            order.id, ATTEMPTS_SHOWN,
        )  # fmt: skip
        return {
            "order": await self._view(row),
            "reasons": said,
            "until": time_or_none(until_us),
            "attempts": [await self._executions.view(attempt["id"]) for attempt in found],
        }

    async def stats(self, caller: Caller, p: Any) -> dict[str, Any]:
        """The queue at a glance."""
        db, now_us = self._h.db, self._h.clock.now_us()

        async def counts(column: str, where: str) -> dict[str, int]:
            found = await db.all(
                f"SELECT {column} AS k, count(*) AS n FROM orders {where} GROUP BY k"
            )
            return {row["k"]: row["n"] for row in found}

        projects = await db.all(
            "SELECT p.name AS name, count(*) AS n FROM orders o JOIN projects p ON p.id = o.project WHERE o.state = 'queued'"
            " GROUP BY p.id ORDER BY n DESC, name LIMIT ?",
            PROJECTS_SHOWN,
        )  # fmt: skip
        oldest = await db.one(
            "SELECT min(created_us) AS at FROM orders WHERE state = 'queued' AND hold IS NULL"
        )
        slots = await db.one(
            "SELECT count(*) AS n, total(execution IS NOT NULL) AS busy, total(is_draining) AS draining FROM workers WHERE kind = 'local'"
        )
        wanting = await db.one("SELECT count(*) AS n FROM executions WHERE wants_slot IS NOT NULL")
        assert slots is not None
        assert wanting is not None
        return {
            "states": dict.fromkeys(OrderState, 0) | await counts("state", ""),
            "holds": await counts("hold", "WHERE state = 'queued' AND hold IS NOT NULL"),
            "priorities": await counts("priority", "WHERE state = 'queued'"),
            "projects": {row["name"]: row["n"] for row in projects},
            "oldest_wait_s": round((now_us - oldest["at"]) / MICROSECOND, 3)
            if oldest and oldest["at"]
            else 0.0,
            "pauses": await self._pauses(),
            "parked": await self._parked(),
            "slots": slots["n"],
            "slots_busy": int(slots["busy"]),
            "slots_draining": int(slots["draining"]),
            "wanting_slot": wanting["n"],
        }

    async def _pauses(self) -> Rows:
        found = await self._h.db.all(
            "SELECT x.*, p.name AS name FROM pauses x LEFT JOIN projects p ON p.id = x.scope ORDER BY since_us"
        )
        return [
            {
                "project": None if row["scope"] == queue.ALL else row["scope"],
                "project_name": row["name"],
                "reason": row["reason"],
                "actor": row["actor"],
                "since": format_us(row["since_us"]),
            }
            for row in found
        ]

    async def _parked(self) -> Rows:
        found = await self._h.db.all("SELECT * FROM parked_accounts ORDER BY until_us")
        return [
            {
                "account": row["account"],
                "kind": row["kind"],
                "until": format_us(row["until_us"]),
                "is_known": bool(row["is_known"]),
                "execution": row["execution"],
                "since": format_us(row["since_us"]),
            }
            for row in found
        ]

    # --- change -------------------------------------------------------------------------------------

    async def pause(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Start nothing new."""
        project = await self._project(p.project)
        how = {"reason": p.reason, "actor": caller.actor, "request": caller.request}
        await self._h.db.write(lambda tx: queue.pause(tx, project, **how))
        return {"project": project, "orders": 0, "accounts": []}

    async def resume(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Go on."""
        project = await self._project(p.project)
        how = {"now": p.now, "actor": caller.actor, "request": caller.request}
        orders, accounts = await self._h.db.write(lambda tx: queue.resume(tx, project, **how))
        self._h.engine.wake()
        return {"project": project, "orders": orders, "accounts": accounts}

    async def move(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Another place."""
        moved = await self._h.db.write(
            lambda tx: queue.relocate(
                tx,
                p.work_order,
                to=p.to,
                before=p.before,
                priority=p.priority,
                actor=caller.actor,
                request=caller.request,
            )
        )
        self._h.engine.wake()
        return await self._view(await self._one(moved.id))

    async def cancel(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Cancel what waits."""
        done = await self._h.db.write(
            lambda tx: queue.cancel(tx, p.work_order, message=p.reason, actor=caller.actor)
        )
        self._h.engine.wake()
        return await self._view(await self._one(done.id))

    async def retry(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Queue again."""
        pending = await self._h.db.write(
            lambda tx: queue.retry(tx, p.work_order, actor=caller.actor)
        )
        self._h.engine.wake()
        return await self._view(await self._one(pending.order_id))

    async def clear(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Cancel all that waits: batch by batch, so that nobody waits for the last."""
        project = await self._project(p.project)
        total = 0
        message = "The queue was cleared."
        while count := await self._h.db.write(
            lambda tx: queue.clear(tx, project, actor=caller.actor, message=message)
        ):
            total += count
        self._h.engine.wake()
        return {"project": project, "orders": total, "accounts": []}

    # --- workers ------------------------------------------------------------------------------------

    async def workers(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Slots by number, then others by name."""
        found = await self._h.db.all(
            f"{_WORKERS} WHERE (? IS NULL OR w.kind = ?) AND w.id > ? ORDER BY w.id LIMIT ?",
            p.kind, p.kind, p.cursor or "", p.limit,
        )  # fmt: skip
        items = [self._worker_view(row) for row in sorted(found, key=_by_number)]
        cursor = found[-1]["id"] if len(found) == p.limit else None
        return {"items": items, "next_cursor": cursor}

    async def worker(self, caller: Caller, p: Any) -> dict[str, Any]:
        """One worker."""
        row = await self._h.db.one(f"{_WORKERS} WHERE w.id = ? OR w.name = ?", p.worker, p.worker)
        if row is None:
            raise HiveError("WORKER_NOT_FOUND", f"There is no worker {p.worker!r}.")
        return self._worker_view(row)

    def _worker_view(self, row: Any) -> dict[str, Any]:
        worker, now_us = rows.read(Worker, row), self._h.clock.now_us()
        heartbeat_us = now_us if worker.lease_until_us is None else worker.heartbeat_us
        return {
            "worker": worker.id,
            "name": worker.name,
            "kind": worker.kind,
            "status": worker.status(now_us=now_us, is_waiting=row["state"] == "waiting"),
            "pools": worker.pools,
            "is_draining": worker.is_draining,
            "execution": worker.execution,
            "project_name": row["project_name"],
            "fault": worker.fault,
            "heartbeat_at": format_us(heartbeat_us),
            "lease_until": time_or_none(worker.lease_until_us),
            "registered_at": format_us(worker.registered_us),
        }

    async def _local(self) -> dict[str, Any]:
        found = await self._h.db.all(f"{_WORKERS} WHERE w.kind = 'local'")
        items = [self._worker_view(row) for row in sorted(found, key=_by_number)]
        return {"items": items, "next_cursor": None}

    async def scale(self, caller: Caller, p: Any) -> dict[str, Any]:
        """More or fewer slots."""
        default = capacity.slots(self._h.settings())
        await self._h.db.write(
            lambda tx: workers.scale(tx, p.slots, default=default, actor=caller.actor)
        )
        self._h.engine.wake()
        return await self._local()

    async def drain(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Take nothing new."""
        return await self._drain(caller, p.worker, is_draining=True)

    async def undrain(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Take work again."""
        return await self._drain(caller, p.worker, is_draining=False)

    async def _drain(self, caller: Caller, ref: str | None, *, is_draining: bool) -> dict[str, Any]:
        changed = await self._h.db.write(
            lambda tx: workers.set_draining(tx, ref, is_draining=is_draining, actor=caller.actor)
        )
        self._h.engine.wake()
        ids = [worker.id for worker in changed]
        marks = ",".join("?" for _ in ids)
        found = await self._h.db.all(f"{_WORKERS} WHERE w.id IN ({marks}) ORDER BY w.id", *ids)
        return {"items": [self._worker_view(row) for row in found], "next_cursor": None}


def _by_number(row: Any) -> tuple[bool, int, str]:
    """slot-2 before slot-10, and both before those outside."""
    return row["kind"] != WorkerKind.LOCAL, len(row["name"]), row["name"]


_ORDERS = (
    f"SELECT {rows.columns(Order, 'o')}, p.name AS name, (SELECT e.id FROM executions e WHERE e.order_id = o.id"
    " ORDER BY e.attempt DESC LIMIT 1) AS execution, (SELECT group_concat(n.needs) FROM order_needs n WHERE n.order_id = o.id)"
    " AS needs FROM orders o JOIN projects p ON p.id = o.project"
)
_WORKERS = (
    f"SELECT {rows.columns(Worker, 'w')}, e.state AS state, p.name AS project_name FROM workers w"
    " LEFT JOIN executions e ON e.id = w.execution LEFT JOIN projects p ON p.id = e.project"
)


def _cursor(cursor: str | None) -> tuple[int, int, str]:
    """Where a page ended. Raises INVALID_PARAMS for what no page gave."""
    if cursor is None:
        return 0, -(2**62), ""
    parts = cursor.split(".", 2)
    try:
        return int(parts[0]), int(parts[1]), parts[2]
    except (ValueError, IndexError):
        raise unfit_cursor() from None
