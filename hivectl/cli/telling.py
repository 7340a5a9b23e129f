"""What happened, as one line for people: a table from type of event to its words.

What Claude says is in `transcript`; here is all the rest. Types nobody knows here are shown by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hivectl.cli import views
from hivectl.model.event import EVENTS

Data = Mapping[str, Any]
Pieces = tuple[tuple[str, str], ...]
WHOLE = frozenset(
    {
        "stderr",
        "budget.warning",
        "budget.exceeded",
        "usage_limit.hit",
        "system.notice",
        "work_order.state",
    }
)
"""Never cut to the width of the terminal: what they say is meant to be read."""
_MARKS = {"added": "+", "deleted": "-"}


def tell(kind: str, data: Data, *, verbose: int = 0) -> list[Pieces]:
    """The lines of an event; none for those that say nothing a person needs."""
    if (words := _TOLD.get(kind)) is not None:
        return words(data)
    if kind not in EVENTS:
        return [(("dim", kind),)]
    if verbose and kind not in _NEVER:
        return [(("dim", f"{kind}  {compact(data)}"),)]
    return []


def compact(value: Any) -> str:
    """JSON with a little air."""
    return json.dumps(value, ensure_ascii=False, default=str, separators=(", ", ": "))


def _changed(data: Data) -> list[Pieces]:
    names = [
        _MARKS.get(str(item.get("kind")), "") + str(item.get("path"))
        for item in data.get("changes") or []
    ]
    more = f"  and {data['more']} more" if data.get("more") else ""
    return [(("dim", f"changed  {', '.join(names)}{more}"),)]


def _asked(data: Data) -> list[Pieces]:
    name = ("dim", f"  {data.get('id', '')}")
    if data.get("tool") == "ExitPlanMode":
        return [(("ask", "? Claude has a plan"), ("", "  and waits for a yes"), name)]
    word = "asks" if data.get("kind") == "question" else "wants"
    tool = str(data.get("tool", ""))
    what = views.what({"tool": tool, **data})
    return [(("ask", f"? Claude {word} "), ("bold", tool), ("", f"  {what}"), name)]


def _decided(data: Data) -> list[Pieces]:
    allowed = data.get("decision") == "allow"
    by = data.get("decided_by") or "somebody"
    reason = f": {data['message']}" if data.get("message") else ""
    head = (
        ("good" if allowed else "warn", f"  {'allowed' if allowed else 'denied'} by {by}"),
        ("", reason),
    )
    return [head, *((("", f"    {text}"),) for text in views.instead(data))]


def _order(data: Data) -> list[Pieces]:
    state, before = data.get("state"), data.get("from")
    why = _why(data)
    if state == "queued" and before == "claimed":
        attempt = int(data.get("attempt") or 2)
        failed = ("warn", f"attempt {attempt - 1} failed")
        if data.get("hold") == "usage_limit" and not data.get("retry_at"):
            return [(failed, ("", f"{why}; kept for you: hivectl queue resume"))]
        at = f" at {_time(data['retry_at'])}" if data.get("retry_at") else ""
        return [(failed, ("", f"{why}; again{at}, attempt {attempt}"))]
    if state == "queued" and before:
        return [(("dim", f"queued again, attempt {data.get('attempt')}"),)]
    if state == "dead":
        return [(("bad", "given up"), ("", why), ("dim", "  hivectl queue retry"))]
    return []


def _why(data: Data) -> str:
    cause = f" ({data['cause']})" if data.get("cause") else ""
    message = f": {data['message']}" if data.get("message") else ""
    return cause + message.rstrip(".")


def _time(stamp: Any) -> str:
    return f"{str(stamp)[11:19]} UTC"


def _limit(data: Data) -> list[Pieces]:
    until = data.get("resets_at") or "it is lifted"
    return [(("warn", "usage limit"), ("", f"  {data.get('kind') or ''} until {until}"))]


def _queue(data: Data) -> list[Pieces]:
    action = str(data.get("action"))
    about = data.get("account") or data.get("project") or data.get("work_order") or ""
    until = f" until {data['until']}" if data.get("until") else ""
    slots = f" to {data['slots']} workers" if data.get("slots") is not None else ""
    return [(("dim", f"queue    {action}{slots} {about}{until}".rstrip()),)]


def _worker(data: Data) -> list[Pieces]:
    drains = ", takes nothing new" if data.get("is_draining") else ""
    name = data.get("name") or data.get("worker")
    return [(("dim", f"worker   {name} is {data.get('status')}{drains}"),)]


def _notice(data: Data) -> list[Pieces]:
    hint = f"  ({data['hint']})" if data.get("hint") else ""
    return [(("warn", "notice  "), ("", f"{data.get('message', '')}{hint}"))]


def _answered(data: Data) -> list[Pieces]:
    by = f"  by {data.get('answered_by')}"
    return [(("bold", "answer   "), ("", str(data.get("answer") or "")), ("dim", by))]


def _worktree(data: Data) -> list[Pieces]:
    problem = f": {data['problem']}" if data.get("problem") else ""
    branch = f"  {data['branch']}" if data.get("branch") else ""
    return [(("dim", f"worktree {data.get('state')}{branch}{problem}"),)]


def _ended_session(data: Data) -> list[Pieces]:
    return [(("dim", f"session  ended ({data.get('reason')}): the next prompt resumes it"),)]


_TOLD: dict[str, Callable[[Data], list[Pieces]]] = {
    "stderr": lambda data: [(("dim", "stderr  "), ("dim", str(data.get("text", ""))))],
    "file.changed": _changed,
    "approval.requested": _asked,
    "approval.decided": _decided,
    "question.asked": lambda data: [(("ask", "asks     "), ("", str(data.get("text", ""))))],
    "question.answered": _answered,
    "question.expired": lambda data: [(("dim", f"question {data.get('state')}"),)],
    "budget.warning": lambda data: [(("warn", "budget  "), ("", str(data.get("message", ""))))],
    "budget.exceeded": lambda data: [(("warn", "budget  "), ("", str(data.get("message", ""))))],
    "usage_limit.hit": _limit,
    "usage_limit.cleared": lambda _data: [(("dim", "usage limit  over: the work goes on"),)],
    "work_order.state": _order,
    "queue.changed": _queue,
    "worker.state": _worker,
    "worktree.state": _worktree,
    "system.notice": _notice,
    "session.reset": lambda _data: [
        (("dim", "session  the next prompt starts a fresh conversation"),)
    ],
    "session.forked": lambda data: [
        (("dim", f"session  the next prompt goes on in a copy of {data.get('from')}"),)
    ],
    "session.ended": _ended_session,
}
_NEVER = frozenset(
    {
        "execution.created",
        "execution.state",
        "execution.ended",
        "message",
        "partial",
        "stats",
        "audit.entry",
    }
)
"""Shown in a way of their own, or not at all."""
