"""Threads and their messages in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hivectl.kit.clock import format_us
from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.model.question import (
    MESSAGE_MAX,
    MESSAGES_MAX,
    THREADS_MAX,
    TITLE_MAX,
    Chat,
    ChatMessage,
    MessageType,
    Role,
)
from hivectl.store import rows
from hivectl.store.database import Tx

COLUMNS = rows.columns(Chat)
M_COLUMNS = rows.columns(ChatMessage)


def find(tx: Tx, id_: str) -> Chat:
    """A thread. Raises CHAT_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM chats WHERE id = ?", id_)
    if row is None:
        raise HiveError("CHAT_NOT_FOUND", f"There is no thread {id_!r}.", details={"id": id_})
    return rows.read(Chat, row)


def find_message(tx: Tx, chat: str, id_: str) -> ChatMessage:
    """A message of a thread. Raises CHAT_NOT_FOUND."""
    row = tx.one(f"SELECT {M_COLUMNS} FROM chat_messages WHERE id = ? AND chat = ?", id_, chat)
    if row is None:
        raise HiveError(
            "CHAT_NOT_FOUND", f"Thread {chat} has no message {id_!r}.", details={"id": id_}
        )
    return rows.read(ChatMessage, row)


def of_execution(tx: Tx, execution: str) -> Chat:
    """The thread of an execution, made when it is first needed. Raises EXECUTION_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM chats WHERE execution = ?", execution)
    if row is not None:
        return rows.read(Chat, row)
    found = tx.one(
        "SELECT e.project, substr(o.prompt, 1, 400) AS prompt FROM executions e JOIN orders o ON o.id = e.order_id"
        " WHERE e.id = ?",
        execution,
    )
    if found is None:
        raise HiveError(
            "EXECUTION_NOT_FOUND",
            f"There is no execution {execution!r}.",
            details={"execution": execution},
        )
    title = " ".join(found["prompt"].split())
    owner = f"execution:{execution}"
    return _make(tx, title=title, owner=owner, project=found["project"], execution=execution)


def of_owner(tx: Tx, owner: str, project: str | None) -> Chat:
    """Where somebody asks who is no execution: one thread for each project, and one beside them."""
    row = tx.one(
        f"SELECT {COLUMNS} FROM chats WHERE owner = ? AND project IS ? AND execution IS NULL ORDER BY id LIMIT 1",
        owner, project,
    )  # fmt: skip
    if row is not None:
        return rows.read(Chat, row)
    return begin(tx, title=owner, owner=owner, project=project)


def begin(tx: Tx, *, title: str, owner: str, project: str | None) -> Chat:
    """A new thread of no execution. Raises RESOURCE_LIMIT."""
    count = tx.one("SELECT count(*) FROM chats WHERE execution IS NULL")
    assert count is not None
    if count[0] >= THREADS_MAX:
        raise HiveError(
            "RESOURCE_LIMIT",
            f"There are {THREADS_MAX} threads, the most allowed.",
            details={"limit": THREADS_MAX},
        )
    return _make(tx, title=title, owner=owner, project=project, execution=None)


def _make(tx: Tx, *, title: str, owner: str, project: str | None, execution: str | None) -> Chat:
    id_ = make_id("ch")
    tx.run(
        "INSERT INTO chats(id, title, owner, project, execution, created_us, activity_us) VALUES (?,?,?,?,?,?,?)",
        id_, title[:TITLE_MAX], owner, project, execution, tx.now_us, tx.now_us,
    )  # fmt: skip
    return find(tx, id_)


def post(
    tx: Tx,
    chat: Chat,
    *,
    author: str,
    role: Role,
    type_: MessageType,
    text: str,
    parent: str | None = None,
    question: str | None = None,
    request_id: str = "",
    is_bounded: bool = True,
) -> ChatMessage:
    """Add a message, and tell of it. Raises RESOURCE_LIMIT in a thread that is full.

    What must never fail for that (an answer, Claude's own question) is not `is_bounded`."""
    if is_bounded and chat.messages >= MESSAGES_MAX:
        raise HiveError(
            "RESOURCE_LIMIT",
            f"Thread {chat.id} has {MESSAGES_MAX} messages, the most allowed.",
            hint="Begin another one.",
            details={"limit": MESSAGES_MAX},
        )
    id_ = make_id("m")
    tx.run(
        "INSERT INTO chat_messages(id, chat, author, role, type, parent, question, text, created_us) VALUES (?,?,?,?,?,?,?,?,?)",
        id_, chat.id, author, role, type_, parent, question, text[:MESSAGE_MAX], tx.now_us,
    )  # fmt: skip
    tx.run(
        "UPDATE chats SET messages = messages + 1, activity_us = ? WHERE id = ?", tx.now_us, chat.id
    )
    message = find_message(tx, chat.id, id_)
    tx.emit(
        chat.stream,
        "chat.message",
        describe(message),
        execution=chat.execution,
        actor=author,
        request=request_id or None,
    )
    return message


def describe(message: ChatMessage) -> dict[str, Any]:
    """A message as events and results show it."""
    return {
        "id": message.id,
        "thread": message.chat,
        "author": message.author,
        "role": message.role,
        "type": message.type,
        "parent": message.parent,
        "question": message.question,
        "text": message.text,
        "created_at": format_us(message.created_us),
    }


def mark_read(tx: Tx, chat: str, actor: str, message: str | None) -> None:
    """Read up to `message`, or all there is; never back. Raises CHAT_NOT_FOUND."""
    if message is None:
        newest = tx.one("SELECT max(id) FROM chat_messages WHERE chat = ?", chat)
        message = newest[0] if newest is not None else None
        if message is None:
            return
    else:
        find_message(tx, chat, message)
    tx.run(
        "INSERT INTO chat_reads(chat, actor, message) VALUES (?,?,?)"
        " ON CONFLICT (chat, actor) DO UPDATE SET message = max(message, excluded.message)",
        chat, actor, message,
    )  # fmt: skip


def restore(tx: Tx, project: str, told: Sequence[tuple[dict[str, Any], str | None, int]]) -> None:
    """Threads and messages again from their events (data, execution, time), after the database was lost."""
    for data, execution, at_us in told:
        known = tx.one("SELECT 1 FROM chats WHERE id = ?", data["thread"])
        if known is None:
            of = tx.one("SELECT 1 FROM executions WHERE id = ?", execution)
            title = " ".join(str(data["text"]).split())[:TITLE_MAX]
            tx.run(
                "INSERT INTO chats(id, title, owner, project, execution, created_us, activity_us) VALUES (?,?,?,?,?,?,?)",
                data["thread"], title, data["author"], project, execution if of is not None else None, at_us, at_us,
            )  # fmt: skip
        tx.run(
            "INSERT INTO chat_messages(id, chat, author, role, type, parent, question, text, created_us) VALUES (?,?,?,?,?,?,?,?,?)",
            data["id"], data["thread"], data["author"], data["role"], data["type"], data["parent"], data["question"], data["text"],
            at_us,
        )  # fmt: skip
        tx.run(
            "UPDATE chats SET messages = messages + 1, activity_us = ? WHERE id = ?",
            at_us,
            data["thread"],
        )
