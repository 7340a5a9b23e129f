"""Chat: threads in which workers ask and people answer."""

from __future__ import annotations

from typing import Any

from hivectl.kit.clock import format_us
from hivectl.model.access import Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.model.question import Chat, ChatMessage, MessageType, QuestionState, Role
from hivectl.services.house import Handler, House, parse_cursor
from hivectl.services.projects import Projects
from hivectl.services.questions import Questions
from hivectl.services.views import time_or_none
from hivectl.store import chats, rows
from hivectl.store.database import Tx


class Chats:
    """Answers `chat.*`."""

    def __init__(self, house: House, projects: Projects, asked: Questions) -> None:
        """Over the rooms below; a reply to a question is its answer."""
        self._h = house
        self._projects = projects
        self._questions = asked

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "chat.list": self.list,
            "chat.messages": self.messages,
            "chat.send": self.send,
            "chat.read": self.read,
        }

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, newest activity first."""
        project = (await self._projects.find(p.project)).id if p.project else None
        before_us, before = parse_cursor(p.cursor)
        where = (
            "(?2 IS NULL OR c.project = ?2) AND (?3 IS NULL OR c.execution = ?3)"
            " AND (?4 IS NULL OR (c.activity_us, c.id) < (?4, ?5))"
            f" AND (?6 = 0 OR EXISTS (SELECT 1 FROM ({_WAITING})))"
        )
        found = await self._h.db.all(
            f"{_CHATS} WHERE {where} ORDER BY c.activity_us DESC, c.id DESC LIMIT ?7",
            caller.actor, project, p.execution, before_us, before, int(p.waiting), p.limit,
        )  # fmt: skip
        last = found[-1] if len(found) == p.limit else None
        cursor = None if last is None else f"{last['activity_us']}.{last['id']}"
        return {"items": [self._view(row) for row in found], "next_cursor": cursor}

    def _view(self, row: Any) -> dict[str, Any]:
        chat, now = rows.read(Chat, row), self._h.clock.now_us()
        since = row["waiting_us"]
        return {
            "thread": chat.id,
            "title": chat.title,
            "owner": chat.owner,
            "project": chat.project,
            "project_name": row["name"],
            "execution": chat.execution,
            "execution_state": row["state"],
            "task": chat.task,
            "messages": chat.messages,
            "unread": row["unread"],
            "waiting_for": row["waiting"].split(",") if row["waiting"] else [],
            "waiting_since": time_or_none(since),
            "waiting_ms": 0 if since is None else max(0, now - since) // 1000,
            "created_at": format_us(chat.created_us),
            "last_activity_at": format_us(chat.activity_us),
            "idle_ms": max(0, now - chat.activity_us) // 1000,
        }

    async def _find(self, ref: str) -> str:
        """The id of a thread, named by itself or by its execution. Raises CHAT_NOT_FOUND."""
        row = await self._h.db.one("SELECT id FROM chats WHERE id = ? OR execution = ?", ref, ref)
        if row is None:
            raise HiveError("CHAT_NOT_FOUND", f"There is no thread {ref!r}.", details={"id": ref})
        return str(row["id"])

    async def messages(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page of a thread."""
        chat = await self._find(p.thread)
        order = "DESC" if p.order == "desc" else "ASC"
        found = await self._h.db.all(
            f"SELECT {chats.M_COLUMNS} FROM chat_messages WHERE chat = ? AND (? IS NULL OR id < ?) AND (? IS NULL OR id > ?)"
            f" ORDER BY id {order} LIMIT ?",
            chat, p.before, p.before, p.after, p.after, p.limit,
        )  # fmt: skip
        items = [chats.describe(rows.read(ChatMessage, row)) for row in found]
        return {
            "thread": chat,
            "items": items,
            "next": items[-1]["id"] if len(items) == p.limit else None,
        }

    async def send(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Write a message; a reply to a question that waits is its answer."""
        if not p.text.strip():
            why = "it holds only white space"
            raise HiveError(
                "INVALID_PARAMS",
                f"text: {why}.",
                details={"errors": [{"pointer": "/text", "message": why}]},
            )
        project = (await self._projects.find(p.project)).id if p.project else None
        asked = await self._asked(p)
        if asked is not None:
            return await self._answer(caller, p, asked)
        author, role = _author(caller)

        def change(tx: Tx) -> ChatMessage:
            if p.thread is None:
                title = p.title or " ".join(p.text.split())
                chat = chats.begin(tx, title=title, owner=author, project=project)
            elif p.thread.startswith("x_"):
                chat = chats.of_execution(tx, p.thread)
            else:
                chat = chats.find(tx, p.thread)
            if caller.execution is not None and chat.owner != author:
                raise HiveError("FORBIDDEN", "An execution writes into its own thread only.")
            if p.parent is not None:
                chats.find_message(tx, chat.id, p.parent)
            type_ = MessageType.STATUS if p.parent is None else MessageType.RESPONSE
            return chats.post(
                tx, chat, author=author, role=role, type_=type_, text=p.text, parent=p.parent,
                request_id=caller.request,
            )  # fmt: skip

        sent = await self._h.db.write(change)
        await self._h.db.write(lambda tx: chats.mark_read(tx, sent.chat, caller.actor, sent.id))
        return {"message": chats.describe(sent), "answered": None}

    async def _asked(self, p: Any) -> str | None:
        """The question that waits for this reply."""
        if p.parent is None:
            return None
        row = await self._h.db.one(
            "SELECT m.question AS id FROM chat_messages m JOIN chats c ON c.id = m.chat WHERE m.id = ?"
            " AND (c.id = ? OR c.execution = ?) AND m.type = 'request' AND m.question IS NOT NULL",
            p.parent, p.thread, p.thread,
        )  # fmt: skip
        if row is None:
            return None
        asked = await self._questions.view(row["id"])
        return asked["id"] if asked["state"] == QuestionState.PENDING else None

    async def _answer(self, caller: Caller, p: Any, asked: str) -> dict[str, Any]:
        if not caller.allows(Scope.APPROVE):
            raise HiveError(
                "SELF_APPROVAL_DENIED" if caller.execution is not None else "FORBIDDEN",
                "This reply answers a question: that needs the scope approve.",
                details={"scope": Scope.APPROVE.value, "execution": caller.execution},
            )
        await self._questions.reply(caller, asked, p.text)
        row = await self._h.db.one(
            f"SELECT {chats.M_COLUMNS} FROM chat_messages WHERE question = ? AND type = 'response' ORDER BY id LIMIT 1",
            asked,
        )
        if row is None:
            raise HiveError("CHAT_NOT_FOUND", f"The answer to {asked} is not in its thread.")
        return {"message": chats.describe(rows.read(ChatMessage, row)), "answered": asked}

    async def read(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Note what the caller has read."""
        chat = await self._find(p.thread)
        await self._h.db.write(lambda tx: chats.mark_read(tx, chat, caller.actor, p.message))
        row = await self._h.db.one(f"{_CHATS} WHERE c.id = ?2", caller.actor, chat)
        if row is None:
            raise HiveError("CHAT_NOT_FOUND", f"There is no thread {chat!r}.")
        return self._view(row)


def _author(caller: Caller) -> tuple[str, Role]:
    if caller.execution is not None:
        return f"execution:{caller.execution}", Role.WORKER
    is_worker = Scope.WORK in caller.scopes and Scope.APPROVE not in caller.scopes
    return caller.actor, Role.WORKER if is_worker else Role.HUMAN


_WAITING = (
    "SELECT q.id AS id, q.created_us AS created_us FROM questions q WHERE q.thread = c.id AND q.state = 'pending' UNION ALL"
    " SELECT a.id, a.created_us FROM approvals a WHERE a.execution = c.execution AND a.state = 'pending'"
    " AND a.tool = 'AskUserQuestion'"
)
_CHATS = (
    f"SELECT {rows.columns(Chat, 'c')}, p.name AS name, e.state AS state,"
    " (SELECT count(*) FROM chat_messages m WHERE m.chat = c.id AND m.author <> ?1 AND m.id > coalesce((SELECT r.message FROM"
    " chat_reads r WHERE r.chat = c.id AND r.actor = ?1), '')) AS unread,"
    f" (SELECT group_concat(id) FROM ({_WAITING})) AS waiting, (SELECT min(created_us) FROM ({_WAITING})) AS waiting_us"
    " FROM chats c LEFT JOIN projects p ON p.id = c.project LEFT JOIN executions e ON e.id = c.execution"
)
