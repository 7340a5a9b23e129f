"""One noun in full, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hivectl.cli import views
from hivectl.cli.executing import brought
from hivectl.cli.sanitize import sanitize
from hivectl.cli.table import pairs
from hivectl.kit.clock import format_duration


def execution(item: Mapping[str, Any]) -> str:
    """An execution: what it was asked, how it stands, what it took, what it answered."""
    usage = item.get("usage") or {}
    rows: list[tuple[str, object]] = [
        ("execution", item["execution"]),
        ("work order", f"{item['work_order']}, attempt {item['attempt']}"),
        ("project", f"{item['project_name']} ({item['project']})"),
        ("worktree", item.get("worktree")),
        ("state", views.state(item)),
        ("cause", item.get("cause")),
        ("message", item.get("message") or None),
        ("prompt", item["prompt"]),
        ("session", item.get("session")),
        ("model", item.get("model")),
        ("options", ", ".join(f"{k}={v}" for k, v in (item.get("options") or {}).items()) or None),
        ("trusted", "yes" if item.get("trusted") else "no"),
        ("actor", item.get("actor")),
        ("created", item["created_at"]),
        ("started", item.get("started_at")),
        ("ended", item.get("ended_at")),
        ("took", format_duration(item["duration_ms"] / 1000) if item.get("started_at") else None),
        ("waited", format_duration(item["waited_ms"] / 1000) if item.get("waited_ms") else None),
        ("turns", usage.get("turns") or None),
        ("tokens", views.tokens(usage) if usage.get("output_tokens") else None),
        ("cost", _cost(item)),
        (
            "process",
            f"{item['process']} (pid {item['pid']})" if item.get("pid") else item.get("process"),
        ),
        ("exit code", item.get("exit_code")),
        ("signal", item.get("signal")),
        ("worker", item.get("worker")),
        ("waits for", ", ".join(item.get("waiting_for") or []) or None),
        ("limit until", item.get("resets_at")),
        ("stalled", item.get("stalled")),
        ("position", f"{item['stream']} {item['epoch']}:{item['seq']}"),
    ]
    text = pairs(rows)
    if item.get("stderr"):
        text += f"\n\nstderr\n{sanitize(item['stderr']).rstrip()}"
    if item.get("result"):
        text += f"\n\nresult\n{sanitize(item['result']).rstrip()}"
    return text


def _cost(item: Mapping[str, Any]) -> str | None:
    if not item.get("cost_usd"):
        return None
    if item.get("cost_is_estimate"):
        return f"{views.money(item['cost_usd'], is_rough=True)} (partly from tokens: it ended before Claude stated it)"
    return f"{views.money(item['cost_usd'])} (estimate)"


def project(item: Mapping[str, Any]) -> str:
    """A project."""
    totals = item.get("totals") or {}
    rows: list[tuple[str, object]] = [
        ("project", item["name"]),
        ("id", item["id"]),
        ("path", item["path"]),
        ("state", item["state"]),
        ("error", item.get("error")),
        ("trust", item["trust"]),
        ("session", item.get("session")),
        ("execution", item.get("execution")),
        ("pending", item.get("pending") or None),
        ("executions", totals.get("executions")),
        ("tokens", views.tokens(totals) if totals.get("output_tokens") else None),
        (
            "cost",
            f"{views.money(totals['cost_usd'])} (estimate)" if totals.get("cost_usd") else None,
        ),
        *[(f"default {name}", value) for name, value in (item.get("defaults") or {}).items()],
        *[(f"env {name}", value) for name, value in (item.get("env") or {}).items()],
        ("created", item.get("created_at")),
        ("last activity", item.get("last_activity_at")),
    ]
    return pairs(rows)


def session(item: Mapping[str, Any]) -> str:
    """A conversation."""
    rows: list[tuple[str, object]] = [
        ("session", item["session"]),
        ("project", f"{item['project_name']} ({item['project']})"),
        ("state", item["state"] + (f" ({reason})" if (reason := item.get("end_reason")) else "")),
        ("current", "yes" if item["is_current"] else "no"),
        ("copy of", item.get("forked_from")),
        ("process", _process_of(item)),
        ("execution", item.get("execution")),
        ("worker", item.get("worker")),
        ("executions", item["executions"]),
        ("last execution", item.get("last_execution")),
        ("model", item.get("model")),
        ("cost", f"{views.money(item['cost_usd'])} (estimate)" if item.get("cost_usd") else None),
        ("created", item["created_at"]),
        ("last activity", item["last_activity_at"]),
        ("ended", item.get("ended_at")),
        ("ends", item.get("expires_at")),
    ]
    return pairs(rows)


def _process_of(item: Mapping[str, Any]) -> str | None:
    """The process of a conversation, and whether it waits for the next prompt."""
    process = item.get("process")
    return f"{process} (warm: it waits for the next prompt)" if item.get("is_warm") else process


def trust(report: Mapping[str, Any]) -> str:
    """What a directory brings that would run or steer Claude."""
    lines = [f"{sanitize(report['path'])} brings:"]
    for name, items in brought(report):
        lines.append(f"  {name}")
        lines += [f"    {' '.join(sanitize(item).split())}" for item in items]
    if len(lines) == 1:
        lines = [f"{sanitize(report['path'])} brings nothing that would run or steer Claude."]
    lines += [f"  problem: {sanitize(problem)}" for problem in report.get("problems") or []]
    return "\n".join(lines)
