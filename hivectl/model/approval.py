"""What Claude wants to do, or asks, and the answer it gets."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class ApprovalState(StrEnum):
    """PENDING waits for somebody; WITHDRAWN: nobody needs to answer any more."""

    PENDING = "pending"
    DECIDED = "decided"
    WITHDRAWN = "withdrawn"


APPROVAL_MOVES: dict[ApprovalState, frozenset[ApprovalState]] = {
    ApprovalState.PENDING: frozenset({ApprovalState.DECIDED, ApprovalState.WITHDRAWN}),
    ApprovalState.DECIDED: frozenset(),
    ApprovalState.WITHDRAWN: frozenset(),
}


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval as stored. `answer` is what Claude is to hear; `is_delivered` once it did."""

    id: str
    execution: str
    project: str
    request: str
    kind: str
    tool: str
    input: dict[str, Any]
    description: str
    suggestions: list[dict[str, Any]]
    state: ApprovalState
    version: int
    decision: str | None
    answer: dict[str, Any] | None
    message: str
    decided_by: str | None
    is_delivered: bool
    created_us: int
    decided_us: int | None
    rule: str | None = None
    """The rule that wants a person asked; None where no rule matched."""
    expires_us: int | None = None
    """When it decides itself (`on_timeout`: deny or allow); None: it waits until somebody answers."""
    on_timeout: str | None = None
    timed_out: bool = False
    """It was decided because nobody answered in time."""
    risk: str = "medium"
    risk_reason: str = ""
    directory: str = ""
    """Where Claude works: relative paths of `input` start here."""

    @property
    def summary(self) -> str:
        """One line for people: the command, the file, the question."""
        return summarise(self.tool, self.input)

    @property
    def answers(self) -> dict[str, str] | None:
        """The answers to Claude's questions, by question; None where none were given."""
        found = self._heard.get("answers")
        return found if isinstance(found, dict) and "answers" not in self.input else None

    @property
    def changed_input(self) -> dict[str, Any] | None:
        """What was allowed instead of what Claude wanted; None where it was allowed as it was."""
        heard = self._heard
        is_changed = bool(heard) and heard != self.input and self.answers is None
        return heard if is_changed else None

    @property
    def _heard(self) -> dict[str, Any]:
        answer = self.answer or {}
        found = answer.get("input") if answer.get("allow") else None
        return found if isinstance(found, dict) else {}


_TELLING = (
    "command",
    "file_path",
    "notebook_path",
    "path",
    "url",
    "query",
    "pattern",
    "description",
    "prompt",
    "plan",
)


def summarise(tool: str, input_: dict[str, Any]) -> str:
    """The telling field of a tool's input on one line of at most 200 characters."""
    questions = input_.get("questions")
    if isinstance(questions, list) and questions:
        texts = [str(q.get("question", "")) for q in questions if isinstance(q, dict)]
        return _line(f"{tool}: {' / '.join(texts)}")
    for name in _TELLING:
        value = input_.get(name)
        if isinstance(value, str) and value:
            return _line(f"{tool}: {value}")
    return _line(tool)


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:199] + "…"
