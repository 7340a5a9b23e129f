"""How a summary looks, and the outcome of a test of all notification targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import views
from hivectl.cli.sanitize import one_line
from hivectl.cli.table import render
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.cli.session import Session

    Item = Mapping[str, Any]

_SHOWN_FILES = 12
_SHOWN_RUNS = 8
_STATES = (
    ("completed", "done", "good"),
    ("failed", "failed", "bad"),
    ("timed_out", "timed out", "bad"),
    ("lost", "lost", "bad"),
    ("cancelled", "cancelled", "dim"),
    ("waiting", "waiting for you", "warn"),
    ("running", "running", ""),
    ("starting", "starting", ""),
    ("pending", "in the queue", ""),
    ("retried", "tried again", "dim"),
)


def period(since: str, until: str | None) -> dict[str, str]:
    """The two times as the daemon understands them wherever it runs. Raises HiveError INVALID_PARAMS."""
    from hivectl.kit.clock import SystemClock, format_us
    from hivectl.kit.daytime import parse_moment_us

    now_us = SystemClock().now_us()
    found: dict[str, str] = {}
    for name, text in (("since", since), ("until", until)):
        if text is None:
            continue
        try:
            found[name] = format_us(parse_moment_us(text, now_us))
        except ValueError as exc:
            raise HiveError("INVALID_PARAMS", f"--{name}: {exc}.") from None
    return found


def show(hive: Session, found: Item) -> None:
    """The whole page."""
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
        return
    if hive.options.output == "name":
        hive.screen.result("\n".join(item["project_name"] for item in found["projects"]))
        return
    screen = hive.screen
    screen.show(
        ("bold", f"{_local(found['since'])} to {_local(found['until'])}"),
        ("", "  "),
        *_counts(found["counts"]),
    )
    if figures := _figures(found):
        screen.show(("dim", figures))
    if limits := found["usage_limits"]:
        screen.show(("warn", f"{limits} executions ended at a usage limit"))
    for item in found["projects"]:
        _show_project(hive, item)


def _show_project(hive: Session, item: Item) -> None:
    screen = hive.screen
    screen.show(("", ""))
    figures = _figures(item)
    tail = [("", "  "), ("dim", figures)] if figures else []
    screen.show(
        ("bold", one_line(item["project_name"])), ("", "  "), *_counts(item["counts"]), *tail
    )
    for each in item["waiting"]:
        screen.show(("warn", "  waits"), ("", "   " + one_line(each["text"])), cut=True)
        screen.show(
            (
                "dim",
                f"          hivectl {'answer' if each['kind'] == 'question' else 'approve'} {each['id']}",
            )
        )
    for run in item["failed"][:_SHOWN_RUNS]:
        why = one_line(f"{run['cause'] or run['state']}: {run['message']}").rstrip(": ")
        screen.show(("bad", "  failed"), ("", "  " + one_line(run["prompt"])), cut=True)
        screen.show(("dim", f"          {why}  (hivectl logs {run['execution']})"))
    _more(
        hive, item["failed"], sum(item["counts"].get(s, 0) for s in ("failed", "timed_out", "lost"))
    )
    for run in item["done"][:_SHOWN_RUNS]:
        screen.show(("good", "  done"), ("", "    " + one_line(run["prompt"])), cut=True)
    _more(hive, item["done"], item["counts"].get("completed", 0))
    if item["approvals"]:
        who = ", ".join(f"{count} by {one_line(name)}" for name, count in item["approvals"].items())
        screen.show(("dim", f"  decided {who}"))
    _show_files(hive, item)


def _more(hive: Session, listed: list[Any], total: int) -> None:
    left = total - min(len(listed), _SHOWN_RUNS)
    if left > 0:
        hive.screen.show(("dim", f"          and {left} more: hivectl ps -a"))


def _show_files(hive: Session, item: Item) -> None:
    files = item["files"]
    if not files:
        return
    hidden = max(0, len(files) - _SHOWN_FILES) + item["files_more"]
    names = ", ".join(one_line(name) for name in files[:_SHOWN_FILES])
    more = f" and {hidden} more" if hidden else ""
    rough = "" if item["files_whole"] else " (only the end of the log was looked at)"
    hive.screen.show(("dim", f"  files   {names}{more}{rough}"))


def _counts(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    pieces: list[tuple[str, str]] = []
    for state, name, style in _STATES:
        if counts.get(state):
            pieces += [("", ", ")] if pieces else []
            pieces.append((style, f"{counts[state]} {name}"))
    return pieces or [("dim", "nothing happened")]


def _figures(item: Item) -> str:
    parts = []
    if item["cost_usd"]:
        parts.append(views.money(item["cost_usd"]))
    tokens = item["input_tokens"] + item["output_tokens"]
    if tokens:
        parts.append(f"{tokens:,} tokens")
    if item["duration_ms"] >= 1000:
        parts.append(f"{views.span(item['duration_ms'] / 1000)} of work")
    return ", ".join(parts)


def _local(stamp: str) -> str:
    from datetime import datetime

    return datetime.fromisoformat(stamp).astimezone().strftime("%a %d %b %H:%M")


def show_test(hive: Session, found: Item) -> None:
    """How a test went at each target."""
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
        return
    rows = [
        [item["target"], "sent" if item["is_sent"] else "failed", f"{item['duration_ms']} ms", item["error"]]
        for item in found["items"]
    ]  # fmt: skip
    hive.screen.result(
        render(["TARGET", "OUTCOME", "TIME", "WHY"], rows, width=hive.screen.table_width)
    )
