"""Claude's own questions in the thread of their execution: asked, answered, or no longer waiting."""

from __future__ import annotations

from typing import Any

from hivectl.model.approval import Approval, ApprovalState
from hivectl.model.question import MESSAGE_MAX, MessageType, Role
from hivectl.store import chats
from hivectl.store.database import Tx

CLAUDES_OWN = "AskUserQuestion"


def follow(tx: Tx, approval: Approval) -> None:
    """Tell in the thread what an approval has just become, if it is a question. Permissions are none."""
    if approval.tool != CLAUDES_OWN:
        return
    if approval.state is ApprovalState.PENDING:
        _post(tx, approval, Role.WORKER, MessageType.REQUEST, as_text(approval.input))
        return
    request = tx.one(
        "SELECT id FROM chat_messages WHERE question = ? AND type = 'request' LIMIT 1", approval.id
    )
    if request is None:
        return  # a rule answered before anybody was asked
    if approval.state is ApprovalState.DECIDED:
        role = Role.HUMAN if approval.decided_by and ":" in approval.decided_by else Role.SYSTEM
        text = _answer(approval)
        _post(tx, approval, role, MessageType.RESPONSE, text, parent=request["id"])
    else:
        text = "no answer is needed any more"
        _post(tx, approval, Role.SYSTEM, MessageType.STATUS, text, parent=request["id"])


def _post(
    tx: Tx,
    approval: Approval,
    role: Role,
    type_: MessageType,
    text: str,
    *,
    parent: str | None = None,
) -> None:
    author = {
        Role.WORKER: f"execution:{approval.execution}",
        Role.HUMAN: approval.decided_by or "system",
        Role.SYSTEM: approval.decided_by or "system",
    }[role]
    chat = chats.of_execution(tx, approval.execution)
    chats.post(
        tx, chat, author=author, role=role, type_=type_, text=text[:MESSAGE_MAX] or "-", parent=parent,
        question=approval.id, is_bounded=False,
    )  # fmt: skip


def _answer(approval: Approval) -> str:
    if approval.decision == "deny":
        return f"(declined) {approval.message}".strip()
    return "\n".join(str(answer) for answer in (approval.answers or {}).values())


def as_text(input_: dict[str, Any]) -> str:
    """All questions with their choices, as a message."""
    lines: list[str] = []
    found = input_.get("questions")
    for item in found if isinstance(found, list) else []:
        if not isinstance(item, dict):
            continue
        lines.append(str(item.get("question", "")))
        options = [option for option in item.get("options") or [] if isinstance(option, dict)]
        lines += [f"{n}. {option.get('label', '')}" for n, option in enumerate(options, 1)]
    return "\n".join(lines)
