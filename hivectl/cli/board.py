"""What `hivectl top` shows, without a terminal: events in, rows out. Pure.

Lists (what is queued, slots, limits) are read from the daemon again when an event says that they changed;
everything else comes from the events themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hivectl.cli import views
from hivectl.cli.sanitize import one_line
from hivectl.cli.table import shorten, width_of
from hivectl.cli.transcript import summary
from hivectl.model.event import EVENTS
from hivectl.model.work import EXECUTION_ENDS

Item = Mapping[str, Any]
TYPES = (
    "execution.created", "execution.state", "execution.ended", "work_order.state", "queue.changed", "worker.state",
    "usage.updated", "usage_limit.hit", "usage_limit.cleared", "approval.requested", "approval.decided", "approval.expired",
    "question.asked", "question.answered", "question.expired", "project.created", "project.updated", "message",
)  # fmt: skip
"""What is subscribed to."""
_ENDS = frozenset(str(state) for state in EXECUTION_ENDS)
_ORDER = {"waiting": 0, "running": 1, "starting": 2, "pending": 3}
_LAST_CHARS = 200
MOST_ROWS = 1000
"""Executions that are kept; what is more is counted only."""


@dataclass(slots=True, kw_only=True)
class Row:
    """One execution that has not ended."""

    execution: str
    project: str
    state: str
    created_at: str
    started_at: str | None = None
    worker: str | None = None
    order: str = ""
    prompt: str = ""
    last: str = ""
    """The tool in use, or the last line said."""
    last_at: str | None = None
    waiting_for: list[str] = field(default_factory=list)
    tokens: str = "-"
    cost_usd: float = 0.0
    is_estimate: bool = False
    place: int | None = None
    why: str = ""
    """Why it waits its turn."""


@dataclass(slots=True, kw_only=True)
class Board:
    """All rows, and what stands above them."""

    rows: dict[str, Row] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    stats: Item = field(default_factory=dict)
    cost_today: float = 0.0
    is_estimate: bool = False
    needs_lists: bool = True
    """What was read from the daemon is no longer true."""
    filter: str = ""
    only: str | None = None
    """The project that alone is shown."""
    selected: str | None = None

    def load(self, executions: Sequence[Item], orders: Sequence[Item], stats: Item) -> None:
        """What the daemon says now."""
        known = self.rows
        self.rows = {}
        for item in executions[:MOST_ROWS]:
            if item["state"] in _ENDS:
                continue
            row = known.get(item["execution"]) or _row(item)
            self.names.setdefault(item["project"], item["project_name"])
            row.state, row.worker = str(item["state"]), item.get("worker")
            row.started_at = item.get("started_at")
            row.waiting_for = list(item.get("waiting_for") or [])
            row.place = item.get("place")
            _see_usage(row, item)
            if item.get("stalled") or item.get("retrying"):
                row.why = str(item.get("stalled") or item["retrying"])
            self.rows[row.execution] = row
        for order in orders:
            if (queued := self.rows.get(order["execution"])) is not None:
                queued.why = _why(order)
        self.stats = stats
        self.needs_lists = False

    def apply(self, event: Item) -> bool:
        """Take in one event; whether anything that is shown changed."""
        kind, data = str(event.get("type")), event.get("data") or {}
        if "queue" in (EVENTS[kind].views if kind in EVENTS else ()):
            self.needs_lists = True
        if kind in {"project.created", "project.updated"}:
            self.names[str(data.get("id"))] = str(data.get("name"))
            return True
        id_ = str(event.get("execution") or "")
        if kind == "execution.created" and id_ not in self.rows and len(self.rows) < MOST_ROWS:
            project = str(event.get("project") or event.get("stream", "")).removeprefix("project:")
            self.rows[id_] = Row(
                execution=id_, project=project, state="pending", created_at=str(event.get("ts")),
                order=str(data.get("work_order") or ""), prompt=_line(data.get("prompt")),
            )  # fmt: skip
            return True
        row = self.rows.get(id_)
        if row is None:
            return self.needs_lists
        return self._apply_to(row, kind, data, str(event.get("ts")))

    def _apply_to(self, row: Row, kind: str, data: Item, ts: str) -> bool:
        match kind:
            case "execution.ended":
                del self.rows[row.execution]
                return True
            case "execution.state":
                if (state := data.get("state")) and state not in _ENDS:
                    row.state = str(state)
                    row.waiting_for = list(data.get("waiting_for") or [])
                    row.worker = data.get("worker") or row.worker
                    if row.state != "pending":
                        row.place, row.started_at = None, row.started_at or ts
                row.why = str(data.get("stalled") or data.get("retrying") or "")
            case "usage.updated":
                added = float(data.get("cost_usd") or 0.0) - row.cost_usd
                self.cost_today += max(added, 0.0)
                _see_usage(row, data)
            case "message":
                last = said(data)
                if not last:
                    return False
                row.last = last
            case _:
                return self.needs_lists
        row.last_at = ts
        return True

    def shown(self) -> list[Row]:
        """The rows that are wanted: what waits for a person first, then what runs, then the queue."""
        wanted = self.filter.casefold()
        rows = [
            row
            for row in self.rows.values()
            if (self.only is None or row.project == self.only)
            and (not wanted or wanted in self._text(row).casefold())
        ]
        far = MOST_ROWS
        return sorted(
            rows,
            key=lambda row: (
                _ORDER.get(row.state, 9), far if row.place is None else row.place, row.created_at, row.execution,
            ),
        )  # fmt: skip

    def _text(self, row: Row) -> str:
        return f"{self.name(row)} {row.execution} {row.state} {row.worker or ''} {row.prompt} {row.last}"

    def name(self, row: Row) -> str:
        """The project's name."""
        return _line(self.names.get(row.project, row.project))

    def chosen(self) -> Row | None:
        """The selected row; the first where that is gone."""
        rows = self.shown()
        found = next((row for row in rows if row.execution == self.selected), None)
        return found or (rows[0] if rows else None)

    def move(self, by: int) -> None:
        """Select another row."""
        rows = self.shown()
        if not rows:
            return
        names = [row.execution for row in rows]
        here = names.index(self.selected) if self.selected in names else 0
        self.selected = names[min(max(here + by, 0), len(names) - 1)]

    # -- as text ------------------------------------------------------------------------------------

    def header(self) -> list[str]:
        """What stands above the table."""
        counts = dict.fromkeys(_ORDER, 0)
        for row in self.rows.values():
            counts[row.state] = counts.get(row.state, 0) + 1
        queued = max(counts["pending"], int((self.stats.get("states") or {}).get("queued", 0)))
        running = counts["running"] + counts["starting"]
        slots = f"{self.stats.get('slots_busy', 0)}/{self.stats.get('slots', 0)} workers busy"
        cost = views.money(self.cost_today, is_rough=self.is_estimate)
        lines = [
            f"{running} running · {counts['waiting']} waiting · {queued} queued · {slots} · today {cost if cost != '-' else '$0'}"
        ]
        for pause in self.stats.get("pauses") or []:
            lines += [f"paused: {_line(pause.get('project_name') or 'the whole queue')}"]
        for parked in self.stats.get("parked") or []:
            until = str(parked["until"])[:16].replace("T", " ")
            lines += [f"usage limit of {_line(parked['account'])}: parked until {until} UTC"]
        if self.filter or self.only:
            only = (
                f"only {_line(self.names.get(self.only or '', self.only or ''))} "
                if self.only
                else ""
            )
            lines.append(f"shown: {only}{f'with {self.filter!r}' if self.filter else ''}".rstrip())
        return lines

    def table(self, now_s: float, width: int) -> list[tuple[str | None, str]]:
        """(execution, line) of the table: its heads first. Each line fits `width`."""
        heads = ("PROJECT", "EXECUTION", "STATE", "WORKER", "AGE", "LAST", "TOKENS", "COST", "NOW")
        rows = self.shown()
        cells = [heads, *(self._cells(row, now_s) for row in rows)]
        widths = [max(width_of(row[column]) for row in cells) for column in range(len(heads) - 1)]
        lines = []
        for row in cells:
            parts = [
                text + " " * (w - width_of(text)) for text, w in zip(row, widths, strict=False)
            ]
            lines.append(shorten("  ".join([*parts, row[-1]]).rstrip(), width))
        return [(None, lines[0]), *zip((row.execution for row in rows), lines[1:], strict=True)]

    def _cells(self, row: Row, now_s: float) -> tuple[str, ...]:
        state = row.state
        if state == "pending":
            state = f"queued #{row.place}" if row.place is not None else "queued"
        elif state == "waiting":
            state = f"waiting ({len(row.waiting_for) or 1})"
        now = (
            row.why or row.last or row.prompt
            if row.state == "pending" or row.why
            else row.last or row.prompt
        )
        return (
            self.name(row), row.execution, state, _line(row.worker or "-"),
            views.ago(row.started_at or row.created_at, now_s), views.ago(row.last_at, now_s), row.tokens,
            views.money(row.cost_usd, is_rough=row.is_estimate), now,
        )  # fmt: skip


def _row(item: Item) -> Row:
    return Row(
        execution=item["execution"], project=item["project"], state=str(item["state"]), created_at=item["created_at"],
        order=item["work_order"], prompt=_line(item.get("prompt")),
    )  # fmt: skip


def _see_usage(row: Row, item: Item) -> None:
    if item.get("usage"):
        row.tokens = views.tokens(item["usage"])
    row.cost_usd = float(item.get("cost_usd") or 0.0)
    row.is_estimate = bool(item.get("cost_is_estimate") or item.get("is_estimate"))


def _why(order: Item) -> str:
    until = str(order.get("not_before") or "")[11:19]
    match order.get("hold"):
        case "after":
            return f"after {', '.join(order.get('after') or []) or 'another'}"
        case "not_before":
            return f"not before {until} UTC"
        case "retry":
            return f"again at {until} UTC, attempt {order.get('attempt')}: {_line(order.get('message'))}"
        case "usage_limit":
            return f"usage limit{f', again at {until} UTC' if until else ', kept for you'}"
        case _:
            return ""


def said(data: Item) -> str:
    """The tool in use or the last line of a message; empty for what says neither."""
    raw = data.get("raw")
    if data.get("kind") != "assistant" or not isinstance(raw, Mapping):
        return ""
    message = raw.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return _line(content)
    for block in reversed(content if isinstance(content, list) else []):
        if not isinstance(block, Mapping):
            continue
        if block.get("type") == "tool_use":
            given = block.get("input")
            what = summary(str(block.get("name")), given if isinstance(given, Mapping) else {})
            return _line(f"{block.get('name')}  {what}")
        if block.get("type") == "text" and str(block.get("text") or "").strip():
            return _line(str(block["text"]).strip().splitlines()[-1])
    return ""


def _line(text: Any) -> str:
    return shorten(one_line(str(text or "")), _LAST_CHARS)
