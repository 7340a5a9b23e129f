"""Questions in SQL: asked, answered once, expired, withdrawn, heard."""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.kit.clock import format_us, parse_time_us
from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.model.question import (
    PENDING_MAX,
    QUESTION_MOVES,
    TIMED_OUT,
    TOO_MANY,
    Chat,
    MessageType,
    Patience,
    Question,
    QuestionState,
    Role,
    spoken,
)
from hivectl.store import chats, rows
from hivectl.store.database import Tx

COLUMNS = rows.columns(Question)
EXPIRE_BATCH = 100
"""Most questions that expire in one transaction."""


def find(tx: Tx, id_: str) -> Question:
    """A question. Raises QUESTION_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM questions WHERE id = ?", id_)
    if row is None:
        raise HiveError("QUESTION_NOT_FOUND", f"There is no question {id_!r}.", details={"id": id_})
    return rows.read(Question, row)


def find_call(tx: Tx, execution: str, *, request: str = "", rpc: str = "") -> Question | None:
    """The question of Claude's own call, by the id of its request or of its JSON-RPC call (the newest)."""
    row = tx.one(
        f"SELECT {COLUMNS} FROM questions WHERE execution = ? AND (request = ? OR rpc = ?) ORDER BY id DESC LIMIT 1",
        execution, request, rpc,
    )  # fmt: skip
    return rows.read(Question, row) if row is not None else None


def describe(tx: Tx, question: Question) -> dict[str, Any]:
    """A question as events show it: everything a notification needs to say what is asked."""
    project = tx.one("SELECT name FROM projects WHERE id = ?", question.project)
    return {
        "id": question.id,
        "version": question.version,
        "state": question.state,
        "kind": "question",
        "asker": question.asker,
        "execution": question.execution,
        "project": question.project,
        "project_name": project["name"] if project is not None else None,
        "thread": question.thread,
        "message_id": question.message_id,
        "text": question.text,
        "choices": question.choices,
        "multi": question.multi,
        "context": question.context,
        "answer": spoken(question.answer) if question.answer else None,
        "declined": question.is_declined,
        "answered_by": question.answered_by,
        "reason": question.reason,
        "on_timeout": question.on_timeout,
        "expires_at": format_us(question.expires_us) if question.expires_us else None,
        "claude_request": question.request,
        "claude_rpc": question.rpc,
        "created_at": format_us(question.created_us),
        "answered_at": format_us(question.answered_us) if question.answered_us else None,
    }


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to know. `request` and `rpc` only for Claude's own call."""

    asker: str
    text: str
    choices: tuple[str, ...] = ()
    multi: bool = False
    context: str = ""
    execution: str | None = None
    request: str | None = None
    rpc: str | None = None
    patience: Patience = msgspec.field(default_factory=Patience)
    request_id: str = ""


def ask(tx: Tx, wish: Wish, chat: Chat) -> Question:
    """Store a question and show it in its thread; Claude's same call again is the one stored before.

    Of too many at once Claude hears at once; anybody else gets RESOURCE_LIMIT."""
    if wish.request is not None and wish.execution is not None:
        known = find_call(tx, wish.execution, request=wish.request)
        if known is not None:
            return known
    waiting = tx.one(
        "SELECT count(*) FROM questions WHERE asker = ? AND state = 'pending'", wish.asker
    )
    assert waiting is not None
    if waiting[0] >= PENDING_MAX and wish.request is None:
        raise HiveError("RESOURCE_LIMIT", TOO_MANY, details={"limit": PENDING_MAX})
    id_ = make_id("q")
    message = chats.post(
        tx,
        chat,
        author=wish.asker,
        role=Role.WORKER,
        type_=MessageType.REQUEST,
        text=_as_message(wish),
        question=id_,
        request_id=wish.request_id,
        is_bounded=wish.request is None,
    )
    tx.run(
        "INSERT INTO questions(id, asker, execution, project, thread, message_id, request, rpc, text, choices, multi, context,"
        " state, on_timeout, expires_us, created_us) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        id_, wish.asker, wish.execution, chat.project, chat.id, message.id, wish.request, wish.rpc, wish.text,
        rows.dump(list(wish.choices)), int(wish.multi), wish.context, QuestionState.PENDING, wish.patience.on_timeout,
        wish.patience.expires_us(tx.now_us), tx.now_us,
    )  # fmt: skip
    if waiting[0] >= PENDING_MAX:
        return _close(tx, id_, QuestionState.WITHDRAWN, reason=TOO_MANY)
    asked = find(tx, id_)
    tx.emit(
        asked.stream,
        "question.asked",
        describe(tx, asked),
        execution=asked.execution,
        actor=asked.asker,
        request=wish.request_id or None,
    )
    return asked


def _as_message(wish: Wish) -> str:
    lines = [wish.text]
    lines += [f"{number}. {choice}" for number, choice in enumerate(wish.choices, 1)]
    if wish.context:
        lines += ["", wish.context]
    return "\n".join(lines)


def answer(
    tx: Tx,
    id_: str,
    said: dict[str, Any],
    *,
    version: int | None = None,
    by: str,
    request_id: str = "",
) -> Question:
    """Answer a pending question. Raises ALREADY_DECIDED (saying who) or VERSION_CONFLICT."""
    question = find(tx, id_)
    if QuestionState.ANSWERED not in QUESTION_MOVES[question.state]:
        raise closed(question)
    if version is not None and version != question.version:
        raise HiveError(
            "VERSION_CONFLICT",
            f"Question {id_} is at version {question.version}.",
            details={"version": question.version},
        )
    _move(tx, question, QuestionState.ANSWERED, answer=rows.dump(said), answered_by=by)
    answered = find(tx, id_)
    text = spoken(said)
    chats.post(
        tx,
        chats.find(tx, answered.thread),
        author=by,
        role=Role.HUMAN,
        type_=MessageType.RESPONSE,
        text=f"(declined) {text}".strip() if answered.is_declined else text,
        parent=answered.message_id,
        question=id_,
        request_id=request_id,
        is_bounded=False,
    )
    tx.emit(
        answered.stream,
        "question.answered",
        describe(tx, answered),
        execution=answered.execution,
        actor=by,
        request=request_id or None,
    )
    return answered


def closed(question: Question) -> HiveError:
    """ALREADY_DECIDED, saying how and by whom."""
    by = question.answered_by
    how = f"answered by {by}" if by else str(question.state)
    return HiveError(
        "ALREADY_DECIDED",
        f"Question {question.id} is closed: {how}.",
        details={"state": question.state, "answered_by": by, "decided_by": by},
    )


def _move(tx: Tx, question: Question, to: QuestionState, **changes: Any) -> None:
    if to not in QUESTION_MOVES[question.state]:
        raise closed(question)
    assignments = "".join(f", {name} = ?" for name in changes)
    tx.run(
        f"UPDATE questions SET state = ?, version = version + 1, answered_us = ?{assignments} WHERE id = ? AND state = ?",
        to, tx.now_us, *changes.values(), question.id, question.state,
    )  # fmt: skip


def _close(tx: Tx, id_: str, to: QuestionState, *, reason: str) -> Question:
    """Without an answer; one that is closed stays as it is."""
    question = find(tx, id_)
    if to not in QUESTION_MOVES[question.state]:
        return question
    _move(tx, question, to, reason=reason)
    over = find(tx, id_)
    word = (
        "nobody answered in time" if to is QuestionState.EXPIRED else "no answer is needed any more"
    )
    chats.post(
        tx,
        chats.find(tx, over.thread),
        author="system",
        role=Role.SYSTEM,
        type_=MessageType.STATUS,
        text=word,
        parent=over.message_id,
        question=id_,
        is_bounded=False,
    )
    tx.emit(over.stream, "question.expired", describe(tx, over), execution=over.execution)
    return over


def withdraw(tx: Tx, id_: str) -> Question:
    """Nobody needs to answer any more, or to hear of it; one that was answered stays so."""
    over = _close(tx, id_, QuestionState.WITHDRAWN, reason="Withdrawn.")
    if over.state is QuestionState.WITHDRAWN:
        delivered(tx, id_)
    return over


def expire(tx: Tx) -> list[Question]:
    """Close what nobody answered in time; at most EXPIRE_BATCH of them."""
    due = tx.all(
        "SELECT id, on_timeout FROM questions WHERE state = 'pending' AND expires_us <= ? ORDER BY expires_us LIMIT ?",
        tx.now_us, EXPIRE_BATCH,
    )  # fmt: skip
    return [
        _close(tx, row["id"], QuestionState.EXPIRED, reason=TIMED_OUT[row["on_timeout"]])
        for row in due
    ]


def next_expiry_us(tx: Tx) -> int | None:
    """When the next question is no longer waited for."""
    row = tx.one(
        "SELECT min(expires_us) FROM questions WHERE state = 'pending' AND expires_us IS NOT NULL"
    )
    return row[0] if row is not None else None


def delivered(tx: Tx, id_: str) -> None:
    """Claude has the answer."""
    tx.run("UPDATE questions SET is_delivered = 1 WHERE id = ?", id_)


def undelivered(tx: Tx, execution: str) -> list[Question]:
    """Answers to Claude's own calls that it may not have heard yet, also that there was none."""
    found = tx.all(
        f"SELECT {COLUMNS} FROM questions WHERE execution = ? AND request IS NOT NULL AND state <> 'pending'"
        " AND is_delivered = 0 ORDER BY id",
        execution,
    )
    return [rows.read(Question, row) for row in found]


def _answered(told: dict[str, Any]) -> str | None:
    if told["state"] != QuestionState.ANSWERED:
        return None
    return rows.dump({"text": told["answer"] or "", "declined": bool(told["declined"])})


def restore(tx: Tx, told: dict[str, Any]) -> None:
    """A question again from its event, after the database was lost; its thread is there already. One that was
    answered Claude may not have heard."""
    expires, created = told["expires_at"], told["created_at"]
    known = tx.one("SELECT 1 FROM executions WHERE id = ?", told["execution"])
    if told["execution"] is not None and known is None:
        return  # what asked it could not be restored: nobody would hear the answer
    tx.run(
        "INSERT INTO questions(id, asker, execution, project, thread, message_id, request, rpc, text, choices, multi, context,"
        " state, version, on_timeout, expires_us, created_us, answer, answered_by, reason)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        told["id"], told["asker"], told["execution"], told["project"], told["thread"], told["message_id"],
        told["claude_request"], told["claude_rpc"], told["text"], rows.dump(told["choices"]), int(told["multi"]),
        told["context"], told["state"], told["version"], told["on_timeout"],
        parse_time_us(expires) if expires else None, parse_time_us(created), _answered(told), told["answered_by"],
        told["reason"],
    )  # fmt: skip
