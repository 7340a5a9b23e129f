"""What people and programs were told, and a try of all the ways to tell them."""

from __future__ import annotations

from typing import Any

from hivectl.engine.courier import Courier
from hivectl.kit.clock import format_us
from hivectl.kit.ids import make_id
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.model.notification import Notification, Target
from hivectl.ports import Message
from hivectl.services.house import Handler, House, page_cursor
from hivectl.services.views import time_or_none
from hivectl.store import rows


class Notifications:
    """Answers `notify.test` and `notify.list`."""

    def __init__(self, house: House, courier: Courier) -> None:
        """Over the rooms below."""
        self._h = house
        self._courier = courier

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {"notify.test": self.test, "notify.list": self.list}

    async def test(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Send a test to every target, and say how it went."""
        if not self._courier.targets():
            raise HiveError(
                "CONFIG_INVALID",
                "Nobody is told anything: neither notify.targets nor webhook.urls is set.",
                hint="Run `hivectl config set notify.targets -` and give an address such as ntfy://TOPIC, then `hivectl daemon restart`.",
            )
        return {"items": await self._courier.test(lambda target: self._message(target, caller))}

    def _message(self, target: Target, caller: Caller) -> Message:
        id_ = make_id("n")
        if not target.is_webhook:
            text = "This is a test. Notifications of hivectl reach you here."
            return Message(id_, "hivectl: a test", text)
        payload: dict[str, Any] = {
            "id": id_, "type": "notify.test", "timestamp": format_us(self._h.clock.now_us()),
            "project": None, "project_name": None, "execution": None, "session": None, "actor": caller.actor,
            "data": {},
        }  # fmt: skip
        return Message(id_, "test", "", rows.dump(payload))

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, newest first, each with how it went at every target."""
        found = await self._h.db.all(
            f"SELECT {rows.columns(Notification, 'n')}, p.name AS project_name FROM notifications n LEFT JOIN projects p ON p.id = n.project"
            " WHERE (? IS NULL OR n.kind = ?) AND (? IS NULL OR n.id < ?) AND (? IS NULL OR EXISTS"
            " (SELECT 1 FROM deliveries d WHERE d.notification = n.id AND d.state = ?)) ORDER BY n.id DESC LIMIT ?",
            p.kind, p.kind, p.cursor, p.cursor, p.state, p.state, p.limit,
        )  # fmt: skip
        marks = ",".join("?" * len(found))
        deliveries = await self._h.db.all(
            f"SELECT * FROM deliveries WHERE notification IN ({marks}) ORDER BY notification, label",
            *(row["id"] for row in found),
        )
        by_id: dict[str, list[Any]] = {}
        for row in deliveries:
            by_id.setdefault(row["notification"], []).append(row)
        items = [_view(row, by_id.get(row["id"], [])) for row in found]
        return {"items": items, "next_cursor": page_cursor(items, p.limit, "id")}


def _view(row: Any, deliveries: list[Any]) -> dict[str, Any]:
    noun = rows.read(Notification, row)
    return {
        "id": noun.id,
        "kind": noun.kind,
        "project": noun.project,
        "project_name": row["project_name"],
        "execution": noun.execution,
        "subject": noun.subject,
        "title": noun.title,
        "text": noun.text,
        "hint": noun.hint,
        "repeats": noun.repeats,
        "created_at": format_us(noun.created_us),
        "deliveries": [
            {
                "target": item["label"],
                "state": item["state"],
                "attempts": item["attempts"],
                "error": item["error"],
                "next_at": format_us(item["next_us"])
                if item["state"] in ("pending", "held")
                else None,
                "sent_at": time_or_none(item["sent_us"]),
            }
            for item in deliveries
        ],
    }
