"""Live names for the shell's completion: quick, quiet, and never starting a daemon."""

from __future__ import annotations

import os
from typing import Any


def _items(method: str, **params: Any) -> list[dict[str, Any]]:
    from hivectl.client import thin

    try:
        answer = thin.call(dict(os.environ), method, params)  # noqa: TID251  the thin way reads no settings
    except (thin.NotPlain, thin.Refused, OSError):
        return []
    items: list[dict[str, Any]] = answer["items"]
    return items


def _shown(pairs: list[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    from hivectl.cli.sanitize import one_line

    return [(name, one_line(note)) for name, note in pairs if name.startswith(incomplete)]


def projects(incomplete: str) -> list[tuple[str, str]]:
    """Names of projects."""
    return _shown([(item["name"], item["path"]) for item in _items("project.list")], incomplete)


def executions(incomplete: str) -> list[tuple[str, str]]:
    """Ids of executions, the live ones first."""
    found = _items("execution.list", limit=50)
    return _shown(
        [(x["execution"], f"{x['project_name']}: {x['prompt']}") for x in found], incomplete
    )


def killable(incomplete: str) -> list[tuple[str, str]]:
    """Executions that live or wait, and projects."""
    from hivectl.cli import views

    found = _items("execution.list", states=list(views.UNFINISHED))
    live = [(x["execution"], f"{x['project_name']}: {x['prompt']}") for x in found]
    return _shown(live, incomplete) + projects(incomplete)


def approvals(incomplete: str) -> list[tuple[str, str]]:
    """Ids of what waits for an answer."""
    found = _items("approval.list")
    return _shown([(a["id"], f"{a['tool']} {a.get('summary', '')}") for a in found], incomplete)


def questions(incomplete: str) -> list[tuple[str, str]]:
    """Ids of questions that wait for an answer."""
    return _shown([(q["id"], q["text"]) for q in _items("question.list")], incomplete)


def threads(incomplete: str) -> list[tuple[str, str]]:
    """Ids of threads, the newest first."""
    return _shown([(c["thread"], c["title"]) for c in _items("chat.list")], incomplete)


def worktrees(incomplete: str) -> list[tuple[str, str]]:
    """Executions whose worktrees are there."""
    found = _items("worktree.list")
    return _shown(
        [(w["execution"], f"{w['project_name']}: {w['branch']}") for w in found], incomplete
    )


def policies(incomplete: str) -> list[tuple[str, str]]:
    """Ids of rules."""
    found = _items("policy.list")
    return _shown([(p["id"], f"{p['action']} {p['tool']}") for p in found], incomplete)


def workers(incomplete: str) -> list[tuple[str, str]]:
    """Names of workers."""
    found = _items("worker.list")
    return _shown([(w["name"], f"{w['kind']} {w['status']}") for w in found], incomplete)


def sessions(incomplete: str) -> list[tuple[str, str]]:
    """Claude's session ids."""
    found = _items("session.list", limit=50)
    return _shown([(s["session"], s["project_name"]) for s in found], incomplete)


def settings(incomplete: str) -> list[tuple[str, str]]:
    """Keys of settings."""
    from hivectl.config import SETTINGS

    return _shown([(s.key, s.meaning) for s in SETTINGS], incomplete)
