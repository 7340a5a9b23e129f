"""What an execution waits for: approvals and questions alike."""

from __future__ import annotations

from hivectl.model.approval import Approval
from hivectl.model.question import Question
from hivectl.store import people, questions
from hivectl.store.database import Tx

WAITED_FOR = (
    "SELECT id FROM approvals WHERE execution = {0} AND state = 'pending' UNION ALL"
    " SELECT id FROM questions WHERE execution = {0} AND state = 'pending'"
    " AND (request IS NOT NULL OR asker LIKE 'worker:%')"
)
"""A question about an execution that somebody else asked through the protocol stops nobody."""


def pending_of(tx: Tx, execution: str) -> list[str]:
    """Ids of what Claude waits for in this execution: it is `waiting` while there are any."""
    found = tx.all(
        f"SELECT id FROM ({WAITED_FOR.format('?')}) ORDER BY substr(id, 3)", execution, execution
    )
    return [row["id"] for row in found]


def withdraw_all(tx: Tx, execution: str) -> None:
    """Nobody needs to answer this execution any more: it has ended."""
    for row in tx.all(
        "SELECT id FROM approvals WHERE execution = ? AND state = 'pending'", execution
    ):
        people.withdraw(tx, row["id"])
    for row in tx.all(
        "SELECT id FROM questions WHERE execution = ? AND state = 'pending'", execution
    ):
        questions.withdraw(tx, row["id"])


def undelivered(tx: Tx, execution: str) -> list[Approval | Question]:
    """Answers that Claude may not have heard yet."""
    return [*people.undelivered(tx, execution), *questions.undelivered(tx, execution)]


def delivered(tx: Tx, id_: str) -> None:
    """Claude has the answer."""
    if id_.startswith("q_"):
        questions.delivered(tx, id_)
    else:
        people.delivered(tx, id_)
