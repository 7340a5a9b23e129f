"""A thread, live: what is written appears, a line typed is sent, and answers what waits there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, questions
from hivectl.cli.sanitize import reveal
from hivectl.client.subscription import Notice
from hivectl.kit.aio import Nursery
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.cli.session import Session
    from hivectl.client.aio import Client

Item = Mapping[str, Any]
TYPES = ["chat.message", "question.*", "approval.requested", "approval.decided", "approval.expired"]
_CLOSE_S = 2.0
_STYLES = {"request": "ask", "response": "bold", "status": "dim"}


async def pages(client: Client, thread: str) -> list[dict[str, Any]]:
    """All messages of a thread, oldest first."""
    items: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = await client.call(
            "chat.messages", thread=thread, **({"after": after} if after else {})
        )
        items += page["items"]
        after = page["next"]
        if after is None:
            return items


def speaker(message: Item) -> str:
    """Who wrote it, in a word."""
    author = str(message["author"])
    if message["role"] == "system":
        return "hivectl"
    if message["role"] == "worker" and author.startswith("execution:"):
        return "claude"
    return author.partition(":")[2] or author


def show(hive: Session, message: Item, *, to_err: bool = False) -> None:
    """Print one message."""
    time = str(message["created_at"])[11:16]
    text = reveal(str(message["text"])).replace("\n", "\n        ")
    pieces = (
        ("dim", f"{time}  "),
        ("prompt", f"{reveal(speaker(message))}: "),
        (_STYLES.get(str(message["type"]), ""), text),
    )
    (hive.screen.note if to_err else hive.screen.show)(*pieces)


async def open_of(client: Client, thread: Item) -> list[dict[str, Any]]:
    """The questions that wait in a thread, oldest first."""
    found = [await client.call("question.get", id=id_) for id_ in thread["waiting_for"]]
    return sorted(found, key=lambda question: str(question["created_at"]))


def as_answer(question: Item, typed: str) -> str:
    """What a typed line means for the question: a number is a choice. Raises HiveError INVALID_PARAMS."""
    only = question["questions"][0]
    options = [choice for choice in only["choices"] if isinstance(choice, Mapping)]
    may_many = only.get("multi") is True
    if stray := asking.stray_numbers(typed, options, may_many=may_many):
        raise HiveError(
            "INVALID_PARAMS",
            f"There is no choice {', '.join(stray)}.",
            hint="Give another number, or your own words.",
        )
    return asking.chosen(typed, options, may_many=may_many)


async def say(client: Client, thread: Item, waiting: Item | None, typed: str) -> Item:
    """Send a line: the answer where a question waits, else a message."""
    if waiting is None or not waiting.get("message_id"):
        sent: Item = await client.call("chat.send", thread=thread["thread"], text=typed)
        return sent
    if len(waiting["questions"]) > 1:
        raise HiveError(
            "INVALID_PARAMS",
            f"{waiting['id']} asks {len(waiting['questions'])} questions.",
            hint=f"Answer them with `hivectl answer {waiting['id']}`.",
        )
    text, parent = as_answer(waiting, typed), waiting["message_id"]
    answer: Item = await client.call("chat.send", thread=thread["thread"], parent=parent, text=text)
    return answer


@dataclass(kw_only=True)
class Talk:
    """One thread on a terminal."""

    hive: Session
    client: Client
    thread: Item
    _seen: set[str] = field(default_factory=set)
    _waiting: dict[str, Item] = field(default_factory=dict)
    _caught_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until the person leaves."""
        failures: list[BaseException] = []
        nursery = Nursery(lambda _name, error: failures.append(error))
        parts = [
            nursery.start(self._follow(), name="thread"),
            nursery.start(self._type(), name="keyboard"),
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await nursery.close(within_s=_CLOSE_S)
        if failures:
            raise failures[0]

    @property
    def _stream(self) -> str:
        project = self.thread["project"]
        return "system" if project is None else f"project:{project}"

    async def _follow(self) -> None:
        subscription = self.client.subscribe(
            [self._stream], since="now", types=TYPES, give_up_s=None
        )
        async with subscription:
            async for item in subscription.items():
                if isinstance(item, Notice):
                    if item.kind == "caught_up" and not self._caught_up.is_set():
                        await self._show_past()
                        self._caught_up.set()
                    elif item.kind == "disconnected":
                        self.hive.screen.note(
                            ("dim", "the daemon is gone; waiting for it to come back")
                        )
                        await self.client.revive()
                else:
                    await self._event(item)

    async def _show_past(self) -> None:
        """What was written before, now that nothing newer can be missed."""
        for message in await pages(self.client, self.thread["thread"]):
            self._show(message)
        self.thread = await self.client.call("chat.read", thread=self.thread["thread"])
        for question in await open_of(self.client, self.thread):
            self._waiting[question["id"]] = question
        self._tell()

    async def _event(self, event: Item) -> None:
        data = event.get("data") or {}
        kind = event["type"]
        if kind == "chat.message":
            if data["thread"] == self.thread["thread"] and data["id"] not in self._seen:
                self._show(data)
                await self.client.call("chat.read", thread=self.thread["thread"])
        elif kind in {"question.asked", "approval.requested"}:
            is_ours = data.get("thread") == self.thread["thread"] or (
                data.get("tool") == "AskUserQuestion"
                and data.get("execution") == self.thread["execution"]
            )
            if is_ours:
                question = await self.client.call("question.get", id=data["id"])
                if question["state"] == "pending":
                    self._waiting[data["id"]] = question
                    self._tell()
        else:
            self._waiting.pop(str(data.get("id")), None)

    def _show(self, message: Item) -> None:
        if message["id"] not in self._seen:
            self._seen.add(message["id"])
            show(self.hive, message)

    def _tell(self) -> None:
        if (waiting := next(iter(self._waiting.values()), None)) is not None:
            several = " (it asks several questions)" if len(waiting["questions"]) > 1 else ""
            text = f"your next line answers {waiting['id']}{several}"
            self.hive.screen.note(("dim", text))
        else:
            self.hive.screen.note(("dim", "Ctrl-D leaves"))

    async def _type(self) -> None:
        await self._caught_up.wait()
        while True:
            typed = await asking.read_line()
            if typed is None:
                return
            if not typed.strip():
                continue
            waiting = next(iter(self._waiting.values()), None)
            try:
                sent = await say(self.client, self.thread, waiting, typed)
            except HiveError as exc:
                self.hive.screen.note(("warn", f"{exc.message} {exc.hint}"))
                if exc.code == "ALREADY_DECIDED" and waiting is not None:
                    self._waiting.pop(waiting["id"], None)
                continue
            self._seen.add(sent["message"]["id"])
            if sent["answered"]:
                self._waiting.pop(sent["answered"], None)
                self.hive.screen.note(("dim", f"answered {sent['answered']}"))


def rows(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Threads as the table shows them."""
    return [{**item, "project_name": item["project_name"] or "-"} for item in items]


__all__ = ["Talk", "open_of", "pages", "questions", "rows", "say", "show"]
