"""Rows become nouns at once: no row or cursor leaves the store."""

from __future__ import annotations

import sqlite3
from typing import Any, TypeVar

import msgspec

from hivectl.model.approval import Approval, ApprovalState
from hivectl.model.project import Project, ProjectState
from hivectl.model.question import (
    ChatMessage,
    MessageType,
    OnTimeout,
    Question,
    QuestionState,
    Role,
)
from hivectl.model.session import Session, SessionState
from hivectl.model.work import Execution, ExecutionState, Hold, Order, OrderState
from hivectl.model.worker import Worker, WorkerKind
from hivectl.model.worktree import AcceptStep, Worktree, WorktreeState

N = TypeVar("N", bound=msgspec.Struct)

_JSON = frozenset(
    {
        "defaults",
        "env",
        "options",
        "verdict",
        "evidence",
        "usage",
        "input",
        "suggestions",
        "answer",
        "structured",
        "match",
        "pools",
        "choices",
    }
)
_BOOL = frozenset(
    {
        "trust_broken",
        "resume",
        "trusted",
        "fork",
        "is_delivered",
        "timed_out",
        "is_draining",
        "cost_is_estimate",
        "is_idempotent",
        "is_offline",
        "multi",
    }
)
_ENUMS: dict[tuple[type, str], Any] = {
    (Project, "state"): ProjectState,
    (Execution, "state"): ExecutionState,
    (Order, "state"): OrderState,
    (Order, "hold"): Hold,
    (Worker, "kind"): WorkerKind,
    (Approval, "state"): ApprovalState,
    (Session, "state"): SessionState,
    (Question, "state"): QuestionState,
    (Question, "on_timeout"): OnTimeout,
    (ChatMessage, "role"): Role,
    (ChatMessage, "type"): MessageType,
    (Worktree, "state"): WorktreeState,
    (Worktree, "step"): lambda step: None if step is None else AcceptStep(step),
}


def columns(noun: type[msgspec.Struct], table: str = "") -> str:
    """The column list of a noun, for SELECT."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + name for name in noun.__struct_fields__)


def read(noun: type[N], row: sqlite3.Row) -> N:
    """The noun a row holds."""
    values: dict[str, Any] = {}
    for name in noun.__struct_fields__:
        value = row[name]
        if name in _JSON and value is not None:
            value = msgspec.json.decode(value)
        elif name in _BOOL:
            value = bool(value)
        elif value is not None and (kind := _ENUMS.get((noun, name))):
            value = kind(value)
        values[name] = value
    return noun(**values)


def dump(value: Any) -> str:
    """JSON text for a column."""
    return msgspec.json.encode(value).decode()
