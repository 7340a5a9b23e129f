"""Nouns as the wire shows them (the shapes of `hivectl.protocol.results`)."""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.kit.clock import format_us
from hivectl.logic.trust import TrustReport
from hivectl.model.approval import Approval
from hivectl.model.project import Project
from hivectl.model.work import EXECUTION_ENDS, Execution, Usage
from hivectl.model.worktree import Worktree, worktree_of


def time_or_none(us: int | None) -> str | None:
    """RFC 3339, or None."""
    return None if us is None else format_us(us)


def project_view(project: Project, *, execution: str | None, pending: int) -> dict[str, Any]:
    """A project."""
    return {
        "id": project.id,
        "name": project.name,
        "path": project.path,
        "state": project.state,
        "error": project.error,
        "trust": project.trust,
        "version": project.version,
        "session": project.session,
        "execution": execution,
        "pending": pending,
        "defaults": project.defaults,
        "env": dict.fromkeys(sorted(project.env), "***"),
        "stream": project.stream,
        "totals": {
            "executions": project.executions,
            "input_tokens": project.input_tokens,
            "output_tokens": project.output_tokens,
            "cost_usd": round(project.cost_usd, 6),
        },
        "created_at": format_us(project.created_us),
        "last_activity_at": format_us(project.activity_us),
    }


def trust_view(path: str, report: TrustReport) -> dict[str, Any]:
    """What a directory brings."""
    lists = ("hooks", "mcp_servers", "env", "permissions", "claude_md", "other", "problems")
    return {
        "path": path,
        "hash": report.hash,
        **{name: list(getattr(report, name)) for name in lists},
    }


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution's view needs beside its row."""

    project_name: str
    prompt: str
    priority: str
    place: int | None
    waiting_for: list[str]
    position: tuple[str, int]
    now_us: int
    held: str | None = None
    """Why it is not started, where a budget is used up."""


def execution_view(execution: Execution, around: Around) -> dict[str, Any]:
    """An execution."""
    usage = {name: execution.usage.get(name, 0) for name in Usage.__struct_fields__}
    start = execution.started_us or execution.created_us
    stop = execution.ended_us or around.now_us
    has_run = execution.started_us is not None or execution.state in EXECUTION_ENDS
    return {
        "execution": execution.id,
        "work_order": execution.order_id,
        "project": execution.project,
        "project_name": around.project_name,
        "process": execution.process,
        "state": execution.state,
        "cause": execution.cause,
        "message": execution.message or around.held or "",
        "attempt": execution.attempt,
        "lane": execution.lane,
        "worktree": worktree_of(execution.lane),
        "place": around.place,
        "prompt": around.prompt[:200],
        "session": execution.session,
        "model": execution.model,
        "exit_code": execution.exit_code,
        "signal": execution.signal,
        "subtype": execution.subtype,
        "result": execution.result,
        "structured": execution.structured,
        "stderr": execution.stderr,
        "stalled": execution.stalled,
        "retrying": execution.retrying,
        "waiting_for": around.waiting_for,
        "resets_at": None
        if execution.resets_at is None
        else format_us(execution.resets_at * 1_000_000),
        "trusted": execution.trusted,
        "usage": usage,
        "cost_usd": round(execution.cost_usd, 6),
        "cost_is_estimate": execution.cost_is_estimate,
        "pid": execution.pid,
        "priority": around.priority,
        "actor": execution.actor,
        "options": execution.options,
        "created_at": format_us(execution.created_us),
        "started_at": time_or_none(execution.started_us),
        "ended_at": time_or_none(execution.ended_us),
        "duration_ms": max(0, stop - start) // 1000 if has_run else 0,
        "waited_ms": execution.waited_us // 1000,
        "stream": execution.stream,
        "epoch": around.position[0],
        "seq": around.position[1],
        "worker": execution.worker,
    }


def approval_view(approval: Approval, *, project_name: str, session: str | None) -> dict[str, Any]:
    """An approval."""
    return {
        "id": approval.id,
        "version": approval.version,
        "state": approval.state,
        "kind": approval.kind,
        "project": approval.project,
        "project_name": project_name,
        "execution": approval.execution,
        "session": session,
        "tool": approval.tool,
        "input": approval.input,
        "description": approval.description,
        "summary": approval.summary,
        "suggestions": approval.suggestions,
        "decision": approval.decision,
        "decided_by": approval.decided_by,
        "message": approval.message,
        "changed_input": approval.changed_input,
        "answers": approval.answers,
        "created_at": format_us(approval.created_us),
        "decided_at": time_or_none(approval.decided_us),
        "directory": approval.directory,
        "rule": approval.rule,
        "expires_at": time_or_none(approval.expires_us),
        "on_timeout": approval.on_timeout,
        "timed_out": approval.timed_out,
        "delivered": approval.is_delivered,
        "risk": approval.risk,
        "risk_reason": approval.risk_reason,
    }


def worktree_view(worktree: Worktree, *, project_name: str) -> dict[str, Any]:
    """A worktree."""
    return {
        "worktree": worktree.id,
        "project": worktree.project,
        "project_name": project_name,
        "execution": worktree.execution,
        "work_order": worktree.order_id,
        "state": worktree.state,
        "path": worktree.path,
        "branch": worktree.branch,
        "base": worktree.base,
        "merged": worktree.merged,
        "problem": worktree.problem,
        "actor": worktree.actor,
        "created_at": format_us(worktree.created_us),
        "changed_at": format_us(worktree.changed_us),
    }
