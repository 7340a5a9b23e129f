"""Errors for people (what, why, next step) and for programs (one JSON object), on stderr."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any

from hivectl.cli import jsonline
from hivectl.cli.sanitize import sanitize
from hivectl.model.errors import TABLE, ExitCode, HiveError


def exit_code_of(error: HiveError) -> ExitCode:
    """By the table."""
    return TABLE[error.code].exit


def report(error: HiveError, *, as_json: bool, color: bool) -> None:
    """Tell about an error on stderr."""
    sys.stderr.write(render_json(error) + "\n" if as_json else render_text(error, color=color))
    sys.stderr.flush()


def render_json(error: HiveError) -> str:
    """One object, stable: what programs read."""
    kind = TABLE[error.code]
    shown: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "why": kind.meaning,
        "hint": error.hint,
        "retryable": kind.retryable,
        "exit_code": int(kind.exit),
        "details": error.details,
    }
    if error.retry_after_ms is not None:
        shown["retry_after_ms"] = error.retry_after_ms
    return jsonline.dump({"error": shown})


def render_text(error: HiveError, *, color: bool) -> str:
    """What happened, why, and what to do next."""
    red, bold, end = ("\x1b[31m", "\x1b[1m", "\x1b[0m") if color else ("", "", "")
    kind = TABLE[error.code]
    lines = [f"{red}error:{end} {bold}{sanitize(error.message)}{end} [{error.code}]"]
    if kind.meaning != error.message:
        lines.append(f"  why:  {kind.meaning}")
    details = _details(error)
    lines += [f"        {sanitize(detail)}" for detail in details]
    if hint := _hint(error):
        lines.append(f"  next: {sanitize(hint)}")
    return "\n".join(lines) + "\n"


def _hint(error: HiveError) -> str:
    """Without the way into `details`, which people do not see: what is in there is printed above."""
    hint = error.hint.replace("See `details` and ", "See ")
    return "" if hint.startswith("See `details") else hint


def _details(error: HiveError) -> list[str]:
    """The part of `details` that people need and the message does not say."""
    items = [item for item in error.details.get("errors") or [] if isinstance(item, dict)]
    found = [
        f"{where}: {text}" if where else text
        for where, text in map(_problem, items)
        if text and text not in error.message
    ]
    for name in ("allowed", "limit", "scope", "next", "execution", "users", "incident"):
        if value := error.details.get(name):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if shown not in error.message:
                found.append(f"{name}: {shown}")
    return found


def _problem(item: dict[str, Any]) -> tuple[str, str]:
    """Where, and what; of the wire's {pointer, message} or of {field, reason, allowed}."""
    if "field" in item:
        return "", f"{item['field']} {item.get('reason')}; allowed: {item.get('allowed')}."
    where = str(item.get("pointer", "")).strip("/").replace("/", ".")
    return where, str(item.get("message") or "")


def closest(word: str, known: Iterable[str]) -> str:
    """`Did you mean …?`, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(f'`{match}`' for match in matches)}?" if matches else ""
