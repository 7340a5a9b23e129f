"""The live inbox at work: follows what is asked and decided, reads keys, sends decisions."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, deciding, inbox_rows, questions
from hivectl.cli.difference import Difference, difference
from hivectl.cli.inbox import Decide, Edit, Inbox, Preview, Quit, Wish
from hivectl.cli.keys import Terminal
from hivectl.cli.session import all_items, now_s
from hivectl.client.subscription import Notice
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import SystemClock
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.cli.session import Session
    from hivectl.client.aio import Client

TICK_S = 1.0
"""How often ages and remaining times are drawn anew."""
_CLOSE_S = 3.0

Item = Mapping[str, Any]


class Live:
    """One live inbox, of one project or of all."""

    def __init__(self, hive: Session, client: Client, *, project: str | None) -> None:
        """`project` is an id."""
        self._hive, self._client, self._project = hive, client, project
        self._box = Inbox()
        self._diffs: dict[str, Difference | None] = {}
        self._clock = SystemClock()
        self._terminal = Terminal()
        self._sending: str | None = None
        """What we decide just now: the answer to that tells more than its event."""

    async def run(self) -> None:
        """Until the person leaves. The terminal is as before afterwards, however it ends."""
        failures: list[BaseException] = []
        nursery = Nursery(lambda _name, error: failures.append(error))
        async with self._terminal:
            tasks = [
                nursery.start(self._follow(), name="inbox events"),
                nursery.start(self._obey(), name="inbox keys"),
                nursery.start(self._tick(), name="inbox clock"),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await nursery.close(within_s=_CLOSE_S)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    # -- events -------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async with self._client.subscribe(["inbox"], since="now") as subscription:
            await self._refresh()
            async for item in subscription.items():
                if isinstance(item, Notice):
                    await self._notice(item)
                else:
                    await self._event(item)
                self._draw()

    async def _notice(self, notice: Notice) -> None:
        match notice.kind:
            case "disconnected":
                self._box.tell("the daemon is gone; waiting for it to come back")
                self._draw()
                if not notice.data.get("graceful"):
                    await self._client.revive()
            case "reconnected":
                self._box.tell("connected again")
                await self._refresh()
            case "reset" | "epoch_changed":
                await self._refresh()
            case _:
                pass

    async def _event(self, event: Mapping[str, Any]) -> None:
        kind, data = event["type"], event.get("data") or {}
        if kind in {"approval.requested", "question.asked"}:
            await self._look_at(str(data["id"]))
        elif kind in {"question.answered", "question.expired"} and data["id"] != self._sending:
            self._box.close(_closed(data), self._clock.monotonic())
        elif kind in {"approval.decided", "approval.expired"} and data["id"] != self._sending:
            self._box.close(data, self._clock.monotonic())
            self._diffs.pop(str(data.get("id")), None)

    async def _look_at(self, name: str) -> None:
        found = await self._get(name)
        if found["state"] == "pending":
            self._put(found)

    async def _get(self, name: str) -> Item:
        if not name.startswith("q_"):
            found: Item = await self._client.call("approval.get", id=name)
            return found
        question = await self._client.call("question.get", id=name)
        return _asked(question) if question["state"] == "pending" else _closed(question)

    async def _refresh(self) -> None:
        """Everything that waits, from the daemon: after this the events are enough."""
        params = {"project": self._project} if self._project else {}
        found: list[Item] = [*await all_items(self._client, "approval.list", **params)]
        asked = await all_items(self._client, "question.list", claude=False, **params)
        found += [_asked(question) for question in asked]
        self._box.replace(found, self._clock.monotonic())
        for item in found:
            self._compare(item)
        self._draw()

    def _put(self, item: Item) -> None:
        if self._project in {None, item["project"]}:
            self._compare(item)
            self._box.put(item, self._clock.monotonic())

    def _compare(self, item: Item) -> None:
        self._diffs[item["id"]] = difference(
            item["tool"], item.get("input") or {}, item.get("directory") or "", is_here=self._client.endpoint.is_local
        )  # fmt: skip

    # -- keys ---------------------------------------------------------------------------------

    async def _obey(self) -> None:
        while True:
            key = await self._terminal.read()
            wish = self._box.key(key, self._clock.monotonic())
            if isinstance(wish, Quit):
                return
            if wish is not None:
                await self._fulfil(wish)
            self._draw()

    async def _fulfil(self, wish: Wish) -> None:
        try:
            match wish:
                case Decide():
                    await self._send(wish.item, wish.params)
                case Edit():
                    await self._edit(wish.item)
                case Preview():
                    verdict = await self._client.call("policy.test", approval=wish.item["id"])
                    self._box.offer(wish.item, verdict, self._clock.monotonic())
                case Quit():
                    pass
        except HiveError as exc:
            self._box.tell(exc.message)
            if exc.code in {"ALREADY_DECIDED", "VERSION_CONFLICT", "UNAVAILABLE"}:
                await self._look_again(wish)

    async def _look_again(self, wish: Wish) -> None:
        if isinstance(wish, Quit):
            return
        try:
            found = await self._get(wish.item["id"])
        except HiveError:
            return  # the events will tell when the daemon is back
        if found["state"] == "pending":
            self._put(found)
        else:
            self._box.close(found, self._clock.monotonic())

    async def _send(self, item: Item, params: Mapping[str, Any]) -> None:
        self._sending = item["id"]
        try:
            if item["id"].startswith("q_"):
                said = await questions.send(self._client, item, _answer(params))
                done: Item = _closed(said)
            else:
                done = await deciding.decide(self._client, item, params)
        finally:
            self._sending = None
        self._box.close(done, self._clock.monotonic(), by_us=True)
        self._diffs.pop(item["id"], None)

    async def _edit(self, item: Item) -> None:
        before = item.get("input") or {}
        text = json.dumps(before, indent=2, ensure_ascii=False) + "\n"
        with self._terminal.lent():
            after = await asking.edit_text(self._hive.settings, text, suffix=".json")
        changed = deciding.json_object(after)
        if changed == before:
            self._box.tell("nothing was changed, so nothing was allowed: y allows it as it is")
            return
        await self._send(item, {"decision": "allow", "input": changed})

    # -- drawing ------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            self._draw()
            await asyncio.sleep(TICK_S)

    def _draw(self) -> None:
        if not self._terminal.is_ours:
            return
        size = shutil.get_terminal_size((80, 24))
        self._hive.screen.paint(
            inbox_rows.rows(self._box, self._diffs, size=(size.columns, size.lines), now_s=now_s())
        )


def _asked(question: Item) -> Item:
    """A question of ask_human or of a worker, as the inbox shows those that Claude asks itself."""
    asked = [
        {"question": one["question"], "options": one.get("choices") or [], "multiSelect": one.get("multi")}
        for one in question["questions"]
    ]  # fmt: skip
    return {
        **questions.as_row(question),
        "description": question.get("context") or "",
        "execution": question.get("execution") or question["asker"],
        "input": {"questions": asked},
    }


def _closed(question: Item) -> Item:
    """One that was answered or expired, with the fields of an approval."""
    declined = question.get("declined")
    return {
        "id": question["id"],
        "state": question["state"],
        "decision": {"answered": "deny" if declined else "allow"}.get(str(question["state"])),
        "decided_by": question.get("answered_by"),
    }


def _answer(params: Mapping[str, Any]) -> dict[str, Any]:
    """A decision as parameters of `question.answer`."""
    if params["decision"] == "deny":
        return {"decline": True, "text": params.get("message", "")}
    return {"answers": params["answers"]}


async def run(hive: Session, client: Client, project: str | None) -> None:
    """The live inbox. Raises HiveError PROJECT_NOT_FOUND."""
    id_ = (await client.call("project.get", project=project))["id"] if project else None
    await Live(hive, client, project=id_).run()
