"""From an event to what a person is told, and from several of those to one message.

Everything that came from a model, a tool or a file is made plain here: one line, bounded, without
controls, without secrets, and without what would call whole chat rooms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hivectl.logic.redact import MASK, excerpt, is_secret_name
from hivectl.model.notification import NOTICE_KINDS, Notice, Notification

TEXT_CHARS = 500
TITLE_CHARS = 120
LINE_CHARS = 160
CHOICE_CHARS = 40
LISTED = 10
"""How many of a bundle are named; the others are counted."""
STRING_CHARS = 2000
LIST_ITEMS = 100
_DEPTH = 8

ANSWERED = frozenset(
    {"approval.decided", "approval.expired", "question.answered", "question.expired"}
)
"""Events after which nobody needs to be told of the question any more."""
TELLING = ANSWERED | {
    "approval.requested",
    "question.asked",
    "execution.ended",
    "work_order.state",
    "usage_limit.hit",
    "budget.warning",
    "budget.exceeded",
    "system.notice",
}
"""All types that `notice_of` knows."""
OWN_CODE = "NOTIFY_FAILED"
"""The code of the notice that a notification could not be delivered: not to be told by notification."""

_ENDED = {"failed": "failed", "timed_out": "failed", "lost": "failed"}
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]+"
)
_CALLS = re.compile(r"@(?=(?:everyone|here|channel|room|all)\b)|(?<=<)(?=[!@#])", re.IGNORECASE)


def plain(text: object, most: int = TEXT_CHARS) -> str:
    """One line of at most `most` characters, without controls and without calls to everybody."""
    clean = " ".join(_CONTROLS.sub(" ", str(text)[: most * 4]).split())
    clean = _CALLS.sub(lambda found: "at " if found[0] else " ", clean)
    return clean if len(clean) <= most else clean[: most - 1].rstrip() + "…"


def notice_of(
    type_: str,
    data: Mapping[str, Any],
    *,
    project: str,
    execution: str | None,
) -> Notice | None:
    """What an event tells a person; None when nothing. `project` is its name, empty for the daemon's own."""
    make = _MAKERS.get(type_)
    found = make(data, execution or "") if make is not None else None
    if found is None:
        return None
    kind, key, title, text, hint, subject = found
    head = f"{project}: {title}" if project else title
    return Notice(
        kind=kind,
        key=key,
        title=plain(excerpt(head, TITLE_CHARS * 4), TITLE_CHARS),
        text=plain(excerpt(text, TEXT_CHARS * 4)),
        hint=plain(excerpt(hint, LINE_CHARS * 4), LINE_CHARS),
        subject=subject,
    )


_Made = tuple[str, str, str, str, str, str | None]
"""Kind, key, title, text, hint, subject."""


def _approval(data: Mapping[str, Any], _execution: str) -> _Made:
    id_ = str(data.get("id", ""))
    text = str(data.get("summary") or data.get("tool") or "")
    if data.get("kind") == "question":
        text += _choices(_offered(data.get("input")))
        return "question", id_, "Claude asks", text, f"hivectl answer {id_} TEXT", id_
    title = f"Claude asks to use {data.get('tool', 'a tool')}"
    return "approval", id_, title, text, f"hivectl approve {id_} | hivectl deny {id_}", id_


def _question(data: Mapping[str, Any], _execution: str) -> _Made:
    id_ = str(data.get("id", ""))
    text = data.get("question") or data.get("text") or data.get("summary") or "a question"
    said = f"{text}{_choices(data.get('choices'))}"
    return "question", id_, "a question for you", said, f"hivectl answer {id_} TEXT", id_


def _offered(asked: Any) -> list[Any]:
    """The choices of Claude's own question, when it is a single one."""
    questions = asked.get("questions") if isinstance(asked, Mapping) else None
    if (
        not isinstance(questions, list)
        or len(questions) != 1
        or not isinstance(questions[0], Mapping)
    ):
        return []
    options = questions[0].get("options")
    return options if isinstance(options, list) else []


def _choices(options: Any) -> str:
    """What can be chosen, numbered as `hivectl answer --choice` takes it."""
    found = [
        str(item.get("label", "") if isinstance(item, Mapping) else item)[:CHOICE_CHARS]
        for item in (options if isinstance(options, list) else [])[:LISTED]
    ]
    return f" [{', '.join(f'{n} {text}' for n, text in enumerate(found, 1))}]" if found else ""


def _ended(data: Mapping[str, Any], execution: str) -> _Made | None:
    state, order = str(data.get("state", "")), str(data.get("work_order") or execution)
    order_state = data.get("order_state")
    if order_state == "queued":
        return None  # it is tried again
    kind = _ENDED.get(state, state)
    if kind not in NOTICE_KINDS:
        return None
    text = f"{data.get('cause') or state}: {data.get('message') or ''}".rstrip(": ")
    hint = f"hivectl logs {execution}"
    if kind == "completed":
        text = str(data.get("result") or "done")
    elif kind == "failed" and data.get("cause") == "budget":
        kind = "budget"
    elif kind == "failed" and data.get("cause") == "usage_limit":
        kind = "usage_limit"
    elif kind == "failed" and order_state == "dead":
        kind, hint = "dead", f"hivectl queue retry {order}"
    title = (
        f"execution {state.replace('_', ' ')}" if kind != "dead" else "gave up after its last try"
    )
    return kind, f"order:{order}:{kind}", title, text, hint, None


def _order(data: Mapping[str, Any], _execution: str) -> _Made | None:
    if data.get("state") != "dead":
        return None
    order = str(data.get("work_order", ""))
    text = f"{data.get('cause') or 'failed'}: {data.get('message') or ''}".rstrip(": ")
    return (
        "dead",
        f"order:{order}:dead",
        "gave up after its last try",
        text,
        f"hivectl queue retry {order}",
        None,
    )


def _usage_limit(data: Mapping[str, Any], _execution: str) -> _Made:
    kind = str(data.get("kind") or "usage")
    key = f"usage_limit:{kind}:{data.get('resets_at')}"
    return "usage_limit", key, "usage limit reached", f"Claude's limit: {kind}", "hivectl ps", None


def _budget(data: Mapping[str, Any], _execution: str) -> _Made:
    key = f"budget:{data.get('scope')}:{data.get('key')}:{data.get('kind')}:{data.get('until_us')}"
    text = str(data.get("message") or f"{data.get('used')} of {data.get('limit')} used")
    return (
        "budget",
        key,
        f"budget of {data.get('name') or data.get('scope')}",
        text,
        "hivectl usage",
        None,
    )


def _budget_warning(data: Mapping[str, Any], execution: str) -> _Made:
    kind, key, *rest = _budget(data, execution)
    title, text, hint, subject = rest
    return kind, f"{key}:warning", str(title), str(text), str(hint), subject


def _notice(data: Mapping[str, Any], _execution: str) -> _Made | None:
    code = str(data.get("code", ""))
    if code == OWN_CODE:
        return None
    text = str(data.get("message", ""))
    return (
        "notice",
        f"notice:{code}:{excerpt(text, 200)}",
        "hivectl",
        text,
        str(data.get("hint") or ""),
        None,
    )


_MAKERS: dict[str, Callable[[Mapping[str, Any], str], _Made | None]] = {
    "approval.requested": _approval,
    "question.asked": _question,
    "execution.ended": _ended,
    "work_order.state": _order,
    "usage_limit.hit": _usage_limit,
    "budget.exceeded": _budget,
    "budget.warning": _budget_warning,
    "system.notice": _notice,
}


# --- several in one message ------------------------------------------------------------------------


def compose(items: Sequence[Notification], *, is_digest: bool = False) -> tuple[str, str]:
    """Title and text of one message that tells all of `items`."""
    if len(items) == 1 and not is_digest:
        item = items[0]
        return item.title, f"{item.text}\n{item.hint}" if item.hint else item.text
    counts: dict[str, int] = {}
    for item in items:
        counts[item.kind] = counts.get(item.kind, 0) + 1
    heads = [_head(kind, count) for kind, count in sorted(counts.items(), key=_rank)]
    title = ("In the quiet hours: " if is_digest else "hivectl: ") + ", ".join(heads)
    ordered = sorted(items, key=lambda item: (_rank((item.kind, 0)), item.id))
    lines = [_line(item) for item in ordered[:LISTED]]
    if len(ordered) > LISTED:
        lines.append(f"… and {len(ordered) - LISTED} more: hivectl notify list")
    return plain(title, TITLE_CHARS), "\n".join(lines)


def _rank(item: tuple[str, int]) -> int:
    order = list(NOTICE_KINDS)
    return order.index(item[0]) if item[0] in order else len(order)


def _head(kind: str, count: int) -> str:
    row = NOTICE_KINDS.get(kind)
    if row is None:
        return kind
    return row.one if count == 1 else row.many.format(n=count)


def _line(item: Notification) -> str:
    again = f" (and {item.repeats} more times)" if item.repeats else ""
    text = plain(f"- {item.title}: {item.text}{again}", LINE_CHARS)
    return f"{text}\n  {item.hint}" if item.hint else text


# --- for programs ----------------------------------------------------------------------------------


def bounded(value: Any, name: str = "", depth: int = _DEPTH) -> Any:
    """A copy of JSON without secrets whose texts, lists and depth have limits: an input of Claude's may be megabytes."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if is_secret_name(name):
        return MASK
    if isinstance(value, str):
        # Not the other way round: the half of a secret before a cut has no shape any more.
        return excerpt(value, STRING_CHARS) + ("…" if len(value) > STRING_CHARS else "")
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        some = list(value.items())[:LIST_ITEMS]
        return {excerpt(key, 200): bounded(item, key, depth - 1) for key, item in some}
    return [bounded(item, "", depth - 1) for item in value[:LIST_ITEMS]]
